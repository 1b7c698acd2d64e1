"""Verdicts on planted effects, on nulls and on the paper's tables, and untestable claims."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from refusal import refused
from scipy.stats import binomtest, false_discovery_control, norm, ttest_1samp
from typer.testing import CliRunner

from affectlocus.checkpoints.pairs import Pair
from affectlocus.claims import paper
from affectlocus.claims.claims import findings_of, judge_evidence, judge_experiment
from affectlocus.claims.decisions import holm
from affectlocus.claims.delta_kinds import largest
from affectlocus.claims.evidence import bootstrap_scores, gather_scores
from affectlocus.claims.findings import ClaimFinding, Contrast
from affectlocus.claims.loci import gather_loci
from affectlocus.claims.pair_facts import PairFacts
from affectlocus.claims.paper import judge_paper
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.claims.statistics import LabelAnswers, TextLikelihoods
from affectlocus.claims.verdict import Verdict
from affectlocus.claims.verdict_rows import judge
from affectlocus.cli import app
from affectlocus.cli.shared import read_frame
from affectlocus.config.claims import PAPER, shipped
from affectlocus.config.matrix import COMBINATIONS, SINGLES
from affectlocus.core.cells import Cell
from affectlocus.core.projections import PROJECTIONS, parse_modules
from affectlocus.deltas.delta_tables import read_tuning_facts, write_tables
from affectlocus.deltas.deltas import deltas as measured_deltas
from affectlocus.evaluation.predictions import Predictions

WORDS = ["joy", "fear", "rage"]
MODES = ("revert", "zero")
SHARED = Path(__file__).parents[3] / "shared/paper"
PLAIN = ClaimsSettings()
FACTS = {
    "felt": PairFacts(base="b", method="lora", family="qwen", budget="same"),
    "sums": PairFacts(base="b", method="lora", family="qwen", budget="same", domain="control"),
}


MANY = tuple(range(6))


def cells(pair: str = "felt", seeds: tuple[int, ...] = (0,)) -> list[Cell]:
    """A matrix of one given pair; tune cells have these seeds."""
    sets = [*SINGLES, *COMBINATIONS]
    return [
        Cell("base", "b"),
        Cell("tuned", "b", pair),
        *(Cell("load", "b", pair, modules) for modules in sets),
        *(Cell("tune", "b", pair, modules, seed=seed) for modules in sets for seed in seeds),
        *(Cell("ablate", "b", pair, modules, mode) for modules in SINGLES for mode in MODES),
    ]


def tuned_here(seeds: tuple[int, ...]) -> list[Cell]:
    """A matrix of one pair with a recipe: every cell except the base has each seed."""
    sets = [*SINGLES, *COMBINATIONS]
    found = [Cell("base", "b")]
    for seed in seeds:
        found.append(Cell("tuned", "b", "felt", seed=seed))
        found += [
            Cell(kind, "b", "felt", name, seed=seed) for kind in ("load", "tune") for name in sets
        ]  # type: ignore[arg-type]
        found += [
            Cell("ablate", "b", "felt", name, mode, seed) for name in SINGLES for mode in MODES
        ]
    return found


def skilled(cell: Cell, carrier: str, low: float = 0.4, high: float = 0.85) -> float:
    """The share of correct answers if only one projection's change has an effect."""
    if cell.kind == "base":
        return low
    if cell.kind == "tuned":
        return high
    has = carrier in parse_modules(cell.modules).projections
    return high if has != (cell.kind == "ablate") else low


def answered(
    wanted: list[Cell], right: Any, n: int = 120, seed: int = 0, tasks: int = 3
) -> dict[str, LabelAnswers]:
    """Random answers of cells that are correct with the probability `right(cell)`."""
    rng = np.random.default_rng(seed)
    found = {}
    for task in range(tasks):
        truth = rng.integers(len(WORDS), size=n)
        wrong = (truth + rng.integers(1, len(WORDS), size=(len(wanted), n))) % len(WORDS)
        shares = np.array([right(cell) for cell in wanted])[:, None]
        given = np.where(rng.random((len(wanted), n)) < shares, truth, wrong)
        found[f"t{task}"] = LabelAnswers(np.arange(n) + 1000 * task, truth, given, len(WORDS))
    return found


def gate_answers(wanted: list[Cell]) -> dict[str, LabelAnswers]:
    """Answers of cells if only gate has an effect."""
    return answered(wanted, lambda cell: skilled(cell, "gate"))


def settings(**more: Any) -> ClaimsSettings:
    return ClaimsSettings(**({"draws": 1000, "pairs": FACTS} | more))


def deltas(largest: str = "gate", layers: int = 8, seed: int = 0, **more: float) -> pd.DataFrame:
    """Deltas as `deltas` writes them: noise around 1, the largest 2, others as given, by L2.

    gate, up and down are four times the others' size, so that RMS is L2 over 2.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for layer in range(layers):
        for name in PROJECTIONS:
            sides = (40, 10) if name in ("gate", "up", "down") else (10, 10)
            l2 = more.get(name, 2.0 if name == largest else 1.0) * rng.uniform(0.95, 1.05)
            numel = sides[0] * sides[1]
            rows.append(
                {"layer": layer, "projection": name, "parameter": "weight", "adapted": True}
                | {"shape": f"{sides[0]}x{sides[1]}", "l2": l2, "relative": l2 / 10}
                | {"rms": l2 / numel**0.5, "share_ratio": l2**2 / numel}
            )
            rows.append(rows[-1] | {"parameter": "bias", "adapted": False, "l2": 100.0})
    return pd.DataFrame(rows)


def histogram(wide: str = "gate", layers: int = 8, shift: float = 0.2) -> pd.DataFrame:
    """Triangular counts around 0, wider and shifted for one projection; and a row for zeros."""
    edges = np.linspace(-1, 1, 41)
    rows = []
    for layer in range(layers):
        for name in PROJECTIONS:
            width, center = (0.5, shift) if name == wide else (0.2, 0.0)
            middle = (edges[1:] + edges[:-1]) / 2
            counts = np.maximum(0, 1000 * (1 - abs(middle - center) / width)).round()
            part = {"layer": layer, "projection": name, "from": edges[:-1], "to": edges[1:]}
            rows.append(pd.DataFrame(part | {"count": counts}))
            rows.append(pd.DataFrame({"layer": [layer], "projection": [name], "count": [5]}))
    return pd.concat(rows, ignore_index=True)


def verdicts(
    answers: Any = None,
    tables: Any = None,
    histograms: Any = None,
    seeds: tuple[int, ...] = (0,),
    **more: Any,
) -> dict[str, pd.Series]:
    """claim, or (claim, by) for additional tests → its row."""
    wanted = settings(**more)
    tables = {"felt": deltas(), "sums": deltas("up", seed=1)} if tables is None else tables
    histograms = {"felt": histogram()} if histograms is None else histograms
    mine = cells(seeds=seeds)
    scores = [bootstrap_scores(mine, answers, {}, wanted)] if answers is not None else []
    measured = gather_loci(tables, histograms, wanted)
    rows = judge_evidence(scores, measured, wanted, "no answers of any cell")
    found = {}
    for row in rows:
        if row.level == "claim":
            found[row.claim if row.stated else (row.claim, row.by)] = row
    return found


# With another seed one of the three comparisons without a difference may be decided: that is the
# share of false verdicts that the correction allows.
GATED = answered(cells(seeds=MANY), lambda cell: skilled(cell, "gate"), seed=1, tasks=8)
PLANTED = verdicts(GATED, seeds=MANY)


@pytest.mark.parametrize("claim", ["C1", "C2", "C3", "C5", "C6", "C9", "C13"])
def test_a_planted_effect_of_gate_is_supported(claim: str) -> None:
    row = PLANTED[claim]
    assert row.verdict == "supported", row.why
    assert row.low < row.effect < row.high or row.effect == row.high == 1
    assert row.p <= row.p_bh < 0.05
    assert row.p_bh <= row.p_holm
    assert row.p_for < 0.025 < row.p_against
    assert row.posterior >= 1 - row.p_for


@pytest.mark.parametrize("claim", ["C7", "C10", "C11"])
def test_comparisons_without_a_planted_difference_are_not_decided_for_a_side(claim: str) -> None:
    row = PLANTED[claim]
    assert row.verdict in ("undecided", "equal")
    assert row.low < 0 < row.high


def test_a_planted_effect_of_up_contradicts_gate() -> None:
    answers = answered(cells(seeds=MANY), lambda cell: skilled(cell, "up"))
    found = verdicts(answers, {"felt": deltas("up")}, seeds=MANY)
    for claim in ("C1", "C5", "C6", "C9", "C12", "C13"):
        assert found[claim].verdict == "contradicted", claim
    assert "the best other, up" in found["C9"].why
    assert found["C5"].effect < -30
    assert found["C9"].why.endswith("; best: up")


def sided(rows: list[Verdict]) -> list[str]:
    """The claims of the paper that are supported or contradicted."""
    heads = [row for row in rows if row.level == "claim" and row.stated]
    return [row.claim for row in heads if row.verdict in ("supported", "contradicted")]


@pytest.mark.full
def test_a_null_is_not_decided_for_a_side_in_95_of_100_seeds() -> None:
    """No cell differs from another, so no claim on answers may be decided."""
    mine, quick = cells(), settings(draws=1000)
    decided = []
    for seed in range(100):
        scores = bootstrap_scores(mine, answered(mine, lambda _: 0.5, 40, seed, tasks=2), {}, quick)
        decided.append(sided(judge_evidence([scores], [], quick)))
    assert sum(map(bool, decided)) <= 5, decided
    # The same number of draws finds a planted difference.
    answers = answered(mine, lambda cell: skilled(cell, "gate"), 40, tasks=2)
    rows = judge_evidence([bootstrap_scores(mine, answers, {}, quick)], [], quick)
    assert "supported" in [row.verdict for row in rows if row.claim == "C5"]


@pytest.mark.full
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_null_with_random_tunings_is_not_decided_for_a_side_in_95_of_100_seeds(
    seeds: tuple[int, ...],
) -> None:
    """Tunings differ at random, by three points."""
    mine, quick = tuned_here(seeds), settings(draws=300)
    decided = []
    for seed in range(100):
        luck = np.random.default_rng([7, seed])

        def right(cell: Cell, luck: np.random.Generator = luck) -> float:
            return 0.5 + 0.03 * luck.standard_normal() * (cell.kind != "base")

        scores = bootstrap_scores(mine, answered(mine, right, 200, seed, tasks=2), {}, quick)
        decided.append(sided(judge_evidence([scores], [], quick)))
    assert sum(map(bool, decided)) <= 5, decided


def test_a_result_of_one_tuning_is_undecided_and_why_says_so() -> None:
    mine = tuned_here((0,))
    scores = bootstrap_scores(
        mine, answered(mine, lambda cell: skilled(cell, "gate")), {}, settings()
    )
    rows = {row.claim: row for row in judge_evidence([scores], [], PLAIN) if row.level == "claim"}
    for claim in ("C5", "C9", "C13"):
        assert rows[claim].verdict == "undecided"
        assert "one tuning alone, and another may give a different result" in rows[claim].why
        assert rows[claim].needed == 2


def test_mode_zero_is_an_additional_test() -> None:
    mine = cells()

    def right(cell: Cell) -> float:
        silenced = cell.mode == "zero" and cell.modules in ("gate", "up", "down")
        return 0.4 if silenced else skilled(cell, "gate")

    answers = answered(mine, right)
    for task in answers.values():
        same = [n for n, cell in enumerate(mine) if cell.mode == "zero" and right(cell) == 0.4]
        task.answers[same] = task.answers[same[0]]
    found = verdicts(answers)
    assert found["C13"].verdict == "supported", found["C13"].why
    beside = found["C13", found["C13"].by]
    assert (beside.verdict, beside.effect, beside.stated) == ("equal", 0.0, False)


@pytest.mark.full
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_a_null_of_three_seeds_of_one_base_is_undecided_in_95_of_100(noise: float) -> None:
    """gate and up are exchangeable; which one is larger in a layer is the same for all seeds."""
    layers = 12
    facts = {f"felt{seed}": PairFacts(base="b", group="felt", seed=seed) for seed in range(3)}
    decided = 0
    for draw in range(100):
        rng = np.random.default_rng([draw, layers])
        shared = rng.standard_normal((layers, 2))
        tables = {}
        for name in facts:
            table = deltas(layers=layers, seed=draw)
            lead = np.exp(0.1 * (shared + noise * rng.standard_normal((layers, 2))))
            for place, projection in enumerate(("gate", "up")):
                mine = (table["projection"] == projection) & (table["parameter"] == "weight")
                table.loc[mine, "l2"] = 2 * lead[:, place]
            tables[name] = table
        (one,) = gather_loci(tables, {}, settings(pairs=facts))
        (row,) = judge([largest(ClaimFinding("C1", "l2"), one, "gate", 0.95)], 0.95)
        decided += row.verdict in ("supported", "contradicted")
    assert decided <= 5


@pytest.mark.parametrize("lead", [0.0, 0.03, 0.1])
def test_three_layers_decide_with_six_bases_and_not_with_seeds_of_one(lead: float) -> None:
    outcomes = []
    for own_base in (True, False):
        facts = {
            f"felt{n}": PairFacts(base="b", group="felt", seed=n, own_base=own_base)
            for n in range(6)
        }
        tables = {}
        for n, name in enumerate(facts):
            rng = np.random.default_rng(n)
            table = deltas(layers=3, seed=n)
            for projection in ("gate", "up"):
                mine = (table["projection"] == projection) & (table["parameter"] == "weight")
                log = rng.normal(lead if projection == "gate" else 0, 0.02, 3)
                table.loc[mine, "l2"] = 2 * np.exp(log)
            tables[name] = table
        (one,) = gather_loci(tables, {}, settings(pairs=facts))
        (row,) = judge([largest(ClaimFinding("C1", "l2"), one, "gate", 0.95)], 0.95)
        assert (row.replicates, row.n, row.unit) == (6, 3, "log ratio")
        outcomes.append(row.verdict)
    expected = {0.0: "equal", 0.03: "supported", 0.1: "supported"}
    assert outcomes[0] == expected[lead]
    assert outcomes[1] in ("undecided", "supported")
    assert outcomes[1] == "undecided" or lead == 0.1


def test_an_effect_of_matrix_size_is_supported_by_l2_and_not_by_rms() -> None:
    even = deltas(gate=2.1, up=2.0, down=2.0, q=1.2, k=1.2, v=1.2, o=1.2)
    found = verdicts(tables={"felt": even})
    assert found["C1", "relative"].verdict == "inconclusive" or found["C1"].effect > 0.5
    assert found["C1", "rms"].verdict == "contradicted"
    assert found["C1", "share_ratio"].verdict == "contradicted"


@pytest.mark.parametrize(("layers", "verdict"), [(28, "supported"), (5, "undecided")])
def test_c1_of_one_pair_counts_layers_by_an_exact_binomial(layers: int, verdict: str) -> None:
    (row,) = (
        row
        for row in judge(
            [
                one
                for one in _locus({"felt": deltas(layers=layers)})
                if (one.claim, one.by) == ("C1", "l2")
            ],
            0.95,
        )
    )
    assert row.verdict == verdict
    test = binomtest(layers, layers)
    assert row.p == pytest.approx(test.pvalue)
    assert row.low == pytest.approx(test.proportion_ci().low)
    assert (row.n, row.replicates, row.effect, row.high) == (layers, 1, 1, 1)
    assert row.variance == "layers"
    assert "one pair, judged by its layers" in row.why
    assert ("the layer rule needs 6 layers or more" in row.why) == (layers == 5)


def _locus(tables: Any, histograms: Any = None, **more: Any) -> list[ClaimFinding]:
    wanted = settings(**more)
    loci = gather_loci(tables, histograms or {}, wanted)
    return findings_of(shipped(PAPER), [], loci, wanted, "none")


def test_pairs_of_one_group_are_replicates_of_one_contrast() -> None:
    facts = {
        f"felt{seed}": PairFacts(base="b", group="felt", seed=seed, family="llama", method="sft")
        for seed in (2, 0, 1)
    }
    tables = {name: deltas(layers=3, seed=fact.seed) for name, fact in facts.items()}
    rows = [one for one in _locus(tables, pairs=facts) if (one.claim, one.by) == ("C1", "l2")]
    assert [(one.pair, one.n) for one in rows] == [("felt", 3)]
    ((contrast,),) = (one.contrasts for one in rows)
    sizes = {
        name: table[table["parameter"] == "weight"].pivot(
            index="layer", columns="projection", values="l2"
        )
        for name, table in tables.items()
    }
    logs = [
        np.log(sizes[name]["gate"] / sizes[name].drop(columns="gate").max(axis=1)).mean()
        for name in ("felt0", "felt1", "felt2")
    ]
    assert contrast.values == pytest.approx(logs)
    assert "gate_proj has the largest l2 in 3 of 3 layers on average" in rows[0].why


def test_cells_of_seeds_of_pairs_are_drawn_as_seeds() -> None:
    facts = {name: PairFacts(base="b", group="felt", seed=n) for n, name in enumerate("xyz")}
    mine = [Cell("base", "b"), *(Cell("load", "b", name, "gate") for name in facts)]
    mine += [Cell("ablate", "b", name, "gate", "noise", s) for name in facts for s in (0, 1)]
    scores = bootstrap_scores(mine, answered(mine, lambda _: 0.5), {}, settings(pairs=facts))
    assert scores.replicates == {
        ("felt", "base", "", ""): (None,),
        ("felt", "load", "gate", ""): (0, 1, 2),
        ("felt", "ablate", "gate", "noise"): (0, 1, 2),
    }
    key = ("felt", "ablate", "gate", "noise")
    assert scores.cells[key][:2] == ["x/ablate/gate/noise/seed0", "x/ablate/gate/noise/seed1"]
    expected = np.mean([scores.cell_scores[name].mean() for name in scores.cells[key]])
    assert scores.mean(key) == pytest.approx(expected)
    assert scores.by_task([key, ("felt", "base", "", "")]).shape[2] == 3


def test_bases_with_seeds_of_their_own_belong_to_the_replicates_of_these_seeds() -> None:
    seeds = (0, 1, 2)
    mine = [Cell("base", "b", seed=seed) for seed in seeds]
    mine += [Cell("load", "b", "felt", name, seed=seed) for seed in seeds for name in SINGLES]
    scores = bootstrap_scores(mine, answered(mine, lambda _: 0.5), {}, settings())
    base, gate = ("felt", "base", "", ""), ("felt", "load", "gate", "")
    assert scores.replicates[base] == scores.replicates[gate] == seeds
    both = scores.by_task([gate, base])[:, 0].mean(axis=-1)
    for place, seed in enumerate(seeds):
        for row, name in enumerate(("felt/load/gate", "b/base")):
            expected = scores.cell_scores[f"{name}/seed{seed}"].mean()
            assert both[row, place] == pytest.approx(expected)


def test_groups_without_a_common_seed_are_untestable() -> None:
    mine = [Cell("base", "b"), Cell("tune", "b", "felt", "q+k+v+o", seed=0)]
    mine += [Cell("tune", "b", "felt", "q+k+v+o+down", seed=seed) for seed in (1, 2)]
    scores = bootstrap_scores(mine, answered(mine, lambda _: 0.5), {}, settings())
    row = next(row for row in judge_evidence([scores], [], PLAIN) if row.claim == "C10")
    assert row.verdict == "untestable"
    assert row.why == "tune q+k+v+o, tune q+k+v+o+down have no seed in common"


def brought(draws: int) -> list[Cell]:
    """A given pair's ablations of every projection by noise, with base and tuned model."""
    ones = [Cell("base", "b"), Cell("tuned", "b", "felt"), Cell("load", "b", "felt", "gate")]
    return ones + [
        Cell("ablate", "b", "felt", name, "noise", draw=draw)
        for name in SINGLES
        for draw in range(draws)
    ]


def noisy(cell: Cell) -> float:
    return 0.2 if (cell.kind, cell.modules) == ("ablate", "gate") else 0.8


@pytest.mark.parametrize("draws", [1, 5])
def test_random_draws_on_one_checkpoint_are_replicates_and_one_is_undecided(draws: int) -> None:
    mine = brought(draws)
    scores = bootstrap_scores(mine, answered(mine, noisy), {}, settings())
    key = ("felt", "ablate", "gate", "noise")
    assert scores.replicates[key] == tuple(("draw", n) for n in range(draws))
    assert scores.replicates["felt", "tuned", "", ""] == (None,)
    (row,) = (
        one
        for one in judge_evidence([scores], [], PLAIN)
        if (one.claim, one.part, one.level) == ("C13", "noise", "claim")
    )
    assert row.replicates == draws
    if draws == 1:
        assert row.verdict == "undecided"
        assert "one draw alone" in row.why
        assert "one draw, so the interval is only over samples" in row.why
        assert "matrix.draws" in row.why
    else:
        assert row.verdict == "supported"
        assert "the interval is over samples and 5 draws" in row.why
        assert row.high - row.low < 60


def test_with_one_seed_why_says_that_the_interval_is_only_over_samples() -> None:
    one = cells()
    several = cells(seeds=(0, 1, 2))
    for mine, seeds in ((one, 1), (several, 3)):
        scores = bootstrap_scores(
            mine, answered(mine, lambda cell: skilled(cell, "gate")), {}, settings()
        )
        row = next(row for row in judge_evidence([scores], [], PLAIN) if row.claim == "C9")
        assert row.replicates == seeds
        assert ("one seed" in row.why) == (seeds == 1)
        assert math.isnan(row.mcnemar_p) == (seeds > 1)
        assert row.cohens_h > 0.5


def test_c2_needs_a_wide_and_shifted_distribution_too() -> None:
    centred = verdicts(histograms={"felt": histogram(shift=0.0)})
    assert centred["C2"].verdict == "contradicted"
    assert "median farthest from 0" in centred["C2"].why
    narrow = verdicts(histograms={"felt": histogram("up")})
    assert narrow["C2"].verdict == "contradicted"
    assert verdicts(histograms={})["C2"].verdict == "untestable"


def test_c3_is_contradicted_if_the_control_changes_gate_too() -> None:
    found = verdicts(tables={"felt": deltas(), "sums": deltas("gate", seed=1)})
    assert found["C3"].verdict == "contradicted"
    same = found["C3", "gate/up, log"]
    assert same.verdict == "undecided"
    assert abs(same.effect) < 0.1


def test_the_contrast_of_domains_is_a_paired_t_test_without_matrix_sizes() -> None:
    felt, sums = deltas(), deltas("up", seed=1)
    start = verdicts(tables={"felt": felt, "sums": sums})["C3", "gate/up, log"]
    bigger = [
        frame.assign(l2=frame["l2"] * np.where(frame["projection"] == "gate", 50.0, 1.0))
        for frame in (felt, sums)
    ]
    again = verdicts(tables={"felt": bigger[0], "sums": bigger[1]})["C3", "gate/up, log"]
    assert start.effect == pytest.approx(again.effect)
    leads = []
    for frame in (felt, sums):
        wide = frame[frame["parameter"] == "weight"].pivot(
            index="layer", columns="projection", values="l2"
        )
        leads.append(np.log(wide["gate"] / wide["up"]))
    assert start.p == pytest.approx(ttest_1samp(leads[0] - leads[1], 0).pvalue)
    assert start.verdict == "supported"


def test_a_control_needs_the_same_budget() -> None:
    other = FACTS | {"sums": FACTS["sums"].model_copy(update={"budget": "more"})}
    row = verdicts(pairs=other)["C3"]
    assert row.verdict == "untestable"
    assert "same base, method and budget" in (row.why)
    unknown = FACTS | {"sums": FACTS["sums"].model_copy(update={"budget": ""})}
    row = verdicts(pairs=unknown)["C3"]
    assert row.verdict == "supported"
    assert "not known" in row.why


def test_c4_needs_both_methods_and_all_three_families() -> None:
    facts, tables = {}, {}
    for method in ("lora", "sft"):
        for family in ("qwen", "llama", "mistral"):
            name = f"{family}-{method}"
            facts[name] = PairFacts(base=family, method=method, family=family)
            tables[name] = deltas(layers=12)
    whole = verdicts(tables=tables, histograms={}, pairs=facts)
    assert whole["C4"].verdict == "supported"
    less = {name: table for name, table in tables.items() if "mistral" not in name}
    assert verdicts(tables=less, histograms={}, pairs=facts)["C4"].verdict == "untestable"
    tables["llama-sft"] = deltas("up", layers=12)
    against = verdicts(tables=tables, histograms={}, pairs=facts)
    assert against["C4"].verdict == against["C1"].verdict == "contradicted"
    assert "llama-sft" in against["C4"].why


@pytest.mark.parametrize(
    ("architecture", "family"), [("qwen2", "qwen"), ("llama", "llama"), ("mistral", "mistral")]
)
def test_method_and_family_of_a_given_adapter_are_read_from_its_files(
    checkpoint: Any, lora: Any, tmp_path: Path, architecture: str, family: str
) -> None:
    base = checkpoint(architecture)
    # Names that contradict the files.
    folder = tmp_path / ("full-llama" if family != "llama" else "full-qwen")
    shutil.copytree(base, folder)
    modules = ["q", "k", "v", "o", "gate", "up", "down"]
    adapter = lora(base, [f"{name}_proj" for name in modules], r=2)
    out = tmp_path / "brought.parquet"
    write_tables(measured_deltas(Pair(folder, adapter, any_base=True)), out)
    tables, tunings = {"brought": read_frame(out, "l2")}, {"brought": read_tuning_facts(out)}
    rows = judge_evidence([], gather_loci(tables, {}, PLAIN, tunings), PLAIN, "none")
    c4 = {row.part: row for row in rows if row.claim == "C4" and row.by == "l2" and row.part}
    judged_as = {part for part, row in c4.items() if row.verdict != "untestable"}
    assert judged_as == {"lora", family}
    assert c4["sft"].why == "no affective pair with all weights tuned"


def test_a_given_model_has_a_family_and_no_method(
    checkpoint: Any, twin: Any, tmp_path: Path
) -> None:
    base = checkpoint("mistral")
    out = tmp_path / "brought.parquet"
    write_tables(measured_deltas(Pair(base, twin(base))), out)
    tables, tunings = {"brought": read_frame(out, "l2")}, {"brought": read_tuning_facts(out)}
    (one,) = gather_loci(tables, {}, PLAIN, tunings)
    assert (one.facts.method, one.facts.family) == ("", "mistral")
    rows = judge_evidence([], [one], PLAIN, "none")
    c4 = {row.part: row.why for row in rows if row.claim == "C4" and row.by == "l2"}
    for part in ("lora", "sft"):
        assert "the method of brought is unknown" in c4[part]
    # The settings take precedence.
    told = ClaimsSettings(pairs={"brought": PairFacts(method="sft")})
    (one,) = gather_loci(tables, {}, told, tunings)
    assert (one.facts.method, one.facts.family) == ("sft", "mistral")


def test_a_projection_that_was_not_adapted_is_never_ranked() -> None:
    table = deltas()
    table.loc[table["projection"] == "k", ["adapted", "l2"]] = [False, math.nan]
    row = verdicts(tables={"felt": table})["C1"]
    assert row.verdict == "untestable"
    assert "k of felt not adapted" in row.why


def test_an_untestable_pair_is_skipped_where_others_are_tested() -> None:
    table = deltas()
    table.loc[table["projection"] == "gate", "adapted"] = False
    facts = FACTS | {"other": PairFacts(base="c")}
    row = verdicts(tables={"felt": deltas(), "other": table}, pairs=facts)["C1"]
    assert row.verdict == "supported"
    assert "1 of 2 untestable" in row.why


def test_missing_cells_are_named() -> None:
    mine = [cell for cell in cells() if cell.kind != "tune" and cell.modules != "o+gate"]
    scores = bootstrap_scores(mine, answered(mine, lambda _: 0.5), {}, settings())
    rows = {row.claim: row for row in judge_evidence([scores], [], PLAIN) if row.level == "claim"}
    assert {claim for claim, row in rows.items() if row.verdict == "untestable"} == {
        *("C1", "C2", "C3", "C4", "C8", "C9", "C10", "C11", "C12", "C14")
    }
    assert rows["C8"].why == "not run: add o+gate to matrix.load"
    assert rows["C10"].why == "not run: add q+k+v+o, q+k+v+o+down to matrix.tune"
    assert rows["C14"].why == "no fluency was measured: no task of general text"


def test_cells_that_answer_one_label_throughout_have_nothing_to_compare() -> None:
    answers = gate_answers(cells())
    mute = {cell.modules for cell in cells() if cell.kind == "load" and cell.modules in SINGLES}
    for one in answers.values():
        for row, cell in zip(one.answers, cells(), strict=True):
            if cell.kind == "load" and cell.modules in mute:
                row[:] = 0
    found = verdicts(answers)
    assert found["C5"].verdict == "untestable"
    assert found["C5"].why.startswith("nothing to locate: load gate, load q")
    assert found["C6"].verdict != "untestable"  # attention with gate has several answers


def test_without_a_matrix_only_locus_claims_are_tested() -> None:
    found = verdicts()
    assert found["C1"].verdict == "supported"
    assert all(found[f"C{n}"].verdict == "untestable" for n in range(5, 15))


def test_c12_is_undecided_without_a_gain() -> None:
    seeds = (0, 1, 2)
    row = verdicts(answered(cells(seeds=seeds), lambda _: 0.5), seeds=seeds)["C12"]
    assert row.verdict == "undecided"
    assert "all seven - base is not above 0, which the claim requires" in row.why


def test_the_score_of_the_base_does_not_count_as_kept_gain() -> None:
    def right(cell: Cell) -> float:
        if cell.kind != "tune":
            return 0.80 if cell.kind == "base" else 0.9
        return 0.99 if cell.modules == "all" else 0.81

    mine = cells(seeds=MANY)
    found = verdicts(answered(mine, right, n=1500), seeds=MANY)
    share = re.search(r"gate keeps ([\d.]+)%", found["C12"].why)
    kept = re.search(r"gate keeps ([-\d.]+)% of the gain", found["C12", "gain kept"].why)
    assert share and float(share[1]) > 80
    assert kept and float(kept[1]) < 30
    assert found["C12", "gain kept"].verdict == "contradicted"


def test_c12_names_gates_share_of_the_parameters() -> None:
    # Three matrices of 40 by 10 and four of 10 by 10; LoRA of one rank, and all parameters.
    assert "21.74% of LoRA parameters and 25.00% of all parameters" in PLANTED["C12"].why


@pytest.mark.parametrize(
    ("more", "verdict"), [(0.0, "supported"), (0.2, "contradicted"), (0.05, "undecided")]
)
def test_fluency_is_unchanged_within_five_per_cent(more: float, verdict: str) -> None:
    mine = cells()
    rng = np.random.default_rng(0)
    tokens = rng.integers(50, 100, 40).astype(float)
    nll = tokens * rng.normal(3, 0.1, 40)
    gate = nll + tokens * (more + rng.normal(0, 0.02, 40))
    loaded = [cell.kind == "load" and cell.modules == "gate" for cell in mine]
    texts = {
        "text": TextLikelihoods(
            np.arange(40), np.where(np.array(loaded)[:, None], gate, nll), tokens
        )
    }
    scores = bootstrap_scores(mine, answered(mine, lambda _: 0.5, 30), texts, settings())
    row = next(row for row in judge_evidence([scores], [], PLAIN) if row.claim == "C14")
    assert row.verdict == verdict, row.why
    log_ratio = (gate - nll).sum() / tokens.sum()
    assert row.effect == pytest.approx(math.log(1.05) - log_ratio)
    assert f"{math.exp(log_ratio):.4f} times" in row.why
    assert row.n == 40


def test_the_most_stable_has_the_best_mean_rank_over_tasks() -> None:
    row = PLANTED["C5"]
    scores = bootstrap_scores(cells(seeds=MANY), GATED, {}, settings())
    steady = next(
        r for r in judge_evidence([scores], [], PLAIN) if (r.claim, r.part) == ("C5", "steadiest")
    )
    assert row.verdict == steady.verdict == "supported"
    loaded = np.array(
        [scores.cell_scores[f"felt/load/{name}"] for name in PROJECTIONS]
    )  # (7, tasks)
    ranks = pd.DataFrame(-loaded, index=PROJECTIONS).rank().mean(axis=1)
    assert ranks["gate"] == 1
    assert steady.effect == pytest.approx(ranks.drop("gate").min() - 1)
    assert "gate 1.00, the best other" in steady.why


def test_destruction_counts_what_the_tuned_model_loses() -> None:
    scores = bootstrap_scores(cells(seeds=MANY), GATED, {}, settings())
    row = next(
        r for r in judge_evidence([scores], [], PLAIN) if (r.claim, r.part) == ("C13", "zero")
    )
    left = {name: scores.cell_scores[f"felt/ablate/{name}/zero"].mean() for name in PROJECTIONS}
    assert row.effect == pytest.approx(
        min(v for n, v in left.items() if n != "gate") - left["gate"]
    )
    assert row.cohens_h > 0.5


def test_contrasts_are_differences_of_the_cells_scores() -> None:
    mine = cells(seeds=MANY)
    scores = bootstrap_scores(mine, GATED, {}, settings())
    rows = judge_evidence([scores], [], PLAIN)
    row = next(row for row in rows if row.claim == "C6" and row.part == "above q+k+v+o")
    first, second = (
        scores.cell_scores[f"felt/load/{name}"] for name in ("q+k+v+o+gate", "q+k+v+o")
    )
    assert row.effect == pytest.approx((first - second).mean())
    assert row.n == 960
    assert row.basis.endswith("cells felt/load/q+k+v+o+gate, felt/load/q+k+v+o")
    tuned = next(row for row in rows if row.claim == "C10")
    cells_of = "cells felt/tune/q+k+v+o, felt/tune/q+k+v+o+down, each of seed0, seed1, seed2"
    assert cells_of in tuned.basis


def finding(claim: str, z: float, part: str = "", **more: Any) -> ClaimFinding:
    """A statement on one checkpoint whose effect is z standard errors of its samples."""
    contrast = Contrast(part or claim, np.array([z]), 1.0, "points", more.pop("margin", math.nan))
    return ClaimFinding(claim, "f1", "p", part, contrasts=(contrast,), **more)


def test_the_stated_claims_are_one_family_whatever_their_measure() -> None:
    z = {"C6": 2.5, "C7": 2.2, "C10": 0.3}
    stated = [finding(claim, value) for claim, value in z.items()]
    stated[1] = replace(stated[1], by="other")
    beside = [replace(one, stated=False) for one in stated[:1]]
    rows = judge([*stated, *beside, ClaimFinding("C8", "f1", missing="no cell")], 0.95)
    own = np.array([2 * norm.sf(value) for value in z.values()])
    found = {(row.claim, row.stated): row for row in rows}
    for place, claim in enumerate(z):
        row = found[claim, True]
        assert row.p == pytest.approx(own[place])
        assert row.p_bh == pytest.approx(false_discovery_control(own)[place])
        assert row.p_holm == pytest.approx(holm(own)[place])
    assert found["C6", False].p_bh == pytest.approx(own[0])
    assert found["C8", True].verdict == "untestable"
    assert [found[claim, True].verdict for claim in z] == ["supported", "supported", "undecided"]


def test_support_needs_every_contrast_and_contradiction_one_after_bonferroni() -> None:
    parts = [finding("C6", z, part) for z, part in ((4.0, "a"), (2.5, "b"), (3.0, "c"))]
    whole = judge(parts, 0.95)[0]
    assert whole.p_for == pytest.approx(norm.sf(2.5))
    assert whole.p == pytest.approx(2 * norm.sf(2.5))
    assert (whole.verdict, whole.contrast, whole.effect) == ("supported", "b", 2.5)
    against = judge([*parts[:2], finding("C6", -3.0, "c")], 0.95)[0]
    assert against.p_against == pytest.approx(3 * norm.sf(3.0))
    assert (against.verdict, against.contrast) == ("contradicted", "c")


def test_a_difference_is_equal_if_both_one_sided_tests_of_the_margin_are_significant() -> None:
    for margin, verdict in ((3.0, "equal"), (1.5, "undecided")):
        row = judge([finding("C7", 0.5, margin=margin)], 0.95)[0]
        assert row.verdict == verdict
        assert row.p_equal == pytest.approx(norm.sf(margin - 0.5))
    # The closest of several rivals counts; those far below do not matter.
    rivals = [finding("C6", z, part, margin=3.0) for z, part in ((0.2, "near"), (40.0, "far"))]
    row = judge(rivals, 0.95)[0]
    assert row.p_equal == pytest.approx(max(norm.sf(3.2), 2 * norm.sf(2.8)))
    assert (row.verdict, row.contrast) == ("equal", "near")


def test_a_missing_part_is_untestable_unless_another_part_contradicts() -> None:
    lacking = ClaimFinding("C8", "f1", "p", "loaded", missing="no cell")
    assert judge([finding("C8", 5.0, "tuned"), lacking], 0.95)[0].verdict == "untestable"
    against = judge([finding("C8", -5.0, "tuned", why="why"), lacking], 0.95)[0]
    assert (against.verdict, against.why) == (
        "contradicted",
        "1 of 2 contradicted, 1 of 2 untestable; why",
    )
    other = replace(lacking, pair="other")
    assert judge([finding("C8", 5.0, "tuned"), other], 0.95)[0].verdict == "supported"


def test_a_claims_row_comes_before_its_details() -> None:
    rows = judge([*(finding("C6", 4.0, part) for part in "abc"), finding("C7", 4.0)], 0.95)
    assert [(row.claim, row.level, row.part) for row in rows] == [
        ("C6", "claim", ""),
        *(("C6", "detail", part) for part in "abc"),
        ("C7", "claim", ""),
    ]
    assert rows[0].effect == 4.0
    assert rows[0].why.startswith("3 of 3 supported")


def test_an_undecided_claim_says_how_many_replicates_would_decide_it() -> None:
    values = np.array([4.0, -2.0, 3.0])
    contrast = Contrast("a - b", values, 0.0, "points")
    row = judge([ClaimFinding("C7", "f1", "p", contrasts=(contrast,), why="w")], 0.95)[0]
    assert row.verdict == "undecided"
    assert row.sd == pytest.approx(values.std(ddof=1))
    assert row.why == f"w; {int(row.needed) - 3} more replicates would probably decide it"
    # The power of a t test with that number, by simulation.
    rng = np.random.default_rng(0)
    drawn = rng.normal(values.mean(), values.std(ddof=1), (4000, int(row.needed)))
    assert np.mean(ttest_1samp(drawn, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.05)
    few = Contrast("a - b", values, 9.0, "points")
    row = judge([ClaimFinding("C7", "f1", "p", contrasts=(few,))], 0.95)[0]
    assert math.isinf(row.needed)
    assert "more replicates would not decide it: more test samples may" in row.why


def test_the_papers_own_tables_by_the_same_rules() -> None:
    rows, flags = judge_paper()
    found = rows[rows["level"] == "claim"].set_index("claim")["verdict"].to_dict()
    assert list(found) == [f"C{n}" for n in range(1, 15)]
    assert {claim for claim, verdict in found.items() if verdict == "untestable"} == {
        *("C1", "C2", "C3", "C4", "C5", "C8", "C9", "C12", "C13", "C14")
    }
    assert {found[claim] for claim in ("C6", "C7", "C10", "C11")} == {"supported (as printed)"}
    effects = rows[rows["level"] == "claim"].set_index("claim")["effect"]
    assert effects["C10"] == pytest.approx(9.19)
    assert effects["C7"] == pytest.approx(8.05, abs=0.005)
    assert rows[["low", "high", "p"]].isna().all(axis=None)
    assert flags == ["Table 1 row 2 prints the mean 63.75, but the mean of its cells is 63.74"]
    down = rows[rows["part"] == "above q+k+v+o+down"].iloc[0]
    assert flags[0] in down["why"]
    o_gate = rows[(rows["claim"] == "C8")].iloc[0]
    assert "its two tables have no row load o+gate" in o_gate["why"]


def test_the_quoted_numbers_are_the_papers() -> None:
    if not SHARED.is_dir():
        pytest.skip("the paper's tables are not in the folder shared")
    for arm, name in (("load", "table1_load"), ("tune", "table2_tune")):
        rows = list(csv.reader((SHARED / f"{name}.csv").open(encoding="utf-8")))[1:]
        scores, means = paper.printed(arm)
        assert [row[1] for row in rows] == ["base", *paper.module_sets()]
        expected = np.array([[float(word) for word in row[2:]] for row in rows])
        assert (np.column_stack([scores, means]) == expected).all()
    with (SHARED / "claims.csv").open(encoding="utf-8") as stream:
        kinds = [row["id"] for row in csv.DictReader(stream)]
    assert list(shipped(PAPER).claims) == list(kinds)


def predictions(cell: Cell, answers: dict[str, LabelAnswers], place: int) -> Predictions:
    """Log-likelihoods as `evaluate` writes them."""
    parts = []
    for name, task in answers.items():
        given = task.answers[place]
        likelihood = np.where(np.arange(len(WORDS)) == given[:, None], -1.0, -2.0)
        parts.append(
            pd.DataFrame(
                {
                    "task": name,
                    "sample": np.repeat([f"s{one}" for one in task.samples], len(WORDS)),
                    "label": np.repeat(np.array(WORDS)[task.truth], len(WORDS)),
                    "candidate": np.tile(WORDS, len(given)),
                    "loglik": likelihood.ravel(),
                    "tokens": 1,
                }
            )
        )
    rows = pd.concat(parts, ignore_index=True)
    return Predictions(cell, dict.fromkeys(answers, WORDS), rows)


def small() -> tuple[list[Predictions], list[Cell], dict[str, LabelAnswers]]:
    mine = cells()
    answers = answered(mine, lambda cell: skilled(cell, "gate"), n=30)
    frames = [predictions(cell, answers, place) for place, cell in enumerate(mine)]
    return frames, mine, answers


def test_the_order_of_rows_in_predictions_changes_nothing() -> None:
    frames, mine, answers = small()
    mixed = [
        replace(own, rows=own.rows.sample(frac=1, random_state=1).reset_index(drop=True))
        for own in frames
    ]
    (read,) = gather_scores(mixed, settings(draws=100))
    expected = bootstrap_scores(mine, answers, {}, settings(draws=100))
    for cell in mine:
        assert read.cell_scores[cell.id] == pytest.approx(expected.cell_scores[cell.id])
    assert read.n == 90


def test_texts_among_the_predictions_are_read_as_fluency() -> None:
    frames, *_ = small()
    with_text = []
    for frame in frames[:3]:
        text = {"task": "text", "sample": ["a", "b"], "loglik": [-6.0, -30.0], "tokens": [2, 10]}
        rows = pd.concat([frame.rows, pd.DataFrame(text)], ignore_index=True)
        with_text.append(replace(frame, rows=rows, labels=frame.labels | {"text": []}))
    (read,) = gather_scores(with_text, settings(draws=100))
    assert read.fluency is not None
    assert read.mean(("felt", "base", "", ""), read.fluency) == pytest.approx(3)
    assert read.texts == 2


def test_an_experiment_without_labels_is_untestable_not_an_error() -> None:
    rows = pd.DataFrame({"task": "text", "sample": ["a"], "loglik": [-6.0], "tokens": [2]})
    texts = Predictions(Cell("base", "b"), {"text": []}, rows)
    table, _ = judge_experiment([texts], {"felt": deltas()}, {}, settings())
    rows = table.set_index("claim")
    assert rows.loc["C9", "why"] == "no task with labels among the predictions"
    assert set(rows.loc[["C5", "C9", "C14"], "verdict"]) == {"untestable"}


def test_a_control_with_other_tasks_is_an_additional_test() -> None:
    frames, mine, answers = small()
    other = [replace(cell, pair="about") for cell in mine if cell.kind in ("tuned", "load")]
    places = [place for place, cell in enumerate(mine) if cell.kind in ("tuned", "load")]
    base = mine[0].base

    def about_plots(cell: Cell, place: int) -> Predictions:
        own = predictions(cell, answers, place)
        rows = own.rows.assign(task="plot of " + own.rows["task"])
        return Predictions(cell, {f"plot of {task}": WORDS for task in own.labels}, rows)

    plots = about_plots(mine[0], 0)
    frames = [  # a base answers everything
        Predictions(
            own.cell,
            own.labels | plots.labels,
            pd.concat([own.rows, plots.rows], ignore_index=True),
        )
        if own.cell.kind == "base"
        else own
        for own in frames
    ]
    frames += [about_plots(cell, place) for cell, place in zip(other, places, strict=True)]
    facts = {"felt": PairFacts(base=base), "about": PairFacts(base=base, domain="control")}
    wanted = settings(draws=100, pairs=facts)
    felt, about = gather_scores(frames, wanted)
    assert (felt.matrices, about.matrices) == (["felt"], ["about"])
    assert about.draws.tasks == tuple(f"plot of {task}" for task in felt.draws.tasks)
    key = ("felt", "load", "gate", "")
    assert about.mean(("about", *key[1:])) == pytest.approx(felt.mean(key))
    rows = [row for row in judge_evidence([felt, about], [], wanted) if row.claim == "C5"]
    assert {(row.pair, row.stated) for row in rows if row.pair} == {
        ("felt", True),
        ("about", False),
    }


def test_cells_with_other_samples_are_refused() -> None:
    frames, *_ = small()
    frames[1].rows["sample"] = "x" + frames[1].rows["sample"]
    with refused("cell.other-samples", cell="felt/tuned", task="t0", other="b/base"):
        gather_scores(frames, settings())


def test_the_agreement_of_rankings_is_computed() -> None:
    frames, *_ = small()
    table, agreement = judge_experiment(
        frames, {"felt": deltas(), "sums": deltas("up", seed=1)}, {}, settings(draws=100)
    )
    assert set(agreement["over"]) == {"layers", "tasks"}
    row = agreement.set_index(["by", "of", "over"]).loc[("l2", "felt", "layers")]
    assert (row["raters"], row["items"]) == (8, 7)
    assert row["ranking"].startswith("best: gate; not separable: ")
    assert row["p"] < 0.05
    assert {"C1", "C14"} <= set(table["claim"])


def test_the_command_judges_files_and_writes_both_tables(tmp_path: Path) -> None:
    frames, mine, _ = small()
    paths = []
    for frame, cell in zip(frames, mine, strict=True):
        path = tmp_path / f"{cell.id.replace('/', '.')}.parquet"
        frame.write(path)
        paths.append(str(path))
    deltas().to_parquet(tmp_path / "felt.parquet", index=False)
    histogram().to_parquet(tmp_path / "felt.histogram.parquet", index=False)
    out, beside = tmp_path / "claims.csv", tmp_path / "agreement.csv"
    arguments = ["claims", *paths, "--delta", str(tmp_path / "felt.parquet")]
    arguments += ["--histogram", str(tmp_path / "felt.histogram.parquet")]
    arguments += ["--settings", '{"draws": 500}', "--out", str(out), "--agreement", str(beside)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    rows = pd.read_csv(out, keep_default_na=False)
    assert set(rows["claim"]) == set(shipped(PAPER).claims)
    assert rows[rows["claim"] == "C2"]["verdict"].iloc[0] == "supported"
    again = tmp_path / "again.csv"
    CliRunner().invoke(app, [*arguments[:-3], str(again)], catch_exceptions=False)
    assert again.read_bytes() == out.read_bytes()
    assert len(pd.read_csv(beside)) > 0


def test_the_command_on_the_paper_prints_a_table_or_one_object() -> None:
    shown = CliRunner().invoke(app, ["claims", "--on", "paper"], catch_exceptions=False).output
    assert "supported (as printed)" in shown
    assert "63.75" in shown
    done = CliRunner().invoke(app, ["claims", "--on", "paper", "--json"], catch_exceptions=False)
    content = json.loads(done.output)
    assert len(content["flags"]) == 1
    assert {row["claim"] for row in content["claims"]} == set(shipped(PAPER).claims)


@pytest.mark.parametrize(
    ("arguments", "code", "fields"),
    [
        (["--on", "tables"], "option.unknown-value", {"option": "--on", "found": "tables"}),
        (["--on", "paper", "--delta", "a.parquet"], "option.no-effect", {}),
        ([], "claim.nothing-to-judge", {}),
        (["--delta", "none.parquet"], "table.no-file", {"file": Path("none.parquet")}),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], code: str, fields: dict[str, Any]) -> None:
    with refused(code, **fields):
        CliRunner().invoke(app, ["claims", *arguments], catch_exceptions=False)
