"""Claims C5 to C14: the effect of a module. The rules were written before any result was seen.

A rule that was changed later says so. Every contrast compares means over tasks, paired by sample
and by seed. p is two-sided. Where a claim compares one group with several rivals, its p takes the
selection of the best rival into account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from affectlocus.claims.evidence import GroupKey, ScoreEvidence
from affectlocus.claims.paper import ATTENTION_SET as ATTENTION
from affectlocus.claims.paper import KEPT, SETS
from affectlocus.claims.statistics import cohens_h, estimate, mcnemar
from affectlocus.claims.verdicts import ClaimFinding
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.projections import PROJECTIONS

GAIN_KEPT = "gain kept"
FLUENCY = "perplexity"
MARGIN = 1.05
"""A perplexity within this factor of the base's counts as unchanged (C14)."""
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
        """A sentence that names the groups without cells; empty if there are none."""
        missing = [_name(key) for key in keys if not self.scores.has(key)]
        return f"no {self.scores.noun} {', '.join(missing)}" if missing else ""

    def _with_statistics(
        self, finding: ClaimFinding, first: GroupKey, *others: GroupKey
    ) -> ClaimFinding:
        """The finding with n, seeds and basis, and the effect sizes of the first two groups."""
        scores, second = self.scores, others[0]
        seeds = min(max(self._seeds(key) for key in (first, other)) for other in others)
        draws = [scores.seeds[key] for key in (first, *others) if key in scores.random_groups]
        one_tuning = seeds == 1 and (first[1] == "tune" or self._has_recipe())
        one_draw = bool(draws) and min(draws) == 1
        why = finding.why
        if draws and min(draws) > 1:
            why += f"; one checkpoint, so the interval is over samples and {min(draws)} draws"
        elif seeds == 1:
            why += f"; one {'draw' if draws else 'seed'}, so the interval is only over samples"
        finding = replace(
            finding,
            n=scores.n,
            seeds=seeds,
            unreplicated="tuning" if one_tuning else "draw" if one_draw else "",
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

    def _seeds(self, key: GroupKey) -> int:
        """The number of a group's seeds; 1 for random draws on one checkpoint."""
        return 1 if key in self.scores.random_groups else self.scores.seeds.get(key, 0)

    def _has_recipe(self) -> bool:
        """Whether the pair is tuned here, and can be tuned with more seeds.

        The cells of such a pair have a seed in their name; those of a given checkpoint do not.
        """
        names = self.scores.cells.get(self.key("tuned"), ())
        return any(name.rpartition("/")[2].startswith("seed") for name in names)

    def compare(self, start: ClaimFinding, first: GroupKey, second: GroupKey) -> ClaimFinding:
        """Tests whether the first group's mean score is above the second's."""
        if missing := self._missing([first, second]):
            return replace(start, missing=missing)
        draws = self.scores.draws
        found = estimate(draws.mean(first) - draws.mean(second), self.scores.confidence)
        higher = draws.by_task(first)[0] > draws.by_task(second)[0]
        why = (
            f"{_name(first)} {draws.mean(first)[0]:.2f}, {_name(second)} "
            f"{draws.mean(second)[0]:.2f}; higher on {higher.sum()} of {higher.size} tasks"
        )
        finding = replace(start.measured(found, "points"), why=why)
        return self._with_statistics(finding, first, second)

    def compare_with_rivals(
        self,
        start: ClaimFinding,
        key: GroupKey,
        rivals: Sequence[GroupKey],
        statistics: dict[GroupKey, np.ndarray] | None = None,
        unit: str = "points",
        sign: float = 1.0,
    ) -> ClaimFinding:
        """Tests whether one group's mean score is above those of all rivals.

        Effect and interval are those against the best rival. If the group has the highest score, p
        is the largest p of all rivals, because each rival has to be beaten. If a rival has the
        highest score, p is the smallest p of the rivals above the group, times the number of
        rivals, because with many rivals one of them is above the group by chance.

        Args:
            statistics: group → (1 + draws,) values to compare instead of mean scores; higher is
                better.
            unit: unit of the effect.
            sign: the factor that converts a statistic to the number that `why` shows.
        """
        if missing := self._missing([key, *rivals]):
            return replace(start, missing=missing)
        if statistics is None:
            statistics = {group: self.scores.draws.mean(group) for group in (key, *rivals)}
        differences = {
            rival: estimate(statistics[key] - statistics[rival], self.scores.confidence)
            for rival in rivals
        }
        best = min(differences, key=lambda rival: differences[rival].value)
        found = differences[best]
        if found.value > 0:
            p = max(difference.p for difference in differences.values())
        else:
            ahead = [difference.p for difference in differences.values() if difference.value <= 0]
            p = float(np.minimum(1, len(rivals) * min(ahead)))
        names = [" ".join(filter(None, group[2:])) for group in (key, best)]
        own, other = sign * statistics[key][0], sign * statistics[best][0]
        why = f"{names[0]} {own:.2f}, the best other, {names[1]}, {other:.2f}"
        finding = replace(start.measured(found, unit), p=p, why=why)
        rest = [rival for rival in rivals if rival != best]
        return self._with_statistics(finding, key, best, *rest)

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
        if missing := self._missing([key, *rivals]):
            return [mean, replace(stable, missing=missing)]
        values = np.stack([self.scores.draws.by_task(group) for group in (key, *rivals)])
        ranks = rankdata(-values, axis=0).mean(axis=-1)  # (7, 1 + draws); 1 is best
        statistics = {group: -rank for group, rank in zip((key, *rivals), ranks, strict=True)}
        found = self.compare_with_rivals(stable, key, rivals, statistics, "mean rank", -1.0)
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
        """C12, tuned: the ratio of gate's mean score to that of all seven is at least 0.966.

        The interval of the ratio decides. If all seven are not significantly above the base, there
        is no gain to keep, and the claim is inconclusive. An additional test uses the ratio of the
        gains over the base, because the score of the base is not kept by tuning.
        """
        gate, whole = self.key("tune", "gate"), self.key("tune", "all")
        base = self.key("base")
        stated = self._finding("C12")
        gain_kept = replace(stated, by=GAIN_KEPT, stated=False)
        if missing := self._missing([gate, whole, base]):
            return [replace(finding, missing=missing) for finding in (stated, gain_kept)]
        mean, level = self.scores.draws.mean, self.scores.confidence
        gain = estimate(mean(whole) - mean(base), level)
        found = []
        for finding, floor in ((stated, 0.0), (gain_kept, mean(base))):
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = (mean(gate) - floor) / (mean(whole) - floor)
            value = estimate(ratio, level, KEPT)
            finding = replace(
                finding.measured(value, "ratio"),
                why=f"gate {mean(gate)[0]:.2f}, all seven {mean(whole)[0]:.2f}, base "
                f"{mean(base)[0]:.2f}; the paper's ratio is {KEPT}",
            )
            if not (gain.value > 0 and gain.p < 1 - level):
                why = f"all seven do not beat the base, so there is no gain to keep; {finding.why}"
                finding = replace(finding, p=1.0, why=why)
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
            if missing := self._missing([key, *rivals, self.key("tuned")]):
                found.append(replace(start, missing=missing))
                continue
            whole = self.scores.draws.mean(self.key("tuned"))
            drops = {group: whole - self.scores.draws.mean(group) for group in (key, *rivals)}
            finding = self.compare_with_rivals(start, key, rivals, drops)
            why = f"drop of the tuned model's mean: {finding.why}"
            found.append(replace(finding, why=why, cohens_h=-finding.cohens_h))
        return found

    def c14(self) -> ClaimFinding:
        """C14, loaded: gate's perplexity of general text is within 5% of the base's.

        Two one-sided tests: supported if the whole interval of the ratio is between 1 / 1.05 and
        1.05, contradicted if it is outside, otherwise inconclusive.
        """
        start = replace(self._finding("C14"), by=FLUENCY)
        draws, gate, base = self.scores.fluency, self.key("load", "gate"), self.key("base")
        if draws is None:
            return replace(start, missing="no fluency was measured: no task of general text")
        if missing := self._missing([gate, base]):
            return replace(start, missing=missing)
        ratio = np.exp(draws.mean(gate) - draws.mean(base))
        value = estimate(ratio, self.scores.confidence, 1.0)
        sides = [estimate(ratio, null=margin) for margin in (1 / MARGIN, MARGIN)]
        within = sides[0].value > 1 / MARGIN and sides[1].value < MARGIN
        seeds = max(self.scores.seeds.get(key, 0) for key in (gate, base))
        return replace(
            start.measured(value, "ratio of perplexities"),
            p=max(side.p for side in sides),
            agrees=within,
            n=self.scores.texts,
            seeds=seeds,
            unreplicated="tuning" if seeds == 1 and self._has_recipe() else "",
            why=f"{np.exp(draws.mean(gate)[0]):.2f}, the base's "
            f"{np.exp(draws.mean(base)[0]):.2f}; within a factor of {MARGIN} it is unchanged",
            basis=self.scores.basis(gate, base),
        )
