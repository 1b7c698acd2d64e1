"""Step `neurons`: how a change is spread over the feed-forward neurons, and which move again.

A neuron is a row of gate and up and a column of down. What is looked at is its squared change
‖Δ_n‖², which adds up to the squared L2 norm of the whole matrix. Works on `deltas/PAIR.neurons`
alone: no model, no tensor.
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
"""The share of the neurons that are called moved, by default."""
AGAIN = 2
"""The number of affective tunings that a neuron moves in to have moved again."""


def gini(values: np.ndarray) -> float:
    """The Gini coefficient of values ≥ 0: 0 if all are equal, near 1 if one has everything.

    NaN where there is nothing, or nothing but zeros.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n, total = len(ordered), ordered.sum()
    if not total > 0:
        return float("nan")
    return float(2 * (np.arange(1, n + 1) @ ordered) / (n * total) - (n + 1) / n)


def count_of(share: float, n: int) -> int:
    """How many of n neurons a share is: rounded, and at least one."""
    return max(1, round(share * n))


def top(squares: np.ndarray, share: float) -> np.ndarray:
    """Positions of the largest values, a share of them; of equal values the first."""
    return np.argsort(-squares, kind="stable")[: count_of(share, len(squares))]


def concentration(neurons: pd.DataFrame, share: float = SHARE) -> pd.DataFrame:
    """How concentrated the change is, a row per (layer, projection, expert).

    Returns:
        `layer`, `projection`, `expert`, `neurons` (a number), `moved` (of them, `share`), `gini`
        of the squared changes, `top_share` (of all squared change, in the moved), `even_share`
        (what they would have if all changed alike: moved / neurons).
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
    """In how many neurons the moved ones of any two pairs meet, against chance.

    If two pairs moved k neurons of n each without regard to each other, the number that both moved
    would be hypergeometric: k² / n on average. Over layers such numbers add up, and the
    distribution of the sum is the convolution of theirs.

    Args:
        pairs: name → neurons of its deltas; pairs on one base.

    Returns:
        A row per (two pairs, layer, projection, expert), and one with no layer for all layers of a
        projection: `first`, `second`, `layer`, `projection`, `expert`, `neurons`, `moved` (each),
        `shared`, `expected`, `chance_low` and `chance_high` (the middle 95 % of chance), `p` (of as
        many or more by chance).
    """
    moved = {name: _moved(frame, share) for name, frame in pairs.items()}
    rows: list[dict[str, object]] = []
    for first, second in combinations(pairs, 2):
        pooled: dict[str, list[tuple[int, int, int]]] = {}
        for key, (n, mine) in moved[first].items():
            if key not in moved[second]:
                continue
            other, theirs = moved[second][key]
            if n != other:
                raise InputError(
                    f"{first} has {n} neurons in layer {key[0]}, {second} {other}; expected pairs "
                    "on the same base"
                )
            met = (n, len(mine), len(mine & theirs))
            pooled.setdefault(key[1], []).append(met)
            here = dict(zip(KEYS, key, strict=True))
            rows.append({"first": first, "second": second} | here | _overlap([met]))
        for projection, each in pooled.items():
            here = {"layer": None, "projection": projection, "expert": ""}
            rows.append({"first": first, "second": second} | here | _overlap(each))
    columns = [*("first", "second"), *KEYS, *("neurons", "moved", "shared", "expected")]
    frame = pd.DataFrame(rows, columns=[*columns, *("chance_low", "chance_high", "p")])
    return frame.astype({"layer": "Int64"})


def _overlap(each: list[tuple[int, int, int]]) -> dict[str, float]:
    """Numbers of neurons, of moved ones and of shared ones, added up; against chance."""
    # The mass of each hypergeometric distribution at 0 to k; that of the sum by convolution.
    chances = [hypergeom(n, k, k).pmf(np.arange(k + 1)) for n, k, _ in each]
    mass = reduce(np.convolve, chances)
    below = np.cumsum(mass)
    shared = sum(count for _, _, count in each)
    return {
        "neurons": sum(n for n, _, _ in each),
        "moved": sum(k for _, k, _ in each),
        "shared": shared,
        "expected": sum(k * k / n for n, k, _ in each),
        "chance_low": int(np.searchsorted(below, 0.025)),
        "chance_high": int(np.searchsorted(below, 0.975)),
        "p": float(min(1.0, mass[shared:].sum())),
    }


def moved_neurons(
    affective: Mapping[str, pd.DataFrame],
    others: Mapping[str, pd.DataFrame],
    share: float = SHARE,
) -> pd.DataFrame:
    """The neurons that some pair moved, and in how many affective and other pairs it did.

    Every tuned checkpoint counts, so that several seeds of one pair count as several.

    Args:
        affective: name → neurons of its deltas.
        others: the same of controls and nulls on the same base.

    Returns:
        A row per neuron that is among the moved ones of a pair: `layer`, `projection`, `expert`,
        `neuron`, `affective` and `others` (numbers of pairs), and `again`: `AGAIN`
        affective pairs or more moved it, and no other did. With a single affective pair no neuron
        moves again.
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
    """How many neurons `moved_neurons` finds `again`, per projection, against chance.

    Returns:
        `projection`, `neurons`, `again`, and `expected`: the number if every pair moved its k of n
        without regard to the others. Both are missing with fewer than `AGAIN` affective pairs.
    """
    found = moved_neurons(affective, others, share)
    sizes: dict[tuple[int, str, str], list[int]] = {}
    for column, group in enumerate((affective, others)):
        for frame in group.values():
            for key, (n, mine) in _moved(frame, share).items():
                # Neurons, moved ones, and how many pairs of either kind could move them at all.
                sizes.setdefault(key, [n, len(mine), 0, 0])[2 + column] += 1
    repeated = len(affective) >= AGAIN
    rows = []
    for projection in dict.fromkeys(key[1] for key in sizes):
        here = [size for key, size in sizes.items() if key[1] == projection]
        expected = sum(
            n * binom.sf(AGAIN - 1, felt, k / n) * (1 - k / n) ** other
            for n, k, felt, other in here
        )
        again = found[(found["projection"] == projection) & found["again"]]
        rows.append(
            {
                "projection": projection,
                "neurons": sum(n for n, *_ in here),
                "again": len(again) if repeated else None,
                "expected": float(expected) if repeated else np.nan,
            }
        )
    columns = ["projection", "neurons", "again", "expected"]
    return pd.DataFrame(rows, columns=columns).astype({"again": "Int64"})


def _moved(neurons: pd.DataFrame, share: float) -> dict[tuple[int, str, str], tuple[int, set[int]]]:
    """(layer, projection, expert) → number of neurons, and which of them moved."""
    found = {}
    for key, group in _groups(neurons):
        if not group["l2"].any():
            continue  # nothing changed, so nothing moved
        chosen = top(group["l2"].to_numpy() ** 2, share)
        numbers = group["neuron"].to_numpy()[chosen]
        found[key["layer"], key["projection"], key["expert"]] = (
            len(group),
            {int(number) for number in numbers},
        )
    return found


def _groups(neurons: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The neurons of each (layer, projection, expert); an expert of "" where there is none."""
    if neurons.empty:
        raise InputError("no neurons were measured; set deltas.companions to true, and run again")
    filled = neurons.assign(expert=neurons["expert"].fillna(""))
    found = []
    for key, group in filled.groupby(KEYS, sort=False):
        layer, projection, expert = cast("tuple[int, str, str]", key)
        names = {"layer": int(layer), "projection": projection, "expert": expert}
        found.append((names, group))
    return found
