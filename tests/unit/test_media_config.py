"""Sections `media` and `tasks.X.media`: what is accepted, what is refused, what stays as it was."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusal import refused

from affectlocus.config.experiment import Parameters, load
from affectlocus.config.media import PRESETS, Medium
from affectlocus.config.tasks import Task
from affectlocus.orchestration.rule_values import settings

RECIPE = {"data": ["clips"], "rank": 4}
CONFIG: dict[str, Any] = {
    "bases": {"small": {"folder": "base"}},
    "pairs": {"felt": {"base": "small", "tuning": RECIPE}},
    "media": {"voice": {"kind": "audio", "encoder": "hubert"}},
    "tasks": {
        "clips": {
            "files": {"train": "train.csv", "test": "test.csv"},
            "columns": {"label": "label", "id": "id"},
            "labels": ["joy", "fear"],
            "media": {"voice": "voices/{id}.wav"},
        }
    },
    "matrix": {"pairs": ["felt"], "tune": []},
}


def write(folder: Path, path: str = "", value: Any = None) -> Path:
    config = copy.deepcopy(CONFIG)
    if path:
        *parents, last = path.split("/")
        inner = config
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    for name in ("train.csv", "test.csv", "base/config.json", "hubert/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def test_a_task_with_media_loads_with_the_defaults(tmp_path: Path) -> None:
    loaded = load(write(tmp_path))
    assert loaded.media["voice"].rate == 16_000
    assert loaded.media["voice"].encoder is not None
    assert loaded.media["voice"].encoder.folder == "hubert"
    assert loaded.tasks["clips"].media == {"voice": "voices/{id}.wav"}
    assert loaded.tasks["clips"].absent == "refuse"


@pytest.mark.parametrize(
    ("path", "value", "code", "said"),
    [
        ("media/voice", {"kind": "audio"}, "media.no-encoder", "kind audio needs one"),
        (
            "media/voice",
            {"kind": "features", "encoder": "hubert"},
            "media.unused-encoder",
            "remove encoder",
        ),
        (
            "media/voice",
            {"kind": "audio", "encoder": "hubert", "frames": 4},
            "media.unused-key",
            "frames has no meaning for kind audio",
        ),
        (
            "media/voice",
            {"kind": "audio", "encoder": "hubert", "clips": 4},
            "media.no-seconds",
            "the length of a clip",
        ),
        (
            "media/voice",
            {"kind": "audio", "encoder": "hubert", "starts": "float"},
            "media.no-clips",
            "settings of clips",
        ),
        (
            "media/voice",
            {"kind": "audio", "encoder": "hubert", "pool": "none", "parts": 3},
            "media.parts-without-mean",
            "found none",
        ),
        (
            "media/voice",
            {"kind": "audio", "encoder": {"url": "https://host/file"}},
            "checkpoint.not-one-source",
            "expected one of folder, hub, package",
        ),
        (
            "media/voice",
            {"kind": "audio", "encoder": {"hub": "owner/name"}},
            "checkpoint.missing-key",
            "revision is missing",
        ),
        (
            "media/voice",
            {"kind": "audio", "encoder": {"package": "tones==1.0"}},
            "checkpoint.missing-key",
            "file is missing",
        ),
        ("media/voice", {"kind": "audio", "encoder": "no"}, "media.no-config", "no config.json"),
        (
            "media/voice",
            {"preset": "affectgpt-ears", "encoder": "hubert"},
            "params.unknown-name",
            "affectgpt-audio",
        ),
        ("tasks/clips/media", {"face": "{id}.png"}, "params.unknown-name", "expected one of voice"),
        ("tasks/clips/media", {"voice": "one.wav"}, "media.no-column", "faces/{id}.png"),
        ("tasks/clips/media", {"voice": "{id:3}.wav"}, "media.not-a-column", "correct it"),
        ("tasks/clips/media", {"voice": "{id.wav"}, "media.not-a-pattern", "{column}"),
    ],
)
def test_unsound_sections_are_refused(
    tmp_path: Path, path: str, value: Any, code: str, said: str
) -> None:
    with refused(code) as caught:
        load(write(tmp_path, path, value))
    assert said in str(caught.value)


def test_absent_without_media_is_refused(tmp_path: Path) -> None:
    task = {**CONFIG["tasks"]["clips"], "absent": "drop"}
    del task["media"]
    with refused("task.absent-without-media"):
        load(write(tmp_path, "tasks/clips", task))


def test_media_of_a_table_on_the_hub_are_refused(tmp_path: Path) -> None:
    table = {"file": "a.csv", "hub": "owner/name", "revision": "main"}
    with refused("task.media-of-a-hub-table"):
        load(write(tmp_path, "tasks/clips/files", {"train": table, "test": table}))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_sound_settings_that_single_keys_override(name: str) -> None:
    medium = Medium.model_validate({"preset": name, "encoder": {"folder": "x"}})
    assert {key: getattr(medium, key) for key in PRESETS[name]} == PRESETS[name]
    changed = Medium.model_validate({"preset": name, "encoder": "x", "pool": "first"})
    assert changed.pool == "first"


def test_the_settings_of_a_job_are_read_back_as_they_were() -> None:
    for keys in (
        {"preset": "affectgpt-audio", "encoder": "x"},
        {"kind": "features"},
        {"kind": "video", "encoder": "x", "size": 64},
    ):
        medium = Medium.model_validate(keys)
        assert Medium.model_validate_json(settings(medium)) == medium


def test_a_task_without_media_has_the_settings_that_it_had_before() -> None:
    task = Task.model_validate(
        {"files": {"test": "a.csv"}, "columns": {"label": "x"}, "labels": ["a", "b"]}
    )
    assert not {"media", "absent"} & set(json.loads(settings(task.reading)))
    with_media = task.model_copy(update={"media": {"face": "{id}.png"}})
    assert {"media", "absent"} <= set(json.loads(settings(with_media.reading)))


def test_the_schema_describes_every_key_of_a_medium() -> None:
    keys = Parameters.model_json_schema()["$defs"]["Medium"]["properties"]
    assert all("description" in key for key in keys.values())
