"""Section `score`: metrics, protocols, intervals."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from affectlocus.config.fields import Name, Seed, Strict
from affectlocus.core.metrics import metric_names, value_range

MEAN, MEAN_OF_CONTROL = "mean", "mean (control)"
"""What a mean over tasks is called: over affective ones, and over those of a control."""


LABEL_METRICS = metric_names("labels")
"""In percent, of every task with labels."""
PERCENT = metric_names("labels", "positive")
"""And those where one of two labels is the positive."""
FREE_METRICS = tuple(name for name in metric_names("protocol") if value_range(name)[1] == 100)
"""Scores in percent of free text under the protocol mer-unibench."""


def _shown(metric: str) -> str:
    if metric not in (*PERCENT, *FREE_METRICS):
        shown = ", ".join((*PERCENT, *FREE_METRICS))
        raise ValueError(f"tables show a metric in percent; expected one of {shown}")
    return metric


class Score(Strict):
    """How answers become scores and intervals."""

    metric: Annotated[
        str,
        AfterValidator(_shown),
        WithJsonSchema({"type": "string", "enum": [*PERCENT, *FREE_METRICS]}),
    ] = Field(
        "weighted_f1",
        description="the one that the tables show; scores.parquet holds all. binary_f1 wants tasks "
        "with positive, or with a number and its cutoff; the last three want every benchmark in "
        "protocols",
    )
    protocols: dict[Name, Literal["mer-unibench"]] = Field(
        {},
        description="tasks answered in free text that are also scored as MER-UniBench does (hit "
        "rate over wheels, WAF of valence), with the corrected scores beside",
    )
    wheels: str | None = Field(
        None,
        description="folder of AffectGPT's emotion_wheel files, or `released` to download them; "
        "for protocols of emotions",
    )
    own_wheels: bool = Field(
        False, description="the folder's wheels are your own: not compared with the released files"
    )
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = Field(
        2000, description="bootstrap draws"
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="level of the intervals"
    )
    seed: Seed = Field(0, description="seed of the bootstrap")
