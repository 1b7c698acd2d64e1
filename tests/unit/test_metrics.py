"""The registry of metrics: one entry is enough for a new metric."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Cohen's kappa is added before any other module reads the registry.
ADDED = """
import numpy as np
from affectlocus.core import metrics

def kappa(counts):
    chance = (counts.truth * counts.answered).sum(-1) / counts.total**2
    return 100 * (counts.hits.sum(-1) / counts.total - chance) / (1 - chance)

metrics.METRICS["kappa"] = metrics.Metric(
    "kappa", "Cohen's kappa (%)", "labels", lowest=-100, formula=kappa
)
"""
TRUTH = ["joy", "fear", "joy", "rage", "joy", "fear"]
ANSWERS = ["joy", "joy", "joy", "rage", "fear", "fear"]


def run(code: str) -> str:
    """What code prints in a process of its own, after the entry is added."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", f"{ADDED}\ntruth, answers = {TRUTH}, {ANSWERS}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_one_entry_gives_scores_tables_and_an_axis_label() -> None:
    from sklearn.metrics import cohen_kappa_score

    value, column, label = run("""
from cell_frames import BASE, TUNED, predictions
from affectlocus.config.scoring import Score
from affectlocus.scoring.score import score
from affectlocus.scoring.tables import table_tasks
cells = [predictions(BASE, answers[::-1], truth), predictions(TUNED, answers, truth)]
rows = score(cells, Score(metric="kappa", resamples=200))
found = rows[(rows["cell"] == "p/tuned") & (rows["task"] == "moods") & (rows["metric"] == "kappa")]
print(found["value"].item())
print(*table_tasks(rows, "kappa"))
print(metrics.axis_label("kappa"))
""").splitlines()
    assert float(value) == pytest.approx(100 * cohen_kappa_score(TRUTH, ANSWERS))
    assert (column, label) == ("moods", "Cohen's kappa (%)")


def test_one_entry_gives_a_choice_of_params_yaml_and_contrasts_of_claims() -> None:
    from sklearn.metrics import cohen_kappa_score

    choices, value = run("""
from affectlocus.config.scoring import PERCENT
from affectlocus.claims.statistics import LabelAnswers
codes = {"joy": 0, "fear": 1, "rage": 2}
given = np.array([[codes[one] for one in answers]])
true = np.array([codes[one] for one in truth])
task = LabelAnswers(np.arange(6), true, given, 3, "kappa")
print(*PERCENT)
print(task.scores(np.ones((1, 6), np.float32)).item())
""").splitlines()
    assert "kappa" in choices.split()
    assert float(value) == pytest.approx(100 * cohen_kappa_score(TRUTH, ANSWERS))
