"""Predictions of cells, as the steps `evaluate` and `openset` write them."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from affectlocus.core.cells import Cell

WORDS = ["joy", "fear", "rage"]
BASE, TUNED = Cell("base", "b"), Cell("tuned", "b", "p")


def predictions(
    cell: Cell, answers: list[str], truth: list[str], task: str = "moods"
) -> pd.DataFrame:
    """Log-likelihoods that make these answers, as `evaluate` writes them."""
    frame = pd.DataFrame(
        [
            (task, str(sample), label, word, -1.0 if word == answer else -2.0)
            for sample, (label, answer) in enumerate(zip(truth, answers, strict=True))
            for word in WORDS
        ],
        columns=["task", "sample", "label", "candidate", "loglik"],
    )
    frame.attrs = {"cell": asdict(cell), "labels": {task: WORDS}}
    return frame


def free_text(cell: Cell, answers: list[str], truth: list[str]) -> pd.DataFrame:
    """Free texts with the labels that they name, as `openset` writes them."""
    frame = pd.DataFrame({"task": "moods", "sample": map(str, range(len(truth))), "label": truth})
    read = {"openset": [[answer] if answer else [] for answer in answers], "valence": ""}
    frame = frame.assign(candidate=None, loglik=np.nan, text="…", **read, answer=answers)
    frame.attrs = {"cell": asdict(cell), "labels": {"moods": WORDS}}
    return frame
