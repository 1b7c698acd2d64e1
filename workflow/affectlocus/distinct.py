"""Distinct-n: how varied generated texts are (Li et al. 2016, arXiv 1510.03055).

They divide by the number of words whatever n is; here, as is usual since, by that of n-grams.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Chinese and Japanese write no spaces: each character counts as a word.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")


def words(text: str) -> list[str]:
    """A text's words in lower case, marks of punctuation each by itself."""
    return _WORDS.findall(text.lower())


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Different n-grams over all n-grams of the texts, none across two texts.

    1 is a corpus that never repeats itself. It falls with the amount of text: compare equally many
    samples of one length limit.

    Returns:
        A share in (0, 1]; None where no text has n words.
    """
    if n < 1:
        raise ValueError(f"n is {n}; expected 1 or more")
    grams = []
    for text in texts:
        said = words(text)
        grams += [tuple(said[at : at + n]) for at in range(len(said) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None
