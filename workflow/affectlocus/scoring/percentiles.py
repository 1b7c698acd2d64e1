"""Where a module set is among random places of the same size: percentiles and their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from affectlocus.config.scoring import MEAN
from affectlocus.config.task_answers import Scoring
from affectlocus.core.cells import PLACES
from affectlocus.core.projections import BRIDGE
from affectlocus.evaluation.predictions import Predictions
from affectlocus.scoring.cell_answers import read_answers
from affectlocus.scoring.score import cell_scores

COLUMNS = (
    *("modules", "as_many", "seed", "metric", "share_of_entries", "share_of_change", "draws"),
    *("score", "random_median", "random_95th", "base", "whole", "below", "percentile", "low"),
    *("high", "p", "locus"),
)
LEVEL = 0.95
"""No locus is claimed below this percentile."""


@dataclass(frozen=True)
class PlaceScores:
    """The scores of one tuned checkpoint's cells.

    Attributes:
        seed: the seed of the tuning; None if the checkpoint is not tuned here.
        sizes: module set → `share_of_entries` and `share_of_change` in the whole delta, 0 to 1.
        rows: a row per cell: `kind`, `modules`, `mode`, `draw`, `value` (mean over tasks, percent).
    """

    seed: int | None
    sizes: Mapping[str, Mapping[str, float]]
    rows: pd.DataFrame


def mean_scores(
    predictions: Iterable[Predictions], metric: str, tasks: Mapping[str, Scoring]
) -> pd.DataFrame:
    """The mean score over tasks of every cell: the rows of `PlaceScores`."""
    rows = []
    for one in predictions:
        answers = read_answers(one, tasks)
        scores = dict(cell_scores(answers, answers, resamples=0, seed=0))
        cell = one.cell
        value = float(scores[MEAN].cell[metric][0])
        rows.append((cell.kind, cell.modules, cell.mode, cell.draw, value))
    frame = pd.DataFrame(rows, columns=["kind", "modules", "mode", "draw", "value"])
    return frame.astype({"draw": "Int64"})


def percentiles(
    scores: Sequence[PlaceScores], metric: str, confidence: float = 0.95
) -> pd.DataFrame:
    """The percentile of each module set among its random places.

    The rule: a place is above chance if the probability that a random place of the same size scores
    as high is at most 5 %, with the observed set counted among the random ones
    (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585). Each draw of a replicate is compared with
    the set in this replicate. The row `all` compares the means over replicates: the set's, and
    those of each draw.

    Returns:
        A row per module set, kind and replicate (`seed`; `all` for their mean): `metric`;
        `share_of_entries` and `share_of_change` of the set in the whole delta, 0 to 1; `draws`;
        `score` of the set, `random_median` and `random_95th`, `base` (with the tuned bridge, if the
        pair has one) and `whole` (the tuned model), in percent; `below`, the number of random
        places with a lower score; `percentile`, and its exact interval (Clopper and Pearson) over
        draws, `low` and `high`; `p`; and `locus`: whether the set is above the 95th percentile (p
        at most 0.05).
    """
    rows = []
    loaded = scores[0].rows.query("kind == 'load'")["modules"]
    sets = [modules for modules in dict.fromkeys(loaded) if modules != BRIDGE]
    for modules in sets:
        for kind in PLACES:
            parts = [_values(one.rows, modules, kind) for one in scores]
            if not len(parts[0][0]):
                continue
            groups: list[tuple[Any, list[int]]] = [
                (one.seed, [number]) for number, one in enumerate(scores)
            ]
            if len(scores) > 1:
                groups.append(("all", list(range(len(scores)))))
            else:
                groups = [("all", [0])]
            for seed, members in groups:
                random, ends = (
                    np.mean([parts[member][side] for member in members], axis=0) for side in (0, 1)
                )
                sizes = [scores[member].sizes[modules] for member in members]
                rows.append(
                    {"modules": modules, "as_many": kind, "seed": str(seed), "metric": metric}
                    | {
                        name: float(np.mean([size[name] for size in sizes]))
                        for name in ("share_of_entries", "share_of_change")
                    }
                    | _percentile(random, ends[0], confidence)
                    | {"base": ends[1], "whole": ends[2]}
                )
    return pd.DataFrame(rows)[list(COLUMNS)]


def draws_of(scores: Sequence[PlaceScores]) -> pd.DataFrame:
    """The score of every cell: `seed`, `kind`, `modules`, `mode`, `draw`, `value` (percent)."""
    parts = [one.rows.assign(seed="" if one.seed is None else str(one.seed)) for one in scores]
    frame = pd.concat(parts, ignore_index=True)
    return frame[["seed", "kind", "modules", "mode", "draw", "value"]]


def sentence(row: Mapping[Any, Any]) -> str:
    """A row of `percentiles` as a sentence."""
    found = (
        f"{row['modules']}: above {row['below']} of {row['draws']} random places with "
        f"{PLACES[row['as_many']]} (percentile {row['percentile']:.0f}, interval "
        f"{row['low']:.0f} to {row['high']:.0f}, p = {row['p']:.2g})"
    )
    return found if row["locus"] else f"{found}; below the 95th percentile, so no locus is claimed"


def _values(rows: pd.DataFrame, modules: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The scores of a set's random places, by draw; and of the set, the base and the whole."""
    load = (rows["kind"] == "load") & (rows["modules"] == modules)
    random = rows[load & (rows["mode"] == kind)].sort_values("draw")["value"].to_numpy()
    ends = [
        rows[chosen]["value"].iloc[0]
        for chosen in (
            load & (rows["mode"] == ""),
            (rows["kind"] == "base") | (rows["modules"] == BRIDGE),
            rows["kind"] == "tuned",
        )
    ]
    return random, np.array(ends)


def _percentile(random: np.ndarray, score: float, confidence: float) -> dict[str, Any]:
    draws, below = len(random), int((random < score).sum())
    interval = binomtest(below, draws).proportion_ci(confidence, method="exact")
    # A random place with an equal score counts against the set.
    p = (1 + draws - below) / (1 + draws)
    return {
        "draws": draws,
        "score": score,
        "random_median": float(np.median(random)),
        "random_95th": float(np.quantile(random, LEVEL)),
        "below": below,
        "percentile": 100 * below / draws,
        "low": 100 * float(interval.low),
        "high": 100 * float(interval.high),
        "p": p,
        "locus": p <= 1 - LEVEL + 1e-9,
    }
