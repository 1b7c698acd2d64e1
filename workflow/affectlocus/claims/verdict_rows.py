"""From tested statements to verdicts on claims."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain

import numpy as np
import pandas as pd

from affectlocus.claims.decisions import (
    AGAINST,
    EQUAL,
    OPEN,
    SUPPORT,
    ClaimP,
    OneSided,
    benjamini_hochberg,
    claim_p,
    holm,
    needed_replicates,
    outcomes,
)
from affectlocus.claims.findings import ClaimFinding, Contrast, LayerTest
from affectlocus.claims.tested import LAYERS, TestedContrast, tested
from affectlocus.claims.verdict import (
    COLUMNS,
    CONTRADICTED,
    PRINTED,
    SUPPORTED,
    UNDECIDED,
    UNTESTABLE,
    WITHIN,
    Verdict,
)

_WORDS = {SUPPORT: SUPPORTED, AGAINST: CONTRADICTED, EQUAL: WITHIN, OPEN: UNDECIDED}


_Part = tuple[ClaimFinding, list[TestedContrast], TestedContrast | None]
"""A finding, its tests, and the test of what it requires."""


@dataclass(frozen=True)
class _Statement:
    """Findings that are judged together, with their tests.

    Attributes:
        missing: why another finding of the same claim is untestable; empty if none is.
    """

    parts: tuple[_Part, ...]
    missing: str = ""

    @property
    def tests(self) -> list[TestedContrast]:
        return [test for _, tests, _ in self.parts for test in tests]

    def p(self) -> ClaimP:
        """The p values; 1 for what a single tuning or draw, or a missing part, cannot show."""
        unknown = OneSided(*[np.ones(1)] * len(fields(OneSided)))
        each = [
            unknown if finding.unreplicated else test.p
            for finding, tests, _ in self.parts
            for test in tests
        ]
        p = claim_p(
            OneSided(
                *(
                    np.concatenate([getattr(one, name.name) for one in each])
                    for name in fields(OneSided)
                )
            )
        )
        required = [test.p.above[0] for *_, test in self.parts if test is not None]
        return ClaimP(*(np.max([one, *required]) for one in (p.support, p.against, p.equal)))


def judge(
    findings: Sequence[ClaimFinding],
    confidence: float,
    reference: Sequence[Contrast] = (),
) -> list[Verdict]:
    """The verdicts on a set of claims: for each claim and measure a row, then its details.

    - supported or contradicted: the claim's two-sided p, corrected by Benjamini and Hochberg over
      the claims, is below the level.
    - equal: otherwise, the claim's closest rival differs by less than the margin.
    - undecided: otherwise; also if a difference comes from a single tuning or random draw.
    - untestable: a part has no data, and no other part contradicts the claim.

    The stated claims are one family for the corrections. Additional tests are families of their
    own, one for each measure. Rows of details are tested alone, at the same
    level; they explain the verdict.

    If nothing was drawn (printed tables), the sign decides, and the verdict says "(as printed)".

    Args:
        findings: in the order of the claims.
        reference: contrasts of other claims, from which the prior of variances is estimated too.
    """
    level = 1 - confidence
    wanted = [*chain.from_iterable(_contrasts(one) for one in findings)]
    results = iter(tested([*wanted, *reference], confidence))
    parts = [
        (
            finding,
            [next(results) for _ in finding.contrasts],
            None if finding.requires is None else next(results),
        )
        for finding in findings
    ]
    order = list(dict.fromkeys(one.claim for one in findings))
    measures = dict.fromkeys((one.claim, not one.stated, one.by) for one in findings)
    groups: list[tuple[Verdict, list[Verdict], _Statement | None]] = []
    for claim, additional, by in sorted(measures, key=lambda key: (order.index(key[0]), key[1])):
        own = [
            part
            for part in parts
            if (part[0].claim, part[0].stated, part[0].by) == (claim, not additional, by)
        ]
        groups.append(_grouped(own, level))
    families: dict[str, list[int]] = {}
    for place, (head, _, statement) in enumerate(groups):
        if statement is not None and not math.isnan(head.p):
            families.setdefault("" if head.stated else head.by, []).append(place)
    rows: list[Verdict] = []
    decided: dict[int, Verdict] = {}
    for places in families.values():
        decided |= _family([groups[place] for place in places], places, level)
    for place, (head, details, _) in enumerate(groups):
        rows += [decided.get(place, head), *details]
    return rows


def contrasts_of(findings: Sequence[ClaimFinding]) -> list[Contrast]:
    """The contrasts of findings, without the layer rule's tests."""
    every = chain.from_iterable(_contrasts(one) for one in findings)
    return [one for one in every if isinstance(one, Contrast)]


def _contrasts(finding: ClaimFinding) -> Iterator[Contrast | LayerTest]:
    yield from finding.contrasts
    if finding.requires is not None:
        yield finding.requires


def _grouped(
    own: Sequence[_Part], level: float
) -> tuple[Verdict, list[Verdict], _Statement | None]:
    """The row of a claim before the correction, its details, and what is tested."""
    details = [_detail(part, level) for part in own]
    testable = [part for part in own if not part[0].missing]
    if not testable:
        return replace(details[0], level="claim"), [], None
    # A pair without any testable part is left out. A part that is missing otherwise makes the claim
    # untestable, unless the others contradict it.
    pairs = {part[0].pair for part in testable}
    lacking = [part[0] for part in own if part[0].missing and part[0].pair in pairs]
    statement = _Statement(tuple(testable), lacking[0].missing if lacking else "")
    p = statement.p()
    if lacking:
        p = ClaimP(np.array(1.0), p.against, np.array(1.0))
    head = _described(statement, p)
    head = replace(
        head,
        level="claim",
        pair=own[0][0].pair if len({part[0].pair for part in own}) == 1 else "",
        part=own[0][0].part if len(own) == 1 else "",
        verdict=UNTESTABLE if lacking else UNDECIDED,
    )
    if math.isnan(head.p):
        why = statement.missing or head.why
        head = replace(head, verdict=_printed(details), why=why)
    if len(own) == 1:
        return head, [], statement
    return replace(head, why=f"{count_verdicts(details)}; {head.why}"), details, statement


def _printed(details: Sequence[Verdict]) -> str:
    """The verdict of statements without an interval: one that is contradicted decides."""
    words = [row.verdict for row in details]
    return min(words, key=[CONTRADICTED + PRINTED, UNTESTABLE, SUPPORTED + PRINTED].index)


def _detail(part: _Part, level: float) -> Verdict:
    """The row of one finding, tested alone."""
    finding = part[0]
    if finding.missing:
        return Verdict(
            finding.claim, finding.by, finding.pair, finding.part, finding.stated,
            why=finding.missing, basis=finding.basis,
        )  # fmt: skip
    statement = _Statement((part,))
    p = statement.p()
    row = _described(statement, p)
    if math.isnan(row.p):
        side = SUPPORTED if row.effect > 0 else CONTRADICTED
        return replace(row, verdict=side + PRINTED)
    return replace(row, verdict=_WORDS[int(outcomes(p, p.two_sided, level))])


def _family(
    members: Sequence[tuple[Verdict, list[Verdict], _Statement | None]],
    places: Sequence[int],
    level: float,
) -> dict[int, Verdict]:
    """Place → the row of a claim with its verdict, corrected over the family."""
    own = np.array([head.p for head, *_ in members])
    by_bh, by_holm = benjamini_hochberg(own), holm(own)
    found = {}
    # The p that the next claim of the family would need.
    threshold = level * min(1, ((by_bh < level).sum() + 1) / len(own))
    for place, (head, _, statement), bh, by in zip(places, members, by_bh, by_holm, strict=True):
        assert statement is not None
        row = replace(head, p_bh=float(bh), p_holm=float(by))
        p = ClaimP(*(np.array(one) for one in (head.p_for, head.p_against, head.p_equal)))
        if row.verdict == UNTESTABLE and not (p.against < p.support and bh < level):
            found[place] = replace(row, why=statement.missing)
            continue
        found[place] = _with_verdict(row, statement, p, np.array(bh), level, threshold)
    return found


def _with_verdict(
    row: Verdict,
    statement: _Statement,
    p: ClaimP,
    corrected: np.ndarray,
    level: float,
    threshold: float,
) -> Verdict:
    """The row with its verdict, and what an undecided one needs."""
    verdict = _WORDS[int(outcomes(p, corrected, level))]
    row = replace(row, verdict=verdict)
    if verdict == WITHIN:
        return replace(row, why=f"{row.why}; within the margin of {row.margin:g} {row.unit}")
    if verdict != UNDECIDED:
        return row
    alone = {one.unreplicated for one, *_ in statement.parts} - {""}
    if alone:
        more = "seeds" if "tuning" in alone else "draws (matrix.draws)"
        why = (
            f"{row.why}; one {min(alone)} alone, and another may give a different result: use more"
        )
        return replace(row, why=f"{why} {more}", needed=2.0)
    for *_, required in statement.parts:
        if required is not None and required.p.above[0] >= threshold / 2:
            name = required.contrast.name
            row = replace(row, why=f"{row.why}; {name} is not above 0, which the claim requires")
    needed = _needed(statement.tests, threshold, level)
    fewest = min((test.replicates for test in statement.tests), default=0)
    price = _price(needed, fewest, row, threshold)
    return replace(row, needed=needed, why=f"{row.why}; {price}")


def _needed(tests: Sequence[TestedContrast], threshold: float, level: float) -> float:
    """The replicates that would probably decide; NaN if replicates are not what is tested."""
    if any(test.replicates < 2 for test in tests):
        return math.nan
    return needed_replicates(
        effect=np.array([test.effect for test in tests]),
        variance=np.array([test.variance for test in tests]),
        prior_df=np.array([test.prior_df for test in tests]),
        samples=np.array([test.samples for test in tests]),
        margin=np.array([test.margin for test in tests]),
        level=threshold,
        equality_level=level,
    )


def _price(needed: float, has: int, row: Verdict, threshold: float) -> str:
    """What an undecided claim needs, as text; `has`: the replicates of its smallest contrast."""
    if row.variance == LAYERS:
        fewest = math.floor(1 - math.log2(threshold)) + 1
        return (
            f"the layer rule needs {fewest} layers or more"
            if row.n < fewest
            else ("a single pair has no further replicates")
        )
    if math.isnan(needed):
        return "a single checkpoint has no further replicates: more test samples may decide it"
    if math.isinf(needed):
        return "more replicates would not decide it: more test samples may"
    more = max(1, int(needed) - has)
    return f"{more} more replicate{'s' if more > 1 else ''} would probably decide it"


def _described(statement: _Statement, p: ClaimP) -> Verdict:
    """A row with the numbers of the contrast that decides."""
    tests = statement.tests
    against = p.against < p.support
    if math.isnan(tests[0].p.above[0]):
        test = min(tests, key=lambda test: test.effect)
    elif against:
        test = min(tests, key=lambda test: test.p.below[0])
    else:
        test = max(tests, key=lambda test: test.p.above[0])
    finding = next(one for one, own, _ in statement.parts if test in own)
    most = 100.0 if test.unit == "points" else math.inf
    where = ""
    if len(statement.parts) > 1:
        where = " ".join(filter(None, (finding.pair, finding.part)))
    return Verdict(
        claim=finding.claim,
        by=finding.by,
        pair=finding.pair,
        part=finding.part,
        stated=finding.stated,
        why=f"{where}: {finding.why}" if where else finding.why,
        contrast=test.contrast.name,
        effect=test.effect,
        # Scores are between 0 and 100, whatever Student's t says with two replicates.
        low=max(test.low, -most),
        high=min(test.high, most),
        unit=test.unit,
        n=finding.n,
        replicates=test.replicates,
        sd=math.sqrt(test.variance) if test.replicates > 1 else math.nan,
        df=test.df,
        variance=test.kind,
        prior_sd=test.prior_sd,
        prior_df=test.prior_df if test.replicates > 1 else math.nan,
        p_for=float(p.support),
        p_against=float(p.against),
        p=float(p.two_sided),
        p_equal=float(p.equal),
        equal_low=math.nan if math.isnan(test.margin) else test.equal_low,
        equal_high=math.nan if math.isnan(test.margin) else test.equal_high,
        margin=test.margin,
        posterior=1 - float(test.p.above[0]),
        cohens_h=finding.cohens_h,
        mcnemar_p=finding.mcnemar_p,
        basis=finding.basis,
    )


def count_verdicts(rows: Iterable[Verdict]) -> str:
    """The number of rows with each verdict, as text."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count} of {counts.total()} {verdict}" for verdict, count in counts.items())


def verdict_table(rows: Sequence[Verdict], confidence: float) -> pd.DataFrame:
    """The table of verdicts: a row per verdict, columns `COLUMNS`.

    Args:
        confidence: the level of verdicts and intervals.
    """
    frame = pd.DataFrame([vars(row) for row in rows]).assign(confidence=confidence)
    return frame[list(COLUMNS)]
