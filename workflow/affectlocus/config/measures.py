"""Sections `deltas`, `neurons` and `directions`: what is measured about a delta."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from affectlocus.config.fields import Count, Strict


class Deltas(Strict):
    """What is measured about the delta of each pair."""

    spectra: bool = Field(
        True,
        description="also compute the spectra of full deltas; those of low-rank deltas cost "
        "nothing",
    )
    companions: bool = Field(
        True, description="write histograms of the relative change, and norms of FFN neurons"
    )
    checkpoints_per_job: Count = Field(
        1,
        # It changes no result, so it is not among the parameters of jobs.
        exclude=True,
        description="number of a pair's checkpoints, one for each seed, that one job measures at "
        "most. More need fewer starts, with the same results; 1 allows the most parallel jobs",
    )


class Neurons(Strict):
    """Which feed-forward neurons count as moved, and which texts as neutral."""

    share: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.01,
        description="share of the neurons of a layer that count as moved: the most changed ones",
    )
    neutral: str = Field(
        "neutral", description="label word of texts without emotion; all other texts are emotional"
    )


class Directions(Strict):
    """How the deltas of two pairs on one base are compared."""

    rank: Count = Field(8, description="number of leading singular directions of each delta")
