"""What was said before: the previous turns of a dialogue, from the table that holds them all."""

from __future__ import annotations

import numpy as np
import pandas as pd

from affectlocus.config.files import Context
from affectlocus.core.errors import LayoutError


def previous_turns(rows: pd.DataFrame, context: Context, text: str, source: str) -> list[str]:
    """Each row's earlier turns in its own dialogue, the latest `turns` of them, oldest first.

    Args:
        rows: every turn of the dialogues, those included that will not be scored.
        context: the columns of dialogue, order and speaker, and how many turns.
        text: the column of what is said.
        source: the file, for messages.

    Returns:
        A text a row: a line a turn, with its line break, the speaker's name in front; empty where a
        dialogue begins, and for a row that names no dialogue. Turns without text are no turns.

    Raises:
        InputError: an order that is no number.
    """
    order = _order(rows, context, source)
    said = rows[text].str.strip().to_numpy()
    spoken = said
    if context.speaker is not None:
        names = rows[context.speaker].str.strip()
        spoken = np.where(names == "", said, names + ": " + said)
    told = [""] * len(rows)
    dialogues = rows[context.dialogue].to_numpy()
    for dialogue, places in pd.Series(range(len(rows))).groupby(dialogues, sort=False):
        if str(dialogue).strip() == "":
            continue
        turns = sorted(places, key=lambda place: order[place])
        earlier: list[int] = []
        waiting: list[int] = []  # turns of one and the same order: none is before another
        for place in turns:
            if waiting and order[waiting[0]] < order[place]:
                earlier += waiting
                waiting = []
            told[place] = "".join(f"{spoken[turn]}\n" for turn in earlier[-context.turns :])
            if said[place]:
                waiting.append(place)
    return told


def _order(rows: pd.DataFrame, context: Context, source: str) -> np.ndarray:
    if context.order is None:
        return np.arange(len(rows))
    order = pd.to_numeric(rows[context.order], errors="coerce").to_numpy(dtype=float)
    wrong = np.flatnonzero(~np.isfinite(order))
    if len(wrong):
        found = rows[context.order].iloc[wrong[0]]
        raise LayoutError(
            f"{source}: row {wrong[0] + 1} has {found!r} in column {context.order!r}, expected a "
            "number that orders the turns; name another column as context.order, or leave it out"
        )
    return order
