"""Bases that are trained once, and found again by content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from affectlocus.core.cache_key import cache_key
from affectlocus.training.pretrained_cache import CACHE, cache_folder, cached

BYTES = {"model.safetensors": b"weights", "config.json": b"{}"}


class Training:
    """A training that counts how often it ran."""

    def __init__(self) -> None:
        self.times = 0
        self.said: list[str] = []

    def __call__(self, folder: Path) -> dict[str, float]:
        self.times += 1
        folder.mkdir(parents=True)
        for name, content in BYTES.items():
            (folder / name).write_bytes(content)
        return {"perplexity": 12.5}

    def into(self, folder: Path, name: str = "one") -> dict[str, float]:
        measured = cached(name, folder, self, self.said.append)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == BYTES
        return measured


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return Training()


def test_the_second_experiment_takes_what_the_first_trained(
    training: Training, tmp_path: Path
) -> None:
    first, second = (training.into(tmp_path / name) for name in ("a", "b"))
    assert first == second == {"perplexity": 12.5}
    assert training.times == 1
    (line,) = training.said
    assert line.startswith(f"found in the cache ({tmp_path / 'cache'}")


def test_another_recipe_text_code_or_machine_is_another_base(
    training: Training, tmp_path: Path
) -> None:
    parts = {"recipe": {"steps": 3}, "text": "ab", "code": "cd", "machine": ["x", "none"]}
    names = {cache_key(**parts)} | {cache_key(**parts | {part: "other"}) for part in parts}
    assert len(names) == 1 + len(parts)
    for name in names:
        training.into(tmp_path / name, name)
    assert training.times == len(names)


def test_switched_off_nothing_is_kept(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, "")
    for name in ("a", "b"):
        training.into(tmp_path / name)
    assert training.times == 2
    assert training.said == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_by_default_it_is_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/where/caches/are")
    assert cache_folder() == Path("/where/caches/are/affectlocus")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/of/mine")
    assert cache_folder() == Path("/home/of/mine/.cache/affectlocus")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"weightz"),
        ("model.safetensors", None),
        ("kept.json", b"{"),
        ("kept.json", b'{"measured": {}}'),
    ],
)
def test_a_damaged_entry_is_reported_and_trained_again(
    training: Training, tmp_path: Path, file: str, content: bytes | None
) -> None:
    training.into(tmp_path / "a")
    path = tmp_path / "cache/pretrained/one" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    training.into(tmp_path / "b")
    assert training.times == 2
    assert "damaged" in training.said[0]
    training.into(tmp_path / "c")
    assert training.times == 2


def test_two_runs_at_once_end_alike_and_leave_one_whole_entry(
    training: Training, tmp_path: Path
) -> None:
    other = Training()

    def slower(folder: Path) -> dict[str, float]:
        # The other run begins and ends while this one trains.
        other.into(tmp_path / "b")
        return training(folder)

    cached("one", tmp_path / "a", slower, training.said.append)
    assert (training.times, other.times) == (1, 1)
    (entry,) = (tmp_path / "cache/pretrained").iterdir()
    listed = json.loads((entry / "kept.json").read_text())
    assert [each["file"] for each in listed["files"]] == sorted(BYTES)
    training.into(tmp_path / "c")
    assert training.times == 1


def test_a_cache_that_cannot_be_written_costs_no_training(
    training: Training, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    training.into(tmp_path / "a")
    (line,) = training.said
    assert line.startswith("not added to the cache")
