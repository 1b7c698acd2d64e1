"""The previous turns of a dialogue, for tasks whose prompt has a {context}."""

from __future__ import annotations

import numpy as np
import pandas as pd

from affectlocus.config.files import Context
from affectlocus.core.errors import LayoutError


def previous_turns(rows: pd.DataFrame, context: Context, text: str) -> list[str]:
    """The last `context.turns` turns before each row in the same dialogue, oldest first.

    Args:
        rows: every turn of the dialogues, including turns that are not scored.
        context: the columns of dialogue, order and speaker, and the number of turns.
        text: the column of the utterance.

    Returns:
        One text per row, with one line per turn: the speaker's name, the utterance, a line break.
        It is empty at the start of a dialogue and for a row without a dialogue. Turns with empty
        text are skipped.

    Raises:
        InputError: an order that is not a number.
    """
    order = _order(rows, context)
    utterances = rows[text].str.strip().to_numpy()
    lines = utterances
    if context.speaker is not None:
        names = rows[context.speaker].str.strip()
        lines = np.where(names == "", utterances, names + ": " + utterances)
    contexts = [""] * len(rows)
    dialogues = rows[context.dialogue].to_numpy()
    for dialogue, numbers in pd.Series(range(len(rows))).groupby(dialogues, sort=False):
        if str(dialogue).strip() == "":
            continue
        earlier: list[int] = []
        tied: list[int] = []  # turns of the same order: none of them is before another
        for row in sorted(numbers, key=lambda number: order[number]):
            if tied and order[tied[0]] < order[row]:
                earlier += tied
                tied = []
            contexts[row] = "".join(f"{lines[turn]}\n" for turn in earlier[-context.turns :])
            if utterances[row]:
                tied.append(row)
    return contexts


def _order(rows: pd.DataFrame, context: Context) -> np.ndarray:
    if context.order is None:
        return np.arange(len(rows))
    order = pd.to_numeric(rows[context.order], errors="coerce").to_numpy(dtype=float)
    wrong = np.flatnonzero(~np.isfinite(order))
    if len(wrong):
        row, value = int(wrong[0]) + 1, rows[context.order].iloc[wrong[0]]
        raise LayoutError(
            "table.not-a-number",
            f"row {row} has {value!r} in column {context.order!r}; expected a number "
            "that orders the turns: set context.order to another column, or remove it",
            column=context.order,
            row=row,
            found=value,
        )
    return order
