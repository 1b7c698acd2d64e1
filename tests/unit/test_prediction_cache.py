"""Answers that are kept: the same bytes unasked, and asked anew where any thing is another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from affectlocus.cli import app
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.prediction_cache import PredictionCache
from affectlocus.lm import readouts

LABELS = {"moods": ["happy", "sad"], "MOSI": ["negative", "neutral", "positive"], "prose": []}
SETTINGS: dict[str, Any] = {
    "readouts": {"MOSI": "generation"},
    "generation": {"sampling": "nucleus", "max_new_tokens": 6, "batch_tokens": 60},
    "samples": {"count": 2, "opening": 2},
}
OUT = "cells/pair/load/gate/predictions.parquet"
CELL = '{"kind": "load", "pair": "pair", "modules": "gate"}'
KEPT = Path("kept/pair/load/gate")


def prepare(task: str, samples: int = 4) -> None:
    labels = LABELS[task]
    frame = pd.DataFrame(
        [
            (f"test-{n}", "test", f"It rained {n} times.", f"So {n} times Ben was", label)
            for n, label in enumerate((labels or [""]) * samples)
        ],
        columns=["id", "split", "text", "prompt", "answer"],
    )
    PreparedTask(task, labels, frame).write(Path(f"{task}.parquet"))


@pytest.fixture(autouse=True)
def experiment(tmp_path: Path, checkpoint, lora, monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests of a base and of tuned ones; a task of each way in which a model is asked."""
    from affectlocus.checkpoints.checkpoint_manifests import manifest

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    base = checkpoint("qwen2", max_position_embeddings=1024)
    other = checkpoint("qwen2", seed=9, max_position_embeddings=1024)
    adapters = {f"seed{seed}": lora(base, ["gate_proj"], seed=seed) for seed in (1, 2)}
    for name, folder in {"base": base, "other": other, **adapters}.items():
        record = {"folder": str(folder), "kind": "model", "files": manifest(folder)}
        Path(f"{name}.json").write_text(json.dumps(record))
    Path("pair.json").write_bytes(Path("seed1.json").read_bytes())
    for task in LABELS:
        prepare(task)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that a model was really asked, in order."""
    found: list[str] = []
    for kind in (readouts.CandidateReadout, readouts.FreeTextReadout, readouts.TextReadout):
        answered = kind.answer

        def counted(one: Any, *arguments: Any, how: Any = answered) -> pd.DataFrame:
            found.append(one.task)
            return how(one, *arguments)

        monkeypatch.setattr(kind, "answer", counted)
    return found


def evaluate(
    *more: str, settings: dict[str, Any] = SETTINGS, tasks: tuple[str, ...] = tuple(LABELS)
) -> str:
    """What the command says; `more` come behind its usual options, and count."""
    data = [part for task in tasks for part in ("--data", f"{task}.parquet")]
    command = ["evaluate", OUT, "--cells", CELL, "--tuned", "pair.json", "--kept", "kept"]
    command += ["--base", "base.json"]
    settled = ["--settings", json.dumps(settings)]
    done = CliRunner().invoke(app, [*command, *data, *settled, *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_second_job_asks_nothing_and_writes_the_same_bytes(asked: list[str]) -> None:
    assert "earlier job" not in evaluate()
    first = Path(OUT).read_bytes(), Path(OUT).with_name("verification.json").read_bytes()
    assert asked == list(LABELS)
    said = evaluate()
    assert asked == list(LABELS)
    assert "3 of 3 answers are of an earlier job, in kept" in " ".join(said.split())
    assert (Path(OUT).read_bytes(), Path(OUT).with_name("verification.json").read_bytes()) == first


def test_what_was_kept_and_what_was_not_make_the_same_bytes(asked: list[str]) -> None:
    evaluate()
    whole = Path(OUT).read_bytes()
    for task in LABELS:
        (KEPT / f"{task}.parquet").unlink()
        asked.clear()
        evaluate()
        assert asked == [task]
        assert Path(OUT).read_bytes() == whole


def test_a_job_that_is_killed_goes_on_behind_its_last_whole_task(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate()
    whole = Path(OUT).read_bytes()
    for path in KEPT.iterdir():
        path.unlink()

    def killed(*_: Any) -> pd.DataFrame:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(readouts.FreeTextReadout, "answer", killed)
        with pytest.raises(AssertionError):
            evaluate()
    asked.clear()
    evaluate()
    assert asked == ["MOSI", "prose"]
    assert Path(OUT).read_bytes() == whole


def test_a_task_more_or_fewer_asks_no_other(asked: list[str]) -> None:
    evaluate(tasks=("moods", "MOSI"))
    asked.clear()
    evaluate()
    assert asked == ["prose"]
    evaluate(tasks=("prose", "moods"))
    assert asked == ["prose"]
    assert pd.read_parquet(OUT)["task"].unique().tolist() == ["prose", "moods"]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"max_length": 40}, list(LABELS)),
        ({"batch_tokens": 99}, list(LABELS)),
        ({"generation": {**SETTINGS["generation"], "max_new_tokens": 5}}, ["MOSI"]),
        ({"generation": {**SETTINGS["generation"], "seed": 8}}, ["MOSI"]),
        ({"samples": {"count": 3, "opening": 2}}, ["prose"]),
        ({"readouts": {}}, ["MOSI"]),
        ({"readout": "generation"}, ["moods"]),
    ],
)
def test_another_setting_asks_what_it_decides(
    asked: list[str], change: dict[str, Any], again: list[str]
) -> None:
    evaluate()
    asked.clear()
    evaluate(settings=SETTINGS | change)
    assert asked == again


@pytest.mark.parametrize("other", ["tuned", "base", "reading", "hardware"])
def test_other_weights_or_another_use_of_them_ask_everything(asked: list[str], other: str) -> None:
    evaluate()
    asked.clear()
    if other == "tuned":
        Path("pair.json").write_bytes(Path("seed2.json").read_bytes())
        evaluate()
    elif other == "base":
        Path("base.json").write_bytes(Path("other.json").read_bytes())
        evaluate("--reading", '{"any_base": true}')
    elif other == "reading":
        evaluate("--reading", '{"any_base": true}')
    else:
        evaluate("--hardware", '{"precision": "float32"}')
    assert asked == list(LABELS)


def test_how_often_a_training_saves_is_nothing_to_an_answer(asked: list[str]) -> None:
    evaluate()
    asked.clear()
    evaluate("--hardware", '{"save_minutes": 3}')
    assert asked == []


def test_another_code_asks_everything(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate()
    asked.clear()
    monkeypatch.setattr(
        "affectlocus.orchestration.code_digest.digest", lambda step: f"another {step}"
    )
    evaluate()
    assert asked == list(LABELS)


def test_one_task_with_other_samples_is_asked_alone(asked: list[str]) -> None:
    evaluate()
    asked.clear()
    prepare("moods", samples=5)
    evaluate()
    assert asked == ["moods"]


def test_another_cell_has_answers_of_its_own(asked: list[str]) -> None:
    evaluate()
    asked.clear()
    other = OUT.replace("gate", "up")
    CliRunner().invoke(
        app,
        ["evaluate", other, "--cells", CELL.replace("gate", "up"), "--base", "base.json",
         "--tuned", "pair.json", "--kept", "kept",
         "--data", "moods.parquet", "--settings", json.dumps(SETTINGS)],
        catch_exceptions=False,
    )  # fmt: skip
    assert asked == ["moods"]
    # Not even where its files are put in the other's place.
    (KEPT.with_name("up") / "moods.parquet").replace(KEPT / "moods.parquet")
    evaluate()
    assert asked == ["moods", "moods"]


def test_a_kept_answer_with_any_flipped_bit_is_asked_anew_or_reads_the_same(tmp_path: Path) -> None:
    answers = PredictionCache(tmp_path / "cell", {"a": 1}, {"moods": 2})
    frame = pd.DataFrame({"task": "moods", "loglik": [0.5, -1.25], "text": ["so", None]})
    answers.keep("moods", frame)
    (path,) = (tmp_path / "cell").iterdir()
    good = path.read_bytes()
    anew = 0
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        found = answers.get("moods")
        if found is None:
            anew += 1
        else:
            pd.testing.assert_frame_equal(found, frame)
    assert anew > len(good) / 8
    path.write_bytes(good[: len(good) // 2])
    assert answers.get("moods") is None


def test_a_disk_that_takes_no_more_does_not_stop_the_cell(tmp_path: Path) -> None:
    (tmp_path / "cell").write_text("in the way")
    answers = PredictionCache(tmp_path / "cell", {}, {"moods": 1})
    answers.keep("moods", pd.DataFrame({"task": ["moods"]}))
    assert answers.get("moods") is None
