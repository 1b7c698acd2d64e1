"""Names whose results would be another's are refused, and no others."""

from __future__ import annotations

import pytest

from affectlocus.config.name_collisions import clashes


@pytest.mark.parametrize(
    ("bases", "pairs", "tasks", "key", "code"),
    [
        (["b"], ["a", "A"], ["t"], "pairs.A", "params.names-differ-by-case"),
        (["a"], ["A"], ["t"], "pairs.A", "params.names-differ-by-case"),
        (["b"], ["a"], ["moods", "Moods"], "tasks.Moods", "params.names-differ-by-case"),
        (["b"], ["a", "a.seed0"], ["t"], "pairs.a.seed0", "params.same-result-names"),
        (["a.seed3"], ["a"], ["t"], "bases.a.seed3", "params.same-result-names"),
        (["b"], ["a", "a.tune.q.seed0"], ["t"], "pairs.a.tune.q.seed0", "params.same-result-names"),
        (["b"], ["a", "a.histogram"], ["t"], "pairs.a.histogram", "params.same-result-names"),
        (["b", "b.overlaps"], ["a"], ["t"], "bases.b.overlaps", "params.same-result-names"),
        (["b"], ["a", "a_intervals"], ["t"], "pairs.a_intervals", "params.same-result-names"),
        (["b"], ["others.parquet"], ["t"], "pairs.others.parquet", "params.reserved-name"),
        (["b"], ["a", "b-and-c", "a-and-b", "c"], ["t"], "pairs.b-and-c", "pair.ambiguous-name"),
    ],
)
def test_names_that_meet_are_refused(
    bases: list[str], pairs: list[str], tasks: list[str], key: str, code: str
) -> None:
    problems = clashes(bases, pairs, tasks)
    assert (code, key) in [(problem.code, problem.fields["key"]) for problem in problems]


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
