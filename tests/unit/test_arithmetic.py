"""The control domain's word problems."""

from __future__ import annotations

import random
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from affectlocus.data.arithmetic import THINGS, Problem, write_problem
from affectlocus.data.scenes import EMOTIONS, PEOPLE, REACTIONS

SEEDS = st.integers(0, 2**32)


def counted(problem: Problem) -> tuple[str, list[int], str]:
    """The person asked about, how many things after each sentence, and which things."""
    first, *rest = problem.text.rstrip(".").split(". ")
    person, start, things = re.fullmatch(r"(\w+) had (\d+) (\w+)", first).groups()
    counts = [int(start)]
    for line in rest:
        giver, taker, number, same = re.fullmatch(r"(\w+) gave (\w+) (\d+) (\w+)", line).groups()
        assert same == things
        assert person in (giver, taker)
        assert giver != taker
        counts.append(counts[-1] + (int(number) if taker == person else -int(number)))
    return person, counts, things


@given(SEEDS)
def test_the_answer_is_what_a_reader_counts(seed: int) -> None:
    problem = write_problem(random.Random(seed))
    _, counts, things = counted(problem)
    assert problem.answer == f"{counts[-1]} {things}."


@given(SEEDS)
def test_nobody_gives_away_the_last_thing_and_every_number_is_below_twenty(seed: int) -> None:
    _, counts, _ = counted(write_problem(random.Random(seed)))
    assert all(1 <= count < 20 for count in counts)


@given(SEEDS)
def test_the_question_asks_about_the_person_who_had_things(seed: int) -> None:
    problem = write_problem(random.Random(seed))
    person, _, _ = counted(problem)
    assert problem.question == f"Then {person} had"


@given(SEEDS)
def test_a_problem_has_the_scenes_people_and_no_word_of_feeling(seed: int) -> None:
    problem = write_problem(random.Random(seed))
    words = set(re.findall(r"\w+", problem.text))
    assert len(words & set(PEOPLE)) <= 2
    assert words & set(THINGS)
    felt = " ".join(line for lines in REACTIONS.values() for line in lines)
    assert not words & ({*re.findall(r"\w+", felt), *EMOTIONS} - {"p", "a", "two"})


def test_the_same_seed_gives_the_same_problem() -> None:
    assert write_problem(random.Random(5)) == write_problem(random.Random(5))


def test_giving_and_getting_one_step_and_two_all_occur() -> None:
    rng = random.Random(0)
    counts = [counted(write_problem(rng))[1] for _ in range(500)]
    assert {len(each) for each in counts} == {2, 3}
    steps = [after - before for each in counts for before, after in pairwise(each)]
    share = sum(step > 0 for step in steps) / len(steps)
    assert 0.4 < share < 0.6
