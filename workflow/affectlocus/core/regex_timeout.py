"""A limit on the time that a pattern out of somebody's file may take."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from affectlocus.core.errors import InputError


@contextmanager
def time_limit(seconds: float, message: str) -> Iterator[None]:
    """In this block, after so many seconds of processor time, `InputError` with the message.

    Regular expressions can take longer than the universe is old for thirty characters of text;
    Python's look for signals on the way. In another thread than the main one there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise InputError(message)

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
