"""Whether a tuning learned more than its null: the same recipe with shuffled answers.

The loss is that of the training samples at the end of the tuning, the mean over the last quarter of
the logged steps. If the samples are used at most once, it is a loss on samples that the model has
not seen. The reduction is 1 - loss of the pair / loss of the null, for each seed. The rule: a
tuning learned more than its null if the whole 95 % interval of the mean reduction (Student's t over
seeds) is above 2 %. With one seed there is no interval, and the reduction itself must be above 2 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import pandas as pd

COLUMNS = ("pair", "null", "seed", "step", "loss", "passes")
MORE, NO_MORE = "more than its null", "no more than its null"
LEAST = 0.02  # reduction of the loss that counts as learning
_LAST = 0.25  # share of the logged steps whose mean is the final loss
# Student's t for a two-sided 95 % interval by degrees of freedom, and its limit. scipy takes a
# second to import, and the terminal needs these numbers alone.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
_T_LIMIT = 1.960


@dataclass(frozen=True)
class Learning:
    """Whether a pair learned more than its null.

    Attributes:
        loss, null_loss: final losses, means over the seeds that both have.
        reduction: 1 - loss / null_loss, the mean over seeds; low, high: its interval, NaN with one
            seed.
        passes: how often each sample was used.
        verdict: `MORE` or `NO_MORE`.
    """

    pair: str
    null: str
    seeds: int
    loss: float
    null_loss: float
    reduction: float
    low: float
    high: float
    passes: float
    verdict: str

    @property
    def sentence(self) -> str:
        spread = ""
        if not math.isnan(self.low):
            spread = f", interval {100 * self.low:.1f} to {100 * self.high:.1f} % over seeds"
        seeds = "one seed" if self.seeds == 1 else f"{self.seeds} seeds"
        text = (
            f"{self.pair} learned {self.verdict} {self.null}: final loss {self.loss:.3f} against "
            f"{self.null_loss:.3f} ({100 * self.reduction:.1f} % lower, {seeds}{spread})"
        )
        if self.verdict == NO_MORE:
            text += ", so there may be nothing to locate"
        if self.passes > 1:
            text += f"; each sample was used {self.passes:.1f} times, so the loss includes memory"
        return f"{text}."


def curves(
    manifests: Iterable[tuple[str, int, Mapping[str, Any]]], nulls: Mapping[str, str]
) -> pd.DataFrame:
    """The logged losses of tunings, a row for each step; columns `COLUMNS`.

    Args:
        manifests: (pair, seed, manifest of the tuned checkpoint).
        nulls: pair → its null.
    """
    rows = []
    for pair, seed, manifest in manifests:
        recipe = manifest["recipe"]
        passes = recipe["steps"] * recipe["batch_size"] / max(1, manifest["samples"])
        for one in manifest["log"]:
            row = (pair, nulls.get(pair, ""), seed, one["step"], one["loss"], passes)
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def judged(rows: pd.DataFrame) -> list[Learning]:
    """The verdict on every pair that has a null, in the order of the rows.

    Args:
        rows: columns `COLUMNS`.
    """
    places = rows[["pair", "seed"]].drop_duplicates().itertuples(index=False)
    finals = {
        (str(pair), int(seed)): _final(rows[(rows["pair"] == pair) & (rows["seed"] == seed)])
        for pair, seed in places
    }
    return list(_verdicts(rows, finals))


def _verdicts(rows: pd.DataFrame, finals: Mapping[tuple[str, int], float]) -> Iterator[Learning]:
    for pair, part in rows.groupby("pair", sort=False):
        null = part["null"].iloc[0]
        if pd.isna(null) or not null:
            continue
        seeds = [seed for name, seed in finals if name == pair and (str(null), seed) in finals]
        if not seeds:
            continue
        own = [finals[str(pair), seed] for seed in seeds]
        other = [finals[str(null), seed] for seed in seeds]
        reductions = [1 - one / two for one, two in zip(own, other, strict=True)]
        reduction, low, high = _interval(reductions)
        least = reduction if math.isnan(low) else low
        yield Learning(
            *(str(pair), str(null), len(seeds), mean(own), mean(other), reduction, low, high),
            passes=float(part["passes"].iloc[0]),
            verdict=MORE if least > LEAST else NO_MORE,
        )


def _final(part: pd.DataFrame) -> float:
    steps = part.sort_values("step")["loss"]
    return float(steps.tail(max(1, math.ceil(_LAST * len(steps)))).mean())


def _interval(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], math.nan, math.nan
    freedom = len(values) - 1
    t = _T95[freedom - 1] if freedom <= len(_T95) else _T_LIMIT + 2.4 / freedom
    half = t * stdev(values) / math.sqrt(len(values))
    return mean(values), mean(values) - half, mean(values) + half
