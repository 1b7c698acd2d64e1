"""The parquet files that steps hand to each other, and their facts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from refusal import refused

from affectlocus.core.cells import Cell
from affectlocus.core.step_tables import stored_facts, write_step_table
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.predictions import Predictions

ROWS = pd.DataFrame({"task": ["moods"], "sample": ["1"], "label": ["joy"], "loglik": [-1.0]})
CELL = Cell("load", "b", "p", "q+k", seed=3)
# The order of tasks is the order of a table's columns.
LABELS = {"moods": ["joy", "fear"], "anger": ["no", "yes"], "text": []}


def test_predictions_come_back_as_they_were_written(tmp_path: Path) -> None:
    Predictions(CELL, LABELS, ROWS).write(tmp_path / "a.parquet")
    found = Predictions.read(tmp_path / "a.parquet")
    assert found.cell == CELL
    assert list(found.labels.items()) == list(LABELS.items())
    pd.testing.assert_frame_equal(found.rows, ROWS)


def test_predictions_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows.attrs = {"cell": asdict(CELL), "labels": LABELS}
    rows.to_parquet(tmp_path / "a.parquet", index=False)
    found = Predictions.read(tmp_path / "a.parquet")
    assert (found.cell, found.labels) == (CELL, LABELS)


def test_a_prepared_task_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    samples = pd.DataFrame({"id": ["1"], "split": "test", "text": "a", "prompt": "a:"})
    samples = samples.assign(answer="joy")
    samples.attrs = {"task": "moods", "labels": ["joy"]}
    samples.to_parquet(tmp_path / "a.parquet", index=False)
    found = PreparedTask.read(tmp_path / "a.parquet")
    assert (found.name, found.labels) == ("moods", ["joy"])
    PreparedTask("moods", ["joy"], found.samples).write(tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(PreparedTask.read(tmp_path / "b.parquet").samples, samples)


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        ({}, "cell"),
        ({"labels": LABELS}, "cell"),
        ({"cell": {"kind": "base"}, "labels": LABELS}, "cell"),
        ({"cell": asdict(CELL)}, "labels"),
        ({"cell": asdict(CELL), "labels": ["joy"]}, "labels"),
    ],
)
def test_a_file_without_a_fact_or_with_another_one_is_refused(
    tmp_path: Path, facts: dict, missing: str
) -> None:
    path = tmp_path / "a.parquet"
    write_step_table(path, ROWS, facts)
    assert stored_facts(path) == facts
    with refused("table.no-column", file=path, column=missing):
        Predictions.read(path)


def test_a_file_of_another_step_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    Predictions(CELL, LABELS, ROWS).write(path)
    with refused("table.no-column", file=path, column="id"):
        PreparedTask.read(path)
    with refused("table.no-column", file=path, column="text"):
        Predictions.read(path, "text")
    with refused("table.no-file", file=tmp_path / "b.parquet"):
        Predictions.read(tmp_path / "b.parquet")
