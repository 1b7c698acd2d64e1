"""Sections `deltas`, `neurons` and `directions`: what is measured of a change."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from affectlocus.config.fields import Count, Strict


class Deltas(Strict):
    """What is measured of each pair."""

    spectra: bool = Field(
        True, description="spectra of full deltas too (a low-rank delta's cost nothing)"
    )
    companions: bool = Field(
        True, description="histograms of the relative change, and norms of FFN neurons"
    )


class Neurons(Strict):
    """Which feed-forward neurons are looked at."""

    share: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.01, description="share of a layer's neurons, the most changed, that are called moved"
    )
    neutral: str = Field(
        "neutral", description="the label word of texts without emotion; all others are emotional"
    )


class Directions(Strict):
    """How the deltas of two pairs on one base are compared."""

    rank: Count = Field(8, description="leading singular directions of each delta")
