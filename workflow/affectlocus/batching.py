"""Rows of like length in one forward pass, within a budget that is halved where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch

from affectlocus.errors import InputError


def in_batches(
    lengths: Sequence[int], batch_tokens: int, run: Callable[[list[int]], None], row: str
) -> None:
    """Calls `run` with some rows at a time, shortest first, until every row was in one.

    Args:
        lengths: tokens of each row.
        batch_tokens: tokens of a batch at most, padding included; a single row may have more.
            Where memory runs out, it is halved, as often as it takes, and the work goes on.
        run: does the work for these rows, or raises.
        row: what a row is, for messages.

    Raises:
        InputError: a single row does not fit into memory.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = 0
    while start < len(order):
        rows = _next(order, start, lengths, batch_tokens)
        try:
            run(rows)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            tokens = len(rows) * lengths[rows[-1]]
            if len(rows) == 1:
                raise InputError(
                    f"one {row} of {tokens} tokens does not fit into memory; lower "
                    "evaluate.max_length, or take a device with more memory"
                ) from None
            batch_tokens = tokens // 2
            warnings.warn(
                f"out of memory with {tokens} tokens in a forward pass; going on with "
                f"{batch_tokens} (evaluate.batch_tokens)",
                stacklevel=3,
            )
            continue
        start += len(rows)


def _next(order: list[int], start: int, lengths: Sequence[int], budget: int) -> list[int]:
    """The next rows of `order`, sorted by length, whose padded tokens fit the budget."""
    stop = start + 1
    while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= budget:
        stop += 1
    return order[start:stop]


def _out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no error class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
