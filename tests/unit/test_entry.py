"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import in_process
from pydantic import BaseModel
from refusal import printed_code
from typer.testing import CliRunner

from affectlocus.cli import app
from affectlocus.config import corpus, evaluation, scoring, tasks, tuning
from affectlocus.config.cells import CellFields
from affectlocus.config.experiment import schema_text
from affectlocus.core.cells import Cell
from affectlocus.core.errors import exit_on_error
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.predictions import Predictions

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    str(command.callback.__name__).replace("_", "-") for command in app.registered_commands
)
LABELLED = {"files": {"test": "x"}, "columns": {"label": "mood"}, "labels": ["joy", "fear"]}
TASK = json.dumps(LABELLED)


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # Narrow terminals break lines; a test reads whole ones.
    return in_process(folder, *arguments, COLUMNS="400", NO_COLOR="1")


def refusal(code: str, folder: Path, *arguments: str | Path) -> str:
    """The one line on stderr of a command that is refused with this code, and writes nothing."""
    before = sorted(folder.rglob("*"))
    done = run(folder, *arguments)
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert sorted(folder.rglob("*")) == before
    assert printed_code(done.stderr) == code
    assert line.startswith("affectlocus: ")
    return line.removeprefix("affectlocus: ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few good files and a few that are none."""
    (tmp_path / "bad.csv").write_text("text,mood\nI won,rage\n")
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "list.yaml").write_text("- 1\n")
    said = pd.DataFrame({"task": ["moods"], "sample": "1", "label": "joy", "loglik": -1.0})
    predictions = Predictions(Cell("base", "b"), {"moods": ["joy", "fear"]}, said.assign(text="a"))
    predictions.write(tmp_path / "said.parquet")
    (tmp_path / "latin.yaml").write_bytes("seed: é".encode("latin-1"))
    parameters = {
        "bases": {"a/b": {"folder": "x"}},
        "pairs": {"p": {"base": "q", "tuned": "t"}},
        "tasks": {"moods": LABELLED},
        "matrix": {"pairs": ["p"]},
    }
    (tmp_path / "params.yaml").write_text(json.dumps(parameters))
    return tmp_path


PREPARE = ("--name", "moods", "--out", "a.parquet", "--report", "a.json", "--settings")
CORPUS = ("corpus", "--out", "made", "--settings")
EXTRACT = ("extract", "said.parquet", "--model", "nowhere", "--cache", "c", "--out", "o.parquet")


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ((*CORPUS, '{"sead": 1}'), "params.unknown-key", "--settings: sead: "),
        ((*CORPUS, '{"seed": -1}'), "params.invalid-value", "--settings: seed: found -1"),
        ((*CORPUS, '{"seed":'), "params.not-yaml", "--settings: "),
        ((*CORPUS, "nowhere.yaml"), "option.unreadable-file", "nowhere.yaml"),
        ((*CORPUS, "list.yaml"), "params.invalid-value", "list.yaml: "),
        (("score", "text.parquet", "--settings", "{}", "--out", "a"), "table.damaged", "text.parq"),
        (("figures", "--out", "a"), "option.not-one-figure", "--heat-map, --grid, --trajectory"),
        (EXTRACT, "model.not-found", "--model nowhere"),
        ((*EXTRACT[:2], "--model", ".", *EXTRACT[4:]), "model.no-config", "--model ."),
        (("ledger", "nowhere.json"), "json.no-file", "nowhere.json"),
        (("ledger", "config.json", "--method", "all"), "option.unknown-value", "--method"),
        (("ledger", "c.json", "--modules", "gat"), "modules.unknown-projection", "'gat'"),
        (("neurons",), "option.missing", "--affective or --others"),
        (("neurons", "--share", "2"), "option.out-of-range", "--share 2"),
        (
            ("directions", "--base", "b.json", "--tuned", "t.json"),
            "option.too-few-checkpoints",
            "--tuned",
        ),
        (("check",), "params.not-a-file-name", "params.yaml: bases.a/b: "),
        (("check", "nowhere.yaml"), "params.no-file", "nowhere.yaml"),
        (
            ("graft", "--base", "b", "--tuned", "t", "--modules", "gat", "--out", "a"),
            "modules.unknown-projection",
            "'gat'",
        ),
    ],
)
def test_bad_input_ends_in_one_line_with_exit_code_1_and_writes_nothing(
    folder: Path, arguments: tuple[str, ...], code: str, named: str
) -> None:
    assert named in refusal(code, folder, *arguments)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device", "out/a.csv"), PermissionError(13, "denied", "a\nb")],
)
def test_what_the_system_refuses_is_one_line_that_names_the_file(
    error: OSError, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit, match="1"):
        exit_on_error(fail)
    (line,) = capsys.readouterr().err.splitlines()
    assert line in (
        "affectlocus: out/a.csv: No space left on device [system.error]",
        "affectlocus: a\N{REPLACEMENT CHARACTER}b: denied [system.error]",
    )


def test_memory_that_runs_out_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        exit_on_error(np.ones, 2**50)
    (line,) = capsys.readouterr().err.splitlines()
    assert printed_code(line) == "system.out-of-memory"


def test_an_unexpected_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_on_error(divmod, 1, 0)


def test_a_manifest_does_not_take_a_folders_place(folder: Path) -> None:
    (folder / "there").mkdir()
    refusal("output.is-a-folder", folder, "retrieve", "nowhere", "--out", "there")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(
            (*CORPUS, "latin.yaml"), "option.unreadable-file", id="settings that are not UTF-8"
        ),
        pytest.param(("check", "."), "params.not-a-file-name", id="a folder for a params.yaml"),
    ],
)
def test_bad_input_is_never_a_traceback(
    folder: Path, arguments: tuple[str, ...], code: str
) -> None:
    refusal(code, folder, *arguments)


def test_a_complaint_about_settings_as_a_whole_has_no_empty_key(folder: Path) -> None:
    recipe = '{"architecture": "llama", "heads": 3}'
    options = ("--text", "t", "--settings", recipe, "--folder", "f", "--out", "a")
    line = refusal("model.uneven-heads", folder, "pretrain", *options)
    assert line.startswith("--settings: hidden_size 64 ")


def help_text(*arguments: str) -> str:
    """What --help prints, by the commands themselves but in this process: 17 are many to start."""
    done = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "400"})
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example_of_that_command(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the command line would set it for good
    assert f"Example: affectlocus {command}" in help_text(command)


def test_help_without_a_command_lists_every_command() -> None:
    assert all(f"  {command} " in help_text() for command in COMMANDS)


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "peft", "pandas", "numpy", "matplotlib", "sklearn"]
    heavy += ["huggingface_hub", "httpx2"]
    code = f"import sys, affectlocus.cli; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_embedded_default_checks_as_good(tmp_path: Path) -> None:
    done = run(tmp_path, "check", ROOT / "params.yaml")
    assert done.returncode == 0
    assert "10 benchmarks; cells: 30 base, 75 tuned, 391 load, 187 tune, 360 ablate." in done.stdout


def test_the_schema_is_written_where_asked_for(tmp_path: Path) -> None:
    assert run(tmp_path, "schema", "--out", "new/schema.json").returncode == 0
    assert (tmp_path / "new/schema.json").read_text(encoding="utf-8") == schema_text()


def test_a_corpus_is_prepared_from_settings_in_a_yaml_file(tmp_path: Path) -> None:
    sizes = "documents: 5\ntuning_samples: 5\ncontrol_samples: 5\nbenchmark_samples: 6\n"
    (tmp_path / "corpus.yaml").write_text(sizes)
    labels = ["positive", "negative"]
    settings = {"corpus": True, "columns": {"label": "label"}, "labels": labels}
    (tmp_path / "task.yaml").write_text(json.dumps(settings | {"prompt": "{text} {question}"}))
    assert run(tmp_path, *CORPUS, "corpus.yaml").stderr == ""
    done = run(tmp_path, "prepare", "--all", "made/mini-MOSI.csv", *PREPARE, "task.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    task = PreparedTask.read(tmp_path / "a.parquet")
    assert (task.name, task.labels) == ("moods", labels)
    samples = task.samples
    assert samples["split"].value_counts().to_dict() == {"train": 6, "validation": 6, "test": 6}
    assert samples["prompt"].str.endswith("the news was").all()
    assert json.loads((tmp_path / "a.json").read_text())["splits"]["test"]["kept"] == 6


@pytest.mark.parametrize("named", [{}, {"files": {"train": "x.csv", "test": "y.csv"}}])
def test_a_task_is_prepared_from_the_files_of_its_options(tmp_path: Path, named: dict) -> None:
    (tmp_path / "a.csv").write_text("text,mood\nI won,joy\nHow dare you,anger\n")
    (tmp_path / "b.csv").write_text("text,mood\nGo away,anger\n")
    task = {"columns": {"label": "mood"}, "labels": ["joy", "anger"], "prompt": "{text}"}
    files = ("--train", "a.csv", "--test", "b.csv")
    done = run(tmp_path, "prepare", *files, *PREPARE, json.dumps(task | named))
    assert (done.returncode, done.stderr) == (0, "")
    samples = pd.read_parquet(tmp_path / "a.parquet")
    assert samples[["split", "prompt", "answer"]].to_numpy().tolist() == [
        ["train", "I won", "joy"],
        ["train", "How dare you", "anger"],
        ["test", "Go away", "anger"],
    ]
    report = json.loads((tmp_path / "a.json").read_text())["splits"]
    assert {split: one["file"] for split, one in report.items()} == {
        "train": "a.csv", "test": "b.csv",
    }  # fmt: skip


def test_options_of_files_that_exclude_each_other_are_refused(folder: Path) -> None:
    task = json.dumps({key: LABELLED[key] for key in ("columns", "labels")})
    both = ("prepare", "--all", "bad.csv", "--test", "bad.csv", *PREPARE, task)
    refusal("task.overlapping-files", folder, *both)
    refusal("task.not-one-source", folder, "prepare", *PREPARE, task)


def test_answers_go_through_score_and_tables_to_the_terminal(tmp_path: Path) -> None:
    cells = {"base": Cell("base", "b"), "q": Cell("load", "b", "p", "q")}
    cells["tuned"] = Cell("tuned", "b", "p")
    for number, (name, cell) in enumerate(cells.items()):
        # Two right answers more with every cell: 0, 2 and 4 of 4.
        truth = ["joy", "fear"] * 2
        answers = [t if i < 2 * number else {"joy": "fear", "fear": "joy"}[t]
                   for i, t in enumerate(truth)]  # fmt: skip
        frame = pd.DataFrame(
            [
                ("moods", str(i), truth[i], word, -1.0 if word == answers[i] else -2.0)
                for i in range(4)
                for word in ("joy", "fear")
            ],
            columns=["task", "sample", "label", "candidate", "loglik"],
        )
        predictions = Predictions(cell, {"moods": ["joy", "fear"]}, frame)
        predictions.write(tmp_path / f"{name}.parquet")
    names = [f"{name}.parquet" for name in cells]
    settings = '{"resamples": 100}'
    for arguments in (
        ("score", *names, "--settings", settings, "--out", "scores.parquet"),
        ("tables", "--scores", "scores.parquet", "--metric", "accuracy", "--out", "t.csv",
         "--intervals", "i.csv"),
    ):  # fmt: skip
        done = run(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "num,modules,moods,mean,auc,top_answer,one_answer",
        "0,base,0.00,0.00,0.00,50.00,0",
        "1,q,50.00,50.00,50.00,50.00,0",
        "2,all,100.00,100.00,100.00,50.00,0",
    ]
    intervals = pd.read_csv(tmp_path / "i.csv")
    assert intervals["gain"].tolist() == [0, 0, 50, 50, 100, 100]
    shown = run(tmp_path, "show", "t.csv", "--results", ".").stdout
    assert "100.00" in shown
    assert "scores.parquet" in shown.splitlines()


def test_a_number_s_errors_and_the_baselines_go_through_the_command_line(tmp_path: Path) -> None:
    words = ["0.", "1.", "2."]
    truth = ["0.", "2.", "2.", "1."]
    rows = [
        ("phq", str(i), label, word, -float(word != "1."))
        for i, label in enumerate(truth)
        for word in words
    ]
    frame = pd.DataFrame(rows, columns=["task", "sample", "label", "candidate", "loglik"])
    Predictions(Cell("base", "b"), {"phq": words}, frame).write(tmp_path / "base.parquet")
    samples = pd.DataFrame({"id": "", "split": "test", "text": "", "prompt": "", "answer": truth})
    PreparedTask("phq", words, samples).write(tmp_path / "phq.parquet")
    number = {"highest": 2, "ending": ".", "readout": "likeliest", "cutoff": 2}
    tasks = json.dumps({"phq": {"number": number}})
    settings = ("--settings", '{"resamples": 100}', "--tasks", tasks)
    for arguments in (
        ("score", "base.parquet", *settings, "--out", "scores.parquet"),
        ("tables", "--scores", "scores.parquet", "--metric", "accuracy", "--out", "t.csv",
         "--intervals", "t_intervals.csv", "--baselines", "t_baselines.csv",
         "--data", "phq.parquet", *settings),
    ):  # fmt: skip
        done = run(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    scores = pd.read_parquet(tmp_path / "scores.parquet").set_index("metric")["value"]
    assert scores["mae"] == 0.75
    # "2 and above" is never read out, and right for two of four.
    head, row = (tmp_path / "t.csv").read_text().splitlines()
    assert head.startswith("num,modules,phq,mean,")
    assert row.startswith("0,base,50.00,50.00,")
    shown = run(tmp_path, "show", "t.csv").stdout
    assert "majority answer" in shown
    baselines = pd.read_csv(tmp_path / "t_baselines.csv").set_index(["baseline", "task", "metric"])
    assert baselines["value"]["majority", "phq", "mae"] == 0.75
    assert baselines["value"]["uniform", "phq", "accuracy"] == 50


def test_baselines_need_the_prepared_tasks(tmp_path: Path) -> None:
    done = run(tmp_path, "tables", "--scores", "s", "--metric", "accuracy", "--out", "t.csv",
               "--intervals", "i.csv", "--baselines", "b.csv")  # fmt: skip
    assert done.returncode == 1
    assert printed_code(done.stderr) == "option.missing"
    assert done.stderr.startswith("affectlocus: --data is missing")


def test_the_help_of_evaluate_names_every_field_of_a_cell() -> None:
    said = " ".join(help_text("evaluate", "--help").split())
    for key in CellFields.model_fields:
        assert re.search(rf"\b{key}\b", said), key


@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("corpus", corpus.Corpus),
        ("pretrain", corpus.Pretraining),
        ("prepare", tasks.Task),
        ("tune", tuning.Tuning),
        ("evaluate", evaluation.Evaluate),
        ("extract", evaluation.Extraction),
        ("score", scoring.Score),
    ],
)
def test_the_help_of_settings_names_every_key_of_its_section(
    command: str, model: type[BaseModel]
) -> None:
    said = " ".join(help_text(command, "--help").split())
    for key in model.model_fields:
        assert re.search(rf"\b{key}\b", said), key
