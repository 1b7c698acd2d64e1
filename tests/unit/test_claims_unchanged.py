"""The verdicts on the paper's claims, as they were when each claim was a function of its own.

golden_claims.csv was written by that code (commit e69aed6), from the evidence below. New columns
may be added; no number and no sentence of these may change without a reason.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from test_claims import answered, deltas, histogram, skilled

from affectlocus.claims.claims import judge_evidence
from affectlocus.claims.evidence import bootstrap_scores
from affectlocus.claims.loci import gather_loci
from affectlocus.claims.pair_facts import PairFacts
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.claims.statistics import TextLikelihoods
from affectlocus.claims.verdict_rows import verdict_table
from affectlocus.config.matrix import COMBINATIONS, SINGLES
from affectlocus.core.cells import Cell

GOLDEN = Path(__file__).with_name("golden_claims.csv")
SEEDS = range(4)
FACTS: dict[str, PairFacts] = {
    **{
        f"{name}.seed{seed}": PairFacts(
            domain=domain, base="b", method="lora", family="qwen", budget=budget, group=name,
            seed=seed, own_base=True,
        )
        for name, domain, budget in (
            ("felt", "affective", "same"), ("about", "control", "same"),
            ("null", "null", ""), ("sums", "control", ""),
        )
        for seed in SEEDS
    },
    "whole": PairFacts(base="l", method="sft", family="llama"),
    "brought": PairFacts(base="m", family="mistral"),
}  # fmt: skip


def cells(pair: str, *, singles: bool) -> list[Cell]:
    """The cells of a pair in each seed: all kinds, or loads of single modules alone."""
    found = []
    for seed in SEEDS:
        name = f"{pair}.seed{seed}"
        sets = SINGLES if singles else [*SINGLES, *COMBINATIONS]
        kinds = ("load",) if singles else ("load", "tune")
        found += [Cell("base", "b", seed=seed), Cell("tuned", "b", name, seed=seed)]
        found += [Cell(kind, "b", name, one, seed=seed) for kind in kinds for one in sets]  # type: ignore[arg-type]
        if not singles:
            found += [
                Cell("ablate", "b", name, one, mode, seed)
                for one in SINGLES
                for mode in ("revert", "zero", "noise")
            ]
    return list(dict.fromkeys(found))


def texts(wanted: list[Cell]) -> dict[str, TextLikelihoods]:
    """General text on which a loaded gate is two per cent worse."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(50, 100, 40).astype(float)
    worse = np.array([0.02 * (cell.modules == "gate" and cell.kind == "load") for cell in wanted])
    nll = tokens * (rng.normal(3, 0.1, 40) + worse[:, None] + rng.normal(0, 0.02, (len(wanted), 1)))
    return {"text": TextLikelihoods(np.arange(40), nll, tokens)}


def settings() -> ClaimsSettings:
    return ClaimsSettings(draws=200, pairs=FACTS)


def table() -> pd.DataFrame:
    """The verdicts on synthetic evidence with replicates, controls, nulls and single pairs."""
    wanted = settings()
    first = [*cells("felt", singles=False), *cells("null", singles=True)]
    first = list(dict.fromkeys(first))
    second = cells("about", singles=True)
    luck = np.random.default_rng(5)

    def right(cell: Cell) -> float:
        share = skilled(cell, "gate") if "felt" in str(cell.pair) else 0.5
        return float(np.clip(share + 0.04 * luck.standard_normal(), 0.05, 0.95))

    scores = [
        bootstrap_scores(first, answered(first, right, 60, 1), texts(first), wanted),
        bootstrap_scores(second, answered(second, right, 60, 2, tasks=2), {}, wanted),
    ]
    tables = {f"felt.seed{n}": deltas("gate", 3, n, up=1.9) for n in SEEDS}
    tables |= {f"sums.seed{n}": deltas("up", 3, 10 + n) for n in SEEDS}
    tables |= {f"about.seed{n}": deltas("gate", 3, 20 + n, up=1.99) for n in SEEDS}
    tables |= {"whole": deltas("up", 12, 30), "brought": deltas("gate", 5, 31)}
    histograms = {f"felt.seed{n}": histogram(layers=3, shift=0.1 + 0.05 * n) for n in SEEDS}
    loci = gather_loci(tables, histograms, wanted)
    return verdict_table(judge_evidence(scores, loci, wanted), 0.95)


def test_the_verdicts_on_the_papers_claims_have_not_changed(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "claims.csv", index=False, float_format="%.6g")
    found = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False)
    expected = pd.read_csv(GOLDEN, keep_default_na=False)
    assert list(found.columns[: len(expected.columns)]) == list(expected.columns)
    assert len(expected) > 90
    pd.testing.assert_frame_equal(found[expected.columns], expected, rtol=1e-5)
