"""Claims C1 to C4: the place of the change.

With several replicates the contrast is, for each replicate, the mean over layers of the logarithm
of gate_proj's change divided by the largest other. If all replicates have the same base, their
layers are one sample, and the variance over layers is added. A single pair has no replicates: there
the layer rule counts in how many layers gate_proj has the largest change.

The rules were changed twice after results had been seen. At first each layer of each seed was a
trial; seeds change the same layers, so too many claims were decided. Then a layer was a trial
whatever the number of seeds; models of three layers could never decide. Now a replicate is.

A change in L2 grows with the size of the matrix, and gate_proj is one of the three largest. What
the paper states about L2 is judged by L2; additional tests use scores that do not depend on the
size of the matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from affectlocus.claims.effect_rules import MARGIN
from affectlocus.claims.evidence import COLUMNS, Locus, MissingEvidenceError
from affectlocus.claims.findings import ClaimFinding, Contrast, LayerTest, layer_test

SIZE_FREE = ("relative", "rms", "share_ratio")
"""The scores of `deltas` that do not depend on the size of the matrix."""
LOG_RATIO = "gate/up, log"
# Part of C4 → the fact that selects its pairs, and the message if there are none.
_CONDITIONS = {
    "lora": ("method", "no affective pair tuned by LoRA"),
    "sft": ("method", "no affective pair with all weights tuned"),
    "qwen": ("family", "no affective pair on a Qwen"),
    "llama": ("family", "no affective pair on a LLaMA"),
    "mistral": ("family", "no affective pair on a Mistral"),
}


def locus_findings(loci: Sequence[Locus], confidence: float) -> list[ClaimFinding]:
    """The findings of C1, C2 and C3 for an experiment's pairs."""
    affective = [locus for locus in loci if locus.facts.domain == "affective"]
    if not affective:
        missing = "no affective pair among the deltas"
        measures = {"C1": "l2", "C2": "relative", "C3": "l2"}
        return [ClaimFinding(claim, by, missing=missing) for claim, by in measures.items()]
    found = []
    for locus in affective:
        for by in ("l2", *SIZE_FREE):
            start = ClaimFinding("C1", by, locus.name, stated=by == "l2")
            found.append(largest(start, locus, "gate", confidence))
    for locus in affective:
        found += c2(locus, confidence)
    return found + c3(loci, confidence)


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
        math.log(MARGIN),
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


def c2(locus: Locus, confidence: float) -> list[ClaimFinding]:
    """C2, three parts: gate_proj has the largest relative change (eq. 2), the widest distribution
    of relative changes, and the most shifted one.

    The width is the distance between the 5th and the 95th percentile of the element-wise relative
    changes of a layer. The shift is the distance between their median and 0. Each has to be the
    largest of the seven, as in C1.
    """
    start = ClaimFinding("C2", "relative", locus.name)
    found = [largest(replace(start, part="largest"), locus, "gate", confidence)]
    parts = {
        "widest": (lambda rows: _quantile(rows, 0.95) - _quantile(rows, 0.05), "widest spread"),
        "shifted": (lambda rows: abs(_quantile(rows, 0.5)), "median farthest from 0"),
    }
    for part, (statistic, name) in parts.items():
        of_part = replace(start, part=part)
        try:
            values = _of_histograms(locus, statistic)  # (pairs, layers, 7)
        except MissingEvidenceError as error:
            found.append(replace(of_part, missing=str(error)))
            continue
        gate, others = (
            values[..., COLUMNS.index("gate")],
            np.delete(values, COLUMNS.index("gate"), axis=-1).max(axis=-1),
        )
        names = ("gate_proj", f"{name} of relative changes")
        finding = _compare_sizes(of_part, locus, gate, others, names, confidence)
        basis = locus.basis.replace(".parquet", ".histogram.parquet")
        found.append(replace(finding, basis=basis))
    return found


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


def c3(loci: Sequence[Locus], confidence: float) -> list[ClaimFinding]:
    """C3: in a control pair up_proj has the largest change, tested as in C1.

    The control needs a matching affective pair: the same base, method and budget, if these are
    known.

    An additional, more sensitive test compares the two pairs: log(gate / up) of the affective pair
    minus that of the control, over replicates, or over the layers of single pairs. The sizes of the
    matrices cancel. It tests whether gate_proj's lead depends on the domain, whichever projection
    has the largest change.
    """
    controls = [locus for locus in loci if locus.facts.domain == "control"]
    if not controls:
        return [ClaimFinding("C3", "l2", missing="no control pair")]
    found = []
    for control in controls:
        affective = _matching_affective(control, loci)
        if affective is None:
            missing = "no affective pair of the same base, method and budget"
            found.append(ClaimFinding("C3", "l2", control.name, missing=missing))
            continue
        for by in ("l2", *SIZE_FREE):
            start = ClaimFinding("C3", by, control.name, stated=by == "l2")
            finding = largest(start, control, "up", confidence)
            known = control.facts.budget and affective.facts.budget
            if not known and not finding.missing:
                why = f"{finding.why}; whether the budgets are equal is not known"
                finding = replace(finding, why=why)
            found.append(finding)
        part = f"against {affective.name}"
        start = ClaimFinding("C3", LOG_RATIO, control.name, part, stated=False)
        found.append(_domain_contrast(start, affective, control, confidence))
    return found


def _matching_affective(control: Locus, loci: Sequence[Locus]) -> Locus | None:
    """The first affective pair with the same base, method and budget; unknown facts match."""

    def matches(locus: Locus) -> bool:
        own, other = control.facts, locus.facts
        return other.domain == "affective" and all(
            a == b or not (a and b)
            for a, b in (
                (own.base, other.base),
                (own.method, other.method),
                (own.budget, other.budget),
            )
        )

    return next(filter(matches, loci), None)


def _domain_contrast(
    start: ClaimFinding, affective: Locus, control: Locus, confidence: float
) -> ClaimFinding:
    """Tests the difference in log(gate / up) between an affective pair and its control."""
    try:
        ratios = [_log_ratio(locus) for locus in (affective, control)]  # each (pairs, layers)
    except MissingEvidenceError as error:
        return replace(start, missing=str(error))
    if ratios[0].shape[1] != ratios[1].shape[1] or not all(
        np.isfinite(one).all() for one in ratios
    ):
        return replace(start, missing="needs a change in every layer, as many layers in both pairs")
    common = [seed for seed in affective.seeds if seed in control.seeds]
    if len(common) > 1:
        own, other = (
            ratio[[locus.seeds.index(seed) for seed in common]].mean(axis=1)
            for ratio, locus in zip(ratios, (affective, control), strict=True)
        )
        values, over = own - other, f"{len(common)} replicates"
        contrast: Contrast | LayerTest = Contrast(
            f"log(gate / up): {affective.name} - {control.name}",
            values,
            _variance_of_layers(affective, ratios[0].mean(axis=0) - ratios[1].mean(axis=0)),
            "log ratio",
            math.log(MARGIN),
        )
    else:
        values = ratios[0].mean(axis=0) - ratios[1].mean(axis=0)
        if len(values) < 2:
            return replace(start, missing="needs two layers or more")
        test = ttest_1samp(values, 0)
        ends = test.confidence_interval(confidence)
        above = ttest_1samp(values, 0, alternative="greater").pvalue
        above = 0.5 if np.isnan(above) else float(above)
        contrast = LayerTest(
            f"log(gate / up): {affective.name} - {control.name}",
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
        why=f"gate over up is {np.exp(values.mean()):.3f} times that of the control, over {over}",
        basis=f"{affective.basis}; {control.basis}",
    )


def _log_ratio(locus: Locus) -> np.ndarray:
    """(pairs, layers), log(gate / up) by L2."""
    sizes = locus.sizes("l2")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(
            np.log(sizes[..., COLUMNS.index("gate")] / sizes[..., COLUMNS.index("up")])
        )


def c4(findings: Sequence[ClaimFinding], loci: Sequence[Locus]) -> list[ClaimFinding]:
    """C4: C1 for each method and each family of models.

    A part has the contrasts of C1 of all pairs of one method or family. Method and family come from
    the recipe or from the checkpoint's files, never from a name.
    """
    facts = {locus.name: locus.facts for locus in loci}
    found = []
    for by in ("l2", *SIZE_FREE):
        tested = [one for one in findings if one.claim == "C1" and one.by == by and one.pair]
        unknown = [one.pair for one in tested if not facts[one.pair].method]
        for part, (fact, missing) in _CONDITIONS.items():
            members = [one for one in tested if getattr(facts[one.pair], fact) == part]
            start = ClaimFinding("C4", by, part=part, stated=by == "l2")
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
