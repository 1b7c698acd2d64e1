"""The valence of emotion words."""

from __future__ import annotations

import pytest

from affectlocus.scoring.valence_lexicon import NEGATIVE, NEUTRAL, POSITIVE, valence


@pytest.mark.parametrize(
    ("words", "polarity"),
    [
        (["happy"], "positive"),
        (["happy", "sad", "angry"], "negative"),
        (["sad", "happy"], "negative"),
        (["happy", "sad"], "positive"),
        (["neutral", "sad"], "negative"),
        (["neutral"], "neutral"),
        (["高兴"], "positive"),
        (["green"], None),
        ([], None),
    ],
)
def test_the_valence_is_that_of_most_words(words, polarity) -> None:
    assert valence(words) == polarity


def test_no_word_has_two_valences() -> None:
    assert not POSITIVE & NEGATIVE
    assert not (POSITIVE | NEGATIVE) & NEUTRAL
