"""How fluent a model still is: what general text costs it, document by document.

What is made of it, a perplexity with its interval, is in `perplexity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

# Logits of one forward pass: 256 MB in float32. A large vocabulary makes batches smaller.
_LOGITS = 2**26


@torch.inference_mode()
def text_nats(
    model: PreTrainedModel,
    documents: Sequence[Sequence[int]],
    batch_size: int,
    window: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-likelihood of each document, every token given those before it.

    Args:
        model: in eval mode.
        documents: token ids; the first token of each is given, not predicted.
        batch_size: pieces in one forward pass at most; pieces of like length go together.
        window: tokens that the model reads at once. A longer document is read in pieces that
            overlap by a token, so that each token is predicted once; none: never cut.
        progress: called with the number of documents done since the last call; one in several
            pieces counts with its last.

    Returns:
        Nats (float64) and predicted tokens (int64), each of shape (documents,).
    """
    owners, parts = _pieces(documents, window)
    order = sorted(range(len(parts)), key=lambda row: len(parts[row]))
    nats = np.zeros(len(documents))
    tokens = np.zeros(len(documents), dtype=np.int64)
    left = np.bincount(owners, minlength=len(documents))
    for rows in _batches([len(parts[row]) for row in order], batch_size, model.config.vocab_size):
        chosen = [order[row] for row in rows]
        for row, value in zip(chosen, _batch(model, [parts[row] for row in chosen]), strict=True):
            nats[owners[row]] += value
            tokens[owners[row]] += len(parts[row]) - 1
            left[owners[row]] -= 1
            if not left[owners[row]]:
                progress(1)
    return nats, tokens


def _pieces(
    documents: Sequence[Sequence[int]], window: int | None
) -> tuple[list[int], list[Sequence[int]]]:
    """The document that each piece is of, and its tokens, at least two."""
    owners: list[int] = []
    parts: list[Sequence[int]] = []
    for number, ids in enumerate(documents):
        step = max(1, (window or max(len(ids), 2)) - 1)
        for start in range(0, len(ids) - 1, step):
            owners.append(number)
            parts.append(ids[start : start + step + 1])
    return owners, parts


def _batches(lengths: Sequence[int], batch_size: int, vocabulary: int) -> Iterator[range]:
    """Runs of rows, sorted by length, whose logits fit."""
    start = 0
    while start < len(lengths):
        stop = start + 1
        while (
            stop < len(lengths)
            and stop - start < batch_size
            and (stop - start + 1) * lengths[stop] * vocabulary <= _LOGITS
        ):
            stop += 1
        yield range(start, stop)
        start = stop


def _batch(model: PreTrainedModel, parts: list[Sequence[int]]) -> list[float]:
    width = len(parts[-1])
    ids = torch.zeros((len(parts), width), dtype=torch.long)
    mask = torch.zeros((len(parts), width), dtype=torch.long)
    for row, part in enumerate(parts):
        ids[row, : len(part)] = torch.tensor(part)
        mask[row, : len(part)] = 1
    logits = model(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False
    ).logits[:, :-1]  # (B, width - 1, vocabulary)
    costs = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), ids[:, 1:].to(model.device), reduction="none"
    )  # (B, width - 1)
    return (costs.double() * mask[:, 1:].to(model.device)).sum(dim=1).tolist()
