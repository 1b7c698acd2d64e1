"""Names whose results would be another's are refused, and no others."""

from __future__ import annotations

import pytest

from affectlocus.config.name_collisions import clashes


@pytest.mark.parametrize(
    ("bases", "pairs", "tasks", "key"),
    [
        (["b"], ["a", "A"], ["t"], "pairs.A"),
        (["a"], ["A"], ["t"], "pairs.A"),
        (["b"], ["a"], ["moods", "Moods"], "tasks.Moods"),
        (["b"], ["a", "a.seed0"], ["t"], "pairs.a.seed0"),
        (["a.seed3"], ["a"], ["t"], "bases.a.seed3"),
        (["b"], ["a", "a.tune.gate.seed0"], ["t"], "pairs.a.tune.gate.seed0"),
        (["b"], ["a", "a.histogram"], ["t"], "pairs.a.histogram"),
        (["b", "b.overlaps"], ["a"], ["t"], "bases.b.overlaps"),
        (["b"], ["a", "a_intervals"], ["t"], "pairs.a_intervals"),
        (["b"], ["others.parquet"], ["t"], "pairs.others.parquet"),
        (["b"], ["a", "b-and-c", "a-and-b", "c"], ["t"], "pairs.b-and-c"),
    ],
)
def test_names_that_meet_are_refused(
    bases: list[str], pairs: list[str], tasks: list[str], key: str
) -> None:
    assert key in dict(clashes(bases, pairs, tasks))


@pytest.mark.parametrize(
    "pairs",
    [
        ["qwen2", "qwen2.5", "qwen2.5-7b"],
        ["a", "a.seeds", "a-and-b"],
        ["a_interval", "a"],
        ["others", "another.parquet"],
    ],
)
def test_names_that_do_not_meet_are_not(pairs: list[str]) -> None:
    assert not list(clashes(["base"], pairs, ["moods", "a"]))
