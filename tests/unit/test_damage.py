"""What a kill or a full disk left behind is put right, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from affectlocus.core.errors import InputError
from affectlocus.core.files import write_json
from affectlocus.core.manifests import manifest_entry
from affectlocus.orchestration.damage import Mended, mend, note, writable

FRAME = pd.DataFrame({"a": [1, 2]})


def recorded(folder: Path, name: str) -> None:
    """A record, as Snakemake keeps one of what a job wrote."""
    record = folder / ".snakemake/metadata" / urlsafe_b64encode(name.encode()).decode()
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text('{"input_checksums": {}}')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment with a result of each kind, and things of a user beside them."""
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    (results / "logs").mkdir(parents=True)
    (tmp_path / ".snakemake/affectlocus").mkdir(parents=True)
    FRAME.to_parquet(results / "a.parquet")
    FRAME.to_csv(results / "a.csv", index=False)
    write_json(results / "a.json", {"a": 1})
    figure = plt.figure()
    for kind in ("png", "svg"):
        figure.savefig(results / f"a.{kind}")
    plt.close(figure)
    (results / "a.html").write_text("<html>\n</html>")
    for path in results.glob("a.*"):
        recorded(tmp_path, path.relative_to(tmp_path).as_posix())
    (results / "README.md").touch()
    (results / ".gitkeep").touch()
    (results / "logs/a.txt").touch()
    return tmp_path


def state(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def test_whole_results_stay_as_they_are(folder: Path) -> None:
    before = state(folder)
    assert mend(folder).said == []
    assert state(folder) == before


def test_what_no_job_wrote_stays_however_it_ends(folder: Path) -> None:
    texts = {"notes.txt": "three weeks of work", "mine.csv": "a,b\n1,2", "empty.json": ""}
    for name, text in texts.items():
        (folder / "results" / name).write_text(text)
    assert mend(folder).said == []
    assert {name: (folder / "results" / name).read_text() for name in texts} == texts


def test_results_without_snakemakes_records_are_told_of(folder: Path) -> None:
    shutil.rmtree(folder / ".snakemake")
    # As a dry run leaves it.
    (folder / ".snakemake/metadata").mkdir(parents=True)
    before = state(folder)
    (said,) = mend(folder).said
    assert "records of what made them (.snakemake) are gone" in said
    assert state(folder) == before


@pytest.mark.parametrize("kind", ["parquet", "csv", "json", "png", "svg", "html"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
def test_a_result_that_was_cut_is_removed_and_named(folder: Path, kind: str, share: float) -> None:
    path = folder / f"results/a.{kind}"
    os.truncate(path, int(path.stat().st_size * share))
    size = path.stat().st_size
    (said,) = mend(folder).said
    what = f"was cut, at {size} bytes" if size else "is empty"
    assert said == f"results/a.{kind} {what}; it is made again where it is needed"
    assert not path.exists()
    assert len(list((folder / "results").iterdir())) == 8


def test_cut_answers_stay_and_are_marked_as_snakemake_marks_a_killed_jobs(folder: Path) -> None:
    os.truncate(folder / "results/a.parquet", 9)
    assert len(mend(folder, {"results/a.parquet"}).said) == 1
    assert (folder / "results/a.parquet").exists()
    (mark,) = (folder / ".snakemake/incomplete").iterdir()
    assert urlsafe_b64decode(mark.name).decode() == "results/a.parquet"


def test_what_a_killed_job_was_writing_is_removed(folder: Path) -> None:
    before = state(folder)
    (folder / "results/cells").mkdir()
    (folder / "results/cells/.a.12.partial.parquet").touch()
    for name in (".tiny.12.partial", ".tiny.12.partial.old"):
        (folder / "checkpoints" / name).mkdir(parents=True)
        (folder / "checkpoints" / name / "model.safetensors").touch()
    assert mend(folder).said == []
    assert state(folder) == before


def test_what_a_living_step_is_writing_stays_until_it_is_killed(folder: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "affectlocus", "tune"]
    with subprocess.Popen(command) as step:
        writing = folder / f"checkpoints/.tiny-affective.{step.pid}.partial.seed0"
        writing.mkdir(parents=True)
        while b"tune" not in Path(f"/proc/{step.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        mend(folder)
        assert writing.is_dir()
        step.kill()
    mend(folder)
    assert not writing.exists()


def test_what_lies_in_the_future_is_dated_back_in_its_order(folder: Path) -> None:
    ahead = time.time() + 1e7
    for number, kind in enumerate(("csv", "json", "parquet")):
        os.utime(folder / f"results/a.{kind}", (ahead - number, ahead - number))
    (said,) = mend(folder).said
    assert said.startswith("3 files of results are dated in the future")
    times = [(folder / f"results/a.{kind}").stat().st_mtime for kind in ("parquet", "json", "csv")]
    assert times == sorted(set(times))
    assert times[-1] < (folder / "results/a.png").stat().st_mtime
    assert mend(folder).said == []


def checkpoint(folder: Path) -> tuple[Path, Path]:
    """Weights, and the manifest that lists them."""
    weights = folder / "checkpoints/tiny/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    manifest = Path("results/checkpoints/tiny.json")
    write_json(manifest, {"folder": "checkpoints/tiny", "files": [manifest_entry(weights)]})
    return weights, manifest


def test_a_manifest_whose_weights_a_job_found_damaged_is_told_until_they_are_whole(
    folder: Path,
) -> None:
    weights, manifest = checkpoint(folder)
    weights.write_bytes(b"weight!")
    note(manifest)
    note(manifest)
    for _ in range(2):
        found = mend(folder)
        assert found.weights == [str(manifest)]
        assert found.gone == []
        assert found.said == [f"{manifest}: a job found what it lists damaged"]
        assert manifest.exists()
    weights.write_bytes(b"weights")
    assert mend(folder) == Mended()
    weights.write_bytes(b"weight!")
    assert mend(folder) == Mended()


def test_a_manifest_that_is_none_is_removed(folder: Path) -> None:
    _, manifest = checkpoint(folder)
    manifest.write_text("{}\n")
    note(manifest)
    found = mend(folder)
    assert (found.gone, found.weights) == ([str(manifest)], [])
    assert not manifest.exists()


def test_what_was_removed_is_told_until_it_is_there_again(folder: Path) -> None:
    path = folder / "results/a.parquet"
    os.truncate(path, 9)
    assert mend(folder).gone == ["results/a.parquet"]
    assert mend(folder) == Mended(gone=["results/a.parquet"])
    FRAME.to_parquet(path)
    assert mend(folder) == Mended()
    path.unlink()
    assert mend(folder) == Mended()


def test_a_manifest_whose_weights_have_come_back_stays(folder: Path) -> None:
    weights, manifest = checkpoint(folder)
    weights.rename(weights.with_name("away"))
    note(manifest)
    weights.with_name("away").rename(weights)
    assert mend(folder).said == []
    assert manifest.exists()


def test_a_noted_result_that_was_written_again_stays(folder: Path) -> None:
    note(Path("results/a.parquet"))
    pd.concat([FRAME, FRAME]).to_parquet("results/a.parquet")
    assert mend(folder).said == []
    note(Path("results/a.parquet"))
    assert len(mend(folder).said) == 1


def test_notes_about_other_places_or_cut_by_a_full_disk_remove_nothing(folder: Path) -> None:
    Path("mine.json").write_text("{}")
    note(Path("results/../mine.json"))
    with Path(".snakemake/affectlocus/damaged.jsonl").open("a") as notes:
        notes.write('["results/a.csv", 1')
    before = state(folder / "results")
    assert mend(folder).said == []
    assert state(folder / "results") == before
    assert Path("mine.json").exists()


def test_a_file_in_the_place_of_results_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(InputError, match=r"results: a file is there; a run needs a folder"):
        writable(tmp_path)
    assert (tmp_path / "results").read_text() == "mine"


def test_a_folder_that_can_be_written_is_left_without_a_trace(tmp_path: Path) -> None:
    writable(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "results").mkdir()
    writable(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["results"]
