"""Predictions of cells, as the steps `evaluate` and `openset` write them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from affectlocus.core.cells import Cell
from affectlocus.evaluation.predictions import Predictions

WORDS = ["joy", "fear", "rage"]
BASE, TUNED = Cell("base", "b"), Cell("tuned", "b", "p")


def predictions(
    cell: Cell, answers: list[str], truth: list[str], task: str = "moods"
) -> Predictions:
    """Log-likelihoods that make these answers, as `evaluate` writes them."""
    rows = pd.DataFrame(
        [
            (task, str(sample), label, word, -1.0 if word == answer else -2.0)
            for sample, (label, answer) in enumerate(zip(truth, answers, strict=True))
            for word in WORDS
        ],
        columns=["task", "sample", "label", "candidate", "loglik"],
    )
    return Predictions(cell, {task: WORDS}, rows)


def joined(*parts: Predictions) -> Predictions:
    """The predictions of one cell for several tasks."""
    rows = pd.concat([part.rows for part in parts], ignore_index=True)
    labels = {task: words for part in parts for task, words in part.labels.items()}
    return Predictions(parts[0].cell, labels, rows)


def free_text(cell: Cell, answers: list[str], truth: list[str]) -> Predictions:
    """Free texts with the labels that they name, as `openset` writes them."""
    frame = pd.DataFrame({"task": "moods", "sample": map(str, range(len(truth))), "label": truth})
    read = {"openset": [[answer] if answer else [] for answer in answers], "valence": ""}
    rows = frame.assign(candidate=None, loglik=np.nan, text="…", **read, answer=answers)
    return Predictions(cell, {"moods": WORDS}, rows)
