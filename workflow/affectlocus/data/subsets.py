"""Draws a fixed, stratified part of a task's test samples."""

from __future__ import annotations

import hashlib

import pandas as pd

from affectlocus.config.tasks import Subset


def drawn(samples: pd.DataFrame, subset: Subset) -> pd.DataFrame:
    """A part of the samples in which each answer has its share, in the order of the rows.

    Numbers of samples are rounded by the method of largest remainders, so that they add up. Within
    an answer the samples are drawn by a digest of the seed and their ids: another order of the
    rows draws the same samples, and a smaller subset of one seed is nearly contained in a larger
    one.

    Args:
        samples: columns `id` and `answer`; samples without labels have the same empty answer.
        subset: the number of samples, and the seed. All samples are kept if there are not more.
    """
    total = len(samples)
    if subset.samples >= total:
        return samples
    counts = samples["answer"].value_counts().sort_index(kind="stable")
    exact = counts * subset.samples / total
    wanted = exact.astype(int)
    left = subset.samples - int(wanted.sum())
    # Equal remainders: the alphabetically first answer.
    most = (exact - wanted).sort_values(ascending=False, kind="stable").index[:left]
    wanted[most] += 1
    order = samples["id"].map(lambda one: _place(subset.seed, one)).sort_values(kind="stable").index
    rank = samples.loc[order].groupby("answer").cumcount().reindex(samples.index)
    return samples[rank < samples["answer"].map(wanted)]


def _place(seed: int, sample: object) -> str:
    return hashlib.sha256(f"{seed}\0{sample}".encode()).hexdigest()
