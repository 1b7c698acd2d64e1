"""The perplexity of a text from the log-likelihoods that `evaluate` measured; needs no model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from affectlocus.core.metrics import metric_names

METRICS = metric_names("text")


def perplexity(totals: np.ndarray) -> np.ndarray:
    """exp of the mean negative log-likelihood per token.

    Args:
        totals: (..., 2): negative log-likelihood (nats) and tokens, summed over documents.

    Returns:
        Shape (...).
    """
    return np.exp(totals[..., 0] / totals[..., 1])


def text_sums(rows: pd.DataFrame) -> np.ndarray:
    """(documents, 2): negative log-likelihood (nats) and number of tokens of each document.

    Args:
        rows: columns `loglik` (nats, below zero) and `tokens`.
    """
    return rows[["loglik", "tokens"]].to_numpy(dtype=float) * (-1, 1)
