"""How many threads a pass over tensors takes, and that its operations take one each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def default_threads() -> int:
    """The CPUs that this process may use, at most 4: more wait for memory."""
    return min(4, len(os.sched_getaffinity(0)))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """One thread for each of torch's operations, where they are too small to be shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
