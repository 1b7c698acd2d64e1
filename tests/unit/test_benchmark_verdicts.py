"""The simulation of verdicts: it uses the rules and the decisions of the claims themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/verdicts"))

import compare
from material import CELLS, COMPONENTS, claims, components, stacked
from repeated import RULES, repeated
from simulate import PROCEDURES, SCENARIOS, shifts, simulate

STATED = claims()
PARTS = components(pd.read_csv(COMPONENTS, keep_default_na=False))


def test_the_contrasts_are_those_of_the_rules() -> None:
    weights = {claim.name: claim.weights for claim in STATED}
    assert list(weights) == [f"C{number}" for number in range(5, 13)]
    (c7,) = weights["C7"]
    place = {CELLS[at]: value for at, value in enumerate(c7) if value}
    assert place == {("load", "q+k+v+o+gate"): 1.0, ("load", "q+k+v+o+gate+down"): -1.0}
    assert weights["C5"].shape == (6, len(CELLS))
    assert weights["C12"][0, CELLS.index(("tune", "all"))] == -0.966
    assert [claim.name for claim in STATED if not claim.moderate.all()] == ["C12"]


def test_scenarios_say_what_is_true_of_each_claim() -> None:
    weights, places = stacked(STATED)
    variance = np.ones(len(weights))
    for scenario in SCENARIOS:
        found = shifts(scenario, STATED, variance, 5, np.random.default_rng(0))
        for place in places:
            closest = found[:, place].min(axis=1)
            expected = {"rival": -1, "edge below": -1, "true": 1, "edge above": 1}
            assert (closest == expected.get(scenario.name, 0) * scenario.delta).all()


@pytest.mark.parametrize("noise", ["measured", "heteroscedastic", "heavy tails (t4)"])
def test_verdicts_are_rarely_false_and_find_more_than_the_old_procedure(noise: str) -> None:
    rows = list(simulate(PARTS, STATED, noise, 6, 200))
    names = list(PROCEDURES)
    for row in rows:
        if row.procedure == names[-1] and row.scenario in ("null", "boundary"):
            assert row.any_false <= 0.08, row  # 0.05, and the error of 200 draws
            assert row.fdr <= 0.05, row
        assert row.worst <= 0.11, row
    power = {
        name: np.mean([row.power for row in rows if row.procedure == name and row.delta == 5])
        for name in names
    }
    assert power[names[-1]] > power[names[0]] + 0.1
    right = [row.power for row in rows if row.procedure == names[-1] and row.delta == 10]
    assert min(right) > 0.6


@pytest.mark.full
def test_spending_keeps_the_error_of_repeated_looks_and_testing_at_every_look_does_not() -> None:
    rows = list(repeated(PARTS, STATED, 300))
    every, spent = RULES
    worst = {rule: max(row.worst for row in rows if row.rule == rule) for rule in RULES}
    assert worst[spent] <= 0.05 + 2.5 * (0.05 * 0.95 / 300) ** 0.5
    assert worst[every] > worst[spent]
    right = {row.scenario: row.right for row in rows if row.rule == spent and row.delta == 10}
    assert min(right.values()) > 0.8


def test_old_and_new_verdicts_are_compared_with_the_reason_of_each_change(tmp_path: Path) -> None:
    numbers = {"level": "claim", "stated": True, "unit": "points", "low": -9.0, "high": -2.0}
    old = pd.DataFrame(
        [
            numbers | {"claim": "C5", "verdict": "inconclusive", "effect": -5, "p": 0.2},
            numbers | {"claim": "C7", "verdict": "inconclusive", "effect": 1, "p": 0.9},
        ]
    )
    old["seeds"] = 3
    numbers |= {"replicates": 6, "margin": 3.0, "p_bh": 0.001}
    new = pd.DataFrame(
        [
            numbers
            | {"claim": "C5", "verdict": "contradicted", "effect": -6, "contrast": "gate - o"},
            numbers | {"claim": "C7", "verdict": "equal", "effect": -0.1},
        ]
    )
    paths = [tmp_path / "old.csv", tmp_path / "new.csv"]
    for frame, path in zip((old, new), paths, strict=True):
        frame.to_csv(path, index=False)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- compared -->\nold table\n<!-- end -->\nafter\n")
    compare.main(*paths, page)
    text = page.read_text()
    assert text.startswith("before\n<!-- compared -->\n| claim |")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old table" not in text
    assert (
        "| C5 | inconclusive | -5 (-9 to -2) points | contradicted | -6 (-9 to -2) points "
        "| gate - o | 6 | 3 → 6 replicates; corrected p 0.2 → 0.001 |"
    ) in text
    assert "the effect has the other sign; equality within 3 is tested |" in text
