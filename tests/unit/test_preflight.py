"""The users' files are read before any job, and not twice while they stay as they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusal import refused
from wheel_files import write_wheels

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.config.experiment import Parameters
from affectlocus.core.errors import CombinedError, InputError
from affectlocus.data.prepare import prepare
from affectlocus.orchestration.preflight import (
    REMEMBERED,
    check_data,
    check_pairs,
    check_wheels,
    examined,
    examined_pairs,
    listed_media,
    remember,
    remembered_media,
)

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
    (tmp_path / REMEMBERED).parent.mkdir()
    (tmp_path / "train.csv").write_text('said;mood\n"well; well";joy\n')
    (tmp_path / "test.csv").write_text("said;mood\noh no;fear\n")
    return tmp_path


def parameters() -> Parameters:
    return Parameters.model_validate(yaml.safe_load(PARAMETERS))


def test_good_files_pass_and_nothing_is_written_until_a_run_begins(folder: Path) -> None:
    found = examined(parameters(), folder)
    assert not (folder / REMEMBERED).exists()
    remember(folder, found)
    assert list(json.loads((folder / REMEMBERED).read_text())) == ["moods"]


def test_a_data_set_on_the_hub_is_left_to_its_job_unless_downloads_are_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(PARAMETERS)
    config["tasks"]["moods"]["files"]["test"] = {"hub": "o/n", "revision": "main", "file": "t.csv"}
    asked: list[str] = []

    def retrieve(hub: str, *_: Any) -> Any:
        asked.append(hub)
        raise InputError("download.no-network", "no network")

    monkeypatch.setattr("affectlocus.data.sources.retrieve_table", retrieve)
    loaded = Parameters.model_validate(config)
    before = sorted(folder.rglob("*"))
    assert examined(loaded, folder) == {}
    assert (asked, sorted(folder.rglob("*"))) == ([], before)
    with refused("download.no-network", task="moods"):
        examined(loaded, folder, download=True)


def test_a_remembered_file_is_not_read_again_until_it_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = check_data(parameters(), folder)
    remember(folder, examined(parameters(), folder))
    assert reports["moods"]["splits"]["test"]["labels"] == {"fear": 1}
    read: list[str] = []

    def reading(name: str, *arguments: Any) -> Any:
        read.append(name)
        return prepare(name, *arguments)

    monkeypatch.setattr("affectlocus.data.prepare.prepare", reading)
    assert check_data(parameters(), folder) == reports
    assert read == []
    (folder / "test.csv").write_text("said;mood\noh no, not again;fear\nhm;joy\n")
    assert check_data(parameters(), folder)["moods"]["splits"]["test"]["kept"] == 2
    assert read == ["moods"]


@pytest.mark.parametrize(
    ("content", "code", "fields"),
    [
        ("said;feeling\na;joy\n", "table.no-column", {"column": "mood"}),
        ("said;mood\na;anger\n", "label.unlisted", {"row": 1, "found": ["anger"]}),
        ("said;mood\nWell;  well;joy\n", "table.row-too-long", {"line": 2, "found": 3}),
        ('said;mood\n"WELL;  well";joy\n', "split.overlap", {"split": "train", "found": 1}),
    ],
)
def test_bad_files_are_named_with_their_task(
    folder: Path, content: str, code: str, fields: dict[str, Any]
) -> None:
    (folder / "test.csv").write_text(content)
    with refused(code, task="moods", **fields) as caught:
        check_data(parameters(), folder)
    assert str(caught.value).startswith("params.yaml: tasks.moods: ")
    assert not (folder / REMEMBERED).exists()


def test_the_files_of_all_tasks_are_named_at_once(folder: Path) -> None:
    config = yaml.safe_load(PARAMETERS)
    config["tasks"]["others"] = config["tasks"]["moods"] | {"labels": ["joy", "grief"]}
    (folder / "train.csv").write_text("said\nwell\n")
    with pytest.raises(CombinedError) as caught:
        examined(Parameters.model_validate(config), folder)
    assert {one.fields["task"] for one in caught.value.problems} == {"moods", "others"}


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
    check_pairs(Parameters.model_validate(config), tmp_path)
    config["pairs"]["felt"]["tuned"] = str(lora(other, ["q_proj"]))
    with refused("pair.tensor-not-in-base", pair="felt"):
        check_pairs(Parameters.model_validate(config), tmp_path, "mine.yaml")


MOODS = "{files: {test: t.csv}, columns: {label: label}, labels: [joy, fear]}"


def test_a_pair_that_passed_is_read_again_only_after_a_change(
    checkpoint, lora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = lora(base := checkpoint(), ["q_proj"])
    config = {
        "bases": {"small": {"folder": str(base)}},
        "pairs": {"felt": {"base": "small", "tuned": str(adapter)}},
        "tasks": {"moods": yaml.safe_load(MOODS)},
        "matrix": {"pairs": ["felt"], "tune": []},
    }
    (tmp_path / "t.csv").write_text("text,label\ngood,joy\nbad,fear\n")
    parameters = Parameters.model_validate(config)
    read: list[Path] = []
    real = ModelPair.__init__

    def counted(pair: ModelPair, base: Any, tuned: Path, **reading: Any) -> None:
        read.append(tuned)
        real(pair, base, tuned, **reading)

    monkeypatch.setattr(ModelPair, "__init__", counted)
    found = examined_pairs(parameters, tmp_path)
    assert not (tmp_path / REMEMBERED).exists()
    remember(tmp_path, found)
    assert examined_pairs(parameters, tmp_path) == found
    assert len(read) == 1
    os.utime(adapter / "adapter_model.safetensors", ns=(1, 1))
    assert examined_pairs(parameters, tmp_path) != found
    config["pairs"]["felt"]["reading"] = {"any_base": True}
    examined_pairs(Parameters.model_validate(config), tmp_path)
    assert len(read) == 3


SPOKEN = """
bases: {base: {folder: base}}
pairs: {pair: {base: base, tuned: tuned}}
tasks:
  moods:
    files: {test: test.csv}
    columns: {text: said, label: mood}
    labels: LABELS
matrix: {pairs: [pair], load: [gate], tune: [], ablate: []}
evaluate: {readout: generation}
score: {protocols: {moods: mer-unibench}, wheels: wheels, own_wheels: true}
"""


def unscored(folder: Path, labels: list[str]) -> list[str]:
    """What `check_wheels` says of a test split with each of these labels, twice the first."""
    write_wheels(folder / "wheels")
    rows = "".join(f"text {n},{label}\n" for n, label in enumerate([labels[0], *labels]))
    (folder / "test.csv").write_text(f"said,mood\n{rows}")
    config = yaml.safe_load(SPOKEN)
    config["tasks"]["moods"]["labels"] = [*labels, "never"]
    parsed = Parameters.model_validate(config)
    return check_wheels(parsed, folder, check_data(parsed, folder), "mine.yaml")


def test_labels_that_a_protocol_leaves_unscored_are_counted_before_anything_runs(
    tmp_path: Path,
) -> None:
    # Neutral, sunny: on no wheel. Anger: not on the fifth. Furious: no form, but a wheel word.
    assert unscored(tmp_path, ["Sunny", "joy", "neutral", "anger", "furious"]) == [
        "moods: mer-unibench does not score 'Sunny' on any wheel, 2 test samples",
        "moods: corrected does not score 'Sunny' on any wheel, 2 test samples",
        "moods: mer-unibench does not score 'neutral' on any wheel, 1 test samples",
        "moods: mer-unibench does not score 'anger' on wheel 5, 1 test samples",
        "moods: corrected does not score 'anger' on wheel 5, 1 test samples",
        "moods: mer-unibench does not score 'furious' on any wheel, 1 test samples",
        "moods: corrected does not score 'furious' on wheel 5, 1 test samples",
    ]


def test_labels_without_a_hit_rate_on_some_wheel_are_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    key = "score.protocols.moods"
    labels = ["anger", "neutral"]
    with refused("score.no-label-on-wheel", file="mine.yaml", key=key, wheel=5, found=labels):
        unscored(tmp_path, labels)


def test_wheels_that_are_not_the_released_ones_are_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    write_wheels(tmp_path / "wheels")
    config = yaml.safe_load(SPOKEN)
    config["tasks"]["moods"]["labels"] = ["joy", "anger"]
    config["score"]["own_wheels"] = False
    with refused("wheel.not-released", key="score.wheels"):
        check_wheels(Parameters.model_validate(config), tmp_path, {})


def test_valence_needs_no_wheels(tmp_path: Path) -> None:
    config = yaml.safe_load(SPOKEN)
    config["tasks"]["moods"]["labels"] = ["positive", "negative"]
    assert check_wheels(Parameters.model_validate(config), tmp_path, {}) == []


def test_layers_that_an_adapter_misses_are_counted_before_anything_runs(
    checkpoint, lora, tmp_path: Path
) -> None:
    base = checkpoint(num_hidden_layers=3)
    config = {
        "bases": {"small": {"folder": str(base)}},
        "pairs": {
            "some": {
                "base": "small",
                "tuned": str(lora(base, ["q_proj"], layers_to_transform=[1])),
            },
            "every": {"base": "small", "tuned": str(lora(base, ["q_proj"]))},
        },
        "tasks": {"moods": yaml.safe_load(MOODS)},
        "matrix": {"pairs": ["some", "every"], "tune": []},
    }
    (note,) = check_pairs(Parameters.model_validate(config), tmp_path)
    assert note.startswith("pairs.some: ")
    assert "1 of 3 layers adapted (1)" in note


def test_media_files_are_listed_and_a_missing_one_is_found_before_any_job(folder: Path) -> None:
    config = yaml.safe_load(PARAMETERS)
    config["media"] = {"voice": {"kind": "features"}}
    config["tasks"]["moods"]["media"] = {"voice": "{mood}.npy"}
    (folder / "joy.npy").touch()
    loaded = Parameters.model_validate(config)
    with refused("task.no-media-file", file=folder / "fear.npy", found=1):
        examined(loaded, folder)
    (folder / "fear.npy").touch()
    found = examined(loaded, folder)
    assert listed_media(found) == {"moods": {"voice": ["joy.npy", "fear.npy"]}}
    remember(folder, found)
    assert remembered_media(folder) == listed_media(found)
    # The table is not read again; the files are still looked for.
    (folder / "joy.npy").unlink()
    with refused("task.no-media-file", file=folder / "joy.npy"):
        examined(loaded, folder)
    config["tasks"]["moods"]["absent"] = "drop"
    assert "moods" in examined(Parameters.model_validate(config), folder)
