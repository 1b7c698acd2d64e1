"""A checkpoint's bytes against its manifest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from affectlocus.checkpoints import checksums as seals
from affectlocus.checkpoints.checksums import first_changed
from affectlocus.core.files import STATE
from affectlocus.core.manifests import manifest_entry

Entries = list[dict[str, Any]]


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entries:
    """Two files in an experiment's folder, as a manifest lists them."""
    monkeypatch.chdir(tmp_path)
    STATE.mkdir()
    Path("weights").mkdir()
    for name in ("a", "b"):
        Path(f"weights/{name}").write_bytes(name.encode() * 1000)
    return [manifest_entry(Path(f"weights/{name}")) for name in ("a", "b")]


def flip(path: Path) -> None:
    """One bit, without a trace in size and time of change."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read whole from now on."""
    seen: list[str] = []
    real = seals.sha256

    def watched(path: Path) -> str:
        seen.append(path.name)
        return real(path)

    monkeypatch.setattr(seals, "sha256", watched)
    return seen


def test_whole_files_are_read_once_and_then_known(
    listed: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = reads(monkeypatch)
    assert first_changed(Path("weights"), listed) is None
    assert sorted(seen) == ["a", "b"]
    assert first_changed(Path("weights"), listed) is None
    assert sorted(seen) == ["a", "b"]


@pytest.mark.parametrize("known", [True, False])
def test_a_flipped_bit_is_found_even_where_the_time_was_put_back(
    listed: Entries, known: bool
) -> None:
    if known:
        assert first_changed(Path("weights"), listed) is None
    flip(Path("weights/b"))
    assert first_changed(Path("weights"), listed) == Path("weights/b")
    flip(Path("weights/b"))
    assert first_changed(Path("weights"), listed) is None


def test_another_manifest_of_the_same_file_is_held_against_it_anew(listed: Entries) -> None:
    assert first_changed(Path("weights"), listed) is None
    other = [listed[0], {**listed[1], "sha256": "0" * 64}]
    assert first_changed(Path("weights"), other) == Path("weights/b")


def test_outside_of_a_runs_folder_nothing_is_kept(
    listed: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert first_changed(tmp_path / "weights", listed) is None
    assert not list(elsewhere.iterdir())
