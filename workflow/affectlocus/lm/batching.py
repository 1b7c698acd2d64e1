"""Rows of like length in one forward pass, within a budget that is halved where memory runs out."""

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
    lower: str = "evaluate.max_length",
) -> None:
    """Calls `run` with some rows at a time, shortest first, until every row was in one.

    Args:
        lengths: tokens of each row.
        batch_tokens: tokens of a batch at most, padding included; a single row may have more.
            Where memory runs out, it is halved, as often as it takes, and the work goes on.
        run: does the work for these rows, or raises.
        row: what a row is, for messages.
        names: what each row is called, for messages.
        lower: the setting that makes a row shorter, for messages.

    Raises:
        InputError: a single row does not fit into memory; which one.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = 0
    while start < len(order):
        rows = _next(order, start, lengths, batch_tokens)
        if _fitted(run, rows):
            start += len(rows)
            continue
        tokens = len(rows) * lengths[rows[-1]]
        if len(rows) == 1:
            name = f" ({names[rows[0]]})" if names else ""
            raise InputError(
                f"one {row} of {tokens} tokens does not fit into memory{name}; lower "
                f"{lower}, or take a device with more memory"
            )
        batch_tokens = tokens // 2
        warnings.warn(
            f"out of memory with {tokens} tokens in a batch; going on with {batch_tokens} "
            "(batch_tokens)",
            stacklevel=3,
        )


def _fitted(run: Callable[[list[int]], None], rows: list[int]) -> bool:
    """Whether the rows were done; False if memory ran out, and none of it is held any more."""
    try:
        run(rows)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    # The error held the tensors of the pass that failed; the allocator still keeps their blocks.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _next(order: list[int], start: int, lengths: Sequence[int], budget: int) -> list[int]:
    """The next rows of `order`, sorted by length, whose padded tokens fit the budget."""
    stop = start + 1
    while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= budget:
        stop += 1
    return order[start:stop]
