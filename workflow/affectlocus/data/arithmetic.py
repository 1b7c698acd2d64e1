"""Arithmetic word problems: the control domain. It uses the people of the scenes and no emotion."""

from __future__ import annotations

import random
from dataclasses import dataclass

from affectlocus.data.scenes import PEOPLE

THINGS = ("pens", "apples", "books", "coins", "eggs", "stones")


@dataclass(frozen=True)
class Problem:
    """A word problem, its question and its answer; every number is below 20."""

    text: str
    question: str
    answer: str


def write_problem(rng: random.Random) -> Problem:
    """A problem about a person who has, receives and gives away things; asks how many are left."""
    person, other = rng.sample(PEOPLE, 2)
    things = rng.choice(THINGS)
    count = rng.randint(2, 9)
    lines = [f"{person} had {count} {things}."]
    for _ in range(rng.randint(1, 2)):
        if count < 2 or rng.random() < 0.5:
            change = rng.randint(1, 5)
            lines.append(f"{other} gave {person} {change} {things}.")
        else:
            change = -rng.randint(1, count - 1)
            lines.append(f"{person} gave {other} {-change} {things}.")
        count += change
    return Problem(" ".join(lines), f"Then {person} had", f"{count} {things}.")
