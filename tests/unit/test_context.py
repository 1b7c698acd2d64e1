"""The previous turns of a dialogue: earlier ones of the same dialogue, and never a later one."""

from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.config.files import Context
from affectlocus.data.context import previous_turns

# dialogue, order, whether anything is said
TURNS = st.lists(
    st.tuples(st.sampled_from(["a", "b", ""]), st.integers(0, 6), st.booleans()), max_size=20
)


def contexts(
    turns: list[tuple[str, int, bool]], most: int, ordered: bool = True
) -> list[list[int]]:
    """For each row, the row numbers of the turns in its context."""
    rows = pd.DataFrame(
        {
            "talk": [dialogue for dialogue, _, _ in turns],
            "turn": [str(order) for _, order, _ in turns],
            "who": [f"p{number % 2}" for number in range(len(turns))],
            "said": [f"t{number}" if said else " " for number, (_, _, said) in enumerate(turns)],
        },
        dtype=object,
    )
    context = Context(dialogue="talk", order="turn" if ordered else None, turns=most, speaker="who")
    texts = previous_turns(rows, context, "said")
    found = []
    for text in texts:
        lines = text.split("\n")
        assert lines.pop() == ""
        numbers = [int(line.partition(": t")[2]) for line in lines]
        assert [line.partition(":")[0] for line in lines] == [f"p{n % 2}" for n in numbers]
        found.append(numbers)
    return found


@given(TURNS, st.integers(1, 5), st.booleans())
def test_the_turns_are_the_latest_earlier_ones_of_the_same_dialogue(
    turns: list[tuple[str, int, bool]], most: int, ordered: bool
) -> None:
    for row, numbers in enumerate(contexts(turns, most, ordered)):
        dialogue, order, _ = turns[row]
        place = (lambda n: (turns[n][1], n)) if ordered else (lambda n: (n, n))
        earlier = [
            number
            for number, (other, when, said) in enumerate(turns)
            if said and other == dialogue != "" and (when < order if ordered else number < row)
        ]
        assert numbers == sorted(earlier, key=place)[-most:]


@given(TURNS, st.integers(1, 5))
def test_later_turns_do_not_change_the_context_of_a_row(
    turns: list[tuple[str, int, bool]], most: int
) -> None:
    before = contexts(turns, most)
    for row, (dialogue, order, _) in enumerate(turns):
        silenced = [(d, o, said and not (d == dialogue and o >= order)) for d, o, said in turns]
        assert contexts(silenced, most)[row] == before[row]
