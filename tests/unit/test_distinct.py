"""Shares of different n-grams."""

from __future__ import annotations

import pytest

from affectlocus.distinct import distinct, words


def test_different_n_grams_over_all_of_them() -> None:
    texts = ["so so so", "so am I"]
    assert distinct(texts, 1) == 3 / 6
    assert distinct(texts, 2) == 3 / 4  # so so twice, so am, am i; none across the two texts


def test_a_corpus_without_repetition_has_1() -> None:
    assert distinct(["a b", "c d"], 1) == distinct(["a b", "c d"], 2) == 1


def test_the_same_text_over_and_over_tends_to_nothing() -> None:
    assert distinct(["I am so happy."] * 50, 2) == pytest.approx(1 / 50)


def test_texts_too_short_for_an_n_gram_have_no_share() -> None:
    assert distinct(["", "one"], 2) is None
    assert distinct([], 1) is None


def test_an_n_below_1_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        distinct(["a"], 0)


def test_words_are_told_apart_in_english_and_in_chinese() -> None:
    assert words("He's SO happy, naïve!") == ["he", "'", "s", "so", "happy", ",", "naïve", "!"]
    assert words("我很高兴。ok") == ["我", "很", "高", "兴", "。", "ok"]
