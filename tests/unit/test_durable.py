"""Final names outlast a power cut: every byte is synced before its file has the final name."""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hub import serving, start
from huggingface_hub import constants
from refusal import refused

import affectlocus
from affectlocus.checkpoints import checksums as seals
from affectlocus.checkpoints.checksums import first_changed
from affectlocus.core import durable
from affectlocus.core.files import STATE, write_json, write_text
from affectlocus.core.manifests import manifest_entry
from affectlocus.core.output_files import replacing
from affectlocus.evaluation.prediction_cache import PredictionCache
from affectlocus.training.pretrained_cache import CACHE, cached
from affectlocus.training.training_state import TrainingStates

PACKAGE = Path(affectlocus.__file__).parent
COMMIT = "a1" * 20


class Disk:
    """What a power cut would leave: it watches the real calls and keeps what each one has synced.

    Attributes:
        lost: names whose content, or a folder's list of names, was not on the disk when it got
            its final name.
        pending: folders with a name that no later sync has written.
    """

    def __init__(self) -> None:
        self.synced: dict[tuple[int, int], tuple[int, int]] = {}
        self.lost: list[str] = []
        self.pending: set[Path] = set()
        self.renamed: list[str] = []

    def fsync(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.synced[found.st_dev, found.st_ino] = found.st_size, found.st_mtime_ns
        if stat.S_ISDIR(found.st_mode):
            self.pending = {one for one in self.pending if one.stat().st_ino != found.st_ino}

    def rename(self, source: Path, target: Path) -> None:
        if target.name.endswith(".old"):  # an old folder steps aside
            return
        self.renamed.append(target.name)
        for path in (source, *source.rglob("*")) if source.is_dir() else (source,):
            found = path.lstat()
            state = found.st_size, found.st_mtime_ns
            if self.synced.get((found.st_dev, found.st_ino)) != state:
                self.lost.append(f"{target.name}: {path.relative_to(source.parent)}")
        self.pending.add(target.parent)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """The real calls still run; at the end every final name must be safe."""
    found = Disk()
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        found.fsync(descriptor)

    def renaming(real):
        def call(source, target, **options):
            found.rename(Path(source), Path(target))
            real(source, target, **options)

        return call

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renaming(rename))
    monkeypatch.setattr(os, "replace", renaming(replace))
    yield found
    assert found.renamed
    assert found.lost == []
    assert found.pending == set()


def test_a_file_is_synced_before_its_name_and_its_name_after(disk: Disk, tmp_path: Path) -> None:
    write_text(tmp_path / "new/below/table.csv", "num\n")
    write_json(tmp_path / "new/record.json", {"steps": 3})
    assert disk.renamed == ["table.csv", "record.json"]


def test_the_names_of_new_folders_are_synced(tmp_path: Path, monkeypatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(durable, "sync_names", seen.append)
    durable.make_folder(tmp_path / "a/b")
    assert seen == [tmp_path / "a", tmp_path]


def test_all_files_and_folders_of_a_tree_are_synced(disk: Disk, tmp_path: Path) -> None:
    for number in range(2):  # the second takes the first one's place
        with replacing(tmp_path / "model", "tune") as temporary:
            (temporary / "trajectory/step-1").mkdir(parents=True)
            (temporary / "model.safetensors").write_bytes(bytes(1000 + number))
            (temporary / "trajectory/step-1/weights").write_bytes(b"w")
    assert disk.renamed == ["model", "model"]


def test_answers_are_synced(disk: Disk, tmp_path: Path) -> None:
    PredictionCache(tmp_path / "answers", {}, {"mini": 1}).keep("mini", pd.DataFrame({"a": [1]}))
    assert disk.renamed == ["mini.parquet"]


def test_a_kept_base_is_synced(disk: Disk, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))

    def train(folder: Path) -> dict[str, float]:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        return {}

    cached("one", tmp_path / "made", train, print)
    assert disk.renamed == ["one"]


def test_a_saved_state_is_synced_with_its_folders(disk: Disk, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "kept").mkdir()
        (folder / "kept/snapshot").write_text("s")

    assert TrainingStates(tmp_path / "states", {}).save(9, fill)
    assert "step-00000009" in disk.renamed


def test_a_seal_vouches_for_synced_bytes(disk: Disk, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seals, "STATE", STATE)
    STATE.mkdir(parents=True)
    weights = tmp_path / "weights"
    weights.write_bytes(b"w")
    assert first_changed(tmp_path, [manifest_entry(weights)]) is None
    found = weights.stat()
    assert (found.st_dev, found.st_ino) in disk.synced
    assert len(disk.renamed) == 1


def test_a_download_is_synced(disk: Disk, tmp_path: Path, monkeypatch) -> None:
    from affectlocus.data.download import fetch

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    with serving() as hub:
        hub.files["/a.pth"] = content = b"w" * 5000
        path, _ = fetch(f"{hub.url}/a.pth", hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content
    assert disk.renamed == ["a.pth"]


# As a step of its own runs it, each synced path on standard output.
_WATCHED = """
import os, sys
real = os.fsync
def fsync(descriptor):
    real(descriptor)
    print(os.readlink(f"/proc/self/fd/{descriptor}"))
os.fsync = fsync
from affectlocus.cli import main
sys.argv[0] = "affectlocus"
main()
"""


def test_files_of_a_hub_are_synced_before_the_manifest_names_them(tmp_path: Path) -> None:
    with serving() as hub:
        hub.add("o/m", COMMIT, {"config.json": b"{}", "tokenizer.model": b"w" * 9000})
        hub.repositories["o/m"].commits[COMMIT]["model.safetensors"] = _weights()
        process = start(
            *(hub, tmp_path, "python", "-c", _WATCHED, "retrieve", "o/m"),
            *("--revision", COMMIT, "--out", "out.json"),
        )
        output, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    synced = output.splitlines()
    manifest = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    (snapshot,) = tmp_path.glob("home/hub/models--o--m/snapshots/*")
    last = max(place for place, one in enumerate(synced) if ".partial" in one)
    for entry in manifest["files"]:
        blob = (snapshot / entry["file"]).resolve()
        assert str(blob) in synced[:last]
        assert {str(blob.parent), str(snapshot)} <= set(synced[:last])


def _weights() -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save({"w": np.zeros(3, dtype=np.float32)})


def test_a_disk_that_is_full_when_it_is_synced_names_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "table.csv"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with refused("output.not-writable", file=path, reason=os.strerror(errno.ENOSPC)):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS])
def test_a_disk_that_knows_no_sync_still_takes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def unknown(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", unknown)
    write_text(tmp_path / "table.csv", "new")
    assert (tmp_path / "table.csv").read_text() == "new"


def test_only_the_module_that_syncs_gives_final_names() -> None:
    """A rename elsewhere must be of what is not yet, or no longer, in use."""
    # In output_files.py: final, aside, and back. In graft.py: shards in a temporary folder, which
    # `replacing` syncs and renames afterwards.
    allowed = {"durable.py": 1, "output_files.py": 3, "graft.py": 2}
    found: dict[str, int] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            # A path's rename has one argument; those of text and frames have two, or a keyword.
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("rename", "replace", "renames", "move")
                and (
                    (len(node.args) == 1 and not node.keywords)
                    or ast.unparse(node.func.value) in ("os", "shutil")
                )
            ):
                found[path.name] = found.get(path.name, 0) + 1
    assert found == allowed


def test_the_recorder_sees_a_rename_that_is_not_synced(tmp_path: Path) -> None:
    watched = Disk()
    file = tmp_path / "a"
    file.write_text("x")
    watched.rename(file, tmp_path / "b")
    assert watched.lost == ["b: a"]
    assert watched.pending == {tmp_path}
    descriptor = os.open(file, os.O_RDONLY)
    watched.fsync(descriptor)
    os.close(descriptor)
    watched.lost.clear()
    watched.rename(file, tmp_path / "b")
    assert watched.lost == []
