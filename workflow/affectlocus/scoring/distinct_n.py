"""Distinct-n: the diversity of generated texts (Li et al. 2016, arXiv 1510.03055).

Li et al. divide by the number of words for every n. This module divides by the number of n-grams,
as is usual today.

The interval: a text that a bootstrap draws twice adds no new n-gram, so nearly every drawn corpus
is less diverse than the observed one. The bootstrap therefore draws the influence of each text: how
much distinct-n falls when the text is left out (the jackknife). The mean of the influences does not
have this bias, and its variance is on average at least the true one (Efron and Stein 1981).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from affectlocus.core.metrics import metric_names, value_range

METRICS = metric_names("written")
"""Distinct-1 and distinct-2, in percent, and words per text. The first two depend on the last."""

# Chinese and Japanese write no spaces: each character counts as a word.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")


def words(text: str) -> list[str]:
    """The words of a text in lower case; each punctuation mark is a word."""
    return _WORDS.findall(text.lower())


def _ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
    tokens = words(text)
    return Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))


def distinct(texts: Sequence[str], n: int) -> float | None:
    """The number of different n-grams over the number of n-grams; no n-gram crosses two texts.

    The value is 1 if no n-gram occurs twice. It falls with the amount of text: compare the same
    number of samples with the same length limit.

    Returns:
        A share in (0, 1]; None if no text has n words.
    """
    if n < 1:
        raise ValueError(f"n is {n}; expected 1 or more")
    return _share([_ngrams(text, n) for text in texts])


def _share(ngrams: Sequence[Counter[tuple[str, ...]]]) -> float | None:
    """The number of different n-grams over the number of n-grams."""
    total = sum(counts.total() for counts in ngrams)
    return len(set().union(*ngrams)) / total if total else None


def influences(texts: Sequence[str], n: int) -> tuple[float, np.ndarray]:
    """Distinct-n and the influence of each text on it.

    Returns:
        Distinct-n, 0 if no text has n words; and (texts,) float64 influences that sum to zero.
        Distinct-n plus the mean influence of texts drawn with replacement varies as distinct-n
        does.
    """
    ngrams = [_ngrams(text, n) for text in texts]
    share = _share(ngrams)
    if share is None:
        return 0.0, np.zeros(len(texts))
    owners: Counter[tuple[str, ...]] = Counter(ngram for counts in ngrams for ngram in counts)
    total, different = sum(counts.total() for counts in ngrams), len(owners)
    only_here = np.array([sum(owners[ngram] == 1 for ngram in counts) for counts in ngrams])
    left = total - np.array([counts.total() for counts in ngrams])
    without = np.divide(different - only_here, left, out=np.zeros(len(ngrams)), where=left > 0)
    return share, (len(ngrams) - 1) * (without.mean() - without)


def diversity(texts: Sequence[str]) -> tuple[Mapping[str, float], np.ndarray]:
    """The diversity of texts, and the values whose sums over drawn texts `diversity_draws` takes.

    Returns:
        `distinct_1`, `distinct_2` (percent), `words_per_text`; and (texts, 3) float64, the
        deviation that each text adds to the three scores.
    """
    found: dict[str, float] = {}
    columns = []
    for n in (1, 2):
        share, influence = influences(texts, n)
        found[f"distinct_{n}"] = 100 * share
        columns.append(100 * influence)
    lengths = np.array([len(words(text)) for text in texts], dtype=float)
    found["words_per_text"] = float(lengths.mean())
    return found, np.stack([*columns, lengths - lengths.mean()], axis=1)


def diversity_draws(found: Mapping[str, float], sums: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Each score as observed (first) and in every draw, (1 + draws,).

    Args:
        found: the scores from `diversity`.
        sums: (1 + draws, 3), the drawn sums of the values from `diversity`
            (`bootstrap.drawn_sums`).
        n: the number of texts.
    """
    limits = {name: value_range(name)[1] for name in METRICS}
    return {
        name: np.clip(found[name] + sums[:, at] / n, 0, limits[name])
        for at, name in enumerate(METRICS)
    }
