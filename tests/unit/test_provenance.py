"""Versions, machine, revision and time, as far as a test can know them."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.core.provenance import (
    Difference,
    differences,
    hardware,
    merged,
    overridden,
    packed,
    resource_usage,
    revision,
    unpacked,
    versions,
)

VALUES = st.recursive(
    st.integers(0, 2) | st.lists(st.integers(0, 1), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository of its own."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return folder


def test_the_revision_is_the_commit_and_says_what_differs_from_it(package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert revision(package) == commit
    (package / "__init__.py").write_text("changed = 1\n")
    (package / "not_under_git.py").write_text("")
    assert revision(package) == f"{commit}, with 1 file changed since"


def test_a_folder_outside_a_repository_has_no_revision(tmp_path: Path) -> None:
    assert revision(tmp_path) == ""


def test_a_package_that_merely_lies_in_a_repository_has_no_revision(package: Path) -> None:
    installed = package / "site-packages"
    installed.mkdir()
    (installed / "__init__.py").write_text("")
    assert revision(installed) == ""


def test_versions_name_python_and_the_numerical_libraries() -> None:
    known = versions()
    assert known["Python"] == platform.python_version()
    assert known["numpy"][0].isdigit() and "torch" in known


def test_the_machine_has_cores() -> None:
    assert int(hardware()["Cores"]) >= 1


def test_the_time_of_a_step_is_its_jobs_together_and_unmeasured_ones_count_nothing(
    tmp_path: Path,
) -> None:
    head = "s\th:m:s\tmax_rss\tcpu_time\n"
    for file, text in {
        "tune/a.tsv": head + "10.5\t0:00:10\t300.0\t8.0\n",
        "tune/deeper/b.tsv": head + "20.5\t0:00:20\t200.0\t18.0\n",
        "collect.tsv": head + "0.01\t0:00:00\tNA\tNA\n",
        "report.tsv": head + "3.0\t0:00:03\t100.0\t2.0\n",
    }.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tune, collect = resource_usage(tmp_path)
    assert (tune.step, tune.jobs, tune.seconds, tune.cpu) == ("tune", 2, 31.0, 26.0)
    assert (tune.longest, tune.memory) == (20.5, 300.0)
    assert (collect.step, collect.seconds, collect.memory) == ("collect", 0.01, 0.0)


def test_times_of_jobs_that_are_not_the_experiments_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "tune").mkdir()
    for seed in (0, 1):
        (tmp_path / f"tune/p.seed{seed}.tsv").write_text("s\tmax_rss\tcpu_time\n10\t1\t1\n")
    (one,) = resource_usage(tmp_path, {"tune/p.seed0.tsv", "tune/p.seed7.tsv"})
    assert (one.jobs, one.seconds) == (1, 10.0)


def test_every_parameter_with_two_values_is_named_by_its_key() -> None:
    used = {"tune": {"steps": 200, "rank": 8}, "seeds": [0], "name": "é", "gone": None}
    now = {"tune": {"steps": 300, "rank": 8}, "seeds": [0, 1], "name": "é", "new": {"a": 1}}
    assert differences(used, now) == [
        Difference("tune.steps", "200", "300"),
        Difference("seeds", "[0]", "[0, 1]"),
        Difference("gone", "null", "not set"),
        Difference("new", "not set", '{"a": 1}'),
    ]
    assert differences(used, used) == []


@given(CONFIGS)
def test_parameters_come_back_from_the_argument_that_they_are_packed_into(
    values: dict[str, object],
) -> None:
    assert unpacked(packed(values)) == values


def test_many_parameters_fit_into_one_argument_of_a_command() -> None:
    tasks = {f"task-{n}": {"labels": [f"label {n} {m}" for m in range(40)]} for n in range(400)}
    values = {"tasks": tasks}
    text = packed(values)
    assert len(json.dumps(values)) > 200_000
    assert len(text) < 100_000
    assert unpacked(text) == values


@pytest.mark.parametrize("text", ["", "{", "[1]", "zlib:!", "zlib:aaaa", "null"])
def test_another_text_is_no_parameters(text: str) -> None:
    with pytest.raises(ValueError):
        unpacked(text)


def test_without_benchmarks_no_time_was_spent(tmp_path: Path) -> None:
    assert resource_usage(tmp_path / "benchmarks") == []


def test_only_what_differs_from_the_file_is_overridden() -> None:
    written = {"data_root": ".", "score": {"metric": "weighted_f1", "seed": 0}, "bases": {"b": {}}}
    config = {"data_root": "/d", "score": {"metric": "weighted_f1", "seed": 3}, "bases": {"b": {}}}
    assert overridden(config, written) == {"data_root": "/d", "score": {"seed": 3}}


@given(CONFIGS, CONFIGS)
def test_the_file_and_what_overrides_it_give_the_parameters_that_ran(
    written: dict[str, object], given_beside: dict[str, object]
) -> None:
    config = merged(written, given_beside)
    assert merged(written, overridden(config, written)) == config
