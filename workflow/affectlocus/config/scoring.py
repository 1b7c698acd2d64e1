"""Section `score`: metrics, protocols, intervals."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from affectlocus.config.fields import WHOLE, Name, Seed, Strict, one_of
from affectlocus.core.metrics import metric_names, value_range

MEAN, MEAN_OF_CONTROL = "mean", "mean (control)"
"""The names of the mean over affective tasks and of the mean over tasks of a control."""


PERCENT = metric_names("labels", "positive")
"""Metrics in percent of every task with labels, and those of tasks with a positive label."""
FREE_METRICS = tuple(name for name in metric_names("protocol") if value_range(name)[1] == 100)
"""Metrics in percent of free text with the protocol mer-unibench."""


class Score(Strict):
    """How scores and their intervals are computed from answers."""

    metric: Annotated[str, *one_of("metric", (*PERCENT, *FREE_METRICS))] = Field(
        "weighted_f1",
        description="metric of the tables; scores.parquet has all metrics. binary_f1 needs tasks "
        "with positive, or with a number and a cutoff; the last three need every benchmark in "
        "protocols",
    )
    protocols: dict[Name, Literal["mer-unibench"]] = Field(
        {},
        description="tasks answered with free text that are also scored as in MER-UniBench (hit "
        "rate over wheels, WAF of valence); corrected scores are added",
    )
    wheels: str | None = Field(
        None,
        description="folder of AffectGPT's emotion_wheel files, or `released` to download them; "
        "needed for tasks with emotion labels in protocols",
    )
    own_wheels: bool = Field(
        False,
        description="the wheels in the folder are your own; they are not compared with the "
        "released files",
    )
    resamples: Annotated[int, Field(ge=100, le=1_000_000), WHOLE] = Field(
        2000, description="number of bootstrap resamples"
    )
    margin: float = Field(
        3.0,
        gt=0,
        description="claims: a difference of mean scores below it counts as none, in points; "
        "choose it before you see results",
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="confidence level of the intervals"
    )
    seed: Seed = Field(0, description="seed of the bootstrap")
