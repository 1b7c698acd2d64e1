"""What is not here is found, and what planned jobs need of it is made first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from affectlocus.config.experiment import Parameters
from affectlocus.core.files import write_json
from affectlocus.core.manifests import manifest_entry
from affectlocus.orchestration import restore
from affectlocus.orchestration.dag import Dag, checkpoint
from affectlocus.orchestration.edited import record_of
from affectlocus.orchestration.restore import lost, needed

COMMIT = "a1" * 20
CONFIG = f"""
corpus: {{}}
bases:
  own: {{pretrain: {{architecture: llama}}}}
  far: {{hub: o/m, revision: {COMMIT}}}
  mine: {{folder: model}}
pairs:
  felt: {{base: own, tuning: {{data: [mini-MOSI]}}}}
  given: {{base: mine, tuned: adapter}}
tasks:
  mini-MOSI: {{corpus: true, columns: {{label: label}}, labels: [positive, negative]}}
  moods:
    files: {{test: {{hub: o/d, revision: {COMMIT}, file: test.csv}}}}
    columns: {{label: l}}
    labels: [joy, fear]
matrix: {{pairs: [felt], load: [q], tune: [], ablate: []}}
"""
OWN, FELT, TABLE = (
    checkpoint("own"),
    checkpoint("felt.seed0"),
    "results/data/sources/moods.test.json",
)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dag:
    """An experiment whose every manifest lists a file that is there."""
    monkeypatch.chdir(tmp_path)
    names = [*map(checkpoint, ("own", "far", "mine", "felt.seed0", "given")), TABLE]
    for number, name in enumerate(names):
        weights = Path(f"weights/{number}/model.safetensors")
        weights.parent.mkdir(parents=True)
        weights.write_bytes(name.encode())
        files = [manifest_entry(weights)]
        write_json(Path(name), {"folder": f"weights/{number}", "files": files})
    return Dag(Parameters.model_validate(yaml.safe_load(CONFIG)))


def job(rule: str, output: str, *inputs: str) -> str:
    """A job as a dry run prints it."""
    return f"rule {rule}:\n    input: {', '.join(inputs)}\n    output: {output}\n    jobid: 1\n\n"


def test_what_is_whole_or_was_never_made_is_not_lost(jobs: Dag) -> None:
    assert lost(jobs) == []
    Path(OWN).unlink()
    assert lost(jobs) == []


def test_weights_that_are_gone_or_cut_are_lost_and_a_users_own_are_not(jobs: Dag) -> None:
    for number in range(6):
        weights = Path(f"weights/{number}/model.safetensors")
        weights.unlink() if number % 2 else os.truncate(weights, 3)
    assert lost(jobs) == [checkpoint("far"), OWN, FELT, TABLE]


def test_what_planned_jobs_read_is_needed_with_the_base_that_it_is_tuned_from(jobs: Dag) -> None:
    gone = [checkpoint("far"), OWN, FELT, TABLE]
    cell = "results/cells/felt/load/q/seed0/predictions.parquet"
    assert needed("", gone, jobs) == []
    assert needed(job("evaluate", cell, OWN, FELT, "results/data/a.parquet"), gone, jobs) == [
        FELT,
        OWN,
    ]
    assert needed(job("deltas", "results/deltas/felt.parquet", FELT), gone, jobs) == [FELT, OWN]
    assert needed(job("deltas", "results/deltas/felt.parquet", FELT), [FELT], jobs) == [FELT]


def test_what_is_planned_anew_or_only_told_of_is_not_needed(jobs: Dag) -> None:
    gone = [OWN, FELT]
    plan = job("tune", FELT, OWN) + job("deltas", "results/deltas/felt.parquet", FELT)
    assert needed(plan, gone, jobs) == [OWN]
    assert needed(job("collect", "results/scores.parquet", OWN), gone, jobs) == []


def test_a_result_that_was_removed_is_needed_where_a_job_would_read_it(jobs: Dag) -> None:
    gone = "results/data/mini-MOSI.parquet"
    made = job("prepare", f"{gone}, results/data/mini-MOSI.json", "results/corpus/mini-MOSI.csv")
    assert needed(made + job("tune", FELT, OWN, gone), [gone], jobs) == [gone]
    # Nothing hangs from it, or nobody makes it: the run that was asked for does as well.
    assert needed(made + job("all", "", gone), [gone], jobs) == []
    assert needed(job("score", "results/scores/felt/load.parquet"), [gone], jobs) == []
    scores = "results/scores/felt/load.parquet"
    plan = job("score", scores) + job("collect", "results/scores.parquet", scores, OWN)
    assert needed(plan, [scores, OWN], jobs) == [scores]


@pytest.mark.parametrize("half_written", [True, False])
def test_a_manifest_comes_back_if_the_run_that_was_to_make_it_did_not(
    jobs: Dag, half_written: bool
) -> None:
    before = Path(OWN).read_text()
    record, mark = record_of(OWN, "metadata"), record_of(OWN, "incomplete")
    for path, text in ((Path(OWN), before), (record, "{}")):
        aside = restore._ASIDE / path
        aside.parent.mkdir(parents=True)
        aside.write_text(text)
    mark.parent.mkdir(parents=True)
    mark.touch()
    Path(OWN).write_text("{") if half_written else Path(OWN).unlink()
    restore.restore(jobs, [], pytest.fail)
    assert Path(OWN).read_text() == before
    assert record.read_text() == "{}"
    assert not mark.exists()
    assert not restore._ASIDE.exists()


@pytest.mark.parametrize("same", [True, False])
def test_a_manifest_that_was_made_again_stays_and_is_as_old_as_the_same_was(
    jobs: Dag, same: bool
) -> None:
    aside = restore._ASIDE / OWN
    aside.parent.mkdir(parents=True)
    now = Path(OWN).read_text()
    aside.write_text(now if same else "{}")
    os.utime(aside, (1e9, 1e9))
    restore.restore(jobs, [], pytest.fail)
    assert Path(OWN).read_text() == now
    assert (Path(OWN).stat().st_mtime == 1e9) == same


def test_sigterm_is_handed_on_and_ends_in_its_exit_code(jobs: Dag) -> None:  # noqa: ARG001
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], text=True) as run:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(SystemExit) as ended, restore._stopping(run):
            run.wait()
    assert (ended.value.code, run.returncode) == (143, -signal.SIGTERM)
