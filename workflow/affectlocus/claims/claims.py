"""Step `claims`: a verdict on every claim of the paper, for an experiment or for its own tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from affectlocus.claims.effect_rules import findings as of_scores
from affectlocus.claims.evidence import Key, LackingError, Locus, Scores, gather, loci
from affectlocus.claims.locus_rules import c4
from affectlocus.claims.locus_rules import findings as of_deltas
from affectlocus.claims.pair_facts import ClaimsSettings
from affectlocus.claims.paper import SETS, SOURCE, TASKS, misprints, printed
from affectlocus.claims.rank_agreement import agreement
from affectlocus.claims.statistics import Draws
from affectlocus.claims.verdicts import Finding, Verdict, judge, table, with_headlines


def ledger(
    frames: Iterable[pd.DataFrame] | None,
    tables: Mapping[str, pd.DataFrame],
    histograms: Mapping[str, pd.DataFrame],
    settings: ClaimsSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The verdicts on an experiment, and the agreement of its rankings.

    Args:
        frames: predictions of every cell, with the cell and the labels in `attrs`; none: the
            locus alone.
        tables, histograms: pair → its deltas, and their histogram.

    Returns:
        Columns `verdicts.COLUMNS` and `agreement.COLUMNS`.
    """
    measured = loci(tables, histograms, settings)
    scores, lacking = [], "no answers of any cell"
    if frames is not None:
        try:
            scores = gather(frames, settings)
        except LackingError as error:
            lacking = str(error)
    verdicts = judged(scores, measured, settings, lacking)
    return table(verdicts, settings.confidence), agreement(scores, measured)


def judged(
    scores: Sequence[Scores],
    measured: Sequence[Locus],
    settings: ClaimsSettings,
    lacking: str = "",
) -> list[Verdict]:
    """Verdicts on all claims, each claim's row before its details.

    What holds of a control or a null stands beside what the paper states: where the same rule
    holds there, what was found is no property of affect.

    Args:
        lacking: why there are no scores, where there are none.
    """
    found = of_deltas(measured, settings.confidence)
    if not scores:
        found += [Finding(f"C{number}", "score", lacking=lacking) for number in range(5, 15)]
    tried = [group for group in scores if group.matrices] or scores[:1]
    for one in (one for group in tried for one in of_scores(group)):
        domain = settings.domain(one.pair)
        if domain != "affective":
            if one.lacking:  # nobody asked for it: the paper's claims are of affective pairs
                continue
            one = replace(one, stated=False, by=f"{one.by} of a {domain}")
        found.append(_with_share(one, measured))
    rows = judge(found, settings.confidence)
    return with_headlines([*rows, *c4(rows, measured)])


def _with_share(one: Finding, measured: Sequence[Locus]) -> Finding:
    """C12 also names a number of parameters: gate's share of them, by the shapes of the deltas."""
    mine = next((place for place in measured if place.name == one.pair), None)
    if one.claim != "C12" or one.lacking or mine is None:
        return one
    rows = next(iter(mine.tables.values())).query("parameter == 'weight'")
    sides = rows["shape"].str.split("x", expand=True).astype(float)
    counts = {"LoRA": sides.sum(axis=1), "all": sides.prod(axis=1)}
    shares = [
        f"{100 * count[rows['projection'] == 'gate'].sum() / count.sum():.2f}% of {kind} parameters"
        for kind, count in counts.items()
    ]
    return replace(one, why=f"{one.why}; gate has {' and '.join(shares)} of the seven")


def on_paper() -> tuple[pd.DataFrame, list[str]]:
    """The same rules on the paper's own two tables, and every mean that they misprint.

    There are neither samples nor seeds, so no intervals: the signs of the differences decide, and
    the verdicts say "as printed". Means are worked out anew from the tables' cells.
    """
    places: dict[Key, str] = {("", "base", "", ""): "Table 1 row 0"}
    values = [printed("load")[0][0]]
    for number, arm in ((1, "load"), (2, "tune")):
        for row, modules in enumerate(SETS, start=1):
            places["", arm, modules, ""] = f"Table {number} row {row}"
            values.append(printed(arm)[0][row])
    scores = Scores(
        draws=Draws({key: place for place, key in enumerate(places)}, TASKS, np.array([values])),
        by="score",
        cells={key: [name] for key, name in places.items()},
        source=SOURCE,
        noun="row",
    )
    lacking = "the paper shows it as a heat map or a distribution, without numbers"
    found = [
        Finding(claim, "relative" if claim == "C2" else "l2", lacking=lacking)
        for claim in ("C1", "C2", "C3", "C4")
    ]
    flags = misprints()
    # What stands beside a claim is untestable here like the claim.
    found += [_of_tables(one, flags) for one in of_scores(scores) if one.stated]
    # Printed numbers have no interval, so no level either.
    return table(with_headlines(judge(found, 0.95)), math.nan), list(flags.values())


def _of_tables(one: Finding, flags: Mapping[str, str]) -> Finding:
    """What the two tables lack is said of them, and a misprint where it is rested on."""
    if one.lacking.startswith("no row"):
        return replace(one, lacking=f"its two tables have {one.lacking}")
    found = [flag for place, flag in flags.items() if place in one.basis]
    return replace(one, why="; ".join([one.why, *found]))
