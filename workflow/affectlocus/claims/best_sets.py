"""Rankings as sets: the best item, and those that cannot be distinguished from it.

With 95 % probability the set contains the item that is best in truth (Gupta's subset selection): an
item is left out only if another is above it, significantly after a correction for all items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import rankdata, studentized_range

from affectlocus.claims.findings import Contrast
from affectlocus.claims.tested import tested


def by_scores(names: Sequence[str], values: np.ndarray, confidence: float = 0.95) -> str:
    """The set of the best items by their mean score over replicates.

    Args:
        values: (items, 1 + draws, replicates), scores, the observed ones first.
    """
    pairs = list(combinations(range(len(names)), 2))
    contrasts = []
    for first, second in pairs:
        gap = values[first] - values[second]
        samples = float(gap[1:].mean(axis=1).var(ddof=1)) if len(gap) > 2 else math.nan
        contrasts.append(Contrast(f"{names[first]} - {names[second]}", gap[0], samples, "points"))
    beaten = np.ones((len(names), len(names)))  # p that the column is above the row
    for (first, second), test in zip(pairs, tested(contrasts, confidence), strict=True):
        beaten[second, first], beaten[first, second] = test.p.above[0], test.p.below[0]
    worst = np.nanmin(beaten, axis=1) * (len(names) - 1)
    return as_text(names, values[:, 0].mean(axis=1), worst >= 1 - confidence)


def by_ranks(names: Sequence[str], values: np.ndarray, confidence: float = 0.95) -> str:
    """The set of the best items by their mean rank over raters (Nemenyi's critical difference).

    Args:
        values: (raters, items), the values that each rater ranks the items by.
    """
    raters, items = values.shape
    ranks = rankdata(values, axis=1).mean(axis=0)
    width = studentized_range.isf(1 - confidence, items, np.inf) / math.sqrt(2)
    width *= math.sqrt(items * (items + 1) / 6 / raters)
    return as_text(names, ranks, ranks >= ranks.max() - width)


def as_text(names: Sequence[str], values: np.ndarray, kept: np.ndarray) -> str:
    """`best: o; not separable: q, up`: the best item first, the others of the set in order."""
    order = [place for place in np.argsort(-values, kind="stable") if kept[place]]
    best, *others = [names[place] for place in order]
    return f"best: {best}" + (f"; not separable: {', '.join(others)}" if others else "")
