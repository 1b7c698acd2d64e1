"""`affectlocus compare`: two folders of results."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from refusal import refused
from typer.testing import CliRunner

from affectlocus.cli import app
from affectlocus.core.cells import Cell
from affectlocus.evaluation.predictions import Predictions
from affectlocus.reporting.compare_results import compare_results
from affectlocus.reporting.comparison_text import print_comparison

HEADER = """# step: score, 2026-12-01 02:03:06 UTC
# code: affectlocus 0.1.0, git {git}
# versions: Python 3.11.7, torch 2.13.0
# hardware: {host}, 2 of 2 CPUs
"""


def answers(folder: Path, cell: str, given: list[str]) -> None:
    """The predictions of a cell: the answer to each sample of one task."""
    rows = [
        {"task": "moods", "sample": f"s{number}", "label": "joy", "candidate": word}
        | {"loglik": -1.0 - (word != answer)}
        for number, answer in enumerate(given)
        for word in ("joy", "anger")
    ]
    predictions = Predictions(
        Cell("load", "b", "p", "gate", seed=0), {"moods": ["joy", "anger"]}, pd.DataFrame(rows)
    )
    predictions.write(folder / "cells" / cell / "predictions.parquet")


def score(modules: str, value: float, seed: int | None = None, **other: Any) -> dict[str, Any]:
    row = {"kind": "load", "base": "b", "pair": "p", "modules": modules, "mode": "", "draw": None}
    row |= {"seed": seed, "task": "mean", "metric": "weighted_f1", "value": value}
    return row | {"low": value - 2, "high": value + 2} | other


def results(folder: Path, *, seeds: int = 2, gate: float = 40.0, verdict: str = "equal") -> Path:
    """A folder of results next to a params.yaml."""
    out = folder / "results"
    (out / "logs").mkdir(parents=True)
    (out / "logs/score.log").write_text(HEADER.format(git="abc", host="vm"))
    (folder / "params.yaml").write_text(f"seeds: {seeds}\ntune: {{steps: 7}}\n")
    rows = [score("gate", gate), score("q", 30.0)]
    rows += [score("gate", 99.0, seed) for seed in range(seeds)]
    rows += [score("gate", 1.0, task="moods")]
    frame = pd.DataFrame(rows)
    frame["seed"], frame["draw"] = frame["seed"].astype("Int64"), frame["draw"].astype("Int64")
    frame.to_parquet(out / "scores.parquet")
    claim = {"claim": "C1", "level": "claim", "by": "l2", "verdict": verdict}
    claim |= {"effect": gate / 10, "low": gate / 10 - 1, "high": gate / 10 + 1}
    none = {"claim": "C2", "level": "claim", "by": "f1", "verdict": "untestable"}
    pd.DataFrame([claim, claim | {"level": "detail", "verdict": "other"}, none]).to_csv(
        out / "claims.csv", index=False
    )
    answers(out, "p/load/gate/seed0", ["joy", "anger", "joy"])
    return out


def test_a_copy_is_the_same(tmp_path: Path) -> None:
    one = results(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    found = compare_results(one, tmp_path / "b/results")
    assert found.parameters == []
    assert found.circumstances == []
    assert found.only == {"verdicts": (0, 0), "means": (0, 0), "cells": (0, 0)}
    assert found.conclusion == (
        "The results are the same: 0 of 2 verdicts differ, 0 of 2 mean scores are outside the "
        "interval of the other, 0 of 3 answers of the common cells differ."
    )


def test_what_differs_is_named_with_both_values(tmp_path: Path) -> None:
    one = results(tmp_path / "a")
    two = results(tmp_path / "b", seeds=3, gate=45.0, verdict="supported")
    (two / "logs/score.log").write_text(HEADER.format(git="def", host="vm"))
    answers(two, "p/load/gate/seed0", ["joy", "joy", "joy"])
    answers(two, "p/load/q/seed0", ["joy"])
    found = compare_results(one, two)
    assert found.parameters is not None
    assert [(each.key, each.used, each.now) for each in found.parameters] == [("seeds", "2", "3")]
    assert [each.key for each in found.circumstances] == ["code"]
    first, second = found.verdicts
    assert (first.claim, first.first, first.second) == ("C1", "equal", "supported")
    assert (first.first_effect, first.second_effect, first.within) == (4.0, 4.5, True)
    assert (second.first, second.first_effect, second.within) == ("untestable", None, None)
    # The row over all replicates, not those of one seed or of one task.
    assert [(each.cell, each.first, each.second, each.within) for each in found.means] == [
        ("p/load/gate", 40.0, 45.0, False),
        ("p/load/q", 30.0, 30.0, True),
    ]
    assert [(each.cell, each.samples, each.differing) for each in found.answers] == [
        ("p/load/gate/seed0", 3, 1)
    ]
    assert found.only["cells"] == (0, 1)
    assert found.conclusion.startswith("The results differ: 1 of 2 verdicts differ, 1 of 2 mean")


def test_means_inside_the_intervals_of_other_seeds_agree(tmp_path: Path) -> None:
    one, two = results(tmp_path / "a"), results(tmp_path / "b", gate=41.5)
    shutil.rmtree(two / "cells")
    answers(two, "p/load/gate/seed7", ["joy"])
    found = compare_results(one, two)
    assert found.answers == []
    assert found.conclusion == (
        "The results agree: 0 of 2 verdicts differ, 0 of 2 mean scores are outside the interval of "
        "the other."
    )


def test_one_replicate_in_each_is_compared_whatever_its_seed(tmp_path: Path) -> None:
    for name, seed, value in (("a", 1, 40.0), ("b", 2, 41.0)):
        out = tmp_path / name
        out.mkdir()
        frame = pd.DataFrame([score("gate", value, seed)])
        frame["seed"], frame["draw"] = frame["seed"].astype("Int64"), pd.array([None], "Int64")
        frame.to_parquet(out / "scores.parquet")
    found = compare_results(tmp_path / "a", tmp_path / "b")
    assert [(each.first, each.second, each.within) for each in found.means] == [(40, 41, True)]
    assert found.parameters is None


def test_long_parameters_are_shortened_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = results(tmp_path / "a")
    two = results(tmp_path / "b", seeds=3)
    with (tmp_path / "b/params.yaml").open("a") as file:
        file.write(f"name: {'x' * 500}\n")
    (two / "logs/score.log").write_text(HEADER.format(git="def", host="vm"))
    print_comparison(compare_results(one, two))
    said = capsys.readouterr().out
    assert "parameters: 2 differ\n" in said
    assert "made with: 1 differs\n" in said
    assert max(map(len, said.splitlines())) < 200
    assert "code  affectlocus 0.1.0, git abc  affectlocus 0.1.0, git def" in said


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_command_prints_what_differs_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    one = results(tmp_path / "a")
    two = results(tmp_path / "b", gate=45.0, verdict="supported")
    done = CliRunner().invoke(app, ["compare", str(one), str(two)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "parameters: nothing differs" in said
    assert "made with: nothing differs" in said
    assert re.search(r"C1 l2 equal supported 4.00 4.50 yes", said)
    assert re.search(r"p/load/gate weighted_f1 40.00 45.00 \+5.00", said)
    assert "answers: 0 of 1 common cells have other answers" in said
    assert said.endswith("0 of 3 answers of the common cells differ.")
    done = CliRunner().invoke(app, ["compare", str(one), str(two), "--json"])
    found = json.loads(done.output)
    assert found["conclusion"] in said
    assert found["means"][0]["within"] is False
    assert found["only"]["verdicts"] == {"first": 0, "second": 0}


def test_a_folder_that_is_none_or_has_no_results_is_refused(tmp_path: Path) -> None:
    one = results(tmp_path / "a")
    with refused("result.no-folder", file=tmp_path / "nowhere"):
        compare_results(one, tmp_path / "nowhere")
    with refused("result.no-results", file=tmp_path / "a") as error:
        compare_results(one, tmp_path / "a")
    assert str(error.value).endswith(f": give {one}")
    (tmp_path / "empty").mkdir()
    with refused("result.no-results", file=tmp_path / "empty") as error:
        compare_results(one, tmp_path / "empty")
    assert str(error.value).endswith(": run snakemake first")
