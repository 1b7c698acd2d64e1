"""Claims C1 to C4: where the change is. Each rule was written before any result was seen.

But for one correction: a layer of each seed was a trial of its own at first, which took seeds that
move the same layers for independent ones, and decided too much. A layer is one trial since.

A size grows with its matrix, and gate_proj is one of the three largest. So what the paper states by
L2 is judged by L2, and beside it by the scores that a matrix's size does not enter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest, ttest_1samp

from affectlocus.claims.evidence import COLUMNS, LackingError, Locus
from affectlocus.claims.statistics import Estimate
from affectlocus.claims.verdicts import SUPPORTED, UNTESTABLE, Finding, Verdict, combined

FAIR = ("relative", "rms", "share_ratio")
LOG_RATIO = "gate/up, log"
_CONDITIONS = {
    "lora": ("method", "no affective pair tuned by LoRA"),
    "sft": ("method", "no affective pair with all weights tuned"),
    "qwen": ("family", "no affective pair on a Qwen"),
    "llama": ("family", "no affective pair on a LLaMA"),
    "mistral": ("family", "no affective pair on a Mistral"),
}


def findings(loci: Sequence[Locus], confidence: float) -> list[Finding]:
    """Everything that C1, C2 and C3 state of an experiment's pairs."""
    affective = [one for one in loci if one.facts.domain == "affective"]
    if not affective:
        lacking = "no affective pair among the deltas"
        measures = {"C1": "l2", "C2": "relative", "C3": "l2"}
        return [Finding(claim, by, lacking=lacking) for claim, by in measures.items()]
    found = []
    for one in affective:
        for by in ("l2", *FAIR):
            start = Finding("C1", by, one.name, stated=by == "l2")
            found.append(largest(start, one, "gate", confidence))
    for one in affective:
        found += c2(one, confidence)
    return found + c3(loci, confidence)


def _share(start: Finding, one: Locus, wins: np.ndarray, said: str, confidence: float) -> Finding:
    """A share of layers against a half: exact binomial, Clopper and Pearson's interval.

    Seeds of one base move the same layers alike: they are no trials of their own, so that a layer
    is one trial, and is as the claim says where it is in most of the seeds.

    Args:
        wins: (pairs, layers), whether a layer is as the claim says.
    """
    seeds, layers = wins.shape
    most = 2 * wins.sum(axis=0) > seeds  # (layers,)
    won = int(most.sum())
    test = binomtest(won, layers)
    low, high = test.proportion_ci(confidence)
    value = Estimate(won / layers, float(low), float(high), float(test.pvalue), 0.5)
    few = 2 * 0.5**layers >= 1 - confidence
    why = f"{said} in {won} of {layers} layers"
    why += f", counting most of {seeds} seeds" if seeds > 1 else ""
    why += "; too few to tell, whatever their outcome" if few else ""
    why += "; one seed, so the interval is over layers alone" if seeds == 1 else ""
    return replace(
        start.measured(value, "share of layers"),
        n=layers,
        seeds=seeds,
        why=why,
        basis=one.basis,
    )


def largest(start: Finding, one: Locus, projection: str, confidence: float) -> Finding:
    """C1: one projection's change is the largest of the seven in more than half of the layers.

    A layer is one trial, whatever the number of seeds (`_share`); a tie is no win. Exact binomial
    against a half: below six layers nothing can be told. All seven have to be adapted.
    """
    try:
        sizes = one.sizes(start.by)  # (pairs, layers, 7)
    except LackingError as error:
        return replace(start, lacking=str(error))
    place = COLUMNS.index(projection)
    others = np.delete(sizes, place, axis=-1).max(axis=-1)
    said = f"{projection}_proj has the largest {start.by}"
    found = _share(start, one, sizes[..., place] > others, said, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.median(sizes[..., place] / others))
    return replace(found, why=f"{found.why}; median ratio to the largest other {ratio:.2f}")


def c2(one: Locus, confidence: float) -> list[Finding]:
    """C2, three parts: gate_proj changes most by eq. 2; its histogram is the widest; most shifted.

    Width is the distance of the 5th and 95th percentile of the element-wise relative changes of a
    layer, shift the distance of their median from 0; each has to be the largest of the seven in
    more than half of the layers, as in C1.
    """
    start = Finding("C2", "relative", one.name)
    found = [largest(replace(start, part="largest"), one, "gate", confidence)]
    parts = {
        "widest": (lambda rows: _quantile(rows, 0.95) - _quantile(rows, 0.05), "widest spread"),
        "shifted": (lambda rows: abs(_quantile(rows, 0.5)), "median farthest from 0"),
    }
    for part, (statistic, said) in parts.items():
        of_part = replace(start, part=part)
        try:
            wins = _wins(one, statistic)
        except LackingError as error:
            found.append(replace(of_part, lacking=str(error)))
            continue
        said = f"gate_proj's relative changes have the {said}"
        basis = one.basis.replace(".parquet", ".histogram.parquet")
        judged = _share(of_part, one, wins, said, confidence)
        found.append(replace(judged, basis=basis))
    return found


def _wins(one: Locus, statistic: Callable[[pd.DataFrame], float]) -> np.ndarray:
    """(pairs, layers), whether gate_proj has the largest statistic of its histogram."""
    if len(one.histograms) < len(one.tables):
        raise LackingError(f"no histogram of {one.name}; set deltas.companions to true")
    wins = []
    for rows in one.histograms.values():
        inner = rows.dropna(subset=["from", "to"])
        values = {
            key: statistic(part) for key, part in inner.groupby(["layer", "projection"], sort=True)
        }
        wide = pd.Series(values).unstack().reindex(columns=COLUMNS)
        if wide.isna().any(axis=None):
            raise LackingError(f"the histograms of {one.name} lack a projection")
        wins.append((wide["gate"] > wide.drop(columns="gate").max(axis=1)).to_numpy())
    return np.stack(wins)


def _quantile(rows: pd.DataFrame, share: float) -> float:
    """A quantile of a histogram, linear within its bin."""
    rows = rows.sort_values("from")
    counts = rows["count"].to_numpy(float)
    edges = np.append(rows["from"].to_numpy(), rows["to"].to_numpy()[-1])
    found = np.interp(share * counts.sum(), np.append(0, counts.cumsum()), edges)
    return round(float(found), 9)  # alike but for rounding is a tie, and no win


def c3(loci: Sequence[Locus], confidence: float) -> list[Finding]:
    """C3: in a control pair up_proj has the largest change in more than half of the layers.

    The control has an affective twin: the same base, method and budget, where those are known.
    Beside it, and sharper: the logarithm of gate over up, affective minus control, layer by layer
    (the mean over seeds; paired t test). The matrices' sizes cancel in it. It says whether the
    lead of gate_proj comes with affect, whatever leads.
    """
    controls = [one for one in loci if one.facts.domain == "control"]
    if not controls:
        return [Finding("C3", "l2", lacking="no control pair")]
    found = []
    for one in controls:
        twin = _twin(one, loci)
        if twin is None:
            lacking = "no affective pair of the same base, method and budget"
            found.append(Finding("C3", "l2", one.name, lacking=lacking))
            continue
        for by in ("l2", *FAIR):
            start = Finding("C3", by, one.name, stated=by == "l2")
            rule = largest(start, one, "up", confidence)
            if not (one.facts.budget and twin.facts.budget) and not rule.lacking:
                rule = replace(rule, why=f"{rule.why}; whether the budgets are equal is not known")
            found.append(rule)
        start = Finding("C3", LOG_RATIO, one.name, f"against {twin.name}", stated=False)
        found.append(_contrast(start, twin, one, confidence))
    return found


def _twin(control: Locus, loci: Sequence[Locus]) -> Locus | None:
    def same(one: Locus) -> bool:
        mine, theirs = control.facts, one.facts
        return theirs.domain == "affective" and all(
            a == b or not (a and b)
            for a, b in (
                (mine.base, theirs.base),
                (mine.method, theirs.method),
                (mine.budget, theirs.budget),
            )
        )

    return next(filter(same, loci), None)


def _contrast(start: Finding, affective: Locus, control: Locus, confidence: float) -> Finding:
    try:
        leads = [_lead(one) for one in (affective, control)]
    except LackingError as error:
        return replace(start, lacking=str(error))
    difference = leads[0] - leads[1] if len(leads[0]) == len(leads[1]) else np.empty(0)
    if len(difference) < 2 or not np.isfinite(difference).all():
        return replace(start, lacking="needs two layers or more, the same in both pairs")
    test = ttest_1samp(difference, 0)
    low, high = test.confidence_interval(confidence)
    p = 1.0 if np.isnan(test.pvalue) else float(test.pvalue)
    value = Estimate(float(difference.mean()), float(low), float(high), p)
    seeds = min(len(affective.tables), len(control.tables))
    return replace(
        start.measured(value, "difference of log ratios"),
        n=len(difference),
        seeds=seeds,
        why=f"gate over up is {np.exp(value.value):.3f} times what it is in the control, over "
        f"{len(difference)} layers" + ("; one seed" if seeds == 1 else ""),
        basis=f"{affective.basis}; {control.basis}",
    )


def _lead(one: Locus) -> np.ndarray:
    """(layers,), the logarithm of gate over up by L2, averaged over seeds."""
    sizes = one.sizes("l2")
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(sizes[..., COLUMNS.index("gate")] / sizes[..., COLUMNS.index("up")])
    return np.asarray(logs.mean(axis=0))


def c4(rows: Sequence[Verdict], loci: Sequence[Locus]) -> list[Verdict]:
    """C4: C1's verdict on each method and on each family of models; no test of its own.

    A part is the pairs of one method or family: contradicted by one of them, supported by all.
    Both come from the recipe, or from a brought checkpoint's files, never from a name.
    """
    facts = {one.name: one.facts for one in loci}
    found = []
    for by in ("l2", *FAIR):
        tested = [row for row in rows if row.claim == "C1" and row.by == by and row.pair]
        for name, (what, lacking) in _CONDITIONS.items():
            mine = [row for row in tested if getattr(facts[row.pair], what) == name]
            unknown = [row.pair for row in tested if not facts[row.pair].method]
            if what == "method" and unknown:
                lacking += (
                    f"; the deltas of {', '.join(unknown)} do not say how it was tuned (those of a "
                    "whole model never do)"
                )
            start = Verdict("C4", by, part=name, stated=by == "l2", lacking=lacking)
            if mine:
                decisive = combined(mine, skip_untestable=True)
                start = replace(decisive, claim="C4", pair="", part=name)
                if decisive.verdict != UNTESTABLE:
                    good = sum(row.verdict == SUPPORTED for row in mine)
                    why = (
                        f"C1 holds in {good} of {len(mine)} pairs; {decisive.pair}: {decisive.why}"
                    )
                    start = replace(start, why=why)
            found.append(start)
    return found
