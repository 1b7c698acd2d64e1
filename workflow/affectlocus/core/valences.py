"""Valences as data sets write them: which numbers mark a sample that nobody rated."""

from __future__ import annotations

import math

MASKS = (-10.0, -99.0, -999.0, -9999.0)
"""The numbers that stand for a missing rating; the first is MER's."""


def is_rated(value: float) -> bool:
    """Whether a valence is a rating: finite, and not one of `MASKS`."""
    return math.isfinite(value) and value not in MASKS
