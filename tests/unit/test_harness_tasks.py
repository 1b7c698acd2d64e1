"""Tasks of lm-evaluation-harness: what is imported, and what is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusal import refused
from typer.testing import CliRunner

from affectlocus.cli import app
from affectlocus.config.tasks import Task
from affectlocus.core.errors import InputError
from affectlocus.data.harness_tasks import import_task, task_file
from affectlocus.data.prepare import prepare

SST2 = """
tag: glue
task: sst2
dataset_path: nyu-mll/glue
dataset_name: sst2
output_type: multiple_choice
training_split: train
validation_split: validation
doc_to_text: "{{sentence}}\\nQuestion: Is this sentence positive or negative?\\nAnswer:"
doc_to_target: label
doc_to_choice: ["negative", "positive"]
num_fewshot: 5
metric_list:
  - metric: acc
  - metric: !function utils.agg
metadata:
  version: 1.0
"""
ROWS = [{"sentence": "A {warm} film.", "label": 1}, {"sentence": "Dull.", "label": 0}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "sst2.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return file


def task(tmp_path: Path, text: str = SST2, **changed: Any) -> Path:
    """A YAML file of the harness, with some keys replaced."""
    file = tmp_path / "task.yaml"
    lines = [line for line in text.splitlines() if line.partition(":")[0] not in changed]
    given = [f"{key}: {value}" for key, value in changed.items() if value is not None]
    file.write_text("\n".join([*lines, *given]))
    return file


def test_a_task_with_one_list_of_answers_is_imported(tmp_path: Path, data: Path) -> None:
    found = import_task(task(tmp_path), {"test": data}, "control")
    assert found.name == "sst2"
    assert found.keys == {
        "domain": "control",
        "files": {"test": data.as_posix()},
        "columns": {"text": "sentence", "label": "label"},
        "labels": {"0": "negative", "1": "positive"},
        "prompt": "{sentence}\nQuestion: Is this sentence positive or negative?\nAnswer:",
    }
    few, metrics = found.notes
    assert few.startswith("num_fewshot 5 is left out")
    assert "not by acc" in metrics


def test_what_is_imported_is_what_prepare_reads(tmp_path: Path, data: Path) -> None:
    found = import_task(task(tmp_path, description='"Read {this}. "'), {"test": data})
    keys = yaml.safe_load(found.text)["tasks"]["sst2"]
    samples, _ = prepare("sst2", Task.model_validate(keys), {"test": data})
    question = "Question: Is this sentence positive or negative?\nAnswer:"
    assert samples["prompt"].tolist() == [
        f"Read {{this}}. {row['sentence']}\n{question}" for row in ROWS
    ]
    assert samples["answer"].tolist() == ["positive", "negative"]


@pytest.mark.parametrize(
    ("choices", "target", "labels"),
    [
        ('["negative", "positive"]', '"{{label}}"', {"0": "negative", "1": "positive"}),
        ("\"['no', 'yes']\"", "label", {"0": "no", "1": "yes"}),
        ("{a: A, b: B}", "label", {"0": "A", "1": "B"}),
        ("['1', '0']", "label", ["1", "0"]),
    ],
)
def test_answers_may_be_written_in_several_ways(
    tmp_path: Path, data: Path, choices: str, target: str, labels: Any
) -> None:
    file = task(tmp_path, doc_to_choice=choices, doc_to_target=target)
    assert import_task(file, {"test": data}).keys["labels"] == labels


def test_a_file_that_includes_another_has_its_keys(tmp_path: Path, data: Path) -> None:
    (tmp_path / "_base.yaml").write_text(SST2)
    file = tmp_path / "mine.yaml"
    file.write_text("include: _base.yaml\ntask: mine\ndoc_to_text: sentence\n")
    found = import_task(file, {"test": data})
    assert (found.name, found.keys["prompt"]) == ("mine", "{sentence}")


def test_the_local_files_of_a_task_are_its_data(tmp_path: Path, data: Path) -> None:
    kwargs = "{data_files: {train: sst2.jsonl, validation: [sst2.jsonl]}}"
    file = task(tmp_path, dataset_path="json", dataset_kwargs=kwargs)
    files = import_task(file).keys["files"]
    assert files == {"train": data.as_posix(), "test": data.as_posix()}


@pytest.mark.parametrize(
    ("changed", "code", "fields"),
    [
        ({"output_type": "generate_until"}, "harness.output-type", {"found": "generate_until"}),
        ({"output_type": None}, "harness.output-type", {"found": "generate_until"}),
        (
            {"process_docs": "!function utils.clean"},
            "harness.function",
            {"key": "process_docs", "found": "utils.clean"},
        ),
        (
            {"doc_to_text": "!function utils.text"},
            "harness.function",
            {"key": "doc_to_text", "found": "utils.text"},
        ),
        (
            {"doc_to_text": '"{{sentence|trim}} so"'},
            "harness.jinja",
            {"key": "doc_to_text", "found": "{{sentence|trim}}"},
        ),
        (
            {"doc_to_text": '"{% if label %}x{% endif %}"'},
            "harness.jinja",
            {"found": "{% if label %}"},
        ),
        ({"doc_to_text": '"{{sentense}}"'}, "harness.no-column", {"found": "sentense"}),
        (
            {"doc_to_target": '"{{choices.index(label)}}"'},
            "harness.not-a-column",
            {"key": "doc_to_target"},
        ),
        (
            {"doc_to_choice": '"{{[sentence, label]}}"'},
            "harness.choices-differ",
            {"key": "doc_to_choice"},
        ),
        ({"doc_to_choice": "sentence"}, "harness.choices-differ", {"found": "sentence"}),
        ({"doc_to_choice": None}, "harness.missing-key", {"key": "doc_to_choice"}),
        ({"doc_to_choice": "[only]"}, "harness.label-is-no-choice", {"found": "1"}),
        ({"filter_list": "[{name: x}]"}, "harness.unsupported-key", {"key": "filter_list"}),
        ({"target_delimiter": '""'}, "harness.delimiter", {"found": ""}),
        ({"doc_to_text": '"{{sentence}} "'}, "harness.prompt-ends-with-space", {}),
        ({"task": "[sst2, cola]"}, "harness.group", {}),
        ({"include": "task.yaml"}, "harness.include-loop", {}),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(
    tmp_path: Path, data: Path, changed: dict[str, Any], code: str, fields: dict[str, Any]
) -> None:
    with refused(code, **fields) as error:
        import_task(task(tmp_path, **changed), {"test": data})
    assert "task.yaml: " in str(error.value)


def test_data_that_are_not_at_hand_are_asked_for(tmp_path: Path) -> None:
    with refused("harness.no-data", found="nyu-mll/glue/sst2") as error:
        import_task(task(tmp_path))
    assert "download the validation split" in str(error.value)
    assert "--file test=PATH" in str(error.value)


def test_a_task_is_found_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "tasks/glue"
    folder.mkdir(parents=True)
    (folder / "default.yaml").write_text(SST2)
    assert task_file("sst2", tmp_path / "tasks") == folder / "default.yaml"
    with refused("harness.no-task", found="sst"):
        task_file("sst", tmp_path / "tasks")
    with refused("harness.no-folder", found=str(tmp_path / "none")):
        task_file("sst2", tmp_path / "none")
    with refused("harness.no-file", file=tmp_path / "sst2.yaml"):
        task_file(str(tmp_path / "sst2.yaml"))


def test_the_command_prints_a_section_and_notes_apart(tmp_path: Path, data: Path) -> None:
    file = task(tmp_path)
    given = ["import-task", str(file), "--file", f"test={data}"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.stdout)["tasks"]["sst2"]["domain"] == "affective"
    assert done.stderr.count("note: ") == 2
    done = CliRunner().invoke(app, [*given[:2], "--file", str(data)])
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "option.not-a-split"
