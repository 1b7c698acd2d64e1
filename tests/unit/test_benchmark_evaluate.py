"""The benchmark of evaluation, on a model of a few thousand weights."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import scripts
import torch
import yaml
from scripts import BENCHMARKS

from affectlocus.lm.prompts import Prompter

FOLDER = BENCHMARKS / "evaluate"

loaded = partial(scripts.loaded, FOLDER)


@pytest.fixture(scope="module")
def arms() -> ModuleType:
    return loaded("arms")


@pytest.fixture(scope="module")
def agreement() -> ModuleType:
    return loaded("agreement")


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return loaded("run")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[ModuleType, Path]:
    material = loaded("material")
    folder = tmp_path_factory.mktemp("material")
    material.write(material.SIZES["tiny"], folder)
    return material, folder


def test_the_task_is_as_the_issue_asks(made) -> None:
    material, folder = made
    prompter = Prompter(folder / "base")
    assert [len(prompter.answer(label)) for label in material.LABELS] == [3] * 7
    texts = pd.read_parquet(folder / "task.parquet")["prompt"].tolist()
    assert 80 < np.mean([len(ids) for ids in prompter.prompts(texts, 512)]) < 120


def test_the_harness_gets_the_same_samples(made) -> None:
    material, folder = made
    frame = pd.read_parquet(folder / "task.parquet")
    task = yaml.safe_load((folder / "harness" / f"{material.TASK}.yaml").read_text())
    lines = Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
    rows = pd.DataFrame(json.loads(line) for line in lines)
    assert rows["prompt"].tolist() == frame["prompt"].tolist()
    assert [task["doc_to_choice"][gold] for gold in rows["gold"]] == frame["answer"].tolist()
    # The harness puts its delimiter between the two.
    assert not frame["prompt"].str.endswith(" ").any()


def test_both_ways_and_the_command_line_score_alike(made, arms, agreement, tmp_path) -> None:
    _, folder = made
    for name in ("one_pass", "per_candidate", "evaluate"):
        (tmp_path / name).mkdir()
        assert arms.ARMS[name](folder, tmp_path / name) > 0
    found = agreement.main(tmp_path)
    assert set(found["scores"]) == {"per_candidate", "evaluate"}
    for way in found["scores"].values():
        assert way["largest"] < 1e-4
        assert (way["chosen_otherwise"], way["samples"]) == (0, 24)
    # Answers that are all alike would agree for nothing.
    assert len(set(agreement.scores(tmp_path / "one_pass").argmax(axis=1))) > 1


def test_candidates_of_several_lengths_score_as_each_alone(arms, random_model) -> None:
    model = random_model("qwen2")
    prompts, candidates = [[5, 6, 7], [8], [9, 10, 11, 12]], [[1], [2, 3, 4], [5, 6]]
    found = arms.each_candidate(model, prompts, candidates, 12)
    for row, prompt in enumerate(prompts):
        for column, candidate in enumerate(candidates):
            with torch.no_grad():
                logs = model(torch.tensor([prompt + candidate])).logits[0].log_softmax(-1)
            alone = sum(
                logs[len(prompt) - 1 + place, token] for place, token in enumerate(candidate)
            )
            assert found[row, column] == pytest.approx(float(alone), abs=1e-4)


def test_rows_go_together_within_the_budget(arms) -> None:
    lengths = [9, 3, 4, 30, 3]
    groups = list(arms.grouped(lengths, 12))
    assert groups == [[1, 4, 2], [0], [3]]


def test_the_harness_s_samples_are_read_in_their_order(agreement, tmp_path) -> None:
    logged = tmp_path / "model" / "samples_moods_2026.jsonl"
    logged.parent.mkdir()
    lines = [
        {"doc_id": 1, "filtered_resps": [["-3.5", "False"], ["-1.25", "True"]]},
        {"doc_id": 0, "filtered_resps": [["-0.5", "False"], ["-2.0", "False"]]},
    ]
    logged.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert agreement.scores(tmp_path).tolist() == [[-0.5, -2.0], [-3.5, -1.25]]


def test_a_cell_that_differs_in_a_bit_is_counted(agreement, tmp_path) -> None:
    values = np.array([-1.0, -2.0], dtype="float32")
    for side in ("shared", "single"):
        for cell in ("gate", "up"):
            folder = tmp_path / side / "tuned" / "load" / cell
            folder.mkdir(parents=True)
            off = side == "shared" and cell == "up"
            frame = pd.DataFrame({"loglik": np.nextafter(values, 0) if off else values})
            frame.to_parquet(folder / "predictions.parquet")
    assert agreement.main(tmp_path)["cells"] == {"cells": 2, "different": 1}


AGREED = {
    "scores": {"per_candidate": {"largest": 3e-6, "chosen_otherwise": 0, "samples": 24}},
    "cells": {"cells": 16, "different": 0},
}


def test_the_tables_have_ratios_to_the_first_way(run) -> None:
    one, other, shared = (
        run.Result("passes", "one_pass"),
        run.Result("passes", "per_candidate"),
        run.Result("cells", "shared"),
    )
    for result, seconds in ((one, (1.0, 3.0)), (other, (5.0, 7.0)), (shared, (9.0, 11.0))):
        for second in seconds:
            result.times.add(second, second + 1, 100.0)
    text = run.report([one, other, shared], AGREED, "A machine")
    assert text.startswith("A machine.\n")
    assert "| 2.00 (1.00–3.00) | 3.00 (2.00–4.00) | 100 | 1.00 | 1.00 |" in text
    assert "| 6.00 (5.00–7.00) | 7.00 (6.00–8.00) | 100 | 3.00 | 2.33 |" in text
    assert "within 3e-06 of the first way's, the same label chosen for 24 of 24 samples" in text
    assert "bit for bit in 16 of 16" in text


@pytest.mark.parametrize(
    "wrong", [{"largest": 2e-4}, {"largest": float("nan")}, {"chosen_otherwise": 1}]
)
def test_ways_that_disagree_are_told(run, wrong) -> None:
    assert run.disagreements(AGREED) == []
    off = {"scores": {"per_candidate": AGREED["scores"]["per_candidate"] | wrong}}
    (told,) = run.disagreements(off)
    assert told.startswith("per_candidate: off by ")


def test_shared_cells_that_differ_are_told(run) -> None:
    off = AGREED | {"cells": {"cells": 16, "different": 3}}
    assert run.disagreements(off) == ["3 of 16 cells differ when shared"]


@pytest.mark.full
def test_a_quick_run_writes_a_row_for_each_arm_and_prints_its_table(tmp_path) -> None:
    command = [sys.executable, FOLDER / "run.py", "--quick", "--arm", "one_pass"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out", "--scratch", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["arm"] == "one_pass"
    assert float(row["process_s"]) > float(row["engine_s"]) > 0
    assert 100 < float(row["peak_mb"]) < 1500
    assert "| **affectlocus**: all labels in one pass |" in done.stdout
    # The material is gone.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_arm_that_there_is_not_is_refused(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--arm", "dog", "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "'dog' is no arm" in done.stderr


def test_a_folder_of_somebody_s_is_no_place_for_the_harness(tmp_path) -> None:
    kept = tmp_path / "thesis.txt"
    kept.touch()
    command = [sys.executable, FOLDER / "run.py", "--quick", "--arm", "harness"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out", "--environment", tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "500"},  # the message on one line
    )
    assert done.returncode == 2
    assert "was not made here" in done.stderr
    assert list(tmp_path.iterdir()) == [kept]
