"""Shares of different n-grams."""

from __future__ import annotations

import numpy as np
import pytest

from affectlocus.scoring.bootstrap import Stream, drawn_sums
from affectlocus.scoring.distinct_n import (
    METRICS,
    distinct,
    diversity,
    diversity_draws,
    influences,
    words,
)


def test_different_n_grams_over_all_of_them() -> None:
    texts = ["so so so", "so am I"]
    assert distinct(texts, 1) == 3 / 6
    assert distinct(texts, 2) == 3 / 4  # so so twice, so am, am i; none across the two texts


def test_a_corpus_without_repetition_has_1() -> None:
    assert distinct(["a b", "c d"], 1) == distinct(["a b", "c d"], 2) == 1


def test_a_repeated_text_lowers_the_share() -> None:
    assert distinct(["I am so happy."] * 50, 2) == pytest.approx(1 / 50)


def test_texts_too_short_for_an_n_gram_have_no_share() -> None:
    assert distinct(["", "one"], 2) is None
    assert distinct([], 1) is None


def test_an_n_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        distinct(["a"], 0)


def test_words_are_separated_in_english_and_chinese() -> None:
    assert words("He's SO happy, naïve!") == ["he", "'", "s", "so", "happy", ",", "naïve", "!"]
    assert words("我很高兴。ok") == ["我", "很", "高", "兴", "。", "ok"]


TEXTS = ["so so so", "so am I", "", "am I so", "who"]


@pytest.mark.parametrize("n", [1, 2])
def test_an_influence_is_what_the_share_loses_without_the_text(n) -> None:
    share, found = influences(TEXTS, n)
    assert share == distinct(TEXTS, n)
    without = np.array([distinct(TEXTS[:at] + TEXTS[at + 1 :], n) for at in range(5)])
    assert found == pytest.approx(4 * (without.mean() - without))


def test_empty_texts_have_a_diversity_of_0() -> None:
    found, each = diversity(["", ""])
    assert found == {"distinct_1": 0, "distinct_2": 0, "words_per_text": 0}
    assert not each.any()


def test_a_single_text_has_no_influence() -> None:
    found, each = diversity(["a rose is a rose"])
    assert found == {"distinct_1": 60, "distinct_2": 75, "words_per_text": 5}
    assert not each.any()


def corpus(rng: np.random.Generator, texts: int) -> list[str]:
    """Texts of about twelve words, whose frequencies fall as in a language."""
    chances = 1 / np.arange(1, 401) ** 1.1
    lengths = rng.poisson(12, size=texts) + 1
    return [
        " ".join(f"w{word}" for word in rng.choice(400, size, p=chances / chances.sum()))
        for size in lengths
    ]


def interval(texts: list[str]) -> np.ndarray:
    """(2, metrics): the middle 95 % of 200 draws."""
    found, each = diversity(texts)
    draws = diversity_draws(found, drawn_sums(each, Stream(0, "", 200)), len(texts))
    return np.percentile(np.stack([draws[name][1:] for name in METRICS], axis=1), [2.5, 97.5], 0)


def test_the_interval_holds_the_share_of_other_corpora_and_a_plain_bootstrap_does_not() -> None:
    rng = np.random.default_rng(0)
    corpora = [corpus(rng, 40) for _ in range(100)]
    truth = np.mean([[diversity(texts)[0][name] for name in METRICS] for texts in corpora], axis=0)
    ends = np.stack([interval(texts) for texts in corpora])  # (corpora, 2, metrics)
    held = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean(axis=0)
    assert (held >= 0.9).all()
    # The interval is at most a third wider than the variation between corpora.
    spread = np.std([[diversity(one)[0][name] for name in METRICS] for one in corpora], axis=0)
    assert ((ends[:, 1] - ends[:, 0]).mean(axis=0) < 4 / 3 * 3.92 * spread).all()
    texts = corpora[0]
    again = [[texts[at] for at in rng.integers(0, 40, 40)] for _ in range(50)]
    assert max(distinct(one, 2) or 0 for one in again) < (distinct(texts, 2) or 0)
