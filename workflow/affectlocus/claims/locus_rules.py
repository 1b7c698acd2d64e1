"""Claims C1 to C4: the place of the change. Each rule was written before any result was seen.

One rule was corrected later. At first each layer of each seed was a trial. Seeds change the same
layers and are not independent, so too many claims were decided. Now a layer is one trial.

A change in L2 grows with the size of the matrix, and gate_proj is one of the three largest. What
the paper states about L2 is judged by L2; additional tests use scores that do not depend on the
size of the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest, ttest_1samp

from affectlocus.claims.evidence import COLUMNS, Locus, MissingEvidenceError
from affectlocus.claims.statistics import Estimate
from affectlocus.claims.verdicts import SUPPORTED, UNTESTABLE, ClaimFinding, Verdict, deciding_row

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


def _majority_of_layers(
    start: ClaimFinding, locus: Locus, wins: np.ndarray, statement: str, confidence: float
) -> ClaimFinding:
    """Tests whether a statement is true in more than half of the layers.

    Exact binomial test; interval of Clopper and Pearson. Seeds of one base change the same layers
    and are not independent. A layer is therefore one trial, and the statement is true in a layer if
    it is true in more than half of the seeds.

    Args:
        wins: (pairs, layers) bool, whether the statement is true.
        statement: the statement as text.
    """
    seeds, layers = wins.shape
    most = 2 * wins.sum(axis=0) > seeds  # (layers,)
    won = int(most.sum())
    test = binomtest(won, layers)
    low, high = test.proportion_ci(confidence)
    value = Estimate(won / layers, float(low), float(high), float(test.pvalue), 0.5)
    too_few = 2 * 0.5**layers >= 1 - confidence
    why = f"{statement} in {won} of {layers} layers"
    why += f", by a majority of {seeds} seeds" if seeds > 1 else ""
    why += "; with so few layers no result can be significant" if too_few else ""
    why += "; one seed, so the interval is only over layers" if seeds == 1 else ""
    return replace(
        start.measured(value, "share of layers"),
        n=layers,
        seeds=seeds,
        why=why,
        basis=locus.basis,
    )


def largest(start: ClaimFinding, locus: Locus, projection: str, confidence: float) -> ClaimFinding:
    """C1: one projection's change is the largest of the seven in more than half of the layers.

    A layer is one trial, whatever the number of seeds (`_majority_of_layers`). A tie does not count
    as largest. With fewer than six layers the test cannot reach significance at the 95% level. All
    seven projections have to be adapted.
    """
    try:
        sizes = locus.sizes(start.by)  # (pairs, layers, 7)
    except MissingEvidenceError as error:
        return replace(start, missing=str(error))
    place = COLUMNS.index(projection)
    others = np.delete(sizes, place, axis=-1).max(axis=-1)
    statement = f"{projection}_proj has the largest {start.by}"
    wins = sizes[..., place] > others
    found = _majority_of_layers(start, locus, wins, statement, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.median(sizes[..., place] / others))
    return replace(found, why=f"{found.why}; median ratio to the largest other {ratio:.2f}")


def c2(locus: Locus, confidence: float) -> list[ClaimFinding]:
    """C2, three parts: gate_proj has the largest relative change (eq. 2), the widest distribution
    of relative changes, and the most shifted one.

    The width is the distance between the 5th and the 95th percentile of the element-wise relative
    changes of a layer. The shift is the distance between their median and 0. Each has to be the
    largest of the seven in more than half of the layers, as in C1.
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
            wins = _gate_wins(locus, statistic)
        except MissingEvidenceError as error:
            found.append(replace(of_part, missing=str(error)))
            continue
        statement = f"gate_proj's relative changes have the {name}"
        finding = _majority_of_layers(of_part, locus, wins, statement, confidence)
        basis = locus.basis.replace(".parquet", ".histogram.parquet")
        found.append(replace(finding, basis=basis))
    return found


def _gate_wins(locus: Locus, statistic: Callable[[pd.DataFrame], float]) -> np.ndarray:
    """(pairs, layers) bool, whether gate_proj's histogram has the largest statistic."""
    if len(locus.histograms) < len(locus.tables):
        raise MissingEvidenceError(f"no histogram of {locus.name}; set deltas.companions to true")
    wins = []
    for rows in locus.histograms.values():
        inner = rows.dropna(subset=["from", "to"])
        values = {
            key: statistic(part) for key, part in inner.groupby(["layer", "projection"], sort=True)
        }
        wide = pd.Series(values).unstack().reindex(columns=COLUMNS)
        if wide.isna().any(axis=None):
            raise MissingEvidenceError(f"the histograms of {locus.name} lack a projection")
        wins.append((wide["gate"] > wide.drop(columns="gate").max(axis=1)).to_numpy())
    return np.stack(wins)


def _quantile(rows: pd.DataFrame, share: float) -> float:
    """A quantile of a histogram, interpolated linearly within its bin."""
    rows = rows.sort_values("from")
    counts = rows["count"].to_numpy(float)
    edges = np.append(rows["from"].to_numpy(), rows["to"].to_numpy()[-1])
    found = np.interp(share * counts.sum(), np.append(0, counts.cumsum()), edges)
    return round(float(found), 9)  # values that differ only by rounding errors are ties


def c3(loci: Sequence[Locus], confidence: float) -> list[ClaimFinding]:
    """C3: in a control pair up_proj has the largest change in more than half of the layers.

    The control needs a matching affective pair: the same base, method and budget, if these are
    known.

    An additional, more sensitive test compares the two pairs: log(gate / up) of the affective pair
    minus that of the control, layer by layer (the mean over seeds; paired t test). The sizes of the
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
        ratios = [_log_ratio(locus) for locus in (affective, control)]
    except MissingEvidenceError as error:
        return replace(start, missing=str(error))
    difference = ratios[0] - ratios[1] if len(ratios[0]) == len(ratios[1]) else np.empty(0)
    if len(difference) < 2 or not np.isfinite(difference).all():
        return replace(start, missing="needs two layers or more, the same in both pairs")
    test = ttest_1samp(difference, 0)
    low, high = test.confidence_interval(confidence)
    p = 1.0 if np.isnan(test.pvalue) else float(test.pvalue)
    value = Estimate(float(difference.mean()), float(low), float(high), p)
    seeds = min(len(affective.tables), len(control.tables))
    return replace(
        start.measured(value, "difference of log ratios"),
        n=len(difference),
        seeds=seeds,
        why=f"gate over up is {np.exp(value.value):.3f} times that of the control, over "
        f"{len(difference)} layers" + ("; one seed" if seeds == 1 else ""),
        basis=f"{affective.basis}; {control.basis}",
    )


def _log_ratio(locus: Locus) -> np.ndarray:
    """(layers,), log(gate / up) by L2, averaged over seeds."""
    sizes = locus.sizes("l2")
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(sizes[..., COLUMNS.index("gate")] / sizes[..., COLUMNS.index("up")])
    return np.asarray(logs.mean(axis=0))


def c4(rows: Sequence[Verdict], loci: Sequence[Locus]) -> list[Verdict]:
    """C4: the verdicts on C1 for each method and each family of models; no test of its own.

    A part has the pairs of one method or family. It is contradicted if C1 is contradicted for one
    of them, and supported if C1 is supported for all. Method and family come from the recipe or
    from the checkpoint's files, never from a name.
    """
    facts = {locus.name: locus.facts for locus in loci}
    found = []
    for by in ("l2", *SIZE_FREE):
        tested = [row for row in rows if row.claim == "C1" and row.by == by and row.pair]
        for part, (fact, missing) in _CONDITIONS.items():
            members = [row for row in tested if getattr(facts[row.pair], fact) == part]
            unknown = [row.pair for row in tested if not facts[row.pair].method]
            if fact == "method" and unknown:
                missing += (
                    f"; the method of {', '.join(unknown)} is unknown (deltas of whole models do "
                    "not record it)"
                )
            verdict = Verdict("C4", by, part=part, stated=by == "l2", missing=missing)
            if members:
                decisive = deciding_row(members, skip_untestable=True)
                verdict = replace(decisive, claim="C4", pair="", part=part)
                if decisive.verdict != UNTESTABLE:
                    supported = sum(row.verdict == SUPPORTED for row in members)
                    why = (
                        f"C1 is supported in {supported} of {len(members)} pairs; "
                        f"{decisive.pair}: {decisive.why}"
                    )
                    verdict = replace(verdict, why=why)
            found.append(verdict)
    return found
