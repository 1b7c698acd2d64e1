"""The one exception that reaches a user as a sentence instead of a traceback."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, ParamSpec, TypeVar

from affectlocus.core.redaction import redacted

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


class DamageError(InputError):
    """A file that is no longer what an earlier step wrote.

    Attributes:
        path: what has to go for that step to make it again: the file itself, or the manifest that
            lists it.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class LayoutError(InputError):
    """A file that is there, and not as the task says."""


def shortened(name: object, longest: int = 200) -> str:
    """A path for a message: one line, and no longer than somebody reads."""
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(name))
    return text if len(text) <= longest else f"{text[: longest - 61]}…{text[-60:]}"


# What is said without a class of its own: by torch on the CPU, by C++, by a system's loader.
_NO_MEMORY = re.compile(
    r"DefaultCPUAllocator|std::bad_alloc|Cannot allocate memory|failed to map segment"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, numpy's, torch's on a CPU or a card, or the system's."""
    # By its name, so that torch need not be imported.
    card = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return isinstance(error, MemoryError) or card or bool(_NO_MEMORY.search(str(error)))


def write_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Writes a traceback without secrets: what `sys.excepthook` may be."""
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(redacted(text, os.environ))


def exit_on_error(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls `function`; bad input ends the process with its sentence and exit code 1.

    So does what the system refuses: no space, no permission, no folder, no memory. All else is a
    defect of ours, and its traceback says where.
    """
    try:
        return function(*args, **kwargs)
    except InputError as error:
        _end(str(error))
    except Exception as error:
        if out_of_memory(error):
            _end(
                "out of memory; nothing is half-written: give this job more, as a cluster "
                "profile's retry does, or end what else takes it"
            )
        if isinstance(error, OSError):
            _end(_of_the_system(error))
        raise


def _end(sentence: str) -> NoReturn:
    # A job's log lies on the disk that may be full: then only the exit code tells.
    with suppress(OSError):
        sys.stderr.write(f"affectlocus: {redacted(sentence, os.environ)}\n")
        sys.stderr.flush()
    sys.exit(1)


def _of_the_system(error: OSError) -> str:
    names = [shortened(name) for name in (error.filename, error.filename2) if name is not None]
    said = error.strerror or str(error) or type(error).__name__
    return str(InputError(f"{' → '.join(names)}: {said}" if names else said))
