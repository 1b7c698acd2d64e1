"""The users' files are read before any job, and not twice while they stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from affectlocus.errors import InputError
from affectlocus.parameters import Parameters
from affectlocus.precheck import REMEMBERED, precheck, precheck_pairs
from affectlocus.prepare import prepare

PARAMETERS = """
bases: {base: {folder: base}}
pairs: {pair: {base: base, tuned: tuned}}
tasks:
  moods:
    files: {train: train.csv, test: test.csv}
    delimiter: ";"
    columns: {text: said, label: mood}
    labels: [joy, fear]
matrix: {pairs: [pair], load: [gate], tune: [], ablate: []}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / "train.csv").write_text('said;mood\n"well; well";joy\n')
    (tmp_path / "test.csv").write_text("said;mood\noh no;fear\n")
    return tmp_path


def parameters() -> Parameters:
    return Parameters.model_validate(yaml.safe_load(PARAMETERS))


def test_good_files_pass_and_are_remembered(folder: Path) -> None:
    precheck(parameters(), folder)
    assert list(json.loads((folder / REMEMBERED).read_text())) == ["moods"]


def test_a_remembered_file_is_not_read_again_until_it_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = precheck(parameters(), folder)
    assert reports["moods"]["splits"]["test"]["labels"] == {"fear": 1}
    read: list[str] = []

    def reading(name: str, *arguments: Any) -> Any:
        read.append(name)
        return prepare(name, *arguments)

    monkeypatch.setattr("affectlocus.prepare.prepare", reading)
    assert precheck(parameters(), folder) == reports
    assert read == []
    (folder / "test.csv").write_text("said;mood\noh no, not again;fear\nhm;joy\n")
    assert precheck(parameters(), folder)["moods"]["splits"]["test"]["kept"] == 2
    assert read == ["moods"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("said;feeling\na;joy\n", "no column 'mood'"),
        ("said;mood\na;anger\n", "row 1 has the label 'anger'"),
        ("said;mood\nWell;  well;joy\n", "cannot be read as csv"),
        ('said;mood\n"WELL;  well";joy\n', "1 of 1 test texts also stand in the train split"),
    ],
)
def test_bad_files_are_named_with_their_task(folder: Path, content: str, words: str) -> None:
    (folder / "test.csv").write_text(content)
    with pytest.raises(InputError, match=r"^params\.yaml: tasks\.moods: ") as caught:
        precheck(parameters(), folder)
    assert words in str(caught.value)
    assert not (folder / REMEMBERED).exists()


def test_a_pair_on_disk_that_does_not_fit_is_named_before_anything_runs(
    checkpoint, lora, tmp_path: Path
) -> None:
    base, other = checkpoint(), checkpoint(num_hidden_layers=3)
    (tmp_path / "t.csv").write_text("text,label\ngood,joy\nbad,fear\n")
    config = {
        "bases": {"small": {"folder": str(base)}},
        "pairs": {"felt": {"base": "small", "tuned": str(lora(base, ["q_proj"]))}},
        "tasks": {
            "moods": {
                "files": {"test": "t.csv"},
                "columns": {"label": "label"},
                "labels": ["joy", "fear"],
            }
        },
        "matrix": {"pairs": ["felt"], "tune": []},
    }
    precheck_pairs(Parameters.model_validate(config), tmp_path)
    config["pairs"]["felt"]["tuned"] = str(lora(other, ["q_proj"]))
    with pytest.raises(InputError, match=r"mine\.yaml: pairs\.felt: .*layers\.2"):
        precheck_pairs(Parameters.model_validate(config), tmp_path, "mine.yaml")
