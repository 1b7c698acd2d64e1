"""The agreement of rankings of the seven projections, over layers, pairs, tasks and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from affectlocus.claims.evidence import COLUMNS as SEVEN
from affectlocus.claims.evidence import Locus, MissingEvidenceError, ScoreEvidence
from affectlocus.claims.locus_rules import SIZE_FREE
from affectlocus.claims.statistics import kendalls_w

COLUMNS = ["by", "of", "over", "raters", "items", "w", "p", "ranking"]


def rank_agreement(scores: Sequence[ScoreEvidence], loci: Sequence[Locus]) -> pd.DataFrame:
    """Kendall's W of each ranking with at least two raters; columns `COLUMNS`.

    `by` is the value that is ranked (a score of `deltas`, or the metric). `of` is the pair, domain
    or arm. `over` names the raters: layers, seeds, pairs or tasks. `ranking` is sorted by mean
    rank, highest first.
    """
    rows = [row for by in ("l2", *SIZE_FREE) for row in _delta_rows(loci, by)]
    for evidence in scores:
        rows += _score_rows(evidence)
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(by: str, of: str, over: str, values: np.ndarray) -> list[list[object]]:
    """A list with one row; empty with fewer than two raters, or if nothing can be ranked.

    Args:
        values: (raters, 7).
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return []
    w, p = kendalls_w(values)
    if np.isnan(w):
        return []
    ranks = pd.DataFrame(values, columns=SEVEN).rank(axis=1).mean()
    ranking = " > ".join(ranks.sort_values(ascending=False, kind="stable").index)
    return [[by, of, over, *values.shape, w, p, ranking]]


def _delta_rows(loci: Sequence[Locus], by: str) -> list[list[object]]:
    """The agreement of deltas: over layers and seeds of each pair, over pairs of each domain."""
    rows = []
    means: dict[str, list[np.ndarray]] = {}
    for locus in loci:
        try:
            sizes = locus.sizes(by)  # (seeds, layers, 7)
        except MissingEvidenceError:
            continue
        rows += _row(by, locus.name, "layers", sizes.mean(axis=0))
        rows += _row(by, locus.name, "seeds", sizes.mean(axis=1))
        means.setdefault(locus.facts.domain, []).append(sizes.mean(axis=(0, 1)))
    for domain, values in means.items():
        rows += _row(by, domain, "pairs", np.stack(values))
    return rows


def _score_rows(scores: ScoreEvidence) -> list[list[object]]:
    """The agreement of the scores of single modules, over tasks and over seeds."""
    rows = []
    for pair in scores.matrices:
        for kind in ("load", "tune"):
            keys = [(pair, kind, name, "") for name in SEVEN]
            if not all(map(scores.has, keys)):
                continue
            of = f"{pair} {kind}"
            observed = np.stack([scores.draws.by_task(key)[0] for key in keys], axis=1)
            rows += _row(scores.by, of, "tasks", observed)
            cells = [scores.cells[key] for key in keys]
            if len({len(names) for names in cells}) == 1:
                by_seed = [[scores.cell_scores[name].mean() for name in names] for names in cells]
                rows += _row(scores.by, of, "seeds", np.array(by_seed).T)
    return rows
