"""From tested statements to verdicts: Holm's correction, and the verdict of several parts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pandas as pd

from affectlocus.claims.paper import CLAIMS
from affectlocus.claims.statistics import Estimate, holm

SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, UNTESTABLE = "inconclusive", "untestable"
PRINTED = " (as printed)"


@dataclass(frozen=True)
class ClaimFinding:
    """One tested statement of a claim.

    Attributes:
        claim: C1 to C14.
        by: the measure: a score of `deltas`, or a metric of answers.
        pair: the group of pairs that was tested.
        part: the statement, if a claim makes several.
        stated: whether the paper makes this statement; otherwise it is an additional test.
        effect, low, high, unit: the effect and its interval.
        p: two-sided; NaN if nothing was drawn.
        agrees: whether the effect has the direction that the claim states.
        n: samples, or layers.
        unreplicated: `tuning` or `draw` if the difference comes from a single tuning or a single
            random draw; the interval does not include its variance. Otherwise empty.
        why: the numbers in a sentence.
        basis: the source of the numbers.
        missing: what the test needs and the experiment does not have; the statement is untestable.
    """

    claim: str
    by: str
    pair: str = ""
    part: str = ""
    stated: bool = True
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    p: float = math.nan
    agrees: bool = False
    n: int = 0
    seeds: int = 0
    unreplicated: Literal["", "tuning", "draw"] = ""
    cohens_h: float = math.nan
    mcnemar_p: float = math.nan
    why: str = ""
    basis: str = ""
    missing: str = ""

    def measured(self, found: Estimate, unit: str) -> ClaimFinding:
        """The finding with an effect. The claim states that the effect is above `found.null`.

        Differences in points are clipped to -100 and 100, because scores are between 0 and 100. The
        interval over two or three seeds can exceed this range.
        """
        most = 100.0 if unit == "points" else math.inf
        return replace(
            self,
            effect=found.value,
            low=max(found.low, -most),
            high=min(found.high, most),
            p=found.p,
            unit=unit,
            agrees=found.value > found.null,
        )


@dataclass(frozen=True)
class Verdict(ClaimFinding):
    """A finding with its verdict.

    Attributes:
        holm_p: p after Holm's correction.
        level: `claim` for the claim's row of the whole experiment, `detail` for the others.
    """

    verdict: str = UNTESTABLE
    holm_p: float = math.nan
    level: str = "detail"


def judge(findings: Sequence[ClaimFinding], confidence: float) -> list[Verdict]:
    """The verdicts of all findings of an experiment.

    The tests by one measure are a family for Holm's correction. Tests that the paper states and
    additional tests are separate families. A test that is significant after the correction is
    supported or contradicted, by the direction of its effect; any other test is inconclusive.

    A finding that comes from a single tuning or a single random draw is inconclusive too, because
    another seed or draw may give the opposite result. (This rule was added after seeds had been
    seen to disagree.) If nothing was drawn, the sign decides, and the verdict has the suffix
    "(as printed)".
    """
    adjusted = [math.nan] * len(findings)
    families: dict[tuple[str, bool], list[int]] = {}
    for place, finding in enumerate(findings):
        families.setdefault((finding.by, finding.stated), []).append(place)
    for places in families.values():
        values = holm([findings[place].p for place in places])
        for place, value in zip(places, values, strict=True):
            adjusted[place] = float(value)
    return [
        _judged(finding, p, 1 - confidence) for finding, p in zip(findings, adjusted, strict=True)
    ]


def _judged(finding: ClaimFinding, holm_p: float, level: float) -> Verdict:
    """The verdict of one finding; `why` gets the reason if the finding is inconclusive."""
    verdict = _verdict(finding, holm_p, level)
    if verdict in (SUPPORTED, CONTRADICTED) and finding.unreplicated:
        more = "seeds" if finding.unreplicated == "tuning" else "draws (matrix.draws)"
        why = (
            f"{finding.why}; {verdict} by one {finding.unreplicated} alone, and another may give a "
            f"different result: use more {more}"
        )
        finding, verdict = replace(finding, why=why), INCONCLUSIVE
    elif verdict == INCONCLUSIVE and finding.p < level:
        why = f"{finding.why}; significant alone, but not after Holm's correction"
        finding = replace(finding, why=why)
    return Verdict(**asdict(finding), holm_p=holm_p, verdict=verdict)


def _verdict(finding: ClaimFinding, p: float, level: float) -> str:
    if finding.missing:
        return UNTESTABLE
    side = SUPPORTED if finding.agrees else CONTRADICTED
    if math.isnan(p):
        return side + PRINTED
    return side if p < level else INCONCLUSIVE


def deciding_row(rows: Sequence[Verdict], skip_untestable: bool = False) -> Verdict:
    """The row that decides a statement that is true if all of its parts are true.

    If a part is contradicted, the contradicted row with the smallest p decides. Otherwise an
    untestable part decides, unless it is skipped. Otherwise the row with the largest p decides, of
    the inconclusive rows if there are any.

    Args:
        skip_untestable: ignore untestable rows, if any row is testable; for parts that are pairs.
    """
    tested = [row for row in rows if row.verdict != UNTESTABLE]
    against = [row for row in tested if row.verdict.startswith(CONTRADICTED)]
    if against:
        return min(against, key=_p)
    if len(tested) < len(rows) and not (skip_untestable and tested):
        return next(row for row in rows if row.verdict == UNTESTABLE)
    inconclusive = [row for row in tested if row.verdict == INCONCLUSIVE]
    return max(inconclusive or tested, key=_p)


def _p(row: Verdict) -> float:
    return 0.0 if math.isnan(row.holm_p) else row.holm_p


def with_claim_rows(rows: Sequence[Verdict]) -> list[Verdict]:
    """The rows with a row of level `claim` before the details of each claim and measure.

    A claim with a single detail has only the claim's row. A claim whose details are all untestable
    has one row for all of them.
    """
    found: list[Verdict] = []
    measures = dict.fromkeys((row.claim, not row.stated, row.by) for row in rows)
    order = list(CLAIMS)
    for claim, additional, by in sorted(measures, key=lambda key: (order.index(key[0]), key[1])):
        details = [
            row for row in rows if (row.claim, row.stated, row.by) == (claim, not additional, by)
        ]
        pairs = dict.fromkeys(row.pair for row in details)
        by_pair = [deciding_row([row for row in details if row.pair == pair]) for pair in pairs]
        decisive = deciding_row(by_pair, skip_untestable=True)
        if all(row.verdict == UNTESTABLE for row in details):
            details = [decisive]
        if len(details) == 1:
            found.append(replace(decisive, level="claim"))
            continue
        where = " ".join(filter(None, (decisive.pair, decisive.part))) or "overall"
        found.append(
            replace(
                decisive,
                level="claim",
                pair=decisive.pair if len(pairs) == 1 else "",
                part="",
                why=f"{count_verdicts(details)}; {where}: {decisive.why or decisive.missing}",
            )
        )
        found += details
    return found


def count_verdicts(rows: Iterable[Verdict]) -> str:
    """The number of rows with each verdict, as text."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count} of {counts.total()} {verdict}" for verdict, count in counts.items())


COLUMNS = (
    *("claim", "level", "pair", "part", "by", "stated", "verdict", "why", "effect", "low", "high"),
    *("confidence", "unit", "n", "seeds", "p", "p_alone", "cohens_h", "mcnemar_p", "basis"),
)


def verdict_table(rows: Sequence[Verdict], confidence: float) -> pd.DataFrame:
    """The table of verdicts: a row per verdict, columns `COLUMNS`.

    Args:
        confidence: the level of verdicts and intervals.
    """
    frame = pd.DataFrame([asdict(row) for row in rows]).assign(confidence=confidence)
    frame["why"] = frame["why"].mask(frame["why"] == "", frame["missing"])
    frame = frame.rename(columns={"p": "p_alone", "holm_p": "p"})
    return frame[list(COLUMNS)]
