"""Looks at a claim while replicates are added; the verdicts are those of the claims themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from refusal import refused

from affectlocus.claims.findings import ClaimFinding, Contrast
from affectlocus.claims.sequential import planned_looks
from affectlocus.claims.verdict_rows import judge, verdict_table
from affectlocus.config.claims import Claims
from affectlocus.config.experiment import load
from affectlocus.orchestration.decide import (
    looked,
    more_seeds,
    numbers_of_looks,
    plan_of,
    unlimited_pairs,
)

KNOWN = Claims().digests(3.0)


def experiment(folder: Path, mean: float, seed: int = 0) -> Callable[[int], Path]:
    """Writes the claims.csv of a replicated experiment in which C7 has this effect."""
    values = mean + 2 * np.random.default_rng(seed).standard_normal(30)

    def made(number: int) -> Path:
        contrast = Contrast("a - b", values[:number], 0.1, "points", 3.0)
        rows = judge([ClaimFinding("C7", "f1", "p", contrasts=(contrast,))], 0.95)
        path = folder / "claims.csv"
        verdict_table(rows, 0.95).to_csv(path, index=False)
        return path

    return made


@pytest.mark.parametrize(
    ("mean", "verdict"), [(9.0, "supported"), (-9.0, "contradicted"), (0.0, "equal")]
)
def test_replicates_are_added_until_the_claim_is_decided(
    tmp_path: Path, mean: float, verdict: str
) -> None:
    record = tmp_path / "decide/C7.json"
    looks = plan_of(record, "C7", numbers_of_looks(3, 30, 3), KNOWN)
    seen = list(looked(record, "C7", looks, experiment(tmp_path, mean)))
    assert seen[-1].verdict == verdict
    assert {one.verdict for one in seen[:-1]} <= {"undecided"}
    assert len(seen) < len(looks)
    assert f"{seen[-1].look.replicates} replicates: {verdict}; effect" in str(seen[-1])
    content = json.loads(record.read_text())
    assert content["looks"] == [*range(3, 30, 3), 30]
    assert [one["verdict"] for one in content["seen"]] == [one.verdict for one in seen]


def test_the_last_look_ends_an_undecided_claim(tmp_path: Path) -> None:
    record = tmp_path / "C7.json"
    looks = plan_of(record, "C7", [3, 4], KNOWN)
    seen = list(looked(record, "C7", looks, experiment(tmp_path, 3.2, seed=3)))
    assert [one.verdict for one in seen] == ["undecided", "undecided"]


def test_a_plan_is_kept(tmp_path: Path) -> None:
    record = tmp_path / "C7.json"
    assert plan_of(record, "C7", [3, 6, 9], KNOWN) == planned_looks([3, 6, 9])
    assert plan_of(record, "C7", [6, 9], KNOWN) == planned_looks([3, 6, 9])
    for numbers in ([3, 6, 9, 12], [4, 9]):
        with refused("decide.other-plan", file=record, found=numbers, expected=[3, 6, 9]):
            plan_of(record, "C7", numbers, KNOWN)


def test_a_changed_claim_does_not_take_over_a_plan(tmp_path: Path) -> None:
    record = tmp_path / "mine.json"
    keys = {"kind": "above", "what": "load gate", "than": "load up"}
    before = Claims.model_validate({"own": {"mine": keys}}).digests(3.0)
    after = Claims.model_validate({"own": {"mine": keys | {"than": "load down"}}}).digests(3.0)
    looks = plan_of(record, "mine", [3, 6], before)
    assert plan_of(record, "mine", [3, 6], before) == looks
    with refused("decide.other-claim", claim="mine", expected=before["mine"]):
        plan_of(record, "mine", [3, 6], after)


def test_wrong_plans_are_refused(tmp_path: Path) -> None:
    with refused("decide.unknown-claim", found="C15"):
        plan_of(tmp_path / "C15.json", "C15", [3], KNOWN)
    assert not (tmp_path / "C15.json").exists()
    with refused("decide.too-few", option="--most", found=4, expected=6):
        numbers_of_looks(6, 4, 1)
    with refused("decide.one-replicate", found=1):
        numbers_of_looks(1, 4, 1)
    assert numbers_of_looks(6, 11, 2) == [6, 8, 10, 11]


def test_a_claim_that_seeds_do_not_replicate_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "C7.json"
    looks = plan_of(record, "C7", [3, 5], KNOWN)
    brought = experiment(tmp_path, 9.0)
    with refused("decide.not-replicated", claim="C7", found=1, expected=3):
        list(looked(record, "C7", looks, lambda _: brought(1)))
    assert json.loads(record.read_text())["seen"] == []


def test_seeds_are_added_and_none_is_changed() -> None:
    assert more_seeds([0, 1, 2], 5) == [0, 1, 2, 3, 4]
    assert more_seeds([7, 1], 4) == [7, 1, 8, 9]
    assert more_seeds([5, 6], 2) == [5, 6]


def test_a_claim_on_deltas_gets_all_replicates_of_every_pair_and_a_claim_on_scores_does_not() -> (
    None
):
    parameters = load(Path(__file__).parents[2])
    limited = {name: one for name, one in parameters.pairs.items() if one.replicates is not None}
    assert limited
    for claim in ("C1", "C2", "C3", "C4"):
        assert unlimited_pairs(parameters, claim) == {
            name: {"replicates": None} for name in limited
        }
    for claim in ("C5", "C13", "C14"):
        assert unlimited_pairs(parameters, claim) == {}
