"""The losses of tunings: the jobs of the step, its command and its figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command import in_process
from refusal import printed_code, refused

from affectlocus.config.experiment import Parameters, load
from affectlocus.orchestration.dag import Dag
from affectlocus.reporting.training_curves import training_curves
from affectlocus.training.learning import COLUMNS

ROOT = Path(__file__).parents[2]


def rows(own: float = 1.0, null: float = 2.0) -> pd.DataFrame:
    """The losses of a pair with a null: two seeds, three steps."""
    found = [
        (pair, other, seed, step, loss - 0.1 * step, 1.0)
        for pair, other, loss in (("felt", "void", own), ("void", "", null))
        for seed in (0, 1)
        for step in range(3)
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def test_a_pair_is_drawn_with_its_null_and_the_verdict_in_words() -> None:
    figure = training_curves(rows(), "felt", "felt: loss")
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == ["felt", "void (null)"]
    assert len(axis.collections) == 2


def test_a_pair_without_losses_is_refused() -> None:
    with refused("figure.no-losses", pair="other"):
        training_curves(rows(), "other", "other: loss")


def test_the_default_s_nulls_are_those_of_the_same_recipe() -> None:
    jobs = Dag(load(ROOT / "params.yaml", planning=True)).learning
    assert jobs.nulls == {"qwen2-affective": "qwen2-null"}
    assert jobs.files == ["results/training.csv"]
    assert "results/figures/training.qwen2-affective.png" in jobs.figures
    assert "results/figures/training.qwen2-null.png" not in jobs.figures


@pytest.mark.parametrize(
    ("changed", "nulls"), [({}, {"a": "n"}), ({"steps": 9}, {}), ({"trajectory": 2}, {"a": "n"})]
)
def test_a_null_has_the_recipe_but_for_shuffling(changed: dict, nulls: dict) -> None:
    recipe: dict[str, Any] = {"data": ["t"], "steps": 8}
    config = {
        "bases": {"b": {"folder": "b"}},
        "pairs": {
            "a": {"base": "b", "tuning": recipe | changed},
            "n": {"base": "b", "tuning": recipe | {"shuffled": True}},
        },
        "tasks": {
            "t": {"files": {"test": "t.csv", "train": "u.csv"}, "columns": {"label": "l"}}
            | {"labels": ["x", "y"]}
        },
        "matrix": {"pairs": ["a"], "tune": []},
    }
    assert Dag(Parameters.model_validate(config)).learning.nulls == nulls


def test_brought_pairs_have_no_losses() -> None:
    config = {
        "bases": {"b": {"folder": "b"}},
        "pairs": {"a": {"base": "b", "tuned": "a"}},
        "tasks": {
            "t": {"files": {"test": "t.csv"}, "columns": {"label": "l"}, "labels": ["x", "y"]}
        },
        "matrix": {"pairs": ["a"], "tune": []},
    }
    jobs = Dag(Parameters.model_validate(config)).learning
    assert (jobs.files, jobs.figures) == ([], [])


def manifest(path: Path, loss: float) -> str:
    record = {"recipe": {"steps": 3, "batch_size": 2}, "samples": 6}
    log = [{"step": step, "loss": loss} for step in range(3)]
    path.write_text(json.dumps(record | {"log": log}))
    return path.name


def test_the_command_writes_the_losses_and_says_the_verdict(tmp_path: Path) -> None:
    files = [
        manifest(tmp_path / f"{pair}.seed{seed}.json", loss)
        for pair, loss in (("felt", 1.244), ("void", 1.254))
        for seed in (0, 1)
    ]
    nulls = json.dumps({"felt": "void"})
    done = in_process(tmp_path, "learning", *files, "--nulls", nulls, "--out", "training.csv")
    assert done.returncode == 0, done.stderr
    assert "felt learned no more than its null void" in done.stdout
    written = pd.read_csv(tmp_path / "training.csv")
    assert list(written.columns) == list(COLUMNS)
    assert len(written) == 12
    drawn = in_process(
        tmp_path, "figures", "--training", "training.csv", "--pair", "felt", "--out", "f"
    )
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "f.png").is_file()


def test_a_manifest_without_losses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "felt.seed0.json").write_text("{}")
    done = in_process(tmp_path, "learning", "felt.seed0.json", "--out", "t.csv")
    assert printed_code(done.stderr) == "learning.no-losses"
