"""A time limit for regular expressions that come from users' files."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from affectlocus.core.errors import InputError


@contextmanager
def time_limit(seconds: float, error: InputError) -> Iterator[None]:
    """A context that raises `error` after `seconds` of processor time.

    A regular expression can take exponential time, even on thirty characters. Python's `re` module
    checks for signals while it matches, so a timer signal can end it. Outside the main thread there
    is no limit, because signals arrive in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
