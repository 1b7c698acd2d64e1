"""How far rankings of the seven projections agree: over layers, pairs, tasks and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from affectlocus.claims.evidence import COLUMNS as SEVEN
from affectlocus.claims.evidence import LackingError, Locus, Scores
from affectlocus.claims.locus_rules import FAIR
from affectlocus.claims.statistics import kendalls_w

COLUMNS = ["by", "of", "over", "raters", "items", "w", "p", "ranking"]


def agreement(scores: Sequence[Scores], loci: Sequence[Locus]) -> pd.DataFrame:
    """Kendall's W, a row for each ranking that has two raters or more; columns `COLUMNS`.

    `by` is what ranks (a score of `deltas`, or the metric), `of` the pair, domain or arm, `over`
    who rates: layers, seeds, pairs or tasks. `ranking` is by mean rank, the highest first.
    """
    rows = [row for by in ("l2", *FAIR) for row in _of_deltas(loci, by)]
    for one in scores:
        rows += _of_scores(one)
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(by: str, of: str, over: str, values: np.ndarray) -> list[list[object]]:
    """One row; none where there are fewer than two raters, or nothing to rank."""
    if len(values) < 2 or not np.isfinite(values).all():
        return []
    w, p = kendalls_w(values)
    if np.isnan(w):
        return []
    ranks = pd.DataFrame(values, columns=SEVEN).rank(axis=1).mean()
    ranking = " > ".join(ranks.sort_values(ascending=False, kind="stable").index)
    return [[by, of, over, *values.shape, w, p, ranking]]


def _of_deltas(loci: Sequence[Locus], by: str) -> list[list[object]]:
    rows = []
    means: dict[str, list[np.ndarray]] = {}
    for one in loci:
        try:
            sizes = one.sizes(by)  # (seeds, layers, 7)
        except LackingError:
            continue
        rows += _row(by, one.name, "layers", sizes.mean(axis=0))
        rows += _row(by, one.name, "seeds", sizes.mean(axis=1))
        means.setdefault(one.facts.domain, []).append(sizes.mean(axis=(0, 1)))
    for domain, values in means.items():
        rows += _row(by, domain, "pairs", np.stack(values))
    return rows


def _of_scores(scores: Scores) -> list[list[object]]:
    """Of the single modules' scores: over tasks, and over seeds where there are several."""
    rows = []
    for pair in scores.matrices:
        for kind in ("load", "tune"):
            keys = [(pair, kind, name, "") for name in SEVEN]
            if not all(map(scores.has, keys)):
                continue
            of = f"{pair} {kind}"
            observed = np.stack([scores.draws.tasks_of(key)[0] for key in keys], axis=1)
            rows += _row(scores.by, of, "tasks", observed)
            cells = [scores.cells[key] for key in keys]
            if len({len(names) for names in cells}) == 1:
                each = [[scores.single[name].mean() for name in names] for names in cells]
                rows += _row(scores.by, of, "seeds", np.array(each).T)
    return rows
