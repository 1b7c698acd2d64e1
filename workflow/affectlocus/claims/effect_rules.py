"""Claims C5 to C14: the effect of a module. The rules were written before any result was seen.

A rule that was changed later says so. Every contrast is a difference of means over tasks within a
replicate, paired by sample. A claim is true if all of its contrasts are above 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from affectlocus.claims.best_sets import by_scores
from affectlocus.claims.evidence import GroupKey, MissingEvidenceError, ScoreEvidence
from affectlocus.claims.findings import ClaimFinding, Contrast
from affectlocus.claims.paper import ATTENTION_SET as ATTENTION
from affectlocus.claims.paper import KEPT, SETS
from affectlocus.claims.statistics import GroupDraws, cohens_h, mcnemar
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.projections import PROJECTIONS

GAIN_KEPT = "gain kept"
FLUENCY = "perplexity"
MARGIN = 1.05
"""A ratio within this factor counts as 1: perplexities (C14), and sizes of changes (C1 to C4)."""
PLACE = 1.0
"""The margin of mean ranks (C5): one place."""
_CLAIMS = tuple(f"C{number}" for number in range(5, 15))


def effect_findings(scores: ScoreEvidence) -> list[ClaimFinding]:
    """The findings of C5 to C14 for every pair that has a matrix."""
    found = []
    for pair in scores.matrices:
        rules = EffectRules(scores, pair)
        found += [
            *rules.c5(),
            *rules.c6(),
            rules.c7(),
            *rules.c8(),
            rules.c9(),
            rules.c10(),
            rules.c11(),
            *rules.c12(),
            *rules.c13(),
            rules.c14(),
        ]
    if not found:
        missing = "no cells except bases and tuned models"
        return [ClaimFinding(claim, scores.by, missing=missing) for claim in _CLAIMS]
    return found


def _name(key: GroupKey) -> str:
    """Kind, module set and mode, as text."""
    return " ".join(filter(None, key[1:]))


@dataclass(frozen=True)
class EffectRules:
    """The rules for one group of pairs."""

    scores: ScoreEvidence
    pair: str

    def key(self, kind: str, modules: str = "", mode: str = "") -> GroupKey:
        return (self.pair, kind, modules, mode)

    def _finding(self, claim: str, part: str = "") -> ClaimFinding:
        return ClaimFinding(claim, self.scores.by, self.pair, part)

    def _missing(self, keys: Sequence[GroupKey]) -> str:
        """A sentence that names the groups without cells, or without a common seed; or empty."""
        missing = [_name(key) for key in keys if not self.scores.has(key)]
        if missing:
            return f"no {self.scores.noun} {', '.join(missing)}"
        try:
            self.scores.common(keys)
        except MissingEvidenceError as error:
            return str(error)
        return ""

    def _contrast(
        self, name: str, weights: Mapping[GroupKey, float], draws: GroupDraws | None = None
    ) -> Contrast:
        """A weighted sum of groups' mean scores over tasks, in points."""
        scores = self.scores.by_task(list(weights), draws).mean(axis=-1)
        return self._from_draws(name, np.tensordot(list(weights.values()), scores, axes=1))

    def _from_draws(
        self, name: str, values: np.ndarray, unit: str = "points", margin: float | None = None
    ) -> Contrast:
        """A contrast from its values.

        Args:
            values: (1 + draws, replicates), the observed values first.
        """
        samples = values[1:].mean(axis=1).var(ddof=1) if len(values) > 2 else math.nan
        margin = self.scores.margin if margin is None else margin
        return Contrast(name, values[0], float(samples), unit, margin)

    def _with_statistics(
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
        if missing := self._missing([first, second]):
            return replace(start, missing=missing)
        scores = self.scores.by_task([first, second])[:, 0].mean(axis=1)  # (2, tasks)
        higher = scores[0] > scores[1]
        means = scores.mean(axis=1)
        why = (
            f"{_name(first)} {means[0]:.2f}, {_name(second)} {means[1]:.2f}; higher on "
            f"{higher.sum()} of {higher.size} tasks"
        )
        contrast = self._contrast(f"{_name(first)} - {_name(second)}", {first: 1.0, second: -1.0})
        return self._with_statistics(replace(start, contrasts=(contrast,), why=why), first, second)

    def compare_with_rivals(
        self, start: ClaimFinding, key: GroupKey, rivals: Sequence[GroupKey]
    ) -> ClaimFinding:
        """Tests whether one group's mean score is above those of all rivals."""
        if missing := self._missing([key, *rivals]):
            return replace(start, missing=missing)
        values = self.scores.by_task([key, *rivals]).mean(axis=-1)
        return self._against_rivals(start, key, rivals, values)

    def _against_rivals(
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
            self._from_draws(f"{names[0]} - {name}", values[0] - value, unit, margin)
            for name, value in zip(names[1:], values[1:], strict=True)
        )
        shown = sign * values[:, 0].mean(axis=1)
        best = 1 + int((sign * shown[1:]).argmax())
        why = f"{names[0]} {shown[0]:.2f}, the best other, {names[best]}, {shown[best]:.2f}"
        rest = [rival for rival in rivals if rival != rivals[best - 1]]
        finding = replace(start, contrasts=contrasts, why=why)
        finding = self._with_statistics(finding, key, rivals[best - 1], *rest)
        if unit == "points" and values.shape[1] > 2 and not finding.unreplicated:
            finding = replace(finding, why=f"{finding.why}; {by_scores(names, values)}")
        return finding

    def _singles(self, kind: str, first: str, mode: str = "") -> list[GroupKey]:
        """The groups of the seven single projections, the named one first."""
        others = [name for name in PROJECTIONS if name != first]
        return [self.key(kind, name, mode) for name in (first, *others)]

    def c5(self) -> list[ClaimFinding]:
        """C5, loaded: gate alone has the best mean score, and the best mean rank over tasks.

        The paper's "most stable" is tested as the mean rank among the seven over tasks. The
        variance of the gains would call a module without any effect stable.
        """
        key, *rivals = self._singles("load", "gate")
        mean = self.compare_with_rivals(self._finding("C5", "mean"), key, rivals)
        stable = self._finding("C5", "steadiest")
        if mean.missing:
            return [mean, replace(stable, missing=mean.missing)]
        # (7, 1 + draws, replicates); 1 is best
        ranks = rankdata(-self.scores.by_task([key, *rivals]), axis=0).mean(axis=-1)
        found = self._against_rivals(stable, key, rivals, -ranks, "mean rank", PLACE, -1.0)
        return [mean, replace(found, why=f"mean rank over tasks: {found.why}")]

    def c6(self) -> list[ClaimFinding]:
        """C6, loaded: attention+gate is above attention, attention+up and attention+down."""
        first = self.key("load", f"{ATTENTION}+gate")
        seconds = (ATTENTION, f"{ATTENTION}+up", f"{ATTENTION}+down")
        return [
            self.compare(self._finding("C6", f"above {second}"), first, self.key("load", second))
            for second in seconds
        ]

    def c7(self) -> ClaimFinding:
        """C7, loaded: attention+gate is above attention+gate+down."""
        more = self.key("load", f"{ATTENTION}+gate+down")
        return self.compare(self._finding("C7"), self.key("load", f"{ATTENTION}+gate"), more)

    def c8(self) -> list[ClaimFinding]:
        """C8, loaded and tuned: o+gate is above the tables' seven sets, and above attention+gate.

        The whole model is not a rival, because the paper does not compare it with combinations.
        """
        found = []
        for kind in ("load", "tune"):
            first = self.key(kind, "o+gate")
            rivals = [self.key(kind, modules) for modules in SETS]
            best = self._finding("C8", f"{kind}, the best")
            found.append(self.compare_with_rivals(best, first, rivals))
            second = self.key(kind, f"{ATTENTION}+gate")
            above = self._finding("C8", f"{kind}, above {ATTENTION}+gate")
            found.append(self.compare(above, first, second))
        return found

    def c9(self) -> ClaimFinding:
        """C9, tuned: gate alone has the best mean score of the seven."""
        key, *rivals = self._singles("tune", "gate")
        return self.compare_with_rivals(self._finding("C9"), key, rivals)

    def c10(self) -> ClaimFinding:
        """C10, tuned: attention is above attention+down."""
        with_down = self.key("tune", f"{ATTENTION}+down")
        return self.compare(self._finding("C10"), self.key("tune", ATTENTION), with_down)

    def c11(self) -> ClaimFinding:
        """C11, tuned: attention+gate+up is the best of the tables' seven sets."""
        first = f"{ATTENTION}+gate+up"
        rivals = [self.key("tune", modules) for modules in SETS if modules != first]
        return self.compare_with_rivals(self._finding("C11"), self.key("tune", first), rivals)

    def c12(self) -> list[ClaimFinding]:
        """C12, tuned: gate's mean score is at least 0.966 times that of all seven.

        The contrast is gate - 0.966 · all, in points. All seven have to be above the base;
        otherwise there is no gain to keep, and the claim is undecided. An additional test uses the
        gains over the base, because the score of the base is not kept by tuning. (At first the
        interval of the ratio decided. A ratio has no mean and no variance over replicates.)
        """
        gate, whole, base = self.key("tune", "gate"), self.key("tune", "all"), self.key("base")
        stated = self._finding("C12")
        gain_kept = replace(stated, by=GAIN_KEPT, stated=False)
        if missing := self._missing([gate, whole, base]):
            return [replace(finding, missing=missing) for finding in (stated, gain_kept)]
        means = [self.scores.mean(key) for key in (gate, whole, base)]
        gain = self._contrast("all seven - base", {whole: 1.0, base: -1.0})
        gain = replace(gain, moderate=False)
        found = []
        for finding, share, floor in ((stated, 0.0, 0.0), (gain_kept, KEPT - 1, means[2])):
            contrast = self._contrast(
                f"gate - {KEPT} · all seven" + (", above the base" if share else ""),
                {gate: 1.0, whole: -KEPT, base: share},
            )
            kept = (means[0] - floor) / (means[1] - floor) if means[1] != floor else math.nan
            why = (
                f"gate {means[0]:.2f}, all seven {means[1]:.2f}, base {means[2]:.2f}; gate keeps "
                f"{100 * kept:.1f}%" + (" of the gain" if share else "") + f", the paper says "
                f"{100 * KEPT:.1f}%"
            )
            # A part of a score varies as the scores do, and more than a difference of two of them.
            contrast = replace(contrast, moderate=False)
            finding = replace(finding, contrasts=(contrast,), requires=gain, why=why)
            found.append(self._with_statistics(finding, gate, whole))
        return found

    def c13(self) -> list[ClaimFinding]:
        """C13, a part for each mode of destruction: the mean score is lowest without gate.

        Mode zero is an additional test. Setting gate, up or down to zero disables the feed-forward
        block in the same way, so gate cannot have a larger effect than up or down; and v or o may
        have the largest effect because of the base's weights. (This was corrected after the tie had
        been seen.)
        """
        modes = [mode for mode in ABLATIONS if self.scores.has(self.key("ablate", "gate", mode))]
        found = []
        if not set(modes) - {"zero"}:
            missing = f"no {self.scores.noun} ablate gate"
            missing += " in a mode other than zero" if modes else ""
            found.append(replace(self._finding("C13"), missing=missing))
        for mode in modes:
            key, *rivals = self._singles("ablate", "gate", mode)
            start = replace(self._finding("C13", mode), stated=mode != "zero")
            tuned = self.key("tuned")
            if missing := self._missing([tuned, key, *rivals]):
                found.append(replace(start, missing=missing))
                continue
            scores = self.scores.by_task([tuned, key, *rivals]).mean(axis=-1)
            finding = self._against_rivals(start, key, rivals, scores[0] - scores[1:])
            why = f"drop of the tuned model's mean: {finding.why}"
            found.append(replace(finding, why=why, cohens_h=-finding.cohens_h))
        return found

    def c14(self) -> ClaimFinding:
        """C14, loaded: gate's perplexity of general text is within 5% of the base's.

        Two one-sided tests of the logarithm of the ratio: supported if it is above -log 1.05 and
        below log 1.05, contradicted if it is outside.
        """
        start = replace(self._finding("C14"), by=FLUENCY)
        draws, gate, base = self.scores.fluency, self.key("load", "gate"), self.key("base")
        if draws is None:
            return replace(start, missing="no fluency was measured: no task of general text")
        if missing := self._missing([gate, base]):
            return replace(start, missing=missing)
        ratio = self.scores.by_task([gate, base], draws).mean(axis=-1)
        log_ratio, edge = ratio[0] - ratio[1], math.log(MARGIN)
        contrasts = tuple(
            self._from_draws(name, values, "log ratio of perplexities", math.nan)
            for name, values in (
                (f"log {MARGIN} - log(gate / base)", edge - log_ratio),
                (f"log(gate / base) + log {MARGIN}", edge + log_ratio),
            )
        )
        gate_ppl, base_ppl = (math.exp(self.scores.mean(key, draws)) for key in (gate, base))
        why = (
            f"{gate_ppl:.2f}, the base's {base_ppl:.2f}: {math.exp(log_ratio[0].mean()):.4f} "
            f"times; within a factor of {MARGIN} it is unchanged"
        )
        finding = self._with_statistics(replace(start, contrasts=contrasts, why=why), gate, base)
        return replace(finding, n=self.scores.texts, cohens_h=math.nan, mcnemar_p=math.nan)
