"""Claims C5 to C14: what a module does. Each rule stands as before any result, or says that not.

Every contrast is of means over tasks, paired by sample and by seed; its p is two-sided, and of
several the claim's p is so that picking the best one costs what it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from affectlocus.claims.evidence import Key, Scores
from affectlocus.claims.paper import ATTENTION_SET as ATTENTION
from affectlocus.claims.paper import KEPT, SETS
from affectlocus.claims.statistics import cohens_h, estimate, mcnemar
from affectlocus.claims.verdicts import Finding
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.projections import PROJECTIONS

GAIN_KEPT = "gain kept"
FLUENCY = "perplexity"
MARGIN = 1.05
"""A perplexity within this factor of the base's counts as unchanged (C14)."""
_PAIR_CLAIMS = tuple(f"C{number}" for number in range(5, 15))


def findings(scores: Scores) -> list[Finding]:
    """Everything that C5 to C14 state of the pairs that have a matrix."""
    found = []
    for pair in scores.matrices:
        one = Rules(scores, pair)
        found += [
            *one.c5(),
            *one.c6(),
            one.c7(),
            *one.c8(),
            one.c9(),
            one.c10(),
            one.c11(),
            *one.c12(),
            *one.c13(),
            one.c14(),
        ]
    if not found:
        lacking = "no cells but bases and tuned models"
        return [Finding(claim, scores.by, lacking=lacking) for claim in _PAIR_CLAIMS]
    return found


@dataclass(frozen=True)
class Rules:
    """The rules, of one group of pairs."""

    scores: Scores
    pair: str

    def key(self, kind: str, modules: str = "", mode: str = "") -> Key:
        return (self.pair, kind, modules, mode)

    def _start(self, claim: str, part: str = "") -> Finding:
        return Finding(claim, self.scores.by, self.pair, part)

    def _lacking(self, keys: Sequence[Key]) -> str:
        missing = [" ".join(filter(None, key[1:])) for key in keys if not self.scores.has(key)]
        return f"no {self.scores.noun} {', '.join(missing)}" if missing else ""

    def _about(self, one: Finding, first: Key, *others: Key) -> Finding:
        """With n, seeds, effect size and basis of a contrast of the first two groups."""
        scores, second = self.scores, others[0]
        seeds = min(max(self._seeds(key) for key in (first, rival)) for rival in others)
        drawn = [scores.seeds[key] for key in (first, *others) if key in scores.random]
        tuned = seeds == 1 and (first[1] == "tune" or self._tuned_here())
        why = one.why
        if drawn and min(drawn) > 1:
            why += f"; one checkpoint, so the interval is over samples and {min(drawn)} draws"
        elif seeds == 1:
            why += f"; one {'draw' if drawn else 'seed'}, so the interval is over samples alone"
        one = replace(
            one,
            n=scores.n,
            seeds=seeds,
            once="tuning" if tuned else "draw" if drawn and min(drawn) == 1 else "",
            why=why,
            basis=scores.basis(first, *others),
        )
        if first in scores.accuracy:
            h = cohens_h(scores.accuracy[first], scores.accuracy[second])
            one = replace(one, cohens_h=h)
        if first in scores.right and second in scores.right:
            p = mcnemar(scores.right[first], scores.right[second])
            one = replace(one, mcnemar_p=p)
        return one

    def _seeds(self, key: Key) -> int:
        """The number of a group's seeds; 1 of a checkpoint with random draws."""
        return 1 if key in self.scores.random else self.scores.seeds.get(key, 0)

    def _tuned_here(self) -> bool:
        """Whether the pair has a recipe, and so could have more seeds; a brought one is what it is.

        Cells of a recipe are named by their seed.
        """
        names = self.scores.cells.get(self.key("tuned"), ())
        return any(name.rpartition("/")[2].startswith("seed") for name in names)

    def above(self, start: Finding, first: Key, second: Key) -> Finding:
        """The first group's mean score is above the second's."""
        if lacking := self._lacking([first, second]):
            return replace(start, lacking=lacking)
        draws = self.scores.draws
        found = estimate(draws.mean(first) - draws.mean(second), self.scores.confidence)
        tasks = draws.values[0, draws.groups[first]] > draws.values[0, draws.groups[second]]
        one = start.measured(found, "points")
        names = [" ".join(filter(None, key[1:])) for key in (first, second)]
        why = (
            f"{names[0]} {draws.mean(first)[0]:.2f}, {names[1]} {draws.mean(second)[0]:.2f}; above "
            f"on {tasks.sum()} of {tasks.size} tasks"
        )
        return self._about(replace(one, why=why), first, second)

    def best(
        self,
        start: Finding,
        key: Key,
        rivals: Sequence[Key],
        of: dict[Key, np.ndarray] | None = None,
        unit: str = "points",
        shown: float = 1.0,
    ) -> Finding:
        """One group's mean score, or another statistic `of` every group, is above all rivals'.

        Effect and interval are those against the best rival. Where the group leads, p is the
        largest of all rivals' (each has to be beaten); where a rival leads, the smallest among the
        leading, times the number of rivals (one of them was bound to lead by chance). `shown` is
        the sign that `why` gives the statistic back.
        """
        if lacking := self._lacking([key, *rivals]):
            return replace(start, lacking=lacking)
        of = of or {each: self.scores.draws.mean(each) for each in (key, *rivals)}
        each = {rival: estimate(of[key] - of[rival], self.scores.confidence) for rival in rivals}
        first = min(each, key=lambda rival: each[rival].value)
        found = each[first]
        if found.value > 0:
            p = max(one.p for one in each.values())
        else:
            ahead = [one.p for one in each.values() if one.value <= 0]
            p = float(np.minimum(1, len(rivals) * min(ahead)))
        names = [" ".join(filter(None, one[2:])) for one in (key, first)]
        mine, theirs = shown * of[key][0], shown * of[first][0]
        why = f"{names[0]} {mine:.2f}, the best other, {names[1]}, {theirs:.2f}"
        one = replace(start.measured(found, unit), p=p, why=why)
        rest = [rival for rival in rivals if rival != first]
        return self._about(one, key, first, *rest)

    def c5(self) -> list[Finding]:
        """C5: loaded alone, gate has the best mean score, and the best mean rank over tasks.

        "Most stable" is read as the rank: of the seven on each task, averaged over tasks. A spread
        of gains would call a module that does nothing stable.
        """
        key, *rivals = self._singles("load", "gate")
        parts = [self.best(self._start("C5", "mean"), key, rivals)]
        stable = self._start("C5", "steadiest")
        if lacking := self._lacking([key, *rivals]):
            return [*parts, replace(stable, lacking=lacking)]
        values = np.stack([self.scores.draws.tasks_of(one) for one in (key, *rivals)])
        ranks = rankdata(-values, axis=0).mean(axis=-1)  # (7, 1 + draws); 1 is best
        of = {one: -rank for one, rank in zip((key, *rivals), ranks, strict=True)}
        found = self.best(stable, key, rivals, of, "mean rank", -1.0)
        return [*parts, replace(found, why=f"mean rank over tasks: {found.why}")]

    def _singles(self, kind: str, first: str, mode: str = "") -> list[Key]:
        others = [name for name in PROJECTIONS if name != first]
        return [self.key(kind, name, mode) for name in (first, *others)]

    def c6(self) -> list[Finding]:
        """C6, three parts, loaded: attention and gate above attention, with up, and with down."""
        first = self.key("load", f"{ATTENTION}+gate")
        seconds = (ATTENTION, f"{ATTENTION}+up", f"{ATTENTION}+down")
        return [
            self.above(self._start("C6", f"above {second}"), first, self.key("load", second))
            for second in seconds
        ]

    def c7(self) -> Finding:
        """C7, loaded: attention and gate above the same with down."""
        more = self.key("load", f"{ATTENTION}+gate+down")
        return self.above(self._start("C7"), self.key("load", f"{ATTENTION}+gate"), more)

    def c8(self) -> list[Finding]:
        """C8, loaded and tuned: o+gate above the tables' seven sets, and above attention and gate.

        The whole model is none of the combinations that the paper compares.
        """
        found = []
        for kind in ("load", "tune"):
            first = self.key(kind, "o+gate")
            rivals = [self.key(kind, modules) for modules in SETS]
            found.append(self.best(self._start("C8", f"{kind}, the best"), first, rivals))
            second = self.key(kind, f"{ATTENTION}+gate")
            part = f"{kind}, above {ATTENTION}+gate"
            found.append(self.above(self._start("C8", part), first, second))
        return found

    def c9(self) -> Finding:
        """C9: tuned alone, gate has the best mean score of the seven."""
        key, *rivals = self._singles("tune", "gate")
        return self.best(self._start("C9"), key, rivals)

    def c10(self) -> Finding:
        """C10, tuned: attention above attention and down."""
        less = self.key("tune", f"{ATTENTION}+down")
        return self.above(self._start("C10"), self.key("tune", ATTENTION), less)

    def c11(self) -> Finding:
        """C11, tuned: attention with gate and up is the best of the tables' seven sets."""
        first = f"{ATTENTION}+gate+up"
        rivals = [self.key("tune", modules) for modules in SETS if modules != first]
        return self.best(self._start("C11"), self.key("tune", first), rivals)

    def c12(self) -> list[Finding]:
        """C12, tuned: gate's mean score over that of all seven is at least 0.966.

        Judged by the interval of the ratio. Where all seven do not beat the base, nothing was
        gained that could be kept, and the claim stays inconclusive. Beside it the same ratio of
        the gains over the base: a score that the base has already is not kept by tuning.
        """
        gate, whole = self.key("tune", "gate"), self.key("tune", "all")
        base = self.key("base")
        start = self._start("C12")
        kept = replace(start, by=GAIN_KEPT, stated=False)
        if lacking := self._lacking([gate, whole, base]):
            return [replace(start, lacking=lacking), replace(kept, lacking=lacking)]
        mean, level = self.scores.draws.mean, self.scores.confidence
        gain = estimate(mean(whole) - mean(base), level)
        found = []
        for one, floor in ((start, 0.0), (kept, mean(base))):
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = (mean(gate) - floor) / (mean(whole) - floor)
            value = estimate(ratio, level, KEPT)
            one = replace(
                one.measured(value, "ratio"),
                why=f"gate {mean(gate)[0]:.2f}, all seven {mean(whole)[0]:.2f}, base "
                f"{mean(base)[0]:.2f}; the paper's ratio is {KEPT}",
            )
            if not (gain.value > 0 and gain.p < 1 - level):
                nothing = f"all seven do not beat the base, so there is nothing to keep; {one.why}"
                one = replace(one, p=1.0, why=nothing)
            found.append(self._about(one, gate, whole))
        return found

    def c13(self) -> list[Finding]:
        """C13, a part for each mode of destruction: without gate the mean score is the lowest.

        Mode zero stands beside: a gate, up or down of zeros silences the block alike, so that gate
        could never lead, and v and o would lead for what they hold of the base. (Corrected after
        the tie had been seen.)
        """
        modes = [mode for mode in ABLATIONS if self.scores.has(self.key("ablate", "gate", mode))]
        found = []
        if not set(modes) - {"zero"}:
            nothing = f"no {self.scores.noun} ablate gate"
            nothing += ", but by zeros" if modes else ""
            found.append(replace(self._start("C13"), lacking=nothing))
        for mode in modes:
            key, *rivals = self._singles("ablate", "gate", mode)
            start = replace(self._start("C13", mode), stated=mode != "zero")
            if lacking := self._lacking([key, *rivals, self.key("tuned")]):
                found.append(replace(start, lacking=lacking))
                continue
            whole = self.scores.draws.mean(self.key("tuned"))
            drops = {one: whole - self.scores.draws.mean(one) for one in (key, *rivals)}
            one = self.best(start, key, rivals, drops)
            why = f"drop of the tuned model's mean: {one.why}"
            found.append(replace(one, why=why, cohens_h=-one.cohens_h))
        return found

    def c14(self) -> Finding:
        """C14: the perplexity of load gate lies within 5% of the base's on general text.

        Two one-sided tests: supported where the whole interval of the ratio lies between 1 / 1.05
        and 1.05, contradicted where it lies outside, else inconclusive.
        """
        start = replace(self._start("C14"), by=FLUENCY)
        draws, gate, base = self.scores.fluency, self.key("load", "gate"), self.key("base")
        if draws is None:
            return replace(start, lacking="no fluency was measured: no task of general text")
        if lacking := self._lacking([gate, base]):
            return replace(start, lacking=lacking)
        ratio = np.exp(draws.mean(gate) - draws.mean(base))
        value = estimate(ratio, self.scores.confidence, 1.0)
        sides = [estimate(ratio, null=margin) for margin in (1 / MARGIN, MARGIN)]
        within = sides[0].value > 1 / MARGIN and sides[1].value < MARGIN
        seeds = max(self.scores.seeds.get(key, 0) for key in (gate, base))
        return replace(
            start.measured(value, "ratio of perplexities"),
            p=max(one.p for one in sides),
            agrees=within,
            n=self.scores.texts,
            seeds=seeds,
            once="tuning" if seeds == 1 and self._tuned_here() else "",
            why=f"{np.exp(draws.mean(gate)[0]):.2f} against the base's "
            f"{np.exp(draws.mean(base)[0]):.2f}; unchanged is within {MARGIN} times",
            basis=self.scores.basis(gate, base),
        )
