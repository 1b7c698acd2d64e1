"""Which cells share a job."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.core.cells import Cell
from affectlocus.orchestration import groups
from affectlocus.orchestration.groups import answered, grouped, remember, remembered

SETS = ["q", "k", "v", "o", "gate", "up", "down", "q+k", "q+v", "q+o", "k+v", "k+o", "v+o"]
CELLS = [Cell("load", "base", "pair", modules, seed=0) for modules in SETS]


def ids(found: list[list[Cell]]) -> list[list[str]]:
    return [[cell.modules for cell in group] for group in found]


def test_a_matrix_without_answers_is_dealt_in_its_own_order() -> None:
    found = grouped([CELLS[:5], CELLS[5:7]], 2, lambda _: False)
    assert ids(found) == [["q", "k"], ["v", "o"], ["up", "down"]]


def test_a_size_of_one_groups_nothing() -> None:
    assert grouped([CELLS], 1, lambda _: False) == []


@given(
    old=st.lists(st.sampled_from(CELLS), unique=True),
    new=st.permutations(CELLS),
    size=st.integers(2, 5),
)
def test_however_the_list_changes_what_is_answered_shares_no_job_with_what_is_not(
    old: list[Cell], new: list[Cell], size: int
) -> None:
    found = grouped([new], size, lambda cell: cell in old)
    for group in found:
        assert 1 < len(group) <= size
        assert len({cell in old for cell in group}) == 1
    together = [cell for group in found for cell in group]
    assert len(together) == len(set(together))
    # What is to be answered takes as few starts as it can.
    missing = [cell for cell in new if cell not in old]
    jobs = [group for group in found if group[0] not in old]
    alone = len(missing) - sum(map(len, jobs))
    assert len(jobs) + alone == -(-len(missing) // size)


def test_a_job_that_was_killed_half_way_leaves_the_others_as_they_were() -> None:
    done = {*CELLS[:3], CELLS[3], *CELLS[6:9]}
    found = ids(grouped([CELLS[:9]], 3, lambda cell: cell in done))
    assert found == [["q", "k", "v"], ["down", "q+k", "q+v"], ["gate", "up"]]


def test_a_cell_is_answered_when_answers_and_check_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/cells/pair/load/q/seed0"
    folder.mkdir(parents=True)
    for name in ("predictions.parquet", "verification.json"):
        assert not answered(CELLS[0])
        (folder / name).touch()
    assert answered(CELLS[0])


def test_a_run_s_groups_are_remembered_and_not_those_of_a_run_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert remembered() is None
    remember([])
    assert not groups.REMEMBERED.exists()
    remember([CELLS[:2]])
    wanted = [[cell.id for cell in CELLS[:2]]]
    assert remembered() == wanted
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir()
    lock.touch()
    remember([CELLS[4:6]])
    assert remembered() == wanted
    lock.unlink()
    remember([])
    assert remembered() == []
