"""Damage in an experiment's folder is found, and put right without deleting anything."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml
from refusal import refused

from affectlocus.config.experiment import Parameters
from affectlocus.core.files import STATE, check_whole, write_json
from affectlocus.core.manifests import manifest_entry
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.doctor import (
    Finding,
    at_a_glance,
    examine,
    leftovers,
    next_step,
    repair,
)

FRAME = pd.DataFrame({"a": [1, 2]})
PARAMETERS = """
corpus: {}
bases:
  mine: {folder: mine}
  tiny: {pretrain: {architecture: qwen2}}
  far: {hub: owner/name, revision: main}
pairs: {felt: {base: tiny, tuning: {data: [mini-caption]}}}
tasks:
  mini-caption: {corpus: true, columns: {target: target}}
  mini-MOSI: {corpus: true, columns: {label: label}, labels: [positive, negative]}
matrix: {pairs: [felt], load: [gate], tune: [], ablate: []}
"""


@pytest.fixture(scope="module")
def jobs() -> Dag:
    return Dag(Parameters.model_validate(yaml.safe_load(PARAMETERS)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment with a result of each kind, weights, and things of a user beside them."""
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    (results / "logs").mkdir(parents=True)
    (tmp_path / STATE).mkdir()
    FRAME.to_parquet(results / "a.parquet")
    FRAME.to_csv(results / "a.csv", index=False)
    write_json(results / "a.json", {"a": 1})
    figure = plt.figure()
    for kind in ("png", "svg"):
        figure.savefig(results / f"a.{kind}")
    plt.close(figure)
    (results / "a.html").write_text("<html>\n</html>")
    (results / "README.md").touch()
    (results / ".gitkeep").touch()
    (results / "logs/a.txt").touch()
    for name, place in (
        ("tiny", "checkpoints/tiny"),
        ("felt.seed0", "checkpoints/felt.seed0"),
        ("mine", "mine"),
        ("far", "cache/far"),
    ):
        weights = tmp_path / place / "model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(name.encode() * 100)
        record = {"folder": place, "files": [manifest_entry(weights)]}
        write_json(results / f"checkpoints/{name}.json", record)
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        name: path.read_bytes()
        for path in files
        if not (name := path.relative_to(folder).as_posix()).startswith(f"{STATE}/seals")
    }


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def test_a_whole_experiment_has_no_damage(folder: Path, jobs: Dag) -> None:
    before = tree(folder)
    assert examine(Path(), jobs) == []
    assert tree(folder) == before


@pytest.mark.parametrize("kind", ["parquet", "csv", "json", "png", "svg", "html"])
@pytest.mark.parametrize("left", [0.0, 0.5, 1.0])
def test_a_cut_result_is_named_and_moved_aside(
    folder: Path, jobs: Dag, kind: str, left: float
) -> None:
    path = folder / f"results/a.{kind}"
    size = path.stat().st_size
    kept = min(int(size * left), size - 1)
    os.truncate(path, kept)
    content, before = path.read_bytes(), tree(folder)
    (found,) = examine(Path(), jobs)
    how = f"truncated after {kept} bytes" if kept else "empty"
    assert found.message == f"results/a.{kind}: {how}"
    assert tree(folder) == before
    with refused("results.truncated", file=path, found=how):
        check_whole(path)
    (done,) = repair(Path(), [found], jobs)
    assert not path.exists()
    (aside,) = (folder / STATE / "aside").rglob(f"a.{kind}")
    assert str(aside.relative_to(folder)) in done
    assert aside.read_bytes() == content
    assert next_step([found], Path()) == f"affectlocus run -- --cores all results/a.{kind}"


@pytest.mark.parametrize("name", ["tiny", "felt.seed0"])
def test_a_flipped_bit_of_weights_made_here_moves_them_aside_and_keeps_their_manifest(
    folder: Path, jobs: Dag, name: str
) -> None:
    flip(folder / f"checkpoints/{name}/model.safetensors")
    (found,) = examine(Path(), jobs)
    assert "but with other bytes" in found.message
    repair(Path(), [found], jobs)
    assert not (folder / f"checkpoints/{name}").exists()
    assert (folder / f"results/checkpoints/{name}.json").exists()
    assert next_step([found], Path()).endswith(f" checkpoints/{name}/.complete")


def test_weights_that_are_not_here_are_no_damage(folder: Path, jobs: Dag) -> None:
    (folder / "checkpoints/tiny/model.safetensors").unlink()
    (folder / "checkpoints/tiny").rmdir()
    (found,) = examine(Path(), jobs)
    assert found.cure == "later"
    assert repair(Path(), [found], jobs) == []


def test_a_manifest_that_is_no_manifest_is_moved_aside_and_not_its_weights(
    folder: Path, jobs: Dag
) -> None:
    manifest = folder / "results/checkpoints/felt.seed0.json"
    manifest.write_text("{'folder': 'checkpoints'}\n")
    repair(Path(), examine(Path(), jobs), jobs)
    assert not manifest.exists()
    assert (folder / "checkpoints/felt.seed0/model.safetensors").exists()


def test_files_of_a_user_s_own_are_only_named(folder: Path, jobs: Dag) -> None:
    flip(folder / "mine/model.safetensors")
    (found,) = examine(Path(), jobs)
    assert found.cure == "person"
    assert "your own files" in found.message
    before = tree(folder)
    assert repair(Path(), [found], jobs) == []
    assert tree(folder) == before


def test_a_damaged_download_is_fetched_again_from_its_source_and_its_manifest_stays(
    folder: Path, jobs: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, manifest = folder / "cache/far/model.safetensors", Path("results/checkpoints/far.json")
    good, record = weights.read_bytes(), manifest.read_text()
    flip(weights)
    asked: list[object] = []

    def retrieve(*source: object) -> dict[str, object]:
        asked.extend(source)
        weights.write_bytes(good)
        return {"folder": "cache/far", "files": [manifest_entry(weights)]}

    monkeypatch.setattr("affectlocus.data.retrieve.retrieve", retrieve)
    found = examine(Path(), jobs)
    assert [one.cure for one in found] == ["download"]
    repair(Path(), found, jobs)
    assert asked[:2] == ["owner/name", "main"]
    assert manifest.read_text() == record
    assert examine(Path(), jobs) == []


def test_a_source_that_has_other_files_now_is_said_and_its_manifest_stays(
    folder: Path, jobs: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(folder / "cache/far/model.safetensors")
    other = {"folder": "cache/far", "files": [{"file": "x", "bytes": 1, "sha256": "0"}]}
    monkeypatch.setattr("affectlocus.data.retrieve.retrieve", lambda *_: other)
    with refused("download.other-files", file=Path("results/checkpoints/far.json")):
        repair(Path(), examine(Path(), jobs), jobs)
    assert (folder / "results/checkpoints/far.json").exists()


def test_what_a_killed_job_left_is_found_and_what_a_living_one_writes_is_not(
    folder: Path, jobs: Dag
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "affectlocus"], stdin=-1) as living:
        for number in (99999999, living.pid):
            (folder / f"results/.a.{number}.partial.csv").write_text("a")
            (folder / f"checkpoints/.tiny.{number}.partial").mkdir()
        time.sleep(0.2)
        found = list(leftovers(Path()))
        living.communicate()
    assert [str(one.path) for one in found] == [
        "checkpoints/.tiny.99999999.partial",
        "results/.a.99999999.partial.csv",
    ]
    repair(Path(), found, jobs)
    assert not list(folder.glob("*/.*.99999999.*"))


def test_dates_in_the_future_become_now_in_their_own_order(folder: Path, jobs: Dag) -> None:
    names = ["results/a.csv", "results/a.parquet", "results/a.json"]
    for number, name in enumerate(names):
        ahead = time.time() + 86_400 * (number + 1)
        os.utime(folder / name, (ahead, ahead))
    found = at_a_glance(Path())
    assert {str(one.path) for one in found} == set(names)
    repair(Path(), found, jobs)
    times = [(folder / name).stat().st_mtime_ns for name in names]
    assert times == sorted(times)
    assert times[-1] <= time.time_ns()
    assert at_a_glance(Path()) == []


def test_there_is_no_next_step_where_nothing_is_missing() -> None:
    assert next_step([Finding("x", "person", Path("x"))], Path()) == ""
