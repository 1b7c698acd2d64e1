"""The bootstrap of whatever is a function of sums over samples: an error, a perplexity."""

from __future__ import annotations

import numpy as np

# Draws at a time: their counts are a matrix of draws by samples.
_BLOCK = 64


def drawn_sums(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Sums over samples as observed (first), and over as many samples drawn with replacement.

    Args:
        values: (samples, columns); a draw takes whole rows, so that columns stay paired.

    Returns:
        float64 of shape (1 + resamples, columns).
    """
    n = len(values)
    even = np.full(n, 1 / n)
    parts = [values.sum(axis=0, keepdims=True)]
    for start in range(0, resamples, _BLOCK):
        counts = rng.multinomial(n, even, size=min(_BLOCK, resamples - start))  # (draws, samples)
        parts.append(counts @ values)
    return np.vstack(parts)
