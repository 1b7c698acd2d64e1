"""The second readout from end to end, by the command line: text, its labels, their scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner
from wheel_files import write_wheels

from affectlocus.cli import app
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.predictions import Predictions

LABELS = {"moods": ["happy", "sad"], "MOSI": ["negative", "neutral", "positive"]}
SETTINGS = {
    "readout": "generation",
    "generation": {"sampling": "nucleus", "max_new_tokens": 6, "batch_tokens": 60},
}


@pytest.fixture
def experiment(tmp_path: Path, checkpoint, twin, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Manifests of a base and of a tuned model, and two prepared tasks."""
    from affectlocus.checkpoints.checkpoint_manifests import manifest

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    base = checkpoint("qwen2", max_position_embeddings=1024)
    for name, folder in (("base", base), ("pair", twin(base))):
        record = {"folder": str(folder), "kind": "model", "files": manifest(folder)}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    for task, labels in LABELS.items():
        frame = pd.DataFrame(
            [
                (f"test-{n}", "test", f"It rained {n} times.", f"So {n} times Ben was", label)
                for n, label in enumerate(labels * 4)
            ],
            columns=["id", "split", "text", "prompt", "answer"],
        )
        PreparedTask(task, labels, frame).write(tmp_path / f"{task}.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> None:
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_text_is_written_read_and_scored(experiment: Path) -> None:
    data = ["--data", "moods.parquet", "--data", "MOSI.parquet"]
    cells = {
        "base/base": ["--cells", '{"kind": "base"}'],
        "pair/tuned": ["--cells", '{"kind": "tuned", "pair": "pair"}', "--tuned", "pair.json"],
    }
    for cell, options in cells.items():
        out = f"cells/{cell}/predictions.parquet"
        arguments = ["--base", "base.json", *options, *data, "--settings", json.dumps(SETTINGS)]
        run("evaluate", out, *arguments)
        first = (experiment / out).read_bytes()
        run("evaluate", out, *arguments)
        assert (experiment / out).read_bytes() == first
    predictions = Predictions.read(Path("cells/base/base/predictions.parquet"), "text")
    written = predictions.rows
    assert len(written) == 8 + 12
    # A random model names no feeling: let it, so that there is something to score.
    said = written["label"].where(written.index % 4 > 0, "not " + written["label"])
    named = replace(predictions, rows=written.assign(text=said))
    named.write(Path("cells/base/base/predictions.parquet"))

    for cell in cells:
        run(
            "openset", f"cells/{cell}/predictions.parquet", "--out", f"cells/{cell}/openset.parquet"
        )
    settings = {
        "resamples": 100,
        "metric": "mer_unibench",
        "own_wheels": True,
        "protocols": {"moods": "mer-unibench", "MOSI": "mer-unibench"},
    }
    opened = [f"cells/{cell}/openset.parquet" for cell in cells]
    wheels = write_wheels(experiment / "wheels")
    run(
        "score", *opened, "--settings", json.dumps(settings), "--wheels", wheels,
        "--out", "scores.parquet",
    )  # fmt: skip
    scores = pd.read_parquet("scores.parquet").set_index(["cell", "task", "metric"])["value"]
    right = written.assign(right=written.index % 4 > 0).groupby("task")["right"].mean() * 100
    for task in LABELS:
        assert scores["base/base", task, "accuracy"] == pytest.approx(right[task])
        assert scores["base/base", task, "coverage"] == pytest.approx(right[task])
    # The wheels have a cluster for happy and none for sad: half of the moods are scored.
    happy = written[(written["task"] == "moods") & (written["label"] == "happy")].index
    assert scores["base/base", "moods", "mer_unibench"] == 100 * (happy % 4 > 0).mean()
    assert 0 < scores["base/base", "MOSI", "mer_unibench"] < 100
    assert 0 < scores["base/base", "MOSI", "corrected_f1"] < 100
    mean = scores.xs("mer_unibench", level="metric")["base/base"]
    assert mean["mean"] == pytest.approx((mean["moods"] + mean["MOSI"]) / 2)
    run(
        "tables", "--scores", "scores.parquet", "--metric", "mer_unibench", "--out", "t.csv",
        "--intervals", "i.csv",
    )  # fmt: skip
    assert pd.read_csv("t.csv")["modules"].tolist() == ["base", "all"]


@pytest.mark.usefixtures("experiment")
def test_a_model_reads_labels_out_of_text_and_is_asked_once() -> None:
    data = ["--data", "moods.parquet", "--data", "MOSI.parquet"]
    out = "cells/base/base/predictions.parquet"
    settings = json.dumps({**SETTINGS, "readouts": {"moods": "candidates"}})
    cell = ["--cells", '{"kind": "base"}']
    run("evaluate", out, *cell, "--base", "base.json", *data, "--settings", settings)
    asking = ["--model", "base.json", "--cache", "replies", "--settings", '{"max_new_tokens": 4}']
    run("extract", out, *asking, "--out", "first.parquet")
    replies = {path.name: path.stat().st_mtime_ns for path in Path("replies").iterdir()}
    run("extract", out, *asking, "--out", "second.parquet")
    assert {p.name: p.stat().st_mtime_ns for p in Path("replies").iterdir()} == replies
    first, second = pd.read_parquet("first.parquet"), pd.read_parquet("second.parquet")
    pd.testing.assert_frame_equal(first, second)
    assert first["task"].unique().tolist() == ["MOSI"]
    assert len(first) == 12
    run("openset", out, "--extracted", "first.parquet", "--out", "openset.parquet")
    opened = pd.read_parquet("openset.parquet")
    assert opened["openset"].notna().tolist() == (opened["task"] == "MOSI").tolist()
