"""The agreement of rankings of the seven projections, over layers, pairs, tasks and replicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from affectlocus.claims.best_sets import by_ranks, by_scores
from affectlocus.claims.delta_kinds import SIZE_FREE
from affectlocus.claims.evidence import COLUMNS as SEVEN
from affectlocus.claims.evidence import MissingEvidenceError, ScoreEvidence
from affectlocus.claims.loci import Locus
from affectlocus.claims.statistics import kendalls_w

COLUMNS = ["by", "of", "over", "raters", "items", "w", "p", "ranking"]


def rank_agreement(scores: Sequence[ScoreEvidence], loci: Sequence[Locus]) -> pd.DataFrame:
    """Kendall's W of each ranking with at least two raters; columns `COLUMNS`.

    `by` is the value that is ranked (a score of `deltas`, or the metric). `of` is the pair, domain
    or arm. `over` names the raters: layers, replicates, pairs or tasks. `ranking` is the set
    of the best projections (`best_sets`): over replicates by the mean score, otherwise by the mean
    rank.
    """
    rows = [row for by in ("l2", *SIZE_FREE) for row in _delta_rows(loci, by)]
    for evidence in scores:
        rows += _score_rows(evidence)
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(by: str, of: str, over: str, values: np.ndarray, ranking: str = "") -> list[list[object]]:
    """A list with one row; empty with fewer than two raters, or if nothing can be ranked.

    Args:
        values: (raters, 7).
        ranking: the set of the best; by default from the ranks.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return []
    w, p = kendalls_w(values)
    if np.isnan(w):
        return []
    return [[by, of, over, *values.shape, w, p, ranking or by_ranks(SEVEN, values)]]


def _delta_rows(loci: Sequence[Locus], by: str) -> list[list[object]]:
    """The agreement of deltas: over layers and replicates of a pair, over pairs of a domain."""
    rows = []
    means: dict[str, list[np.ndarray]] = {}
    for locus in loci:
        try:
            sizes = locus.sizes(by)  # (seeds, layers, 7)
        except MissingEvidenceError:
            continue
        rows += _row(by, locus.name, "layers", sizes.mean(axis=0))
        rows += _row(by, locus.name, "replicates", sizes.mean(axis=1))
        means.setdefault(locus.facts.domain, []).append(sizes.mean(axis=(0, 1)))
    for domain, values in means.items():
        rows += _row(by, domain, "pairs", np.stack(values))
    return rows


def _score_rows(scores: ScoreEvidence) -> list[list[object]]:
    """The agreement of the scores of single modules, over tasks and over replicates."""
    rows = []
    for pair in scores.matrices:
        for kind in ("load", "tune"):
            keys = [(pair, kind, name, "") for name in SEVEN]
            if not all(map(scores.has, keys)):
                continue
            of = f"{pair} {kind}"
            try:
                observed = scores.by_task(keys)[:, 0]  # (7, replicates, tasks)
            except MissingEvidenceError:
                continue
            rows += _row(scores.by, of, "tasks", observed.mean(axis=1).T)
            best = by_scores(SEVEN, scores.by_task(keys).mean(axis=-1))
            rows += _row(scores.by, of, "replicates", observed.mean(axis=2).T, best)
    return rows
