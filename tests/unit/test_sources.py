"""Files of a data set on a hub: real HTTP on loopback, pinned and verified, through to samples."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hub import Hub, serving, start
from huggingface_hub import constants
from programs import heavy, light, search_path
from refusal import printed_code, refused

from affectlocus.config.tasks import Task
from affectlocus.data.sources import manifest_path, resolved

ROOT = Path(__file__).parents[2]
COMMIT, LATER = "a1" * 20, "b2" * 20
ROWS = pd.DataFrame({"text": ["a", "b"], "mood": [0, 1]})
TASK = {
    "files": {"test": {"hub": "o/d", "revision": COMMIT, "file": "data/test.parquet"}},
    "columns": {"label": "mood"},
    "labels": {"0": "joy", "1": "fear"},
}


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with one data set, o/d, whose main is COMMIT."""
    with serving() as hub:
        files = {"data/test.parquet": parquet(ROWS), "train.csv": b"text,mood\nc,0\n"}
        hub.add("datasets/o/d", COMMIT, files, card={"license": "cc-by-4.0"})
        yield hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run("retrieve", ...)`: the command line in `tmp_path`, run to its end."""

    def to_its_end(
        *arguments: str, program: str = "affectlocus", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        place = light() if program == "affectlocus" else heavy()
        environment = {"PATH": search_path(light()), **environment}
        process = start(hub, tmp_path, program, *arguments, place=place, **environment)
        output, said = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, output, said)

    return to_its_end


RETRIEVE = ("retrieve", "o/d", "--file", "data/test.parquet", "--out", "out.json")


def test_a_file_of_a_data_set_becomes_samples_with_its_commit_on_record(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(*RETRIEVE, "--revision", COMMIT)
    assert (done.returncode, done.stderr) == (0, "")
    manifest = json.loads((tmp_path / "out.json").read_text())
    assert manifest["source"] == {"hub": "datasets/o/d"}
    assert (manifest["revision"], manifest["licence"]) == (COMMIT, "cc-by-4.0")
    (entry,) = manifest["files"]
    assert manifest["folder"] == f"${{HF_HUB_CACHE}}/datasets--o--d/snapshots/{COMMIT}"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    content = manifest_path(manifest).read_bytes()
    assert (entry["file"], entry["bytes"], content) == (
        "data/test.parquet",
        len(content),
        parquet(ROWS),
    )
    (tmp_path / "task.json").write_text(json.dumps(TASK))
    done = run(
        *("prepare", "--name", "moods", "--settings", "task.json", "--test", "out.json"),
        *("--out", "a.parquet", "--report", "a.json"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert pd.read_parquet(tmp_path / "a.parquet")["answer"].tolist() == ["joy", "fear"]


def test_a_branch_is_pinned_and_a_later_commit_does_not_move_it(
    hub: Hub, run: Callable[..., Any], tmp_path: Path
) -> None:
    done = run(*RETRIEVE, "--revision", "main")
    assert "warning: datasets/o/d: 'main' can move; its current commit is pinned" in done.stderr
    repository = hub.repositories["datasets/o/d"]
    repository.commits[LATER] = {"data/test.parquet": b"other"}
    repository.branches["main"] = LATER
    assert run(*RETRIEVE, "--revision", "main").returncode == 0
    assert json.loads((tmp_path / "out.json").read_text())["revision"] == COMMIT
    pins = json.loads((tmp_path / "checkpoints.lock.json").read_text())
    assert pins == {"datasets/o/d@main": COMMIT}


def test_a_file_that_is_not_what_the_hub_lists_is_refused_and_removed(
    hub: Hub, run: Callable[..., Any], tmp_path: Path
) -> None:
    content = parquet(ROWS)
    hub.fail("GET", "/cdn/", times=9, content=content[:-1] + b"x")
    done = run(*RETRIEVE, "--revision", COMMIT)
    assert done.returncode == 1
    assert printed_code(done.stderr) == "hub.other-digest"
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("o/d", "--file", "no.csv"), "hub.no-such-file"),
        (("o/none", "--file", "train.csv"), "hub.no-access"),
    ],
)
def test_what_a_data_set_does_not_hold_is_refused_in_one_line(
    run: Callable[..., Any], arguments: tuple[str, ...], code: str
) -> None:
    done = run("retrieve", *arguments, "--revision", COMMIT, "--out", "out.json")
    assert done.returncode == 1
    assert printed_code(done.stderr) == code
    assert f"datasets/{arguments[0]}: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_without_a_revision_is_refused(run: Callable[..., Any]) -> None:
    done = run(*RETRIEVE)
    assert done.returncode == 1
    assert printed_code(done.stderr) == "data.no-revision"


@pytest.fixture
def experiment(tmp_path: Path, checkpoint, lora) -> Path:
    """A params.yaml whose one task lies on the hub."""
    base = checkpoint()
    config = {
        "bases": {"b": {"folder": str(base)}},
        "pairs": {"p": {"base": "b", "tuned": str(lora(base, ["gate_proj"]))}},
        "tasks": {"moods": TASK},
        "matrix": {"pairs": ["p"], "load": ["gate"], "tune": [], "ablate": []},
    }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_check_brings_and_reads_the_data_set_and_prints_its_report(
    hub: Hub, run: Callable[..., Any], experiment: Path
) -> None:
    done = run("check", str(experiment))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "moods: test 2"
    hub.requests.clear()
    assert run("check", str(experiment)).returncode == 0
    assert hub.seen("GET", "/cdn/") == []
    assert run("check", str(experiment), HF_HUB_OFFLINE="1").returncode == 0


def test_check_names_the_task_whose_data_set_is_not_there(
    run: Callable[..., Any], experiment: Path
) -> None:
    experiment.write_text(experiment.read_text().replace("o/d", "o/gone"))
    done = run("check", str(experiment))
    assert done.returncode == 1
    assert done.stderr.startswith(f"affectlocus: {experiment}: tasks.moods: datasets/o/gone: ")


def test_the_workflow_retrieves_and_prepares_it_and_then_has_nothing_to_do(
    run: Callable[..., Any], experiment: Path
) -> None:
    flags = ("--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "results/data/moods.parquet")
    done = run(*flags, program="snakemake")
    assert done.returncode == 0, done.stdout + done.stderr
    made = experiment.parent / "results/data"
    assert pd.read_parquet(made / "moods.parquet")["answer"].tolist() == ["joy", "fear"]
    assert json.loads((made / "sources/moods.test.json").read_text())["revision"] == COMMIT
    again = run(*flags, "--dry-run", program="snakemake", HF_HUB_OFFLINE="1")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_job_refuses_an_input_that_is_not_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with refused("table.not-a-manifest", file=tmp_path / "a.json"):
        resolved(Task.model_validate(TASK), {"test": tmp_path / "a.json"})


def test_one_command_pins_every_branch_and_downloads_nothing_else(
    hub: Hub, run: Callable[..., Any], tmp_path: Path
) -> None:
    hub.add("o/model", LATER, {"config.json": b"{}"})
    branch = {**TASK["files"]["test"], "revision": "main"}
    config = {
        "bases": {"far": {"hub": "o/model", "revision": "main"}},
        "pairs": {"felt": {"base": "far", "tuned": {"hub": "o/tuned", "revision": COMMIT}}},
        "tasks": {"moods": {**TASK, "files": {"test": branch}}},
        "matrix": {"pairs": ["felt"], "load": ["q"], "tune": [], "ablate": []},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(config))
    done = run("pin", "params.yaml")
    assert done.returncode == 0, done.stderr
    pinned = {"datasets/o/d@main": COMMIT, "o/model@main": LATER}
    assert json.loads((tmp_path / "checkpoints.lock.json").read_text()) == pinned
    assert set(done.stdout.splitlines()) == {f"{name}: {at}" for name, at in pinned.items()}
    assert not [request for request in hub.requests if "/resolve" in request.path]
