"""Perplexity of a text from the nats that a model needed for it, without the model.

`fluency` measures the nats; they are kept apart from what is made of them here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from affectlocus.core.metrics import metric_names

METRICS = metric_names("text")


def perplexity(totals: np.ndarray) -> np.ndarray:
    """exp of the mean negative log-likelihood per token.

    Args:
        totals: (..., 2): nats and tokens, summed over documents.

    Returns:
        Shape (...).
    """
    return np.exp(totals[..., 0] / totals[..., 1])


def sums(rows: pd.DataFrame) -> np.ndarray:
    """(documents, 2): nats and tokens of each, from `loglik` (nats, below zero) and `tokens`."""
    return rows[["loglik", "tokens"]].to_numpy(dtype=float) * (-1, 1)
