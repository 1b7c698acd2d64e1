"""The delta along a tuning: its sizes, and how much of its last direction is there."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from refusal import refused
from single import tune

from affectlocus.checkpoints.pairs import Pair
from affectlocus.cli.deltas import _matched
from affectlocus.config.tuning import Tuning
from affectlocus.core.checkpoint_files import snapshot_folder
from affectlocus.deltas.trajectory import COLUMNS, snapshots, trajectory
from affectlocus.training.batches import snapshot_steps

FRAME = pd.DataFrame(
    {"split": "train", "prompt": f"Anna lost {number} coins. Anna was", "answer": word}
    for number, word in enumerate(["sad", "happy", "angry"] * 3)
)


@pytest.fixture(scope="module", params=["lora", "sft"])
def tuned(request, checkpoint, tmp_path_factory) -> tuple[Path, Path, dict[int, Path]]:
    """Base, tuned folder, and the states of six steps of tuning v and gate."""
    base, folder = checkpoint(), tmp_path_factory.mktemp("tuned") / "here"
    recipe = {"data": ["task"], "method": request.param, "modules": "v+gate", "rank": 2}
    budget = {"steps": 6, "batch_size": 3, "learning_rate": 0.02, "trajectory": 3}
    steps = tune(base, [FRAME], Tuning(**recipe, **budget), folder)["snapshots"]
    return base, folder, snapshots(folder, steps, 6)


def test_steps_are_evenly_spaced_and_end_with_the_last() -> None:
    assert snapshot_steps(500, 8) == [62, 125, 188, 250, 312, 375, 438, 500]
    assert snapshot_steps(3, 3) == [1, 2, 3]
    assert snapshot_steps(7, 1) == [7]
    assert snapshot_steps(7, 0) == []


def test_every_state_has_a_row_for_each_tuned_weight_with_its_own_sizes(tuned) -> None:
    base, _, states = tuned
    frame = trajectory(base, states)
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame["step"].unique()) == [2, 4, 6]
    touched = frame[frame["l2"] > 0]
    assert set(touched["projection"]) == {"v", "gate"}
    assert len(touched) == 3 * 2 * 2
    for row in touched.itertuples():
        block = "self_attn.v" if row.projection == "v" else "mlp.gate"
        name = f"model.layers.{row.layer}.{block}_proj.weight"
        delta = Pair(base, states[row.step]).delta(name)
        assert row.numel == delta.numel()
        assert row.l2 == pytest.approx(float(delta.norm()), rel=1e-6)
        assert row.rms == pytest.approx(row.l2 / math.sqrt(row.numel), rel=1e-6)


def test_the_cosine_is_that_of_the_whole_matrices_and_one_at_the_end(tuned) -> None:
    base, _, states = tuned
    frame = trajectory(base, states)
    touched = frame[frame["l2"] > 0]
    end = touched[touched["step"] == 6]
    assert end["cosine"].to_list() == pytest.approx([1.0] * len(end))
    name = "model.layers.1.mlp.gate_proj.weight"
    early, late = (Pair(base, states[step]).delta(name).flatten() for step in (2, 6))
    chosen = (touched["step"] == 2) & (touched["layer"] == 1) & (touched["projection"] == "gate")
    expected = float(early @ late / early.norm() / late.norm())
    assert expected < 0.999
    assert touched.loc[chosen, "cosine"].item() == pytest.approx(expected, rel=1e-6)
    # A weight that was left alone has no direction.
    assert frame.loc[frame["l2"] == 0, "cosine"].isna().all()


def test_a_tuning_without_states_says_how_to_get_them(tmp_path) -> None:
    with refused("checkpoint.no-snapshots", file=tmp_path, key="trajectory"):
        snapshots(tmp_path, [], 6)


def test_a_state_that_is_gone_is_named(tmp_path) -> None:
    snapshot_folder(tmp_path, 2).mkdir(parents=True)
    with refused("checkpoint.missing-snapshot", file=snapshot_folder(tmp_path, 4)):
        snapshots(tmp_path, [2, 4], 6)


def test_each_of_several_checkpoints_has_its_output_and_its_own_or_the_only_base() -> None:
    base, one, two = Path("base.json"), Path("one"), Path("two")
    matched = _matched([base], [one, two], [Path("1"), Path("2")])
    assert matched == [(base, one, Path("1")), (base, two, Path("2"))]
    with refused("option.other-number", option="--out", found=1, expected=2):
        _matched([base], [one, two], [Path("1")])
    with refused("option.other-number", option="--base", found=2, expected=1):
        _matched([base, base], [one], [Path("1")])
