"""Step `claims`: a verdict on every claim of the paper, for an experiment or for its own tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from affectlocus.claims.effect_rules import effect_findings
from affectlocus.claims.evidence import (
    GroupKey,
    Locus,
    MissingEvidenceError,
    ScoreEvidence,
    gather_loci,
    gather_scores,
)
from affectlocus.claims.findings import ClaimFinding
from affectlocus.claims.locus_rules import c4, locus_findings
from affectlocus.claims.pair_facts import ClaimsSettings
from affectlocus.claims.paper import SETS, SOURCE, TASKS, misprints, printed
from affectlocus.claims.rank_agreement import rank_agreement
from affectlocus.claims.statistics import GroupDraws
from affectlocus.claims.verdict_rows import Verdict, judge, verdict_table
from affectlocus.deltas.delta_tables import TuningFacts
from affectlocus.evaluation.predictions import Predictions


def judge_experiment(
    predictions: Iterable[Predictions] | None,
    tables: Mapping[str, pd.DataFrame],
    histograms: Mapping[str, pd.DataFrame],
    settings: ClaimsSettings,
    tunings: Mapping[str, TuningFacts] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The verdicts on an experiment, and the agreement of its rankings.

    Args:
        predictions: of every cell; None: only the claims on deltas are tested.
        tables, histograms: pair → its deltas, and their histogram.
        tunings: pair → what its files say about its tuning.

    Returns:
        Columns `verdicts.COLUMNS` and `rank_agreement.COLUMNS`.
    """
    loci = gather_loci(tables, histograms, settings, tunings)
    scores: list[ScoreEvidence] = []
    missing = "no answers of any cell"
    if predictions is not None:
        try:
            scores = gather_scores(predictions, settings)
        except MissingEvidenceError as error:
            missing = str(error)
    verdicts = judge_evidence(scores, loci, settings, missing)
    return verdict_table(verdicts, settings.confidence), rank_agreement(scores, loci)


def judge_evidence(
    scores: Sequence[ScoreEvidence],
    loci: Sequence[Locus],
    settings: ClaimsSettings,
    missing: str = "",
) -> list[Verdict]:
    """Verdicts on all claims; each claim's row comes before its details.

    The rules are also applied to controls and nulls, as additional tests. If a rule is supported
    there too, the effect is not specific to affect.

    Args:
        missing: the reason why there are no scores, if `scores` is empty.
    """
    found = locus_findings(loci, settings.confidence)
    found += c4(found, loci)
    if not scores:
        found += [ClaimFinding(f"C{number}", "score", missing=missing) for number in range(5, 15)]
    with_matrix = [evidence for evidence in scores if evidence.matrices] or scores[:1]
    for finding in (finding for evidence in with_matrix for finding in effect_findings(evidence)):
        domain = settings.domain(finding.pair)
        if domain != "affective":
            if finding.missing:  # the paper's claims are about affective pairs
                continue
            finding = replace(finding, stated=False, by=f"{finding.by} of a {domain}")
        found.append(_with_gate_share(finding, loci))
    return judge(found, settings.confidence)


def _with_gate_share(finding: ClaimFinding, loci: Sequence[Locus]) -> ClaimFinding:
    """C12 also states gate's share of the parameters: computed from the shapes of the deltas."""
    locus = next((locus for locus in loci if locus.name == finding.pair), None)
    if finding.claim != "C12" or finding.missing or locus is None:
        return finding
    rows = next(iter(locus.tables.values())).query("parameter == 'weight'")
    sides = rows["shape"].str.split("x", expand=True).astype(float)
    counts = {"LoRA": sides.sum(axis=1), "all": sides.prod(axis=1)}
    shares = [
        f"{100 * count[rows['projection'] == 'gate'].sum() / count.sum():.2f}% of {kind} parameters"
        for kind, count in counts.items()
    ]
    return replace(finding, why=f"{finding.why}; gate has {' and '.join(shares)} of the seven")


def judge_paper() -> tuple[pd.DataFrame, list[str]]:
    """The verdicts of the same rules on the paper's two tables, and the means that are misprinted.

    The tables have neither samples nor seeds, so there are no intervals. The signs of the
    differences decide, and the verdicts have the suffix "(as printed)". Means are computed from
    the cells of the tables.
    """
    places: dict[GroupKey, str] = {("", "base", "", ""): "Table 1 row 0"}
    values = [printed("load")[0][0]]
    for number, arm in ((1, "load"), (2, "tune")):
        for row, modules in enumerate(SETS, start=1):
            places["", arm, modules, ""] = f"Table {number} row {row}"
            values.append(printed(arm)[0][row])
    scores = ScoreEvidence(
        draws=GroupDraws(
            {(key, None): at for at, key in enumerate(places)}, TASKS, np.array([values])
        ),
        replicates=dict.fromkeys(places, (None,)),
        by="score",
        cells={key: [name] for key, name in places.items()},
        source=SOURCE,
        noun="row",
    )
    missing = "the paper shows it as a heat map or a distribution, without numbers"
    found = [
        ClaimFinding(claim, "relative" if claim == "C2" else "l2", missing=missing)
        for claim in ("C1", "C2", "C3", "C4")
    ]
    flags = misprints()
    # Additional tests are left out: here they are untestable whenever the claim is.
    found += [_of_tables(finding, flags) for finding in effect_findings(scores) if finding.stated]
    # Printed numbers have no interval and therefore no confidence level.
    return verdict_table(judge(found, 0.95), math.nan), list(flags.values())


def _of_tables(finding: ClaimFinding, flags: Mapping[str, str]) -> ClaimFinding:
    """The finding with the paper's tables named in `missing`, and misprints added to `why`."""
    if finding.missing.startswith("no row"):
        return replace(finding, missing=f"its two tables have {finding.missing}")
    affected = [flag for place, flag in flags.items() if place in finding.basis]
    return replace(finding, why="; ".join([finding.why, *affected]))
