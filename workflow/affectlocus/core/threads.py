"""How many threads a pass over tensors takes, and that what they do is not shared out again."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager


def default_threads() -> int:
    """The CPUs that this process may use, at most 4: more wait for memory."""
    return min(4, len(os.sched_getaffinity(0)))


def single_threaded_blas() -> AbstractContextManager[object]:
    """One thread for each of numpy's products, where they are too small to be shared."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
