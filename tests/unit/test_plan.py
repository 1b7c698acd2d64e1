"""What an experiment will take, added up before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from affectlocus.config.experiment import load
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.plan import FOUND, JobKind, Plan, plan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dag:
    """The embedded default, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Dag(load(ROOT / "params.yaml"))


def kind(found: Plan, name: str) -> JobKind:
    return next(one for one in found.kinds if one.kind == name)


def test_the_sum_is_that_of_the_kinds(jobs: Dag) -> None:
    found = plan(jobs, cards=1)
    assert found.total.jobs == sum(one.jobs for one in found.kinds)
    assert found.total.gpu_hours == pytest.approx(sum(one.gpu_hours for one in found.kinds))
    # A pair has the recipe of the tune cell `all`.
    assert len(jobs.tuned) == 4 * 10 + 7 * 5 + 10 * 15 + 3 * 9
    # A pair of the matrix in two jobs; 15 tune cells of a seed in one, 24 in two.
    assert kind(found, "tune").jobs == 3 * 2 + 8 + 7 + 3 * 2
    assert kind(found, "deltas").gpu_hours == 0


def test_without_a_card_there_are_no_gpu_hours_and_more_cpu_hours(jobs: Dag) -> None:
    without, with_one = plan(jobs, cards=0), plan(jobs, cards=1)
    assert without.total.gpu_hours == 0 < with_one.total.gpu_hours
    assert without.total.cpu_hours > with_one.total.cpu_hours
    # Tiny models ask a cluster for no card.
    assert plan(jobs).total.gpu_hours == 0


def test_what_is_done_costs_nothing_more(jobs: Dag) -> None:
    before = kind(plan(jobs, cards=0), "tune")
    for name in (name for group in jobs.tune.groups[:7] for name in group):
        file = Path(f"results/checkpoints/{name}.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    after = kind(plan(jobs, cards=0), "tune")
    assert (after.jobs, after.done) == (before.jobs, 7)
    assert 0 < after.cpu_hours < before.cpu_hours


def test_finished_jobs_tell_the_time_of_their_kind_and_half_written_files_do_not(jobs: Dag) -> None:
    folder = Path("results/benchmarks/tune")
    folder.mkdir(parents=True)
    for number, seconds in enumerate(("100", "300", "200")):
        (folder / f"{number}.tsv").write_text(f"s\th:m:s\n{seconds}\t0:01:40\n")
    # A job that only had to find answers tells nothing.
    (folder / "found.tsv").write_text("s\th:m:s\n1\t0:00:01\n")
    log = Path("results/logs/tune/found.log")
    log.parent.mkdir(parents=True)
    log.write_text(f"note: 2 of 2 {FOUND}, in results/answers\n")
    (folder / "now.tsv").write_text("s\th:m:s\n")
    (folder / "broken.tsv").write_text("s\n-\n")
    found = plan(jobs, cards=0)
    count = kind(found, "tune").jobs
    assert kind(found, "tune").cpu_hours == pytest.approx(count * 200 / 3600)
    assert (kind(found, "tune").from_, kind(found, "evaluate").from_) == ("measured", "estimated")
    assert any(line.startswith("tune: 200 s, the median") for line in found.assumptions)


@pytest.mark.usefixtures("jobs")
def test_a_longer_budget_takes_longer_and_a_larger_rank_more_disk() -> None:
    config = yaml.safe_load((ROOT / "params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(config))
    before = kind(plan(Dag(load(Path("params.yaml"))), cards=0), "tune")
    config["tune"] |= {"steps": 1000, "rank": 16}
    Path("params.yaml").write_text(yaml.safe_dump(config))
    after = kind(plan(Dag(load(Path("params.yaml"))), cards=0), "tune")
    assert after.cpu_hours > before.cpu_hours
    assert after.disk_gb > before.disk_gb


def test_the_papers_plan_names_its_hours_bytes_and_assumptions() -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "affectlocus", "plan", ROOT / "experiments/paper", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    found = json.loads(run.stdout)
    kinds = {one["kind"]: one for one in found["kinds"]}
    # 12 pairs to be tuned, 16 sets of which a pair has the recipe of `all`, 7 at equal parameters,
    # and the bridge alone, in three seeds
    assert kinds["tune"]["jobs"] == (12 + 15 + 7 + 1) * 3
    assert kinds["encode"]["jobs"] == 9 * 2
    assert 100 < found["total"]["gpu_hours"] < 10_000
    assert 150 < found["total"]["download_gb"] < 300
    text = "\n".join(found["assumptions"])
    for key in ("plan.sizes.qwen2.5-32b", "plan.card_tflops", "plan.prompt_tokens", "MOSEI 4659"):
        assert key in text
