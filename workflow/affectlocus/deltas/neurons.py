"""Step `neurons`: how concentrated the change is, and which neurons move in several pairs.

A neuron is a row of gate and up and a column of down. Its change is measured by ‖Δ_n‖², which sums
to the squared L2 norm of the matrix. The "moved" neurons of a tuning are those with the largest
change. The step reads `deltas/PAIR.neurons` and no models.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import combinations
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import binom, hypergeom

from affectlocus.core.errors import InputError

KEYS = ["layer", "projection", "expert"]
SHARE = 0.01
"""Default share of the neurons that count as moved."""
AGAIN = 2
"""Number of affective pairs in which a neuron must move to count as moved again."""


def gini(values: np.ndarray) -> float:
    """The Gini coefficient of values ≥ 0: 0 if all are equal, near 1 if one value is the total.

    NaN if there are no values, or only zeros.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n, total = len(ordered), ordered.sum()
    if not total > 0:
        return float("nan")
    return float(2 * (np.arange(1, n + 1) @ ordered) / (n * total) - (n + 1) / n)


def count_of(share: float, n: int) -> int:
    """The number of neurons in a share of n: rounded, at least one."""
    return max(1, round(share * n))


def top(squares: np.ndarray, share: float) -> np.ndarray:
    """Indices of the largest values, a share of all; among equal values the first."""
    return np.argsort(-squares, kind="stable")[: count_of(share, len(squares))]


def concentration(neurons: pd.DataFrame, share: float = SHARE) -> pd.DataFrame:
    """The concentration of the change, a row per (layer, projection, expert).

    Returns:
        `layer`, `projection`, `expert`, `neurons` (their number), `moved` (the number of moved
        ones), `gini` of the squared changes, `top_share` (the moved neurons' share of all squared
        change) and `even_share` (that share if all neurons changed equally: moved / neurons).
    """
    rows = []
    for key, group in _groups(neurons):
        squares = group["l2"].to_numpy() ** 2
        chosen, total = top(squares, share), squares.sum()
        rows.append(
            key
            | {"neurons": len(squares), "moved": len(chosen), "gini": gini(squares)}
            | {"top_share": squares[chosen].sum() / total if total > 0 else np.nan}
            | {"even_share": len(chosen) / len(squares)}
        )
    return pd.DataFrame(rows)


def overlaps(pairs: Mapping[str, pd.DataFrame], share: float = SHARE) -> pd.DataFrame:
    """The number of moved neurons that two pairs share, compared with chance.

    If two pairs move k of n neurons independently, the number of shared neurons has a
    hypergeometric distribution with mean k² / n. The distribution of a sum over layers is the
    convolution of the layers' distributions.

    Args:
        pairs: name → neurons table of its deltas; pairs on one base.

    Returns:
        A row per (two pairs, layer, projection, expert), and a row with a null layer for all layers
        of a projection: `first`, `second`, `layer`, `projection`, `expert`, `neurons`, `moved` (by
        each pair), `shared`, `expected`, `chance_low` and `chance_high` (the central 95 % by
        chance), `p` (probability of at least `shared` by chance).

    Raises:
        InputError: pairs with different numbers of neurons.
    """
    moved = {name: _moved(frame, share) for name, frame in pairs.items()}
    rows: list[dict[str, object]] = []
    for first, second in combinations(pairs, 2):
        by_projection: dict[str, list[tuple[int, int, int]]] = {}
        for key, (n, mine) in moved[first].items():
            if key not in moved[second]:
                continue
            other, theirs = moved[second][key]
            if n != other:
                raise InputError(
                    "pair.neuron-counts-differ",
                    f"{first} has {n} neurons in layer {key[0]}, {second} {other}; expected pairs "
                    "on the same base",
                    layer=key[0],
                    found={first: n, second: other},
                )
            counts = (n, len(mine), len(mine & theirs))
            by_projection.setdefault(key[1], []).append(counts)
            location = dict(zip(KEYS, key, strict=True))
            rows.append({"first": first, "second": second} | location | _overlap([counts]))
        for projection, layers in by_projection.items():
            location = {"layer": None, "projection": projection, "expert": ""}
            rows.append({"first": first, "second": second} | location | _overlap(layers))
    columns = [*("first", "second"), *KEYS, *("neurons", "moved", "shared", "expected")]
    frame = pd.DataFrame(rows, columns=[*columns, *("chance_low", "chance_high", "p")])
    return frame.astype({"layer": "Int64"})


def _overlap(layers: list[tuple[int, int, int]]) -> dict[str, float]:
    """The columns of `overlaps` from `neurons` on.

    Args:
        layers: numbers of neurons, of moved neurons and of shared neurons of each layer.
    """
    # Probability mass of each hypergeometric distribution at 0 to k; of the sum by convolution.
    masses = [hypergeom(n, k, k).pmf(np.arange(k + 1)) for n, k, _ in layers]
    mass = reduce(np.convolve, masses)
    below = np.cumsum(mass)
    shared = sum(count for _, _, count in layers)
    return {
        "neurons": sum(n for n, _, _ in layers),
        "moved": sum(k for _, k, _ in layers),
        "shared": shared,
        "expected": sum(k * k / n for n, k, _ in layers),
        "chance_low": int(np.searchsorted(below, 0.025)),
        "chance_high": int(np.searchsorted(below, 0.975)),
        "p": float(min(1.0, mass[shared:].sum())),
    }


def pooled(
    neurons: Mapping[str, pd.DataFrame], pair_of: Mapping[str, str]
) -> dict[str, pd.DataFrame]:
    """The neurons of each pair, with the mean of the squared changes over the pair's seeds.

    Args:
        neurons: name of a checkpoint → neurons table of its deltas.
        pair_of: name of a checkpoint → its pair; a checkpoint without an entry is its own pair.

    Returns:
        Pair → neurons table; `l2` is the root of the mean square.
    """
    seeds: dict[str, list[pd.DataFrame]] = {}
    for name, frame in neurons.items():
        seeds.setdefault(pair_of.get(name, name), []).append(frame)
    return {pair: each[0] if len(each) == 1 else _mean(each) for pair, each in seeds.items()}


def _mean(seeds: list[pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat(
        [frame.assign(expert=frame["expert"].fillna(""), l2=frame["l2"] ** 2) for frame in seeds]
    )
    mean = rows.groupby([*KEYS, "neuron"], sort=False, as_index=False)["l2"].mean()
    return mean.assign(l2=np.sqrt(mean["l2"]))


def moved_neurons(
    affective: Mapping[str, pd.DataFrame],
    others: Mapping[str, pd.DataFrame],
    share: float = SHARE,
) -> pd.DataFrame:
    """The neurons that a pair moved, with the numbers of affective and other pairs that moved them.

    A pair counts once, however many seeds it has: pool its seeds with `pooled`.

    Args:
        affective: pair → neurons table of its deltas.
        others: the same for controls and nulls on the same base.

    Returns:
        A row per neuron that at least one pair moved: `layer`, `projection`, `expert`, `neuron`,
        `affective` and `others` (numbers of pairs), and `again` (at least `AGAIN` affective pairs
        moved it, and no other pair). With a single affective pair, `again` is always false.
    """
    counts: dict[tuple[int, str, str, int], list[int]] = {}
    for column, group in enumerate((affective, others)):
        for frame in group.values():
            for key, (_, chosen) in _moved(frame, share).items():
                for neuron in chosen:
                    counts.setdefault((*key, neuron), [0, 0])[column] += 1
    rows = [[*key, *counts[key]] for key in sorted(counts)]
    frame = pd.DataFrame(rows, columns=[*KEYS, "neuron", "affective", "others"])
    frame["again"] = (frame["affective"] >= AGAIN) & (frame["others"] == 0)
    return frame


def again_by_chance(
    affective: Mapping[str, pd.DataFrame],
    others: Mapping[str, pd.DataFrame],
    share: float = SHARE,
) -> pd.DataFrame:
    """The number of neurons that moved `again` (`moved_neurons`), per projection, and by chance.

    Returns:
        `projection`, `neurons`, `again`, and `expected` (the number if every pair moved its k of n
        neurons independently). `again` and `expected` are missing with fewer than `AGAIN` affective
        pairs.
    """
    found = moved_neurons(affective, others, share)
    sizes: dict[tuple[int, str, str], list[int]] = {}
    for column, group in enumerate((affective, others)):
        for frame in group.values():
            for key, (n, mine) in _moved(frame, share).items():
                # Numbers of neurons, of moved neurons, of affective pairs and of other pairs.
                sizes.setdefault(key, [n, len(mine), 0, 0])[2 + column] += 1
    repeated = len(affective) >= AGAIN
    rows = []
    for projection in dict.fromkeys(key[1] for key in sizes):
        layers = [size for key, size in sizes.items() if key[1] == projection]
        expected = sum(
            n * binom.sf(AGAIN - 1, affective_pairs, k / n) * (1 - k / n) ** other
            for n, k, affective_pairs, other in layers
        )
        again = found[(found["projection"] == projection) & found["again"]]
        rows.append(
            {
                "projection": projection,
                "neurons": sum(n for n, *_ in layers),
                "again": len(again) if repeated else None,
                "expected": float(expected) if repeated else np.nan,
            }
        )
    columns = ["projection", "neurons", "again", "expected"]
    return pd.DataFrame(rows, columns=columns).astype({"again": "Int64"})


def _moved(neurons: pd.DataFrame, share: float) -> dict[tuple[int, str, str], tuple[int, set[int]]]:
    """(layer, projection, expert) → the number of neurons, and the moved ones."""
    found = {}
    for key, group in _groups(neurons):
        if not group["l2"].any():
            continue  # no neuron changed
        chosen = top(group["l2"].to_numpy() ** 2, share)
        numbers = group["neuron"].to_numpy()[chosen]
        found[key["layer"], key["projection"], key["expert"]] = (
            len(group),
            {int(number) for number in numbers},
        )
    return found


def _groups(neurons: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The neurons of each (layer, projection, expert); the expert is "" without a mixture."""
    if neurons.empty:
        raise InputError(
            "table.no-neurons",
            "the neurons table is empty; set deltas.companions to true and run again",
            key="deltas.companions",
        )
    filled = neurons.assign(expert=neurons["expert"].fillna(""))
    found = []
    for key, group in filled.groupby(KEYS, sort=False):
        layer, projection, expert = cast("tuple[int, str, str]", key)
        names = {"layer": int(layer), "projection": projection, "expert": expert}
        found.append((names, group))
    return found
