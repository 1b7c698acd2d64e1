"""A stop signal ends a step with one line, at a moment when nothing is half-done.

SIGTERM is what a preemption, a time limit, scancel and a service that is stopped send; SIGINT is
Ctrl-C. Both are heeded alike. A kill -9 cannot be: what a step then leaves is whole or absent.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """Somebody told this process to stop. Its exit code is 128 and the signal's number."""

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(128 + number)
        where = where or "; nothing is half-written, and the next run does this step again"
        self.sentence = f"stopped by {signal.Signals(number).name}{where}"

    def __str__(self) -> str:
        return self.sentence


def install_handlers() -> None:
    """From now on a stop signal raises `Stopped`: what is open is closed, and removed."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, _: Any) -> None:
    # Schedulers and Snakemake send several; a second Ctrl-C means it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise Stopped(number)


class StopRequest:
    """Whether to stop.

    Attributes:
        number: the signal's, once one has come.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def _note(self, number: int, _: Any) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise Stopped(number)
        if self.number is None:
            self.number = number
            name = signal.Signals(number).name
            sys.stderr.write(f"affectlocus: {name}: ends this step of the training, saves, stops\n")


@contextmanager
def deferred_stop() -> Iterator[StopRequest]:
    """In this block a stop signal is only noted, and the block looks for it where it can stop.

    A second Ctrl-C does not wait. Outside the main thread no signal arrives, and none is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
