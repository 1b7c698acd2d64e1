"""A subset has each label's share, and depends on ids and seed alone."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.config.tasks import Subset, Task
from affectlocus.data.audit import report_lines
from affectlocus.data.prepare import prepare
from affectlocus.data.subsets import drawn


def samples(**counts: int) -> pd.DataFrame:
    """`samples(joy=3, fear=1)`: rows with these answers."""
    answers = [answer for answer, count in counts.items() for _ in range(count)]
    return pd.DataFrame({"id": [f"test-{row}" for row in range(len(answers))], "answer": answers})


def test_shares_are_those_of_the_whole() -> None:
    found = drawn(
        samples(joy=695, sadness=581, anger=275, fear=224, love=159, surprise=66),
        Subset(samples=500),
    )
    assert found["answer"].value_counts().to_dict() == {
        "joy": 174,
        "sadness": 145,
        "anger": 69,
        "fear": 56,
        "love": 40,
        "surprise": 16,
    }
    assert found.index.is_monotonic_increasing


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 250), st.integers(0, 9))
def test_the_numbers_add_up(counts: list[int], wanted: int, seed: int) -> None:
    whole = samples(**{f"label{at}": count for at, count in enumerate(counts)})
    found = drawn(whole, Subset(samples=wanted, seed=seed))
    assert len(found) == min(wanted, len(whole))
    for label, count in whole["answer"].value_counts().items():
        exact = count * min(wanted, len(whole)) / len(whole)
        assert abs((found["answer"] == label).sum() - exact) < 1


def test_another_order_draws_the_same_samples_and_another_seed_others() -> None:
    whole = samples(joy=60, fear=40)
    first = drawn(whole, Subset(samples=30))
    turned = drawn(whole.iloc[::-1].reset_index(drop=True), Subset(samples=30))
    assert set(first["id"]) == set(turned["id"])
    other = drawn(whole, Subset(samples=30, seed=1))
    assert set(first["id"]) != set(other["id"])


def test_the_data_report_states_the_subset(tmp_path) -> None:
    for split in ("train", "test"):
        rows = [f"{split} text {row},{'joy' if row % 4 else 'fear'}" for row in range(40)]
        (tmp_path / f"{split}.csv").write_text("text,mood\n" + "\n".join(rows), encoding="utf-8")
    files = {split: tmp_path / f"{split}.csv" for split in ("train", "test")}
    keys = {
        "files": {split: str(path) for split, path in files.items()},
        "columns": {"label": "mood"},
        "labels": ["joy", "fear"],
    }
    task = Task.model_validate(keys | {"subset": {"samples": 8, "seed": 3}})
    found, report = prepare("mine", task, files)
    assert found["split"].value_counts().to_dict() == {"train": 40, "test": 8}
    kept = found[found["split"] == "test"]
    assert kept["answer"].value_counts().to_dict() == {"joy": 6, "fear": 2}
    assert report["subset"] == {"samples": 8, "seed": 3}
    assert report["splits"]["test"]["kept"] == 8
    assert report["splits"]["test"]["outside_subset"] == 32
    assert any("not drawn for the subset: test 32" in line for line in report_lines(report))


def test_a_subset_without_a_test_split_is_refused() -> None:
    keys = {"files": {"train": "a.csv"}, "columns": {"target": "t"}, "subset": {"samples": 8}}
    with pytest.raises(ValueError, match="subset"):
        Task.model_validate(keys)
