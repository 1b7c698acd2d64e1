"""What an experiment shows: every table and figure, its caption, and which files are one of them.

One list, `EXHIBITS`, for the report (`report.py`) and for Snakemake's own (`--report`), whose
captions in workflow/report are written from it by `affectlocus report --captions workflow/report`.
A new exhibit is one entry. No library is imported: the rules read this whenever snakemake starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

SCORES = "What the modules do"
CHANGE = "What the tuning changed"
COST = "What it costs"
CLOSER = "Below the projection"
VERDICTS = "Verdicts"
CATEGORIES = (SCORES, CHANGE, COST, CLOSER)
"""The report's chapters of exhibits, in order; the verdicts stand before them."""


@dataclass(frozen=True)
class Exhibit:
    """A kind of table or figure.

    Args:
        name: of its anchor; unique.
        pattern: its file below results; {name} stands for a part of the name, {.name} for one
            that follows a dot and may be left out.
        title, caption: plain text, the same for all files of the kind.
        source: what it is made from, below results; the pattern's wildcards may stand in it.
        alt: what a figure shows, for those who cannot see it; likewise.
        paper: the exhibit of the paper that it answers.
        rule: the rule that makes it; empty for none of ours.
        when: of a rule that makes several, which wildcards mean this one.
    """

    name: str
    category: str
    pattern: str
    title: str
    caption: str
    source: str = ""
    alt: str = ""
    paper: str = ""
    rule: str = ""
    when: str = ""

    def match(self, file: str) -> dict[str, str] | None:
        """The wildcards of a file below results; None where it is not of this kind."""
        parts = re.split(r"\{(\.?\w+)\}", self.pattern)
        # Odd parts are names; one with a dot may be left out with its dot.
        expression = "".join(
            re.escape(part)
            if place % 2 == 0
            else rf"(?:\.(?P<{part[1:]}>[^/]+))?"
            if part.startswith(".")
            else f"(?P<{part}>[^/]+)"
            for place, part in enumerate(parts)
        )
        found = re.fullmatch(expression, file)
        return {name: value or "" for name, value in found.groupdict().items()} if found else None


@dataclass(frozen=True)
class Found:
    """An exhibit that is there: its file below results, and what its wildcards stand for."""

    exhibit: Exhibit
    file: str
    wildcards: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tells it from the others of its kind."""
        return ", ".join(filter(None, self.wildcards.values())).replace("-and-", " and ")

    @property
    def source(self) -> str:
        """What it is made from."""
        return self._filled(self.exhibit.source)

    @property
    def alt(self) -> str:
        """What a figure shows."""
        return self._filled(self.exhibit.alt)

    def _filled(self, text: str) -> str:
        for name, value in self.wildcards.items():
            text = text.replace(f"{{{name}}}", value)
        return text


_TABLE = (
    "Compare with what the majority answer and a uniform guess score on the same samples. The "
    "intervals and paired differences of all numbers are in the table's companion."
)
_MAPS = (
    "Layers by projections; beside L2 stand the change relative to the base's norm, and the change "
    "per weight (RMS), since L2 alone grows with the matrix. A hatched cell was not adapted."
)
_PANELS = (
    "Layers by projections, a panel for each pair, means over seeds: L2 above, the change per "
    "weight (RMS) below. A hatched projection was not adapted."
)

EXHIBITS = (
    Exhibit(
        name="table1",
        category=SCORES,
        pattern="table1{.pair}.csv",
        title="Table 1. Load: the base with the delta of one module set",
        caption=f"The base with the delta of a module set added to it, asked every task. {_TABLE}",
        paper="Table 1",
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table1"',
    ),
    Exhibit(
        name="table1_even",
        category=SCORES,
        pattern="table1_even{.pair}.csv",
        title="Table 1, null: noise of one size instead of the delta",
        caption=(
            "The base with noise in a module set, of the whole delta's mean size in every weight: "
            f"what a change of that size does wherever it lands. {_TABLE}"
        ),
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table1_even"',
    ),
    Exhibit(
        name="table1_dose",
        category=SCORES,
        pattern="table1_dose{.pair}.csv",
        title="Table 1, dose: the delta scaled",
        caption=(
            "The base with a part of a module's delta, or more than all of it: x0.5 is half of it. "
            f"{_TABLE}"
        ),
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table1_dose"',
    ),
    Exhibit(
        name="table2",
        category=SCORES,
        pattern="table2{.pair}.csv",
        title="Table 2. Tune: the base tuned on one module set alone",
        caption=f"The base tuned on a module set and nothing else, within one budget. {_TABLE}",
        paper="Table 2",
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table2"',
    ),
    Exhibit(
        name="table2_fair",
        category=SCORES,
        pattern="table2_fair{.pair}.csv",
        title="Table 2, fair: the same at equal parameters",
        caption=(
            "As Table 2, with the rank raised so that every set trains about as many parameters as "
            f"all seven do. {_TABLE}"
        ),
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table2_fair"',
    ),
    Exhibit(
        name="table3",
        category=SCORES,
        pattern="table3{.pair}.csv",
        title="Table 3. Ablate: the tuned model with one module set destroyed",
        caption=(
            "The tuned model with a module set put back to the base's values (revert), set to zero "
            "(zero), its delta shuffled within the matrix (shuffle) or replaced by noise of the "
            "same norm (noise). Differences are from the tuned model. Zero removes more than the "
            "tuning: without gate, up or down alike the whole feed-forward block is silent."
        ),
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table3"',
    ),
    Exhibit(
        name="fig7",
        category=SCORES,
        pattern="figures/fig7_load{.pair}.png",
        title="Single modules loaded",
        caption=(
            "The base with the delta of one projection, on every task. Whiskers are intervals over "
            "samples and seeds, dashed lines the majority answer, dash-dotted ones a uniform guess."
        ),
        source="the intervals and baselines of Table 1",
        alt="Bars of the seven projections, each loaded alone, grouped by task.",
        paper="Fig. 7",
        rule="bars",
        when='snakemake.wildcards.bars.split(".")[0] == "fig7_load"',
    ),
    Exhibit(
        name="even",
        category=SCORES,
        pattern="figures/even.{pair}.png",
        title="Noise in single modules",
        caption="The base with noise of one size in one projection: a null for the loads above.",
        source="the intervals and baselines of the even table of {pair}",
        alt="Bars of the seven projections of {pair}, each with noise, grouped by task.",
        rule="bars",
        when='snakemake.wildcards.bars.split(".")[0] == "even"',
    ),
    Exhibit(
        name="dose",
        category=SCORES,
        pattern="figures/dose.{pair}.png",
        title="Dose: a load scaled",
        caption=(
            "Mean score as a module's delta is loaded in part, or more than once: 0 is the base, 1 "
            "the plain load. Bands are intervals over samples, and over seeds if there are several."
        ),
        source="the intervals and baselines of the dose table of {pair}",
        alt="The score of {pair} against the scale of the loaded delta.",
        rule="draw_dose",
    ),
    Exhibit(
        name="fig8",
        category=SCORES,
        pattern="figures/fig8_tune{.pair}.png",
        title="Single modules tuned",
        caption=(
            "The base tuned on one projection alone, on every task. Whiskers are intervals over "
            "samples and seeds, dashed lines the majority answer, dash-dotted ones a uniform guess."
        ),
        source="the intervals and baselines of Table 2",
        alt="Bars of the seven projections, each tuned alone, grouped by task.",
        paper="Fig. 8",
        rule="bars",
        when='snakemake.wildcards.bars.split(".")[0] == "fig8_tune"',
    ),
    Exhibit(
        name="fair",
        category=SCORES,
        pattern="figures/fair.{pair}.png",
        title="Single modules tuned at equal parameters",
        caption="The base tuned on one projection, with about as many parameters as all seven.",
        source="the intervals and baselines of the fair table of {pair}",
        alt="Bars of the seven projections of {pair}, each tuned alone, grouped by task.",
        rule="bars",
        when='snakemake.wildcards.bars.split(".")[0] == "fair"',
    ),
    Exhibit(
        name="ablate",
        category=SCORES,
        pattern="figures/ablate.{pair}.png",
        title="Modules destroyed",
        caption=(
            "Change of the tuned model's mean score when a module set is destroyed, by mode. "
            "Whiskers are paired intervals over samples, and over seeds or random draws if there "
            "are several: those that cross zero say nothing."
        ),
        source="the intervals of the ablation table of {pair}",
        alt="Bars of the change of the mean score, a group per destroyed module set of {pair}.",
        rule="bars",
        when='snakemake.wildcards.bars.split(".")[0] == "ablate"',
    ),
    Exhibit(
        name="fluency",
        category=SCORES,
        pattern="fluency.csv",
        title="Fluency of every cell",
        caption=(
            "Perplexity of general text, and the share of different words and pairs of words "
            "(distinct-1, distinct-2, in percent) in what a cell writes behind the openings of "
            "that text. Gains are in fluency_intervals.csv."
        ),
        rule="fluency",
    ),
    Exhibit(
        name="fluency_figure",
        category=SCORES,
        pattern="figures/fluency.{arm}.{pair}.png",
        title="Fluency, drawn",
        caption=(
            "Perplexity and distinct-n of the cells of one table, with intervals over texts, and "
            "over seeds if there are several: a module set that scores well and no longer speaks "
            "has not learnt the skill alone."
        ),
        source="the scores of the {arm} cells of {pair}",
        alt="Perplexity and distinct-n of each {arm} cell of {pair}.",
        rule="draw_fluency",
    ),
    Exhibit(
        name="deltas",
        category=CHANGE,
        pattern="figures/deltas.{pair}.png",
        title="Where the weights changed",
        caption=_MAPS,
        source="the deltas of {pair}, a file for each seed",
        alt="Three heat maps of {pair}, layers down, the seven projections across.",
        paper="Fig. 4",
        rule="heat_map",
    ),
    Exhibit(
        name="fig4",
        category=CHANGE,
        pattern="figures/fig4_l2{.pair}.png",
        title="The change of the weights over model sizes",
        caption=_PANELS,
        alt="Heat maps of the change, layers down, projections across, a panel for each model.",
        source="the deltas of the pairs, a file for each seed",
        paper="Fig. 4",
        rule="draw_panels",
        when='snakemake.wildcards.panels.split(".")[0] == "fig4_l2"',
    ),
    Exhibit(
        name="fig5",
        category=CHANGE,
        pattern="figures/fig5_control{.pair}.png",
        title="The change by an affective tuning beside that by a control, within one budget",
        caption=f"{_PANELS} Below, gate and up by layer with the seeds' range.",
        alt="Heat maps of the change by an affective tuning and by the control.",
        source="the deltas of the pairs, a file for each seed",
        paper="Fig. 5",
        rule="draw_panels",
        when='snakemake.wildcards.panels.split(".")[0] == "fig5_control"',
    ),
    Exhibit(
        name="fig6",
        category=CHANGE,
        pattern="figures/fig6_architectures{.pair}.png",
        title="The change over architectures, by LoRA and by full tuning",
        caption=_PANELS,
        alt="Heat maps of the change, a panel for each architecture and method.",
        source="the deltas of the pairs, a file for each seed",
        paper="Fig. 6",
        rule="draw_panels",
        when='snakemake.wildcards.panels.split(".")[0] == "fig6_architectures"',
    ),
    Exhibit(
        name="fig10",
        category=CHANGE,
        pattern="figures/fig10_relative{.pair}.png",
        title="Relative change of single weights",
        caption=(
            "Distribution of each weight's change relative to itself, over all layers, a line for "
            "each projection. Bands are the range of the seeds."
        ),
        source="the histograms of the pair, a file for each seed",
        alt="Seven lines, the distribution of the relative change of each projection.",
        paper="Fig. 10",
        rule="relative_changes",
    ),
    Exhibit(
        name="trajectory",
        category=CHANGE,
        pattern="figures/trajectory.{pair}.png",
        title="Trajectory: the change along the tuning",
        caption=(
            "The change at steps along the tuning: L2, each projection's share of it over its "
            "share of the weights, and the cosine with the change at the end. Means over layers "
            "and seeds; bands are the range of the seeds."
        ),
        source="trajectory of {pair}, a file for each seed",
        alt="Three panels of lines against the tuning step, one line for each projection.",
        rule="draw_trajectory",
    ),
    Exhibit(
        name="agreement",
        category=CHANGE,
        pattern="agreement.csv",
        title="Do rankings of the projections agree?",
        caption=(
            "Kendall's W of the seven projections' rankings: 1 where all raters (layers, seeds, "
            "pairs or tasks) agree, near 0 where they do not; p is against no agreement at all."
        ),
    ),
    Exhibit(
        name="ledger",
        category=COST,
        pattern="ledger.csv",
        title="The ledger: what each module set trains",
        caption=(
            "Counted from the base's configuration, at the recipe's rank for every set (equal "
            "rank) and at the rank that comes nearest to all seven (equal parameters). GET is the "
            "paper's strategy, gate_proj alone. Shares are in percent."
        ),
        rule="ledger",
    ),
    Exhibit(
        name="step_times",
        category=COST,
        pattern="step_times.csv",
        title="Measured: time of a tuning step, optimizer and adapter",
        caption=(
            "On a small stand-in of the base. The ratio is to all seven in the same rounds, with "
            "its quartiles, and carries over between machines better than the milliseconds."
        ),
        rule="step_times",
    ),
    Exhibit(
        name="fig9",
        category=COST,
        pattern="figures/fig9_get{.pair}.png",
        title="Score against trained parameters",
        caption=(
            "Mean score of each tuned module set against the parameters it trained; whiskers are "
            "intervals over samples, and over seeds if there are several."
        ),
        source="the intervals of the tune tables, and ledger.csv",
        alt="Points of the tuned module sets: trained parameters across, mean score up.",
        paper="Fig. 9",
        rule="trade_off",
    ),
    Exhibit(
        name="neurons",
        category=CLOSER,
        pattern="figures/neurons.{base}.png",
        title="Which neurons move",
        caption=(
            "How concentrated the change is over the feed-forward neurons, and how many moved "
            "neurons two tunings share, beside what chance would give."
        ),
        source="neurons/{base}.parquet and its companions",
        alt="Two panels: concentration of the change, and neurons shared by pairs of tunings.",
        rule="draw_neurons",
    ),
    Exhibit(
        name="activations",
        category=CLOSER,
        pattern="figures/activations.{tuned}.png",
        title="What the moved neurons answer to",
        caption=(
            "How the gate's activations shift on emotional against neutral texts (Hedges' g), at "
            "the neurons that the tuning moved and at the rest."
        ),
        source="activations/{tuned}.parquet and its summary",
        alt="Distributions of the shift at moved neurons and at the rest, by task and model.",
        rule="draw_activations",
    ),
    Exhibit(
        name="directions",
        category=CLOSER,
        pattern="figures/directions.{duo}.png",
        title="The same place, or only the same size?",
        caption=(
            "Cosine of two tunings' deltas and overlap of their leading subspaces, by layer and "
            "projection. Two adapters of one seed start from the same A, so what they read "
            "overlaps anyway: compare with a control."
        ),
        source="directions of their base",
        alt="Heat maps of cosine and overlaps of {duo}, layers down, projections across.",
        rule="draw_directions",
    ),
)

PAPER = {
    "Table 1": "matrix.load is empty",
    "Table 2": "matrix.tune is empty",
    "Fig. 4": "no pair has deltas",
    "Fig. 5": "no pair of domain: control has the base, method and budget of an affective one",
    "Fig. 6": "the affective pairs are of one architecture and method",
    "Fig. 7": "matrix.load names no single projection",
    "Fig. 8": "matrix.tune names no single projection",
    "Fig. 9": "nothing is tuned by matrix.tune, so nothing is counted",
    "Fig. 10": "deltas.companions is off, or a base is missing",
}
"""The paper's exhibits, and why an experiment may not have one."""


def found(files: Iterable[str]) -> list[Found]:
    """The exhibits among files below results, in the list's order, each kind's by name."""
    names = sorted(files)
    return [
        Found(exhibit, file, wildcards)
        for exhibit in EXHIBITS
        for file in names
        if (wildcards := exhibit.match(file)) is not None and not _companion(file)
    ]


def _companion(file: str) -> bool:
    """A table's intervals and baselines stand with it, not by themselves."""
    return file.endswith(("_intervals.csv", "_baselines.csv"))


def lacking(shown: Iterable[Found]) -> dict[str, str]:
    """The paper's exhibits that are not among those shown, and why."""
    there = {one.exhibit.paper for one in shown}
    return {name: why for name, why in PAPER.items() if name not in there}


def captions() -> dict[str, str]:
    """Rule → its caption for Snakemake's report, in reStructuredText.

    Of a rule that makes several exhibits, the wildcards choose.
    """
    ruled = sorted((one for one in EXHIBITS if one.rule), key=lambda one: one.rule)
    texts = {"claims": _CLAIMS, "report": _REPORT}
    for rule, group in groupby(ruled, key=lambda one: one.rule):
        texts[rule] = "".join(map(_chosen, group))
    return {rule: f"{text.strip()}\n" for rule, text in texts.items()}


_CLAIMS = (
    "A verdict on each of the paper's claims, by rules that were written before any "
    "result was seen (claims.csv), and how far rankings of the seven projections agree "
    "(agreement.csv)."
)
_REPORT = "The whole experiment on one page: verdicts, exhibits, data, parameters, time."


def _chosen(one: Exhibit) -> str:
    text = f"{one.title}. {one.caption}"
    return f"{{% if {one.when} %}}{text}{{% endif %}}\n" if one.when else f"{text}\n"


def described(rule: str, **labels: str) -> dict[str, object]:
    """How Snakemake's report shows a result: the arguments of its `report()`.

    Args:
        labels: columns of the results' list; wildcards in braces may stand in them.
    """
    return {
        # Relative to the file that holds the rule.
        "caption": f"../workflow/report/{rule}.rst",
        "category": next((one.category for one in EXHIBITS if one.rule == rule), VERDICTS),
        "labels": labels,
    }
