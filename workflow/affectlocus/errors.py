"""The one exception that reaches a user as a sentence instead of a traceback."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InputError(Exception):
    """Bad input: the message says what was found, what was expected, and what to do.

    Always one line: line breaks, which bad input may hold, become spaces.
    """

    def __init__(self, message: str) -> None:
        super().__init__(re.sub(r"\s*[\r\n]+\s*", " ", message))


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


def or_exit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
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
        sys.stderr.write(f"affectlocus: {sentence}\n")
        sys.stderr.flush()
    sys.exit(1)


def _of_the_system(error: OSError) -> str:
    names = [shortened(name) for name in (error.filename, error.filename2) if name is not None]
    said = error.strerror or str(error) or type(error).__name__
    return str(InputError(f"{' → '.join(names)}: {said}" if names else said))
