"""The one exception that reaches a user as a sentence instead of a traceback."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InputError(Exception):
    """Bad input: the message says what was found, what was expected, and what to do.

    Always one line: line breaks, which bad input may hold, become spaces.
    """

    def __init__(self, message: str) -> None:
        super().__init__(re.sub(r"\s*[\r\n]+\s*", " ", message))


def or_exit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls `function`; bad input ends the process with its sentence and exit code 1."""
    try:
        return function(*args, **kwargs)
    except InputError as error:
        sys.stderr.write(f"affectlocus: {error}\n")
        sys.exit(1)
