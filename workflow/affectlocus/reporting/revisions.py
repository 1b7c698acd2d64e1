"""Step `revisions`: small files with which `dvc plots` and `dvc metrics` compare two revisions.

DVC reads csv and json and draws a line for each column, so the tidy results are pivoted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from affectlocus.core.projections import PROJECTIONS


def by_layer(deltas: pd.DataFrame) -> pd.DataFrame:
    """L2 of the weights' deltas: a row for each layer, a column for each projection.

    A projection that was not adapted is NaN.
    """
    weights = deltas[deltas["parameter"] == "weight"]
    wide = weights.pivot_table(index="layer", columns="projection", values="l2", dropna=False)
    return wide.reindex(columns=list(PROJECTIONS)).reset_index().rename_axis(columns=None)


def summary(means: Mapping[str, Any], claims: pd.DataFrame) -> dict[str, Any]:
    """Few numbers for `dvc metrics show`: scores of each pair that is loaded, and verdicts.

    Args:
        means: the summary of step `collect` for the metric of the tables: pair or base → kind →
            module set → mean score.
        claims: the rows of claims.csv.

    Returns:
        `score`: pair → `tuned`, and `best_single` with its score; base → its score; `claims`:
        verdict → number of claims.
    """
    scores: dict[str, Any] = {}
    for name, kinds in means.items():
        if "base" in kinds:
            scores[name] = kinds["base"]
        loads = kinds.get("load", {})
        singles = {modules: value for modules, value in loads.items() if modules in PROJECTIONS}
        if singles and "tuned" in kinds:
            best = max(singles, key=lambda modules: singles[modules])
            scores[name] = {"tuned": kinds["tuned"], f"best_single ({best})": singles[best]}
    rows = claims[(claims["level"] == "claim") & claims["stated"].astype(bool)]
    counts = rows["verdict"].value_counts().sort_index()
    return {"score": scores, "claims": {str(word): int(count) for word, count in counts.items()}}


def verdicts(claims: pd.DataFrame) -> dict[str, Any]:
    """Claim → verdict, effect and digest by the measure it names, for `dvc metrics diff`."""
    rows = claims[(claims["level"] == "claim") & claims["stated"].astype(bool)]
    return {
        str(row["claim"]): {"verdict": row["verdict"]}
        | ({} if pd.isna(row["effect"]) else {"effect": float(row["effect"])})
        | ({"claim_sha256": row["claim_sha256"]} if row.get("claim_sha256") else {})
        for row in rows.to_dict("records")
    }
