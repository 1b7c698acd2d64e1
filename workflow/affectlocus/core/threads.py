"""Threads: how many a pass over tensors uses, and one for each matrix product in them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager


def default_threads() -> int:
    """The number of CPUs that this process may use, at most 4; more threads wait for memory."""
    return min(4, len(os.sched_getaffinity(0)))


def single_threaded_blas() -> AbstractContextManager[object]:
    """A context in which BLAS uses one thread: for matrices too small for several threads."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
