"""Rows in batches, on a memory of so many tokens."""

from __future__ import annotations

import pytest
import torch
from refusal import refused

from affectlocus.core.errors import out_of_memory
from affectlocus.lm.batching import in_batches


def ran(lengths: list[int], budget: int, memory: int, **names) -> list[list[int]]:
    """The batches that were done where only `memory` padded tokens fit."""
    done: list[list[int]] = []

    def run(rows: list[int]) -> None:
        if len(rows) * max(lengths[row] for row in rows) > memory:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        done.append(rows)

    in_batches(lengths, budget, run, "row", **names)
    return done


def test_rows_of_like_length_share_a_batch_within_the_budget() -> None:
    assert ran([5, 1, 4, 2, 9], 10, 99) == [[1, 3], [2, 0], [4]]


def test_the_budget_is_halved_until_the_rows_fit_and_is_kept() -> None:
    with pytest.warns(
        UserWarning, match="out of memory with 8 tokens in a batch; batch_tokens is now 4"
    ):
        assert ran([1] * 8 + [2] * 3, 8, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [10]]


def test_a_row_that_does_not_fit_alone_is_named() -> None:
    with refused("memory.row-too-long", row="sample 'b'", tokens=9, key="x.length"):
        ran([2, 9], 2, 4, names=["sample 'a'", "sample 'b'"], setting="x.length")


def test_other_errors_are_raised_unchanged() -> None:
    def run(_: list[int]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_batches([1, 2], 4, run, "row")


def test_torchs_own_errors_are_known_as_memory_that_ran_out_and_others_are_not() -> None:
    with pytest.raises(RuntimeError) as cpu:
        torch.ones(2**50)
    assert out_of_memory(cpu.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as shapes:
        torch.ones(2) @ torch.ones(3)
    assert not out_of_memory(shapes.value)
