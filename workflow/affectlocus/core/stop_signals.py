"""Stop signals: they end a step with one line, and no output is half-written.

SIGTERM is sent at a preemption, at a time limit, by scancel and when a service stops; SIGINT is
Ctrl-C. Both have the same effect. SIGKILL (kill -9) cannot be caught; each output of the step is
then complete or missing.
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
    """A signal asked this process to stop. The exit code is 128 plus the signal's number."""

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(128 + number)
        where = where or "; no output is half-written, and the next run repeats this step"
        self.message = f"stopped by {signal.Signals(number).name}{where}"

    def __str__(self) -> str:
        return self.message


def install_handlers() -> None:
    """From now on a stop signal raises `Stopped`, so that open files are closed and removed."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, _: Any) -> None:
    # Schedulers and Snakemake send SIGTERM several times. A second Ctrl-C ends the process at once.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise Stopped(number)


class StopRequest:
    """Whether a stop signal has arrived.

    Attributes:
        number: the number of the signal; None as long as no signal has arrived.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def note(self, number: int, _: Any) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise Stopped(number)
        if self.number is None:
            self.number = number
            name = signal.Signals(number).name
            sys.stderr.write(f"affectlocus: {name}: saves after this training step and stops\n")


@contextmanager
def deferred_stop() -> Iterator[StopRequest]:
    """A context in which a stop signal is only recorded; the block checks for it where it can stop.

    A second Ctrl-C stops at once. Outside the main thread no signal is recorded, because signals
    arrive in the main thread only.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
