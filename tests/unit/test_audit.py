"""The data report: normalised texts, and the lines for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.data.audit import normalised, report_lines


@pytest.mark.parametrize(
    "copy",
    [
        "Don't  stop, now!",
        "don’t stop now",
        "DON'T\tSTOP — NOW…",
        "Ｄon't stop； now",
        "don't\nstop now",
    ],
)
def test_copies_that_differ_in_case_punctuation_space_or_form_are_equal(copy: str) -> None:
    assert normalised(copy) == "dont stop now"


@pytest.mark.parametrize(("one", "other"), [("!", "?"), ("well", "will"), ("我说。", "你说。")])
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_chinese_punctuation_counts_as_punctuation() -> None:
    assert normalised("好，我说。") == normalised("好,我说!")


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert (once == "") == (text.strip() == "") or once


def test_the_report_lines_omit_counts_of_zero() -> None:
    clean = {"read": 3, "empty_text": 0, "kept": 3, "duplicate_text": 0}
    report = {
        "task": "moods",
        "splits": {
            "train": clean,
            "test": {**clean, "read": 9, "empty_text": 4, "unlisted_label": 1, "kept": 4},
        },
        "other_lines": 5,
        "other_splits": {"dev": 7},
        "overlap": {"test in train": {"exact": 1, "normalised": 2, "id": 0}},
    }
    assert report_lines(report) == [
        "moods: train 3, test 4",
        "  left out: with empty text: test 4",
        "  left out: with a label that is not listed: test 1",
        "  left out: lines that do not match the pattern: 5",
        "  left out: rows of split 'dev': 7",
        "  overlap, test in train: of 4 rows, 1 by exact text, 2 by normalised text, 0 by id",
    ]
    assert report_lines({"task": "a", "splits": {"test": clean}, "overlap": {}}) == ["a: test 3"]
