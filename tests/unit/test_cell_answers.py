"""Predictions into answers: the likeliest candidate, and the label in free text."""

from __future__ import annotations

import pandas as pd
from cell_frames import BASE, free_text, predictions
from refusal import refused

from affectlocus.scoring.cell_answers import choose


def test_the_likeliest_candidate_is_the_answer_within_each_task_and_sample() -> None:
    frame = pd.concat(
        [
            predictions(BASE, ["fear", "rage"], ["joy", "rage"]).rows,
            predictions(BASE, ["joy", "fear"], ["fear", "fear"], "other").rows,
        ]
    ).reset_index(drop=True)
    chosen = choose(frame.sample(frac=1, random_state=3)).sort_values(["task", "sample"])
    assert chosen.values.tolist() == [
        ["moods", "0", "joy", "fear"],
        ["moods", "1", "rage", "rage"],
        ["other", "0", "fear", "joy"],
        ["other", "1", "fear", "fear"],
    ]


def test_a_tie_goes_to_the_candidate_that_is_listed_first() -> None:
    frame = predictions(BASE, ["joy"] * 3, ["joy"] * 3).rows
    frame["loglik"] = [-2, -1, -1, -1, -2, -1, -1, -1, -1]
    assert choose(frame)["answer"].tolist() == ["fear", "joy", "joy"]


def test_free_text_without_open_sets_is_refused() -> None:
    read = free_text(BASE, ["joy"], ["joy"]).rows
    unread = read.drop(columns=["openset", "valence", "answer"])
    with refused("prediction.free-text-without-labels", task="moods"):
        choose(unread)
