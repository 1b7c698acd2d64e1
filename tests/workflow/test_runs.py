"""`affectlocus run` and `doctor`, and what plain snakemake does with failed and killed jobs.

On the first two jobs of an experiment, the corpus and a prepared task, which take a second each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from programs import heavy
from project import BIN, ROOT, environment
from refusal import printed_code

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

CORPUS, TABLE, REPORT = (
    "results/corpus/mini-MOSI.csv",
    "results/data/mini-MOSI.parquet",
    "results/data/mini-MOSI.json",
)
PARAMETERS = """
corpus: {documents: 60, tuning_samples: 5, control_samples: 5, benchmark_samples: 5}
bases:
  tiny: {pretrain: {architecture: qwen2, hidden_size: 16, intermediate_size: 24, layers: 2}}
pairs:
  mine: {base: tiny, tuning: {data: [mini-MOSI], rank: 2, steps: 4}}
tasks:
  mini-MOSI:
    corpus: true
    columns: {label: label}
    labels: [positive, negative]
    prompt: "{text} {question}"
matrix: {pairs: [mine], load: [gate], tune: [], ablate: []}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "an experiment"
    place.mkdir()
    (place / "params.yaml").write_text(PARAMETERS)
    return place


def command(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command of the environment in the checkout, which needs no name of the Snakefile.

    Args:
        path: a folder whose programs come first.
    """
    places = [path, heavy()] if path else [heavy()]
    return subprocess.run(
        [heavy() / words[0], *words[1:]],
        cwd=ROOT,
        env=environment(ROOT, *places),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def snakemake(folder: Path, *words: str, path: Path | None = None) -> str:
    done = command("snakemake", "--cores", "1", "--directory", str(folder), *words, path=path)
    return f"{done.stdout}\nexit code {done.returncode}"


def affectlocus_run(folder: Path, *words: str) -> str:
    done = command("affectlocus", "run", str(folder), "--cores", "1", "--", *words)
    return f"{done.stdout}\nexit code {done.returncode}"


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (CORPUS, TABLE, REPORT)}


@pytest.mark.parametrize("backend", ["file", "db"])
def test_a_cut_csv_is_found_moved_aside_and_made_again_with_either_backend(
    folder: Path, backend: str
) -> None:
    words = ("--persistence-backend", backend, "--", TABLE)
    assert snakemake(folder, *words).endswith("exit code 0")
    assert "Nothing to be done" in snakemake(folder, *words)
    whole = contents(folder)
    os.truncate(folder / CORPUS, len(whole[CORPUS]) - 1)
    # The job that reads it says so, with the way out.
    said = snakemake(folder, *words)
    assert f"{CORPUS}: truncated after " in said
    assert "affectlocus doctor --fix" in said
    assert said.endswith("exit code 1")
    assert (folder / CORPUS).read_bytes() == whole[CORPUS][:-1]
    found = command("affectlocus", "doctor", str(folder))
    assert (found.returncode, f"{CORPUS}: truncated" in found.stdout) == (1, True)
    repaired = command("affectlocus", "doctor", str(folder), "--fix")
    assert repaired.returncode == 0, repaired.stdout
    (aside,) = (folder / ".affectlocus/aside").rglob("mini-MOSI.csv")
    assert aside.read_bytes() == whole[CORPUS][:-1]
    said = snakemake(folder, *words)
    assert said.endswith("exit code 0")
    assert "lost" not in said
    assert contents(folder) == whole
    assert "Nothing to be done" in snakemake(folder, *words)


@pytest.mark.parametrize(
    ("backend", "content"),
    [("file", b"num,modules\n0,ba"), ("db", b"")],
)
def test_a_truncated_result_that_no_job_reads_is_named_and_left_as_it_is(
    folder: Path, backend: str, content: bytes
) -> None:
    table = folder / "results/table1.csv"
    table.parent.mkdir()
    table.write_bytes(content)
    said = snakemake(folder, "--persistence-backend", backend, "--", CORPUS)
    assert f"affectlocus: results/table1.csv: {'truncated after' if content else 'empty'}" in said
    assert "affectlocus doctor --fix" in said
    refused = affectlocus_run(folder, CORPUS)
    assert "[run.truncated-results]" in refused
    assert refused.endswith("exit code 1")
    assert table.read_bytes() == content
    assert command("affectlocus", "doctor", str(folder), "--fix").returncode == 0
    (aside,) = (folder / ".affectlocus/aside").rglob("table1.csv")
    assert aside.read_bytes() == content
    assert affectlocus_run(folder, CORPUS).endswith("exit code 0")


def shim(place: Path, step: str, after: str) -> Path:
    """A folder with a program `affectlocus` that does a step as ever, then something, and fails."""
    place.mkdir()
    program = place / "affectlocus"
    program.write_text(
        f'#!/bin/sh\n"{BIN}/affectlocus" "$@" || exit\n'
        f'case "$*" in *"{step}"*) {after}; exit 1;; esac\n'
    )
    program.chmod(0o755)
    return place


@pytest.mark.parametrize(
    "after", [":", f"rm '{REPORT}'"], ids=["all were written", "one was written"]
)
def test_outputs_kept_of_a_failed_job_are_whole_or_made_again(
    folder: Path, tmp_path: Path, after: str
) -> None:
    # snakemake/snakemake#3808: with --keep-incomplete, they pass for finished in the next run.
    assert snakemake(folder, TABLE).endswith("exit code 0")
    whole = contents(folder)
    failing = shim(tmp_path / "bin", "prepare", after)
    said = snakemake(
        folder, "--keep-incomplete", "--forcerun", "prepare", "--", TABLE, path=failing
    )
    assert said.endswith("exit code 1")
    assert (folder / TABLE).read_bytes() == whole[TABLE]
    assert snakemake(folder, TABLE, REPORT).endswith("exit code 0")
    assert contents(folder) == whole


def started(folder: Path, tmp_path: Path, seconds: int = 600) -> subprocess.Popen[str]:
    """`affectlocus run` whose first job takes so long and fails, once that job is at work."""
    program = shim(tmp_path / "slow", "corpus", f"touch working; sleep {seconds}")
    run = subprocess.Popen(
        [str(BIN / "affectlocus"), "run", str(folder), "--cores", "1", "--", TABLE],
        cwd=ROOT,
        env=environment(ROOT, program),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 300
    while not (folder / "working").exists():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)
    return run


def test_a_second_run_is_refused_and_a_killed_one_is_cleared_away(
    folder: Path, tmp_path: Path
) -> None:
    run = started(folder, tmp_path)
    try:
        second = affectlocus_run(folder, TABLE)
        assert f"process {run.pid} on " in second
        assert "[run.folder-in-use]" in second
        assert second.endswith("exit code 1")
        # Snakemake alone keeps it out by a lock of its own.
        assert snakemake(folder, TABLE).endswith("exit code 1")
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    (folder / "results/.x.99999999.partial.csv").write_text("a,")
    # Alone, Snakemake takes the killed run's lock for a living one's, and names --unlock.
    alone = snakemake(folder, TABLE)
    assert "--unlock" in alone
    assert alone.endswith("exit code 1")
    after = affectlocus_run(folder, TABLE)
    assert after.endswith("exit code 0")
    assert "moved to .affectlocus/aside" in after
    assert not list((folder / "results").glob(".*.partial*"))
    assert "Nothing to be done" in affectlocus_run(folder, TABLE)
    assert "Nothing to be done" in snakemake(folder, TABLE)


def test_a_run_that_is_stopped_by_sigterm_hands_it_on_and_keeps_nobody_out(
    folder: Path, tmp_path: Path
) -> None:
    run = started(folder, tmp_path, seconds=5)
    run.terminate()
    said, _ = run.communicate(timeout=300)
    # Snakemake's own words.
    assert "Will exit after finishing currently running jobs" in said
    assert "interrupted; finished jobs are kept" in said
    assert run.returncode == 128 + signal.SIGTERM, said
    assert affectlocus_run(folder, TABLE).endswith("exit code 0")


def test_a_folder_without_parameters_and_a_missing_one_are_refused_in_a_sentence(
    tmp_path: Path,
) -> None:
    for words in (("run", str(tmp_path)), ("doctor", str(tmp_path / "nowhere"))):
        done = command("affectlocus", *words)
        assert done.returncode == 1
        assert done.stdout.startswith("affectlocus: ")
        assert printed_code(done.stdout) == "params.no-file"
        assert len(done.stdout.splitlines()) == 1


def test_a_file_in_the_place_of_results_is_refused_by_either_command(folder: Path) -> None:
    (folder / "results").write_text("mine\n")
    assert "[run.not-a-folder]" in affectlocus_run(folder, TABLE)
    said = snakemake(folder, "params.yaml")
    assert (folder / "results").read_text() == "mine\n", said
