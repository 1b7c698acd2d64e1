"""Valences in data sets: which numbers mean that a rating is missing."""

from __future__ import annotations

import math

MASKS = (-10.0, -99.0, -999.0, -9999.0)
"""Numbers that mean a missing rating; MER uses the first."""


def is_rated(value: float) -> bool:
    """Whether a valence is a rating: it is finite and not in `MASKS`."""
    return math.isfinite(value) and value not in MASKS
