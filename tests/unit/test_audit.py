"""The data report: what is counted, and what it says on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.data.audit import brief, normalised


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
def test_copies_that_differ_by_case_punctuation_space_or_form_are_one(copy: str) -> None:
    assert normalised(copy) == "dont stop now"


@pytest.mark.parametrize(("one", "other"), [("!", "?"), ("well", "will"), ("我说。", "你说。")])
def test_other_texts_stay_apart(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_chinese_punctuation_counts_as_punctuation() -> None:
    assert normalised("好，我说。") == normalised("好,我说!")


@given(st.text())
def test_what_is_normalised_stays_so(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert (once == "") == (text.strip() == "") or once


def test_the_brief_report_names_what_is_there_and_nothing_else() -> None:
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
    assert brief(report) == [
        "moods: train 3, test 4",
        "  left out: without text: test 4",
        "  left out: with a label that is not listed: test 1",
        "  left out: 5 lines that are no rows",
        "  left out: 7 rows of split 'dev'",
        "  overlap, test in train: 1 texts exactly, 2 normalised, 0 ids, of 4",
    ]
    assert brief({"task": "a", "splits": {"test": clean}, "overlap": {}}) == ["a: test 3"]
