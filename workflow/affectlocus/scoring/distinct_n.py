"""Distinct-n: how varied generated texts are (Li et al. 2016, arXiv 1510.03055).

They divide by the number of words whatever n is; here, as is usual since, by that of n-grams.

Its interval: a text that a bootstrap draws twice adds no n-gram, so that drawn corpora are less
varied than the one at hand, nearly all of them. What is drawn instead is each text's influence, the
jackknife's: what distinct-n loses with the text. The mean of influences has no such bias, and its
spread is on average no less than the true one (Efron and Stein 1981).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from affectlocus.core.metrics import metric_names, value_range

METRICS = metric_names("written")
"""Shares of different words and pairs of words in percent, which depend on the texts' length."""

# Chinese and Japanese write no spaces: each character counts as a word.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")


def words(text: str) -> list[str]:
    """A text's words in lower case, marks of punctuation each by itself."""
    return _WORDS.findall(text.lower())


def _grams(text: str, n: int) -> Counter[tuple[str, ...]]:
    said = words(text)
    return Counter(tuple(said[at : at + n]) for at in range(len(said) - n + 1))


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Different n-grams over all n-grams of the texts, none across two texts.

    1 is a corpus that never repeats itself. It falls with the amount of text: compare equally many
    samples of one length limit.

    Returns:
        A share in (0, 1]; None where no text has n words.
    """
    if n < 1:
        raise ValueError(f"n is {n}; expected 1 or more")
    each = [_grams(text, n) for text in texts]
    total = sum(one.total() for one in each)
    return len(set().union(*each)) / total if total else None


def influences(texts: Sequence[str], n: int) -> tuple[float, np.ndarray]:
    """Distinct-n and what each text does to it.

    Returns:
        Distinct-n, 0 where no text has n words; and (texts,) float64 that sum to zero, whose mean
        over texts drawn with replacement, added to distinct-n, varies as that does.
    """
    share = distinct(texts, n)
    if share is None:
        return 0.0, np.zeros(len(texts))
    each = [_grams(text, n) for text in texts]
    owners: Counter[tuple[str, ...]] = Counter(gram for one in each for gram in one)
    total, kinds = sum(one.total() for one in each), len(owners)
    own = np.array([sum(owners[gram] == 1 for gram in one) for one in each])
    left = total - np.array([one.total() for one in each])
    without = np.divide(kinds - own, left, out=np.zeros(len(each)), where=left > 0)
    return share, (len(each) - 1) * (without.mean() - without)


def variety(texts: Sequence[str]) -> tuple[Mapping[str, float], np.ndarray]:
    """The scores of some texts, and what is summed over drawn texts to see them vary.

    Returns:
        `distinct_1`, `distinct_2` (percent), `words_per_text`; and (texts, 3) float64, each text's
        addition to the mean.
    """
    found: dict[str, float] = {}
    columns = []
    for n in (1, 2):
        share, each = influences(texts, n)
        found[f"distinct_{n}"] = 100 * share
        columns.append(100 * each)
    lengths = np.array([len(words(text)) for text in texts], dtype=float)
    found["words_per_text"] = float(lengths.mean())
    return found, np.stack([*columns, lengths - lengths.mean()], axis=1)


def drawn_variety(found: Mapping[str, float], sums: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Each score as observed (first) and in every draw.

    Args:
        sums: (1 + draws, 3), of `variety`, over n texts each (`resampling.drawn_sums`).
    """
    limits = {name: value_range(name)[1] for name in METRICS}
    return {
        name: np.clip(found[name] + sums[:, at] / n, 0, limits[name])
        for at, name in enumerate(METRICS)
    }
