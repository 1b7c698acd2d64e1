"""Exhibits: the tables and figures of an experiment, with title, caption and file pattern.

The list `EXHIBITS` is used by the report (`report.py`) and by Snakemake's own report (`--report`).
`affectlocus report --captions workflow/report` writes the captions of the latter. To add an
exhibit, add one entry. The module imports no library, because the rules import it whenever
snakemake starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

EFFECTS = "What the modules do"
CHANGE = "What the tuning changed"
COST = "What it costs"
CLOSER = "Below the projection"
VERDICTS = "Verdicts"
CATEGORIES = (EFFECTS, CHANGE, COST, CLOSER)
"""The chapters of exhibits in the report, in order; the verdicts come before them."""


@dataclass(frozen=True)
class Exhibit:
    """A kind of table or figure.

    Args:
        name: the anchor on the page; unique.
        pattern: the path below results. {name} is a wildcard; {.name} is an optional wildcard with
            a dot in front.
        title, caption: plain text, the same for all files of the kind.
        source: what the exhibit is made from, below results; it may contain the wildcards.
        alt: the text alternative of a figure; it may contain the wildcards.
        paper: the corresponding table or figure of the paper.
        rule: the rule that writes it.
        when: if the rule writes several kinds, the condition on its wildcards for this kind.
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
        """The wildcards of a file below results; None if the file is not of this kind."""
        parts = re.split(r"\{(\.?\w+)\}", self.pattern)
        # Every second part is a wildcard; one with a dot is optional.
        expression = "".join(
            re.escape(part)
            if place % 2 == 0
            else rf"(?:\.(?P<{part[1:]}>[^/]+))?"
            if part.startswith(".")
            else f"(?P<{part}>[^/]+)"
            for place, part in enumerate(parts)
        )
        match_exhibits = re.fullmatch(expression, file)
        return (
            {name: value or "" for name, value in match_exhibits.groupdict().items()}
            if match_exhibits
            else None
        )


@dataclass(frozen=True)
class ExhibitFile:
    """An existing file of an exhibit: its path below results and the values of the wildcards."""

    exhibit: Exhibit
    file: str
    wildcards: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The values of the wildcards, which tell it from other files of its kind."""
        return ", ".join(filter(None, self.wildcards.values())).replace("-and-", " and ")

    @property
    def source(self) -> str:
        """What the file is made from."""
        return self._filled(self.exhibit.source)

    @property
    def alt(self) -> str:
        """The text alternative of a figure."""
        return self._filled(self.exhibit.alt)

    def _filled(self, text: str) -> str:
        for name, value in self.wildcards.items():
            text = text.replace(f"{{{name}}}", value)
        return text


_TABLE = (
    "Compare with the scores of the majority answer and of a uniform guess on the same samples. "
    "The file TABLE_intervals.csv has the intervals and paired differences of all numbers."
)
_MAPS = (
    "Layers by projections. The L2 norm grows with the size of the matrix; the norm relative to "
    "the base's and the change per weight (RMS) do not. A hatched cell was not adapted."
)
_PANELS = (
    "Layers by projections, with a panel for each pair. Top: L2 norm; bottom: change per weight "
    "(RMS). Values are means over seeds. A hatched projection was not adapted."
)

EXHIBITS = (
    Exhibit(
        name="table1",
        category=EFFECTS,
        pattern="table1{.pair}.csv",
        title="Table 1. Load: the base with the delta of one module set",
        caption=f"The base with the delta of a module set added, evaluated on every task. {_TABLE}",
        paper="Table 1",
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table1"',
    ),
    Exhibit(
        name="table1_even",
        category=EFFECTS,
        pattern="table1_even{.pair}.csv",
        title="Table 1, null: noise of one size in place of the delta",
        caption=(
            "The base with noise in a module set. In every weight the noise has the mean size of "
            f"the whole delta. It shows the effect of a change of that size alone. {_TABLE}"
        ),
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table1_even"',
    ),
    Exhibit(
        name="table1_dose",
        category=EFFECTS,
        pattern="table1_dose{.pair}.csv",
        title="Table 1, dose: the delta scaled",
        caption=(f"The base with a multiple of a module's delta; x0.5 is half the delta. {_TABLE}"),
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table1_dose"',
    ),
    Exhibit(
        name="table2",
        category=EFFECTS,
        pattern="table2{.pair}.csv",
        title="Table 2. Tune: the base tuned on one module set alone",
        caption=f"The base tuned on one module set only, always with the same budget. {_TABLE}",
        paper="Table 2",
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table2"',
    ),
    Exhibit(
        name="table2_fair",
        category=EFFECTS,
        pattern="table2_fair{.pair}.csv",
        title="Table 2, fair: tuning at equal parameters",
        caption=(
            "As Table 2, but with a higher rank: every set has about as many trained parameters as "
            f"all seven modules. {_TABLE}"
        ),
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table2_fair"',
    ),
    Exhibit(
        name="table3",
        category=EFFECTS,
        pattern="table3{.pair}.csv",
        title="Table 3. Ablate: the tuned model with one module set destroyed",
        caption=(
            "The tuned model after one module set was reset to the base's values (revert), set to "
            "zero (zero), or had its delta shuffled within the matrix (shuffle) or replaced by "
            "noise of the same norm (noise). Differences are from the tuned model. Zero removes "
            "more than the tuning: zeros in gate, up or down all disable the whole feed-forward "
            "block."
        ),
        rule="tables",
        when='snakemake.wildcards.table.split(".")[0] == "table3"',
    ),
    Exhibit(
        name="fig7",
        category=EFFECTS,
        pattern="figures/fig7_load{.pair}.png",
        title="Single modules loaded",
        caption=(
            "The base with the delta of one projection, on every task. Whiskers are intervals over "
            "samples and seeds. Dashed lines: majority answer; dash-dotted lines: uniform guess."
        ),
        source="the intervals and baselines of Table 1",
        alt="Bars of the seven projections, each loaded alone, grouped by task.",
        paper="Fig. 7",
        rule="bars",
        when='snakemake.wildcards.bars.split(".")[0] == "fig7_load"',
    ),
    Exhibit(
        name="even",
        category=EFFECTS,
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
        category=EFFECTS,
        pattern="figures/dose.{pair}.png",
        title="Dose: a load scaled",
        caption=(
            "Mean score against the factor of the loaded delta: 0 is the base, 1 the load of the "
            "whole delta. Bands are intervals over samples, and over seeds if there are several."
        ),
        source="the intervals and baselines of the dose table of {pair}",
        alt="The score of {pair} against the scale of the loaded delta.",
        rule="draw_dose",
    ),
    Exhibit(
        name="bands",
        category=EFFECTS,
        pattern="figures/bands.{pair}.png",
        title="Gain by layer band and projection",
        caption=(
            "Mean gain over the base when one projection is loaded in one band of layers alone, in "
            "points, with its paired interval. A bold number has an interval without zero; the "
            "intervals are not corrected for their number."
        ),
        source="the intervals of the load table of {pair}",
        alt="A heat map of the gain of {pair}: bands of layers as rows, projections as columns.",
        rule="draw_bands",
    ),
    Exhibit(
        name="fig8",
        category=EFFECTS,
        pattern="figures/fig8_tune{.pair}.png",
        title="Single modules tuned",
        caption=(
            "The base tuned on one projection only, on every task. Whiskers are intervals over "
            "samples and seeds. Dashed lines: majority answer; dash-dotted lines: uniform guess."
        ),
        source="the intervals and baselines of Table 2",
        alt="Bars of the seven projections, each tuned alone, grouped by task.",
        paper="Fig. 8",
        rule="bars",
        when='snakemake.wildcards.bars.split(".")[0] == "fig8_tune"',
    ),
    Exhibit(
        name="fair",
        category=EFFECTS,
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
        category=EFFECTS,
        pattern="figures/ablate.{pair}.png",
        title="Modules destroyed",
        caption=(
            "Change of the tuned model's mean score when a module set is destroyed, by mode. "
            "Whiskers are paired intervals over samples, and over seeds or random draws if there "
            "are several. An interval that contains zero shows no significant effect."
        ),
        source="the intervals of the ablation table of {pair}",
        alt="Bars of the change of the mean score, a group per destroyed module set of {pair}.",
        rule="bars",
        when='snakemake.wildcards.bars.split(".")[0] == "ablate"',
    ),
    Exhibit(
        name="fluency",
        category=EFFECTS,
        pattern="fluency.csv",
        title="Fluency of every cell",
        caption=(
            "Perplexity of general text, and the share of distinct words and pairs of words "
            "(distinct-1, distinct-2, in percent) in the cell's continuations of that text. Gains "
            "are in fluency_intervals.csv."
        ),
        rule="fluency",
    ),
    Exhibit(
        name="fluency_figure",
        category=EFFECTS,
        pattern="figures/fluency.{arm}.{pair}.png",
        title="Fluency by cell, as a figure",
        caption=(
            "Perplexity and distinct-n of the cells of one table, with intervals over texts, and "
            "over seeds if there are several. A module set can score well on the tasks and lose "
            "fluency."
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
        alt="Three heat maps of {pair}, layers as rows, the seven projections as columns.",
        paper="Fig. 4",
        rule="heat_map",
    ),
    Exhibit(
        name="fig4",
        category=CHANGE,
        pattern="figures/fig4_l2{.pair}.png",
        title="Change of the weights by model size",
        caption=_PANELS,
        alt="Heat maps of the change, layers as rows, projections as columns, by model.",
        source="the deltas of the pairs, a file for each seed",
        paper="Fig. 4",
        rule="draw_panels",
        when='snakemake.wildcards.panels.split(".")[0] == "fig4_l2"',
    ),
    Exhibit(
        name="fig5",
        category=CHANGE,
        pattern="figures/fig5_control{.pair}.png",
        title="Change of the weights by an affective tuning and by a control with the same budget",
        caption=f"{_PANELS} Lines: gate and up by layer, with the range of the seeds.",
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
        title="Change of the weights by architecture, for LoRA and full tuning",
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
            "Distribution over all layers of the change of each weight divided by the weight, one "
            "line for each projection. Bands are the range of the seeds."
        ),
        source="the histograms of the pair, a file for each seed",
        alt="Seven lines: the distribution of the relative change in each projection.",
        paper="Fig. 10",
        rule="relative_changes",
    ),
    Exhibit(
        name="trajectory",
        category=CHANGE,
        pattern="figures/trajectory.{pair}.png",
        title="Trajectory: the change during tuning",
        caption=(
            "The change after several steps of the tuning: L2 norm, share of the squared change "
            "divided by share of the weights, and cosine with the final change. Lines are means "
            "over layers and seeds; bands are the range of the seeds."
        ),
        source="trajectory of {pair}, a file for each seed",
        alt="Three panels of lines against the tuning step, one line for each projection.",
        rule="draw_trajectory",
    ),
    Exhibit(
        name="agreement",
        category=CHANGE,
        pattern="agreement.csv",
        title="Agreement of the rankings of the projections",
        caption=(
            "Kendall's W of the rankings of the seven projections by several raters (layers, "
            "seeds, pairs or tasks): 1 is full agreement, 0 is none. p is for the hypothesis of no "
            "agreement."
        ),
    ),
    Exhibit(
        name="ledger",
        category=COST,
        pattern="ledger.csv",
        title="The ledger: trained parameters of each module set",
        caption=(
            "Counted from the configuration of the base, with the rank of the recipe for every set "
            "(equal rank), and with the rank for which the number comes nearest to that of all "
            "seven (equal parameters). GET is the paper's strategy: gate_proj only. Shares are in "
            "percent."
        ),
        rule="ledger",
    ),
    Exhibit(
        name="step_times",
        category=COST,
        pattern="step_times.csv",
        title="Measured cost: time of a tuning step, size of optimizer state and adapter",
        caption=(
            "Measured on a small model with the base's architecture. The ratio compares with all "
            "seven modules in the same rounds and has its quartiles. It depends less on the "
            "machine than the milliseconds."
        ),
        rule="step_times",
    ),
    Exhibit(
        name="fig9",
        category=COST,
        pattern="figures/fig9_get{.pair}.png",
        title="Score against trained parameters",
        caption=(
            "Mean score of each tuned module set against its number of trained parameters. "
            "Whiskers are intervals over samples, and over seeds if there are several."
        ),
        source="the intervals of the tune tables, and ledger.csv",
        alt="Scatter plot of the tuned module sets: trained parameters and mean score.",
        paper="Fig. 9",
        rule="trade_off",
    ),
    Exhibit(
        name="neurons",
        category=CLOSER,
        pattern="figures/neurons.{base}.png",
        title="Neurons with the largest change",
        caption=(
            "Concentration of the change over the feed-forward neurons, and the number of moved "
            "neurons that two tunings share, compared with chance."
        ),
        source="neurons/{base}.parquet and the files of the same name",
        alt="Two panels: concentration of the change, and neurons shared by pairs of tunings.",
        rule="draw_neurons",
    ),
    Exhibit(
        name="activations",
        category=CLOSER,
        pattern="figures/activations.{tuned}.png",
        title="Activations of the moved neurons",
        caption=(
            "Difference of the gate's activations between emotional and neutral texts (Hedges' g), "
            "for the neurons that the tuning moved and for all others."
        ),
        source="activations/{tuned}.parquet and its summary",
        alt="Distributions of the shift for moved and other neurons, by task and model.",
        rule="draw_activations",
    ),
    Exhibit(
        name="directions",
        category=CLOSER,
        pattern="figures/directions.{pair_of_pairs}.png",
        title="Directions of the changes",
        caption=(
            "Cosine of the deltas of two tunings and overlap of their leading subspaces, by layer "
            "and projection: do the tunings change the same directions, or only the same matrices? "
            "Two LoRA adapters of one seed start from the same A, so their input subspaces overlap "
            "from the start. Compare with a control."
        ),
        source="directions of their base",
        alt="Heat maps of cosine and overlaps of {pair_of_pairs}, layers as rows, projections as "
        "columns.",
        rule="draw_directions",
    ),
)

PAPER = {
    "Table 1": "matrix.load is empty",
    "Table 2": "matrix.tune is empty",
    "Fig. 4": "no pair has deltas",
    "Fig. 5": "no pair with domain: control has the base, method and budget of an affective pair",
    "Fig. 6": "all affective pairs have the same architecture and method",
    "Fig. 7": "matrix.load has no single projection",
    "Fig. 8": "matrix.tune has no single projection",
    "Fig. 9": "matrix.tune is empty",
    "Fig. 10": "deltas.companions is false, or a base is missing",
}
"""The paper's tables and figures → why an experiment may not have one."""


def match_exhibits(files: Iterable[str]) -> list[ExhibitFile]:
    """The files below results that are exhibits, in the order of `EXHIBITS`, then by name."""
    names = sorted(files)
    return [
        ExhibitFile(exhibit, file, wildcards)
        for exhibit in EXHIBITS
        for file in names
        if (wildcards := exhibit.match(file)) is not None and not _companion(file)
    ]


def _companion(file: str) -> bool:
    """Whether a file has a table's intervals or baselines, which are shown with the table."""
    return file.endswith(("_intervals.csv", "_baselines.csv"))


def missing_exhibits(shown: Iterable[ExhibitFile]) -> dict[str, str]:
    """The paper's exhibits that are not shown → the reason."""
    present = {file.exhibit.paper for file in shown}
    return {name: why for name, why in PAPER.items() if name not in present}


def captions() -> dict[str, str]:
    """Rule → its caption for Snakemake's report, in reStructuredText.

    The caption of a rule with several kinds of exhibits depends on the wildcards.
    """
    ruled = sorted((one for one in EXHIBITS if one.rule), key=lambda one: one.rule)
    texts = {"claims": _CLAIMS, "report": _REPORT}
    for rule, group in groupby(ruled, key=lambda one: one.rule):
        texts[rule] = "".join(map(_caption, group))
    return {rule: f"{text.strip()}\n" for rule, text in texts.items()}


_CLAIMS = (
    "A verdict on each of the paper's claims, by rules that docs/explanation describes "
    "(claims.csv), and the agreement of the rankings of the seven projections "
    "(agreement.csv)."
)
_REPORT = "The whole experiment on one page: verdicts, tables, figures, data, parameters, time."


def _caption(exhibit: Exhibit) -> str:
    text = f"{exhibit.title}. {exhibit.caption}"
    return f"{{% if {exhibit.when} %}}{text}{{% endif %}}\n" if exhibit.when else f"{text}\n"


def report_arguments(rule: str, **labels: str) -> dict[str, object]:
    """The arguments of Snakemake's `report()` for an output of a rule.

    Args:
        labels: columns of the list of results; they may contain wildcards in braces.
    """
    return {
        # Relative to the file of the rule.
        "caption": f"../workflow/report/{rule}.rst",
        "category": next((one.category for one in EXHIBITS if one.rule == rule), VERDICTS),
        "labels": labels,
    }
