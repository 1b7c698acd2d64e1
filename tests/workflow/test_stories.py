"""The stories experiment on real material, at a reduced size; skips where the material is missing.

The whole of it takes some twenty minutes; here the same params.yaml runs on the first rows of
each file, with few steps and few cells. What is read from the whole files is checked as well.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import yaml

from affectlocus.config.experiment import load
from affectlocus.config.tasks import Task
from affectlocus.data.prepare import prepare
from affectlocus.lm.prompts import Prompter

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PARAMETERS = ROOT / "experiments/stories/params.yaml"
DATA_ROOT = PARAMETERS.parent / yaml.safe_load(PARAMETERS.read_text())["data_root"]

pytestmark = [
    pytest.mark.full,
    pytest.mark.real,
    pytest.mark.xdist_group("stories"),
    pytest.mark.skipif(
        not (DATA_ROOT / "models/stories260K/config.json").is_file(),
        reason=f"the real material is not in {DATA_ROOT}",
    ),
]


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment's folder after a run on the first 150 rows of each file."""
    folder = tmp_path_factory.mktemp("stories")
    parameters = yaml.safe_load(PARAMETERS.read_text())
    (folder / "data/models").mkdir(parents=True)
    (folder / "data/models/stories260K").symlink_to((DATA_ROOT / "models/stories260K").resolve())
    named = [task.files for task in load(PARAMETERS).tasks.values() if task.files is not None]
    for table in {table.file for files in named for _, table in files.items()}:
        target = folder / "data" / table
        target.parent.mkdir(parents=True, exist_ok=True)
        with (DATA_ROOT / table).open(encoding="utf-8") as lines:
            target.write_text("".join(islice(lines, 150)), encoding="utf-8")
    for task in parameters["tasks"].values():
        # Of so few rows, more are repeated between splits.
        task["overlap_limit"] = 1.0
    # Half of the jobs are enough to see the material through: no null, and no single neurons.
    del parameters["pairs"]["stories-null"]
    parameters["deltas"] = {"companions": False}
    for pair in parameters["pairs"].values():
        pair["tuning"]["steps"] = 3
    parameters["data_root"] = "data"
    parameters["corpus"] |= {"documents": 200, "benchmark_samples": 10}
    parameters["matrix"] |= {"load": ["gate"], "tune": [], "ablate": ["gate"], "modes": ["revert"]}
    parameters["matrix"] |= {"beside": ["stories-plot"], "cells_per_job": 8}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    run = subprocess.run(
        [
            str(BIN / "snakemake"),
            *("--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
            *("--cores", "1"),
        ],
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder


def test_real_text_and_a_real_model_give_tables_and_figures(reduced: Path) -> None:
    table = pd.read_csv(reduced / "results/table1.csv")
    assert list(table["modules"]) == ["base", "gate", "all"]
    assert list(table.columns[2:]) == [
        *("MELD-emotion", "MELD-sentiment", "GoEmotions", "mean"),
        *("auc", "top_answer", "one_answer"),
    ]
    assert (reduced / "results/table3.csv").is_file()
    deltas = pd.read_parquet(reduced / "results/deltas/stories-control.seed0.parquet")
    # Five layers of seven projections, no biases.
    assert len(deltas) == 35
    assert (deltas["relative"] > 0).all()
    assert (reduced / "results/figures/deltas.stories-affective.png").is_file()


def test_the_whole_test_splits_are_read() -> None:
    parameters = load(PARAMETERS)
    kept, reports = {}, {}
    for name in parameters.benchmarks:
        task = parameters.tasks[name]
        files = {split: DATA_ROOT / table.file for split, table in task.files.items()}
        samples, reports[name] = prepare(name, task, files)
        kept[name] = int((samples["split"] == "test").sum())
    assert kept["MELD-emotion"] == kept["MELD-sentiment"] == 2610
    # Of GoEmotions' 5427 test rows those of a single label.
    single = reports["GoEmotions"]["splits"]["test"]
    assert kept["GoEmotions"] == 5427 - single["several_labels"] == 4968


def test_the_base_is_read_rightly() -> None:
    from transformers import AutoModelForCausalLM

    folder = DATA_ROOT / "models/stories260K"
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    prompter = Prompter(folder)
    import torch

    (ids,) = prompter.prompts(["Once upon a time, there was a little girl"], 100)
    with torch.inference_mode():
        told = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)
    text = prompter.tokenizer.decode(told[0, len(ids) :], skip_special_tokens=True)
    # The continuation that the model's own documentation gives.
    assert "named Lily. She loved to play outside in the park." in text


def test_the_dialogue_before_an_utterance_can_stand_in_its_prompt() -> None:
    said = {
        "preset": "meld-emotion",
        "root": "datasets/meld",
        "context": {"turns": 2},
        "prompt": "{context}{Speaker}: {Utterance}\nEmotion:",
    }
    task = Task.model_validate(said)
    files = {split: DATA_ROOT / table.file for split, table in task.files.items()}
    samples, report = prepare("MELD", task, files)
    prompts = samples["prompt"][samples["split"] == "test"].tolist()
    assert len(prompts) == report["splits"]["test"]["kept"] == 2610
    first, second, third, other = (prompt.split("\n") for prompt in prompts[:4])
    assert third[:3] == [first[0], second[1], third[2]]
    # The first dialogue has three turns.
    assert [len(first), len(second), len(third), len(other)] == [2, 3, 4, 2]


def plain(text: str) -> str:
    """Letters and digits alone: another way to the same copies as the report's."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = re.sub(r"[^\w\s$+=<>^|~]", " ", re.sub("['’‘`´]", "", folded)).replace("_", " ")
    return " ".join(kept.split())


def test_the_documented_figures_are_what_a_plain_count_gives() -> None:
    table = pd.read_csv(ROOT / "docs/data/stories_overlap.csv", index_col="test split")
    meld = {
        split: pd.read_csv(DATA_ROOT / f"datasets/meld/{split}_sent_emo.csv", dtype=str)
        for split in ("train", "dev", "test")
    }
    train, test = meld["train"]["Utterance"], meld["test"]["Utterance"]
    exact = test.isin(set(train)).sum()
    same = test.map(plain).isin(set(train.map(plain)))
    every = pd.concat(meld.values(), ignore_index=True)
    every["plain"] = every["Utterance"].map(plain)
    for name, column in (("emotion", "Emotion"), ("sentiment", "Sentiment")):
        torn = every.groupby("plain")[column].transform("nunique").iloc[-len(test) :] > 1
        row = table.loc[f"MELD, {name}"]
        assert (row["read"], row["kept"]) == (len(test), len(test))
        assert row["text also in train, exact"] == exact
        assert row["text also in train, normalised"] == same.sum()
        assert row["text has another label elsewhere"] == torn.sum()
    # The sentence below the table in docs/how-to/real-experiments.md.
    short = (test[same].map(plain).str.split().str.len() <= 3).sum()
    assert (short, same.sum()) == (376, 404)
