"""The targets of an experiment, a wrong target, and the experiment's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import in_process
from refusal import refused

from affectlocus.cli.runs import _folder
from affectlocus.config.experiment import load
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.targets import targets, unknown_targets

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def jobs() -> Dag:
    return Dag(load(ROOT / "params.yaml", planning=True))


def test_the_targets_are_in_groups_and_none_is_listed_twice(jobs: Dag) -> None:
    groups = targets(jobs)
    files = [name for group in groups.values() for name in group]
    assert len(files) == len(set(files))
    assert {"results/table1.csv", "results/table2_fair.csv"} <= set(groups["Tables"])
    assert "results/figures/fig7_load.png" in groups["Figures"]
    assert groups["Report and verdicts"][0] == "results/report.html"


def test_features_of_media_are_targets_where_an_experiment_has_media(jobs: Dag) -> None:
    assert "Media" not in targets(jobs)
    senses = Dag(load(ROOT / "experiments/senses/params.yaml", planning=True))
    assert {"results/features/mini-face/face.safetensors", "results/probes.csv"} <= set(
        targets(senses)["Media"]
    )


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["results/tabel1.csv"], "results/table1.csv"),
        (["table1.csv"], "results/table1.csv"),
        (["--cores", "2", "results/report.htm"], "results/report.html"),
        (["-n", "alll"], "all"),
    ],
)
def test_a_wrong_target_is_told_with_the_nearest(
    jobs: Dag, tmp_path: Path, words: list[str], near: str
) -> None:
    (sentence,) = unknown_targets(words, jobs, tmp_path)
    assert f"; {near}?" in sentence


@pytest.mark.parametrize(
    "words",
    [
        ["results/table1.csv", "results/table1_intervals.csv", "results/figures/fig7_load.svg"],
        ["--config", "seeds=[1]", "x"],
        ["--forcerun", "evaluate", "tables"],
        ["here.txt"],
    ],
)
def test_targets_files_and_values_of_options_are_no_mistakes(
    jobs: Dag, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "here.txt").touch()
    assert unknown_targets(words, jobs, tmp_path) == []


def test_an_experiment_is_found_by_its_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _folder(Path("stories")) == ROOT / "experiments/stories"
    mine = Path("experiments/stories")
    mine.mkdir(parents=True)
    (mine / "params.yaml").touch()
    assert _folder(Path("stories")) == mine
    with refused("params.no-file", near="stories"):
        _folder(Path("storys"))
    with refused("params.no-file"):
        _folder(Path("nowhere/at/all"))


def test_the_command_prints_groups(tmp_path: Path) -> None:
    done = in_process(tmp_path, "targets", ROOT)
    lines = done.stdout.splitlines()
    assert "Tables:" in lines
    assert "  results/table1.csv" in lines
