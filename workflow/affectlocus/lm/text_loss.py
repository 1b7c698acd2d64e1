"""The negative log-likelihood of general text, per document. `perplexity` computes intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from affectlocus.lm.batching import in_batches
from affectlocus.lm.soft_tokens import model_inputs

# Logits of one forward pass at most: 512 MB in float32.
_LOGITS = 2**27


@torch.inference_mode()
def text_nats(
    model: PreTrainedModel,
    documents: Sequence[Sequence[int]],
    batch_tokens: int,
    window: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    names: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The negative log-likelihood of each document.

    Args:
        model: in eval mode.
        documents: token ids; the first token of a document is given, not predicted.
        batch_tokens: the maximum number of tokens in a forward pass, fewer for a large vocabulary
            (`batching.in_batches`).
        window: tokens that the model reads at once. A longer document is split into pieces that
            overlap by one token, so that each token is predicted once. None: documents are whole.
        progress: called with the number of documents done since the last call. A document counts
            when its last piece is done.
        names: the name of each document, for messages.

    Returns:
        Nats (float64) and predicted tokens (int64), each of shape (documents,).

    Raises:
        InputError: a single piece does not fit into memory.
    """
    owners, parts = _pieces(documents, window)
    nats = np.zeros(len(documents))
    tokens = np.zeros(len(documents), dtype=np.int64)
    left = np.bincount(np.array(owners, dtype=np.int64), minlength=len(documents))

    def run(rows: list[int]) -> None:
        costs = _batch(model, [parts[row] for row in rows])
        for row, cost in zip(rows, costs, strict=True):
            nats[owners[row]] += cost
            tokens[owners[row]] += len(parts[row]) - 1
            left[owners[row]] -= 1
            if not left[owners[row]]:
                progress(1)

    # All logits of a pass are kept in memory, unlike those of candidates.
    budget = min(batch_tokens, _LOGITS // model.config.vocab_size)
    called = [names[owner] for owner in owners] if names else None
    in_batches([len(part) for part in parts], budget, run, "piece of text", called)
    progress(len(documents) - len(set(owners)))
    return nats, tokens


def _pieces(
    documents: Sequence[Sequence[int]], window: int | None
) -> tuple[list[int], list[Sequence[int]]]:
    """The number of the document of each piece, and the token ids of the piece, at least two."""
    owners: list[int] = []
    parts: list[Sequence[int]] = []
    for number, ids in enumerate(documents):
        step = max(1, (window or max(len(ids), 2)) - 1)
        for start in range(0, len(ids) - 1, step):
            owners.append(number)
            parts.append(ids[start : start + step + 1])
    return owners, parts


def _batch(model: PreTrainedModel, parts: list[Sequence[int]]) -> list[float]:
    width = len(parts[-1])
    ids = torch.zeros((len(parts), width), dtype=torch.long)
    mask = torch.zeros((len(parts), width), dtype=torch.long)
    for row, part in enumerate(parts):
        ids[row, : len(part)] = torch.tensor(part)
        mask[row, : len(part)] = 1
    # No attention mask: padding is on the right, where a causal model does not look.
    logits = model(**model_inputs(model, ids), use_cache=False).logits[:, :-1]
    # Flattened, because a softmax over the middle axis of a tensor is slow on a CPU.
    costs = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), ids[:, 1:].flatten().to(model.device), reduction="none"
    ).view(len(parts), width - 1)
    return (costs.double() * mask[:, 1:].to(model.device)).sum(dim=1).tolist()
