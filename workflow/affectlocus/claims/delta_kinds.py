"""The kinds of statements on deltas: the place of the change. The paper's C1 to C4 are such.

With several replicates the contrast is, for each replicate, the mean over layers of the logarithm
of the projection's change divided by the largest other. If all replicates have the same base, their
layers are one sample, and the variance over layers is added. A single pair has no replicates: there
the layer rule counts in how many layers the projection has the largest change.

The rules were changed twice after results had been seen. At first each layer of each seed was a
trial; seeds change the same layers, so too many claims were decided. Then a layer was a trial
whatever the number of seeds; models of three layers could never decide. Now a replicate is.

A change in L2 grows with the size of the matrix, and gate_proj is one of the three largest. What
the paper states about L2 is judged by L2; additional tests use scores that do not depend on the
size of the matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from affectlocus.claims.evidence import COLUMNS, MissingEvidenceError
from affectlocus.claims.findings import ClaimFinding, Contrast, LayerTest, layer_test
from affectlocus.claims.loci import Locus
from affectlocus.config.claim_kinds import (
    ChangeInteraction,
    HoldsAcross,
    LargestChange,
)

SIZE_FREE = ("relative", "rms", "share_ratio")
"""The scores of `deltas` that do not depend on the size of the matrix."""
FACTOR = 1.05
"""Sizes of changes within this factor are equal."""
_METHODS = {"lora": "tuned by LoRA", "sft": "with all weights tuned"}
_FAMILIES = {"qwen": "on a Qwen", "llama": "on a LLaMA", "mistral": "on a Mistral"}


@dataclass(frozen=True)
class LocusComparisons:
    """The comparisons of one group of pairs.

    Attributes:
        locus: the deltas of the group.
        loci: those of all pairs.
        claim: the name of the claim.
        confidence: the level of the layer rule's intervals.
    """

    locus: Locus
    loci: Sequence[Locus]
    claim: str
    confidence: float


def largest_change(test: LocusComparisons, statement: LargestChange) -> list[ClaimFinding]:
    """A projection has the largest change of the seven: by its measure, and by additional ones."""
    locus, name = test.locus, test.locus.name
    start = ClaimFinding(test.claim, statement.by, name, statement.part, statement.stated)
    note = ""
    if statement.matched is not None:
        other = matching_locus(locus, test.loci, statement.matched)
        if other is None:
            missing = f"no {statement.matched} pair of the same base, method and budget"
            return [replace(start, missing=missing)]
        if not (locus.facts.budget and other.facts.budget):
            note = "; whether the budgets are equal is not known"
    if statement.statistic != "size":
        return [distribution(start, locus, statement.what, statement.statistic, test.confidence)]
    found = []
    for by in (statement.by, *statement.also_by):
        own = replace(start, by=by, stated=start.stated and by == statement.by)
        finding = largest(own, locus, statement.what, test.confidence)
        found.append(replace(finding, why=finding.why + ("" if finding.missing else note)))
    return found


def _compare_sizes(
    start: ClaimFinding,
    locus: Locus,
    own: np.ndarray,
    others: np.ndarray,
    names: tuple[str, str],
    confidence: float,
) -> ClaimFinding:
    """Tests whether a projection's value is above the largest of the others.

    Several pairs: over replicates, the mean over layers of log(own / others). A single pair: the
    layer rule, an exact binomial test of how often it is above in the layers. A tie does not count.

    Args:
        own, others: (pairs, layers), at least 0.
        names: the projection, and what is compared.
    """
    pairs, layers = own.shape
    wins = own > others
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(own / others)
    logs = np.where(own == others, 0.0, logs)  # also where nothing changed: 0 / 0
    factor = float(np.exp(np.median(logs)))
    counted = f"{names[0]} has the {names[1]} in {wins.mean(axis=0).sum():.3g} of {layers} layers"
    finding = replace(start, n=layers, basis=locus.basis)
    if pairs == 1:
        test = layer_test(counted, wins[0], confidence)
        return replace(
            finding,
            contrasts=(test,),
            why=f"{counted}, {factor:.2f} times the largest other in the median layer; one pair, "
            "judged by its layers",
        )
    if not np.isfinite(logs).all():
        return replace(start, missing=f"the {names[1]} of a projection is 0 in a layer")
    contrast = Contrast(
        f"{locus.name}: log({names[0]} / largest other), {start.part or start.by}",
        logs.mean(axis=1),
        _variance_of_layers(locus, logs),
        "log ratio",
        math.log(FACTOR),
    )
    return replace(
        finding,
        contrasts=(contrast,),
        why=f"{counted} on average, {np.exp(contrast.values.mean()):.3f} times the largest other",
    )


def _variance_of_layers(locus: Locus, values: np.ndarray) -> float:
    """The variance of a mean over layers that all replicates share, as they share test samples.

    It is 0 if each replicate has a base of its own, because its layers are others. With one base
    for all, whatever its layers have in common is in every replicate. The factor makes up for the
    few layers that the variance is estimated from: a t distribution has that variance.

    Args:
        values: (..., layers).
    """
    layers = values.shape[-1]
    if locus.facts.own_base or layers < 2:
        return 0.0
    each = values.reshape(-1, layers).mean(axis=0)
    return float(each.var(ddof=1) / layers * (layers - 1) / max(layers - 3, 0.1))


def largest(start: ClaimFinding, locus: Locus, projection: str, confidence: float) -> ClaimFinding:
    """C1: one projection's change is the largest of the seven. All seven have to be adapted."""
    try:
        sizes = locus.sizes(start.by)  # (pairs, layers, 7)
    except MissingEvidenceError as error:
        return replace(start, missing=str(error))
    place = COLUMNS.index(projection)
    others = np.delete(sizes, place, axis=-1).max(axis=-1)
    names = (f"{projection}_proj", f"largest {start.by}")
    return _compare_sizes(start, locus, sizes[..., place], others, names, confidence)


def distribution(
    start: ClaimFinding, locus: Locus, projection: str, statistic: str, confidence: float
) -> ClaimFinding:
    """A projection has the widest, or the most shifted, distribution of relative changes.

    The width is the distance between the 5th and the 95th percentile of the element-wise relative
    changes of a layer. The shift is the distance between their median and 0.
    """
    function, name = _STATISTICS[statistic]
    try:
        values = _of_histograms(locus, function)  # (pairs, layers, 7)
    except MissingEvidenceError as error:
        return replace(start, missing=str(error))
    place = COLUMNS.index(projection)
    own, others = values[..., place], np.delete(values, place, axis=-1).max(axis=-1)
    names = (f"{projection}_proj", f"{name} of relative changes")
    finding = _compare_sizes(start, locus, own, others, names, confidence)
    return replace(finding, basis=locus.basis.replace(".parquet", ".histogram.parquet"))


def _of_histograms(locus: Locus, statistic: Callable[[pd.DataFrame], float]) -> np.ndarray:
    """(pairs, layers, 7), a statistic of each histogram of relative changes.

    A third of a bin's width is added, because smaller values cannot be distinguished and 0 has no
    logarithm.
    """
    if len(locus.histograms) < len(locus.tables):
        raise MissingEvidenceError(f"no histogram of {locus.name}; set deltas.companions to true")
    found = []
    for rows in locus.histograms.values():
        inner = rows.dropna(subset=["from", "to"])
        values = {
            key: statistic(part) for key, part in inner.groupby(["layer", "projection"], sort=True)
        }
        wide = pd.Series(values).unstack().reindex(columns=COLUMNS)
        if wide.isna().any(axis=None):
            raise MissingEvidenceError(f"the histograms of {locus.name} lack a projection")
        found.append(wide.to_numpy(float) + (inner["to"] - inner["from"]).min() / 3)
    if len({table.shape for table in found}) != 1:
        raise MissingEvidenceError(f"the pairs of {locus.name} have different numbers of layers")
    return np.stack(found)


def _quantile(rows: pd.DataFrame, share: float) -> float:
    """A quantile of a histogram, interpolated linearly within its bin."""
    rows = rows.sort_values("from")
    counts = rows["count"].to_numpy(float)
    edges = np.append(rows["from"].to_numpy(), rows["to"].to_numpy()[-1])
    found = np.interp(share * counts.sum(), np.append(0, counts.cumsum()), edges)
    return round(float(found), 9)  # values that differ only by rounding errors are ties


_STATISTICS: dict[str, tuple[Callable[[pd.DataFrame], float], str]] = {
    "spread": (lambda rows: _quantile(rows, 0.95) - _quantile(rows, 0.05), "widest spread"),
    "shift": (lambda rows: abs(_quantile(rows, 0.5)), "median farthest from 0"),
}


def change_interaction(test: LocusComparisons, statement: ChangeInteraction) -> list[ClaimFinding]:
    """log(what / than) of a pair minus that of a matching pair of another domain.

    The sizes of the matrices cancel. The test is over replicates, or over the layers of single
    pairs. It tests whether the lead of one projection depends on the domain, whichever projection
    has the largest change.
    """
    own, other = statement.domain, statement.against
    by = f"{statement.what}/{statement.than}, log"
    by += "" if statement.by == "l2" else f" {statement.by}"
    start = ClaimFinding(test.claim, by, test.locus.name, statement.part, statement.stated)
    first = matching_locus(test.locus, test.loci, own)
    if first is None:
        missing = f"no {own} pair of the same base, method and budget"
        return [replace(start, missing=missing)] if statement.stated else []
    parts = ", ".join(filter(None, (statement.part, f"against {first.name}")))
    assert test.locus.facts.domain == other
    return [_domain_contrast(replace(start, part=parts), first, test, statement)]


def matching_locus(one: Locus, loci: Sequence[Locus], domain: str) -> Locus | None:
    """The first pair of a domain with the same base, method and budget; unknown facts match."""

    def matches(locus: Locus) -> bool:
        own, other = one.facts, locus.facts
        return other.domain == domain and all(
            a == b or not (a and b)
            for a, b in (
                (own.base, other.base),
                (own.method, other.method),
                (own.budget, other.budget),
            )
        )

    return next(filter(matches, loci), None)


def _domain_contrast(
    start: ClaimFinding, first: Locus, test: LocusComparisons, statement: ChangeInteraction
) -> ClaimFinding:
    """Tests the difference in log(what / than) between two pairs."""
    second, name = test.locus, f"log({statement.what} / {statement.than})"
    try:
        ratios = [_log_ratio(locus, statement) for locus in (first, second)]  # (pairs, layers)
    except MissingEvidenceError as error:
        return replace(start, missing=str(error))
    if ratios[0].shape[1] != ratios[1].shape[1] or not all(
        np.isfinite(one).all() for one in ratios
    ):
        return replace(start, missing="needs a change in every layer, as many layers in both pairs")
    common = [seed for seed in first.seeds if seed in second.seeds]
    if len(common) > 1:
        own, other = (
            ratio[[locus.seeds.index(seed) for seed in common]].mean(axis=1)
            for ratio, locus in zip(ratios, (first, second), strict=True)
        )
        values, over = own - other, f"{len(common)} replicates"
        contrast: Contrast | LayerTest = Contrast(
            f"{name}: {first.name} - {second.name}",
            values,
            _variance_of_layers(first, ratios[0].mean(axis=0) - ratios[1].mean(axis=0)),
            "log ratio",
            math.log(FACTOR),
        )
    else:
        values = ratios[0].mean(axis=0) - ratios[1].mean(axis=0)
        if len(values) < 2:
            return replace(start, missing="needs two layers or more")
        paired = ttest_1samp(values, 0)
        ends = paired.confidence_interval(test.confidence)
        above = ttest_1samp(values, 0, alternative="greater").pvalue
        above = 0.5 if np.isnan(above) else float(above)
        contrast = LayerTest(
            f"{name}: {first.name} - {second.name}",
            float(values.mean()),
            float(ends.low),
            float(ends.high),
            above,
            1 - above,
            "log ratio",
        )
        over = f"{len(values)} layers, the layers of one pair"
    return replace(
        start,
        contrasts=(contrast,),
        n=ratios[0].shape[1],
        why=f"{statement.what} over {statement.than} is {np.exp(values.mean()):.3f} times that of "
        f"the {statement.against}, over {over}",
        basis=f"{first.basis}; {second.basis}",
    )


def _log_ratio(locus: Locus, statement: ChangeInteraction) -> np.ndarray:
    """(pairs, layers), log(what / than)."""
    sizes = locus.sizes(statement.by)
    own, other = (COLUMNS.index(name) for name in (statement.what, statement.than))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(sizes[..., own] / sizes[..., other]))


def holds_across(
    claim: str,
    statement: HoldsAcross,
    measures: Mapping[str, bool],
    findings: Sequence[ClaimFinding],
    loci: Sequence[Locus],
) -> list[ClaimFinding]:
    """Another claim for each method of tuning and each family of models.

    A part has the contrasts of the other claim of all pairs of one method or family. Method and
    family come from the recipe or from the checkpoint's files, never from a name.

    Args:
        measures: measure of the other claim → whether that claim states it.
        findings: those of the other claim.
    """
    facts = {locus.name: locus.facts for locus in loci}
    parts: list[tuple[str, str, str]] = [
        ("method", one, _METHODS[one]) for one in statement.methods
    ]
    parts += [("family", one, _FAMILIES[one]) for one in statement.families]
    found = []
    for by, stated in measures.items():
        tested = [one for one in findings if one.by == by and one.pair]
        unknown = [one.pair for one in tested if not facts[one.pair].method]
        for fact, part, words in parts:
            missing = f"no {statement.domain} pair {words}"
            members = [one for one in tested if getattr(facts[one.pair], fact) == part]
            start = ClaimFinding(claim, by, part=part, stated=statement.stated and stated)
            if fact == "method" and unknown:
                missing += (
                    f"; the method of {', '.join(unknown)} is unknown (deltas of whole models do "
                    "not record it)"
                )
            known = [one for one in members if not one.missing]
            if not known:
                start = replace(start, missing=members[0].missing if members else missing)
            else:
                start = replace(
                    start,
                    contrasts=tuple(test for one in known for test in one.contrasts),
                    n=min(one.n for one in known),
                    why="; ".join(f"{one.pair}: {one.why}" for one in known),
                    basis="; ".join(one.basis for one in known),
                )
            found.append(start)
    return found
