"""Batches of rows of similar length, with a token budget that is halved when memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch

from affectlocus.core.errors import InputError, out_of_memory


def in_batches(
    lengths: Sequence[int],
    batch_tokens: int,
    run: Callable[[list[int]], None],
    row: str,
    names: Sequence[str] | None = None,
    setting: str = "evaluate.max_length",
) -> None:
    """Calls `run` with batches of row numbers, shortest rows first, until all rows are done.

    Args:
        lengths: the number of tokens of each row.
        batch_tokens: the maximum number of tokens in a batch, including padding; a single row may
            have more. When memory runs out, it is halved and the rows are tried again.
        run: processes the rows of a batch.
        row: what a row is, for messages.
        names: the name of each row, for messages.
        setting: the setting that limits the length of a row, for messages.

    Raises:
        InputError: a single row does not fit into memory; the message names it.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = 0
    while start < len(order):
        rows = _next_batch(order, start, lengths, batch_tokens)
        if _fits(run, rows):
            start += len(rows)
            continue
        tokens = len(rows) * lengths[rows[-1]]
        if len(rows) == 1:
            name = f" ({names[rows[0]]})" if names else ""
            raise InputError(
                "memory.row-too-long",
                f"one {row} of {tokens} tokens does not fit into memory{name}; lower "
                f"{setting}, or use a device with more memory",
                row=names[rows[0]] if names else None,
                tokens=tokens,
                key=setting,
            )
        batch_tokens = tokens // 2
        warnings.warn(
            f"out of memory with {tokens} tokens in a batch; batch_tokens is now {batch_tokens}",
            stacklevel=3,
        )


def _fits(run: Callable[[list[int]], None], rows: list[int]) -> bool:
    """Runs a batch; False if memory ran out, after the memory of the batch is freed."""
    try:
        run(rows)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    # The tensors are freed with the error, but the allocator still holds their blocks.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _next_batch(order: list[int], start: int, lengths: Sequence[int], budget: int) -> list[int]:
    """The next rows of `order`, sorted by length, whose padded tokens fit the budget."""
    stop = start + 1
    while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= budget:
        stop += 1
    return order[start:stop]
