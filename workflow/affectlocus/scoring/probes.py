"""Step `probes`: what a linear probe reads from the text and the media of a task.

A logistic regression is fitted to the samples of the split train and scored on those of the split
test. It says what can be read from each medium alone and from all together, before any language
model is asked. It is no upper limit: what is not linear in the features is not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from affectlocus.lm.features import Features

Array = NDArray[np.float64]

COLUMNS = ("task", "read", "train", "test", "labels", "accuracy", "low", "high", "majority")
TEXT = "text"
_Z = 1.959964
_WEIGHT = 0.1  # inverse strength of the ridge penalty, the same for every probe


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in percent."""
    share, room = right / of, _Z**2 / of
    middle = (share + room / 2) / (1 + room)
    half = _Z * math.sqrt(share * (1 - share) / of + room / (4 * of)) / (1 + room)
    return 100 * (middle - half), 100 * (middle + half)


def media_of(samples: pd.DataFrame, files: Mapping[str, Path]) -> dict[str, Array]:
    """The features of some samples as one row each.

    Tokens are joined if every sample has the same number of them, else averaged.

    Args:
        samples: columns `id` and `split`.
        files: medium → its features, MEDIUM.safetensors.

    Returns:
        Medium → (samples, width), in the order of the rows.

    Raises:
        InputError: a sample has no features.
    """
    found = {}
    for medium, path in files.items():
        splits = {split: Features.read(path, split) for split in samples["split"].unique()}
        tokens = [
            splits[split].of(name).numpy()
            for split, name in zip(samples["split"], samples["id"], strict=True)
        ]
        alike = len({one.shape for one in tokens}) == 1
        rows = [one.ravel() if alike else one.mean(axis=0) for one in tokens]
        found[medium] = np.stack(rows).astype(np.float64)
    return found


def _sets(media: list[str]) -> Iterator[tuple[str, ...]]:
    """The text, each medium, every combination of media, and all of it with the text."""
    yield (TEXT,)
    for size in range(1, len(media) + 1):
        yield from combinations(media, size)
    yield (TEXT, *media)


def probe(name: str, samples: pd.DataFrame, media: Mapping[str, Array]) -> pd.DataFrame:
    """What is read of one task.

    Args:
        name: the task's name.
        samples: columns `split`, `text` and `answer`, a row per sample.
        media: medium → its features, (samples, width), in the order of the rows.

    Returns:
        A row for each set of media, with `COLUMNS`: accuracy on the test split with its 95 %
        interval over samples, and the share of the most frequent answer of the split train; in
        percent. Empty if a split is missing or has one answer only.
    """
    train = (samples["split"] == "train").to_numpy()
    test = (samples["split"] == "test").to_numpy()
    answers = samples["answer"].to_numpy()
    if not test.any() or len(set(answers[train])) < 2:
        return pd.DataFrame(columns=COLUMNS)
    parts: dict[str, Array | csr_matrix] = {
        medium: StandardScaler().fit(values[train]).transform(values)
        for medium, values in media.items()
    }
    words = CountVectorizer(binary=True, ngram_range=(1, 2))
    texts = samples[TEXT].to_numpy()
    parts[TEXT] = words.fit(texts[train]).transform(texts).toarray()
    common = pd.Series(answers[train]).value_counts().index[0]
    rows = []
    for read in _sets([*media]):
        features = np.hstack([parts[one] for one in read])
        model = LogisticRegression(C=_WEIGHT, max_iter=5000)
        model.fit(features[train], answers[train])
        right = int((model.predict(features[test]) == answers[test]).sum())
        low, high = interval(right, int(test.sum()))
        rows.append(
            (
                *(name, " + ".join(read), int(train.sum()), int(test.sum())),
                *(len(set(answers[train])), 100 * right / int(test.sum()), low, high),
                100 * float((answers[test] == common).mean()),
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)
