"""Comparisons of the scores of cells: contrasts of one group of pairs, with their statistics.

Every contrast is a difference of means over tasks within a replicate, paired by sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from affectlocus.claims.best_sets import by_scores
from affectlocus.claims.evidence import GroupKey, MissingEvidenceError, ScoreEvidence
from affectlocus.claims.findings import ClaimFinding, Contrast
from affectlocus.claims.loci import Locus
from affectlocus.claims.statistics import GroupDraws, cohens_h, mcnemar
from affectlocus.config.claim_kinds import OnScores
from affectlocus.config.claim_terms import parse_cell
from affectlocus.core.cells import EVEN, FAIR
from affectlocus.core.projections import BRIDGE


def name_of(key: GroupKey) -> str:
    """Kind, module set and mode, as text."""
    return " ".join(filter(None, key[1:]))


def _section(key: GroupKey) -> str:
    """The key of params.yaml that lists a cell's module set."""
    _, kind, _, mode = key
    if kind == "ablate" or not mode:
        return f"matrix.{kind}"
    return f"matrix.{mode}" if mode in (EVEN, FAIR) else "matrix.dose.modules"


@dataclass(frozen=True)
class ScoreComparisons:
    """The comparisons of one group of pairs.

    Attributes:
        scores: of the tasks that the statement is about.
        pair: the group's name.
        claim: the name of the claim.
        everything: the scores of all pairs, for comparisons between domains.
        domains: group of pairs → its domain.
        loci: the deltas of all pairs.
        says: whose number a sentence quotes.
    """

    scores: ScoreEvidence
    pair: str
    claim: str
    everything: Sequence[ScoreEvidence] = ()
    domains: Mapping[str, str] = field(default_factory=dict)
    loci: Sequence[Locus] = ()
    says: str = "the claim"

    def key(self, cell: str, beside: str = "") -> GroupKey:
        """The group of a cell that is written as in `load gate`.

        The base of a pair with a bridge is the base with the bridge alone: what the bridge adds is
        no work of the language model's modules. For a tuned cell that is the bridge tuned alone.

        Args:
            beside: the cell that a base is compared with.
        """
        kind, modules, mode = parse_cell(cell)
        if kind == "base" and self.pair in self.scores.bridged:
            arm = "tune" if beside and parse_cell(beside)[0] == "tune" else "load"
            return self.pair, arm, BRIDGE, ""
        return self.pair, kind, modules, mode

    def finding(self, statement: OnScores, part: str = "") -> ClaimFinding:
        """A finding without numbers yet.

        Args:
            part: its name, in addition to that of the statement.
        """
        parts = ", ".join(filter(None, (statement.part, part)))
        return ClaimFinding(self.claim, self.scores.by, self.pair, parts, statement.stated)

    def missing(self, keys: Sequence[GroupKey]) -> str:
        """Why groups cannot be compared: one has no cell, they have no seed in common; or empty."""
        if without := self._no_bridge_alone(keys):
            return without
        if missing := [key for key in keys if not self.scores.has(key)]:
            return self._lacks(missing)
        try:
            self.scores.common(keys)
        except MissingEvidenceError as error:
            return str(error)
        return ""

    def no_answers(self, keys: Sequence[GroupKey]) -> str:
        """Why the answers of groups cannot be compared; or empty.

        In addition to `missing`: all of them answer one label throughout.
        """
        if missing := self.missing(keys):
            return missing
        if self.scores.constant.issuperset(keys):
            return (
                f"nothing to locate: {', '.join(map(name_of, keys))} answer one label throughout, "
                "in every task and replicate"
            )
        return ""

    def _no_bridge_alone(self, keys: Sequence[GroupKey]) -> str:
        """A sentence if a pair has a bridge, and no cell of the bridge alone; or empty."""
        for pair, kind, *_ in keys:
            arm = "tune" if kind == "tune" else "load"
            if pair in self.scores.bridged and not self.scores.has((pair, arm, BRIDGE, "")):
                return (
                    f"no cell {arm} {BRIDGE} of {pair}: a pair with a bridge may owe its score to "
                    "the bridge alone, which this cell would show; evaluate it too"
                )
        return ""

    def _lacks(self, keys: Sequence[GroupKey]) -> str:
        """Which cells an experiment lacks, and the keys of params.yaml that would add them."""
        if self.scores.noun != "cell":
            return f"no {self.scores.noun} {', '.join(map(name_of, keys))}"
        arms: dict[str, list[str]] = {}
        for key in keys:
            if key[1] in ("load", "tune", "ablate"):
                arms.setdefault(_section(key), []).append(key[2])
        if not arms:
            return f"no cell {', '.join(map(name_of, keys))}"
        wanted = [f"{', '.join(sets)} to {arm}" for arm, sets in arms.items()]
        return f"not run: add {', and '.join(wanted)}"

    def contrast(
        self, name: str, weights: Mapping[GroupKey, float], draws: GroupDraws | None = None
    ) -> Contrast:
        """A weighted sum of groups' mean scores over tasks, in points."""
        scores = self.scores.by_task(list(weights), draws).mean(axis=-1)
        return self.from_draws(name, np.tensordot(list(weights.values()), scores, axes=1))

    def from_draws(
        self, name: str, values: np.ndarray, unit: str = "points", margin: float | None = None
    ) -> Contrast:
        """A contrast from its values.

        Args:
            values: (1 + draws, replicates), the observed values first.
        """
        samples = values[1:].mean(axis=1).var(ddof=1) if len(values) > 2 else math.nan
        margin = self.scores.margin if margin is None else margin
        return Contrast(name, values[0], float(samples), unit, margin)

    def with_statistics(
        self, finding: ClaimFinding, first: GroupKey, *others: GroupKey
    ) -> ClaimFinding:
        """The finding with n and basis, and the effect sizes of the first two groups."""
        scores, second = self.scores, others[0]
        common = scores.common([first, *others])
        alone = common[0] if len(common) == 1 else None
        draw = isinstance(common[0], tuple)
        why = finding.why
        if draw and len(common) > 1:
            why += f"; one checkpoint, so the interval is over samples and {len(common)} draws"
        elif len(common) == 1 and scores.n:
            why += f"; one {'draw' if draw else 'seed'}, so the interval is only over samples"
        finding = replace(
            finding,
            n=scores.n,
            unreplicated="" if alone is None else "draw" if draw else "tuning",
            why=why,
            basis=scores.basis(first, *others),
        )
        if first in scores.accuracy:
            h = cohens_h(scores.accuracy[first], scores.accuracy[second])
            finding = replace(finding, cohens_h=h)
        if first in scores.correct and second in scores.correct:
            p = mcnemar(scores.correct[first], scores.correct[second])
            finding = replace(finding, mcnemar_p=p)
        return finding

    def compare(self, start: ClaimFinding, first: GroupKey, second: GroupKey) -> ClaimFinding:
        """Tests whether the first group's mean score is above the second's."""
        if missing := self.no_answers([first, second]):
            return replace(start, missing=missing)
        scores = self.scores.by_task([first, second])[:, 0].mean(axis=1)  # (2, tasks)
        higher = scores[0] > scores[1]
        means = scores.mean(axis=1)
        why = (
            f"{name_of(first)} {means[0]:.2f}, {name_of(second)} {means[1]:.2f}; higher on "
            f"{higher.sum()} of {higher.size} tasks"
        )
        name = f"{name_of(first)} - {name_of(second)}"
        contrast = self.contrast(name, {first: 1.0, second: -1.0})
        return self.with_statistics(replace(start, contrasts=(contrast,), why=why), first, second)

    def compare_with_rivals(
        self, start: ClaimFinding, key: GroupKey, rivals: Sequence[GroupKey]
    ) -> ClaimFinding:
        """Tests whether one group's mean score is above those of all rivals."""
        if missing := self.no_answers([key, *rivals]):
            return replace(start, missing=missing)
        values = self.scores.by_task([key, *rivals]).mean(axis=-1)
        return self.against_rivals(start, key, rivals, values)

    def against_rivals(
        self,
        start: ClaimFinding,
        key: GroupKey,
        rivals: Sequence[GroupKey],
        values: np.ndarray,
        unit: str = "points",
        margin: float | None = None,
        sign: float = 1.0,
    ) -> ClaimFinding:
        """The contrasts of one group with each rival.

        Args:
            values: (1 + rivals, 1 + draws, replicates), higher is better.
            sign: the factor that converts a value to the number that `why` shows.
        """
        names = [" ".join(filter(None, group[2:])) for group in (key, *rivals)]
        contrasts = tuple(
            self.from_draws(f"{names[0]} - {name}", values[0] - value, unit, margin)
            for name, value in zip(names[1:], values[1:], strict=True)
        )
        shown = sign * values[:, 0].mean(axis=1)
        best = 1 + int((sign * shown[1:]).argmax())
        why = f"{names[0]} {shown[0]:.2f}, the best other, {names[best]}, {shown[best]:.2f}"
        rest = [rival for rival in rivals if rival != rivals[best - 1]]
        finding = replace(start, contrasts=contrasts, why=why)
        finding = self.with_statistics(finding, key, rivals[best - 1], *rest)
        if unit == "points" and values.shape[1] > 2 and not finding.unreplicated:
            finding = replace(finding, why=f"{finding.why}; {by_scores(names, values)}")
        return finding
