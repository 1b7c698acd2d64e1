"""The one exception that reaches a user as a sentence instead of a traceback."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from affectlocus.redaction import redacted

P = ParamSpec("P")
T = TypeVar("T")


class InputError(Exception):
    """Bad input: the message says what was found, what was expected, and what to do.

    Always one line that a terminal can show, and no longer than somebody reads: line breaks, which
    bad input may hold, become spaces, other control characters their escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


_LONGEST = 2000  # characters of a message
_UNSHOWN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def one_line(text: str) -> str:
    """The text as `InputError` has it."""
    line = printable(re.sub(r"\s*[\r\n]+\s*", " ", text))
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"
    return line


def printable(text: str) -> str:
    """The text with its escapes for what would steer a terminal: control characters, marks that
    turn the direction of writing, and halves of characters, which no file can hold."""
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LayoutError(InputError):
    """A file that is there, and not as the task says."""


def shortened(name: object, longest: int = 200) -> str:
    """A path for a message: one line, and no longer than somebody reads."""
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(name))
    return text if len(text) <= longest else f"{text[: longest - 61]}…{text[-60:]}"


def traced(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Writes a traceback without secrets: what `sys.excepthook` may be."""
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(redacted(text, os.environ))


def or_exit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls `function`; bad input ends the process with its sentence and exit code 1.

    So does what the system refuses: no space, no permission, no folder, no memory. All else is a
    defect of ours, and its traceback says where.
    """
    try:
        return function(*args, **kwargs)
    except InputError as error:
        said = str(error)
    except OSError as error:
        said = _of_the_system(error)
    except MemoryError as error:
        said = str(InputError(f"not enough memory ({str(error) or 'none left'}); give it more"))
    sys.stderr.write(f"affectlocus: {redacted(said, os.environ)}\n")
    sys.exit(1)


def _of_the_system(error: OSError) -> str:
    names = [shortened(name) for name in (error.filename, error.filename2) if name is not None]
    said = error.strerror or str(error) or type(error).__name__
    return str(InputError(f"{' → '.join(names)}: {said}" if names else said))
