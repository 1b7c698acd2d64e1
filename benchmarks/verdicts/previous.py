"""The procedure until November 2026: two-sided t tests, Holm's correction over 18 findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affectlocus.claims.contrasts import Errors, p_above
from affectlocus.claims.decisions import AGAINST, OPEN, SUPPORT, holm

FINDINGS = 18


def previous(
    mean: np.ndarray,
    variance: np.ndarray,
    replicates: int,
    samples: float,
    parts: Sequence[Sequence[slice]],
    level: float = 0.05,
) -> np.ndarray:
    """Outcomes, (experiments, claims).

    If the group leads, p is the largest of all rivals; otherwise the smallest of those that lead,
    times the number of rivals. A claim is contradicted if a part is, and supported if all are.

    Args:
        mean, variance: (experiments, contrasts).
        parts: the contrasts of each part of each claim.
    """
    errors = Errors(
        np.sqrt(variance / replicates), np.full(mean.shape, replicates - 1.0),
        np.full(mean.shape, samples),
    )  # fmt: skip
    above = p_above(mean, errors)
    two_sided = np.minimum(1, 2 * np.minimum(above, 1 - above))
    p, leads = [], []
    for part in (part for claim in parts for part in claim):
        first = (mean[:, part] > 0).all(axis=1)
        ahead = np.where(mean[:, part] <= 0, two_sided[:, part], 1).min(axis=1)
        number = mean[:, part].shape[1]
        p.append(np.where(first, two_sided[:, part].max(axis=1), np.minimum(1, number * ahead)))
        leads.append(first)
    own = np.stack(p, axis=1)
    rest = np.ones((len(mean), FINDINGS - own.shape[1]))
    significant = holm(np.concatenate([own, rest], axis=1))[:, : own.shape[1]] < level
    side = np.stack(leads, axis=1)
    found, start = [], 0
    for claim in parts:
        rows = slice(start, start + len(claim))
        start += len(claim)
        against = (significant[:, rows] & ~side[:, rows]).any(axis=1)
        support = (significant[:, rows] & side[:, rows]).all(axis=1)
        found.append(np.where(against, AGAINST, np.where(support, SUPPORT, OPEN)))
    return np.stack(found, axis=1)
