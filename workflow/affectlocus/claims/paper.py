"""The numbers that the paper "Opening the Black Box" prints, and the rules' verdicts on them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from affectlocus.claims.claims import described, findings_of
from affectlocus.claims.evidence import GroupKey, ScoreEvidence
from affectlocus.claims.findings import ClaimFinding
from affectlocus.claims.kinds import kind
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.claims.statistics import GroupDraws
from affectlocus.claims.verdict_rows import judge, verdict_table
from affectlocus.config.claim_kinds import (
    ChangeInteraction,
    LargestChange,
    Statement,
    statements_of,
)
from affectlocus.config.claims import (
    PAPER,
    ClaimSet,
    shipped,
)

_PRINTED = Path(__file__).parent / "printed" / f"{PAPER}.csv"
_NOT_TASKS = ("table", "row", "arm", "modules", "mean")


@cache
def _rows() -> list[dict[str, str]]:
    """The rows of both tables: table, row, arm, modules, a column for each task, mean."""
    lines = _PRINTED.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def tasks() -> tuple[str, ...]:
    """The tasks of both tables, in order."""
    return tuple(name for name in _rows()[0] if name not in _NOT_TASKS)


def module_sets() -> tuple[str, ...]:
    """The module sets of both tables, rows 1 to 7; row 0 is the base."""
    return tuple(row["modules"] for row in _rows() if row["arm"] == "load" and row["modules"])


def printed(arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Table 1 (`load`) or 2 (`tune`): (8, 8) scores, base and sets by tasks; (8,) means."""
    rows = [row for row in _rows() if row["arm"] == arm]
    scores = np.array([[float(row[task]) for task in tasks()] for row in rows])
    return scores, np.array([float(row["mean"]) for row in rows])


def misprints() -> dict[str, str]:
    """Every printed mean that differs from the mean of its row, rounded to two digits.

    Returns:
        `Table T row R` → a sentence.
    """
    found = {}
    for number, arm in ((1, "load"), (2, "tune")):
        scores, means = printed(arm)
        for row, (cells, mean) in enumerate(zip(scores, means, strict=True)):
            # A third digit of 5 may have been rounded up or down.
            if abs(cells.mean() - mean) > 0.005 + 1e-9:
                place = f"Table {number} row {row}"
                found[place] = f"{place} prints the mean {mean:.2f}, but the mean of its cells is "
                found[place] += f"{cells.mean():.2f}"
    return found


def judge_paper() -> tuple[pd.DataFrame, list[str]]:
    """The verdicts of the rules on the paper's two tables, and the means that are misprinted.

    The tables have neither samples nor seeds, so there are no intervals. The signs of the
    differences decide, and the verdicts have the suffix "(as printed)". Means are computed from
    the cells of the tables.
    """
    places: dict[GroupKey, str] = {("", "base", "", ""): "Table 1 row 0"}
    values = [printed("load")[0][0]]
    for number, arm in ((1, "load"), (2, "tune")):
        for row, modules in enumerate(module_sets(), start=1):
            places["", arm, modules, ""] = f"Table {number} row {row}"
            values.append(printed(arm)[0][row])
    claims = shipped(PAPER)
    scores = ScoreEvidence(
        draws=GroupDraws(
            {(key, None): at for at, key in enumerate(places)}, tasks(), np.array([values])
        ),
        replicates=dict.fromkeys(places, (None,)),
        by="score",
        cells={key: [name] for key, name in places.items()},
        source=claims.source,
        noun="row",
    )
    missing = "the paper shows it as a heat map or a distribution, without numbers"
    flags = misprints()
    found = []
    for name, claim in claims.claims.items():
        first = statements_of(claim)[0]
        if kind(first).reads == "scores":
            one = ClaimSet(source=claims.source, claims={name: claim})
            found += findings_of(one, [scores], [], ClaimsSettings())
        else:
            found.append(ClaimFinding(name, _measure(first), missing=missing))
    # Additional tests are left out: here they are untestable whenever the claim is.
    found = [_of_tables(finding, flags) for finding in found if finding.stated]
    margin = ClaimsSettings().margin
    rows = [described(row, PAPER, claims, margin) for row in judge(found, 0.95)]
    # Printed numbers have no interval and therefore no confidence level.
    return verdict_table(rows, math.nan), list(flags.values())


def _measure(statement: Statement) -> str:
    if isinstance(statement, LargestChange | ChangeInteraction):
        return statement.by
    return "l2"


def _of_tables(finding: ClaimFinding, flags: Mapping[str, str]) -> ClaimFinding:
    """The finding with the paper's tables named in `missing`, and misprints added to `why`."""
    if finding.missing.startswith("no row"):
        return replace(finding, missing=f"its two tables have {finding.missing}")
    affected = [flag for place, flag in flags.items() if place in finding.basis]
    return replace(finding, why="; ".join([finding.why, *affected]))
