"""From tested statements to verdicts: Holm's correction, and what parts make of a whole."""

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
class Finding:
    """One tested statement of a claim.

    Args:
        by: what is measured: a score of `deltas`, or a metric of answers.
        part: which statement, where a claim makes several.
        stated: whether the paper states it so; else it stands beside.
        effect, low, high, unit: with its interval.
        p: two-sided; NaN where nothing could be drawn.
        agrees: whether the effect lies on the claim's side.
        n: samples, or layers.
        once: tuning or draw, where what differs was tuned here, or drawn, a single time: its luck
            is in no interval. Else empty.
        lacking: what there would have to be; the statement is untestable.
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
    once: Literal["", "tuning", "draw"] = ""
    cohens_h: float = math.nan
    mcnemar_p: float = math.nan
    why: str = ""
    basis: str = ""
    lacking: str = ""

    def measured(self, found: Estimate, unit: str) -> Finding:
        """With an effect that the claim says is above the estimate's null.

        Scores lie between 0 and 100: no difference in points is more than 100, and no interval
        reaches further, as one over two or three seeds would.
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
class Verdict(Finding):
    """A finding, judged; `level` is `claim` for the experiment's one row, or `detail`."""

    verdict: str = UNTESTABLE
    holm_p: float = math.nan
    level: str = "detail"


def judge(findings: Sequence[Finding], confidence: float) -> list[Verdict]:
    """Verdicts of all findings of an experiment, and of the claims that they are parts of.

    The tests by one measure are a family: all that the paper states by it, and apart from them all
    that stands beside. Supported or contradicted is what Holm's correction leaves significant, by
    its side; the rest is inconclusive. So is what was tuned here in one seed: its verdict would be
    the seed's (a rule that was added after seeds had been seen to disagree); and what rests on one
    random draw. Where nothing was
    drawn the sign decides, and the verdict says "as printed".
    """
    adjusted = [math.nan] * len(findings)
    families: dict[tuple[str, bool], list[int]] = {}
    for place, one in enumerate(findings):
        families.setdefault((one.by, one.stated), []).append(place)
    for places in families.values():
        values = holm([findings[place].p for place in places])
        for place, value in zip(places, values, strict=True):
            adjusted[place] = float(value)
    rows = []
    for one, p in zip(findings, adjusted, strict=True):
        verdict = _verdict(one, p, 1 - confidence)
        if verdict in (SUPPORTED, CONTRADICTED) and one.once:
            more = "seeds" if one.once == "tuning" else "draws (matrix.draws)"
            why = (
                f"{one.why}; by this one {one.once} {verdict}, and another may differ: give more "
                f"{more}"
            )
            one, verdict = replace(one, why=why), INCONCLUSIVE
        elif verdict == INCONCLUSIVE and one.p < 1 - confidence:
            why = f"{one.why}; significant alone, and not among the tests of its family"
            one = replace(one, why=why)
        rows.append(Verdict(**asdict(one), holm_p=p, verdict=verdict))
    return rows


def _verdict(one: Finding, p: float, level: float) -> str:
    if one.lacking:
        return UNTESTABLE
    side = SUPPORTED if one.agrees else CONTRADICTED
    if math.isnan(p):
        return side + PRINTED
    return side if p < level else INCONCLUSIVE


def combined(rows: Sequence[Verdict], skip_untestable: bool = False) -> Verdict:
    """The row that decides a statement which holds if all of its parts do.

    One contradicted part contradicts it. All supported parts support it, and the weakest decides.
    An untestable part leaves it untestable, or is skipped where parts are pairs.
    """
    tested = [row for row in rows if row.verdict != UNTESTABLE]
    against = [row for row in tested if row.verdict.startswith(CONTRADICTED)]
    if against:
        return min(against, key=_p)
    if len(tested) < len(rows) and not (skip_untestable and tested):
        return next(row for row in rows if row.verdict == UNTESTABLE)
    open_ones = [row for row in tested if row.verdict == INCONCLUSIVE]
    return max(open_ones or tested, key=_p)


def _p(row: Verdict) -> float:
    return 0.0 if math.isnan(row.holm_p) else row.holm_p


def with_headlines(rows: Sequence[Verdict]) -> list[Verdict]:
    """Every claim's row of the whole experiment, each before the details that it rests on.

    A claim of one detail is that detail, and where all are untestable one stands for them.
    """
    found: list[Verdict] = []
    measures = dict.fromkeys((row.claim, not row.stated, row.by) for row in rows)
    for claim, beside, by in sorted(measures, key=lambda key: (list(CLAIMS).index(key[0]), key[1])):
        details = [
            row for row in rows if (row.claim, row.stated, row.by) == (claim, not beside, by)
        ]
        pairs = dict.fromkeys(row.pair for row in details)
        wholes = [combined([row for row in details if row.pair == pair]) for pair in pairs]
        decisive = combined(wholes, skip_untestable=True)
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
                why=f"{tally(details)}; {where}: {decisive.why or decisive.lacking}",
            )
        )
        found += details
    return found


def tally(rows: Iterable[Verdict]) -> str:
    """How many rows have which verdict."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count} of {counts.total()} {verdict}" for verdict, count in counts.items())


COLUMNS = (
    *("claim", "level", "pair", "part", "by", "stated", "verdict", "why", "effect", "low", "high"),
    *("confidence", "unit", "n", "seeds", "p", "p_alone", "cohens_h", "mcnemar_p", "basis"),
)


def table(rows: Sequence[Verdict], confidence: float) -> pd.DataFrame:
    """The ledger: a row for each verdict, columns `COLUMNS`.

    `confidence` is the level that verdicts are judged at and that intervals have.
    """
    frame = pd.DataFrame([asdict(row) for row in rows]).assign(confidence=confidence)
    frame["why"] = frame["why"].mask(frame["why"] == "", frame["lacking"])
    frame = frame.rename(columns={"p": "p_alone", "holm_p": "p"})
    return frame[list(COLUMNS)]
