"""Step `claims`: a verdict on every claim of the chosen sets, for an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from affectlocus.claims.delta_kinds import LocusComparisons
from affectlocus.claims.evidence import MissingEvidenceError, ScoreEvidence, gather_scores
from affectlocus.claims.findings import ClaimFinding
from affectlocus.claims.kinds import kind, sentence
from affectlocus.claims.loci import Locus, gather_loci
from affectlocus.claims.rank_agreement import rank_agreement
from affectlocus.claims.score_comparisons import ScoreComparisons
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.claims.verdict_rows import Verdict, contrasts_of, judge, verdict_table
from affectlocus.config.claim_kinds import (
    ChangeInteraction,
    HoldsAcross,
    LargestChange,
    OnScores,
    Statement,
    statements_of,
)
from affectlocus.config.claims import (
    PAPER,
    ClaimSet,
    claim_sha256,
    shipped,
)
from affectlocus.deltas.delta_tables import TuningFacts
from affectlocus.evaluation.predictions import Predictions


def judge_experiment(
    predictions: Iterable[Predictions] | None,
    tables: Mapping[str, pd.DataFrame],
    histograms: Mapping[str, pd.DataFrame],
    settings: ClaimsSettings,
    tunings: Mapping[str, TuningFacts] | None = None,
    forecasts: Mapping[str, pd.DataFrame] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The verdicts on an experiment, and the agreement of its rankings.

    Args:
        predictions: of every cell; None: only the claims on deltas are tested.
        tables, histograms: pair → its deltas, and their histogram.
        tunings: pair → what its files say about its tuning.
        forecasts: pair → measures that were taken before its tuning.

    Returns:
        Columns `verdicts.COLUMNS` and `rank_agreement.COLUMNS`.
    """
    loci = gather_loci(tables, histograms, settings, tunings, forecasts)
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
    """Verdicts on all claims of the chosen sets; each claim's row comes before its details.

    p values are corrected within a set. The prior of variances is estimated from the contrasts of
    the paper's claims and of the set itself. So a verdict does not depend on the other sets.

    Args:
        missing: the reason why there are no scores, if `scores` is empty.
    """
    paper = findings_of(shipped(PAPER), scores, loci, settings, missing)
    rows = []
    for name, claims in settings.claims.judged().items():
        if name == PAPER:
            judged = judge(paper, settings.confidence)
        else:
            own = findings_of(claims, scores, loci, settings, missing)
            judged = judge(own, settings.confidence, contrasts_of(paper))
        rows += [described(row, name, claims, settings.margin) for row in judged]
    return rows


def described(row: Verdict, name: str, claims: ClaimSet, margin: float) -> Verdict:
    """The row with the name of its set, and the text, source and digest of its claim."""
    claim = claims.claims[row.claim]
    row = replace(row, claim_set=name, claim_sha256=claim_sha256(claim, margin))
    if row.level != "claim":
        return row
    source = ", ".join(filter(None, (claims.source, claim.source)))
    return replace(row, source=source, text=sentence(claim))


def findings_of(
    claims: ClaimSet,
    scores: Sequence[ScoreEvidence],
    loci: Sequence[Locus],
    settings: ClaimsSettings,
    missing: str = "",
) -> list[ClaimFinding]:
    """The findings on all claims of a set, in its order.

    Args:
        missing: the reason why there are no scores, if `scores` is empty.
    """
    found: dict[str, list[ClaimFinding]] = {}
    for name, claim in claims.claims.items():
        statements: dict[str, list[Statement]] = {"deltas": [], "claims": [], "scores": []}
        for one in statements_of(claim):
            statements[kind(one).reads].append(one)
        says = "the paper" if claim.source else "the claim"
        found[name] = [
            *_on_deltas(name, statements["deltas"], loci, settings.confidence),
            *_across(name, statements["claims"], claims, found, loci),
            *_on_scores(name, statements["scores"], scores, loci, settings, missing, says),
        ]
    return [one for findings in found.values() for one in findings]


def _on_deltas(
    name: str, statements: Sequence[Statement], loci: Sequence[Locus], confidence: float
) -> Iterator[ClaimFinding]:
    """The findings on a claim of every group of pairs of its domain."""
    domains: dict[str, list[LargestChange | ChangeInteraction]] = {}
    for one in statements:
        assert isinstance(one, LargestChange | ChangeInteraction)
        other = one.matched if isinstance(one, LargestChange) else one.domain
        tested = one.domain if isinstance(one, LargestChange) else one.against
        for needed in filter(None, (other, tested)):
            if not any(locus.facts.domain == needed for locus in loci):
                yield ClaimFinding(name, one.by, missing=f"no {needed} pair among the deltas")
                return
        domains.setdefault(tested, []).append(one)
    for domain, members in domains.items():
        for locus in loci:
            if locus.facts.domain == domain:
                comparisons = LocusComparisons(locus, loci, name, confidence)
                for one in members:
                    if not one.pairs or locus.name in one.pairs:
                        yield from kind(one).test(comparisons, one)


def _across(
    name: str,
    statements: Sequence[Statement],
    claims: ClaimSet,
    found: Mapping[str, list[ClaimFinding]],
    loci: Sequence[Locus],
) -> Iterator[ClaimFinding]:
    """The findings on a claim about another claim."""
    for one in statements:
        assert isinstance(one, HoldsAcross)
        measures: dict[str, bool] = {}
        for other in statements_of(claims.claims[one.claim]):
            assert isinstance(other, LargestChange)
            measures |= {other.by: other.stated, **dict.fromkeys(other.also_by, False)}
        yield from kind(one).test(name, one, measures, found[one.claim], loci)


def _on_scores(
    name: str,
    statements: Sequence[Statement],
    scores: Sequence[ScoreEvidence],
    loci: Sequence[Locus],
    settings: ClaimsSettings,
    missing: str,
    says: str,
) -> Iterator[ClaimFinding]:
    """The findings on a claim of every group of pairs that has cells.

    A claim is also tested on pairs of other domains than its own, as an additional test. If it is
    supported there too, the effect is not specific to its domain.
    """
    if not statements:
        return
    with_matrix = [evidence for evidence in scores if evidence.matrices]
    if not with_matrix:
        by = scores[0].by if scores else "score"
        missing = "no cells except bases and tuned models" if scores else missing
        yield ClaimFinding(name, by, missing=missing)
        return
    groups = [pair for evidence in with_matrix for pair in evidence.matrices]
    domains = {pair: settings.domain(pair) for pair in groups}
    tested = False
    for evidence in with_matrix:
        for pair in evidence.matrices:
            for one in statements:
                assert isinstance(one, OnScores)
                if one.pairs and pair not in one.pairs:
                    continue
                stated = domains[pair] == one.domain
                comparisons = ScoreComparisons(
                    evidence, pair, name, with_matrix, domains, loci, says
                )
                for finding in _tested(comparisons, one):
                    if stated:
                        tested = True
                        yield finding
                    elif not finding.missing:
                        article = "an" if domains[pair] == "affective" else "a"
                        by = f"{finding.by} of {article} {domains[pair]}"
                        yield replace(finding, stated=False, by=by)
    if not tested:
        wanted = ", ".join(dict.fromkeys(one.domain for one in statements))
        missing = f"no cells of a pair of domain {wanted}; add such a pair to matrix.pairs"
        yield ClaimFinding(name, with_matrix[0].by, missing=missing)


def _tested(comparisons: ScoreComparisons, statement: OnScores) -> list[ClaimFinding]:
    """The findings of one statement, with its own tasks and margin."""
    scores = comparisons.scores
    if statement.tasks:
        try:
            scores = scores.of_tasks(statement.tasks)
        except MissingEvidenceError as error:
            return [replace(comparisons.finding(statement), missing=str(error))]
    if statement.margin is not None:
        scores = replace(scores, margin=statement.margin)
    return kind(statement).test(replace(comparisons, scores=scores), statement)
