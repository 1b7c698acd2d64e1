"""Errors that a user sees as one sentence instead of a traceback."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from types import TracebackType
from typing import NoReturn, ParamSpec, Self, TypeVar

from affectlocus.core.redaction import redacted

P = ParamSpec("P")
T = TypeVar("T")


class InputError(Exception):
    """Bad input: the message says what was found, what was expected, and what to do.

    The message is one line of limited length that any terminal can show. Line breaks become spaces;
    other control characters become escape sequences.

    Attributes:
        code: a stable name of the error, `subject.reason` in kebab case ("adapter.no-alpha"). The
            wording of a message may change; its code stays.
        fields: what the message is about, by name: `file`, `key`, `found`, `expected`, …
    """

    def __init__(self, code: str, message: str, /, **fields: object) -> None:
        super().__init__(one_line(message))
        self.code = code
        self.fields = fields

    def __reduce__(self) -> tuple[object, ...]:
        # A worker process hands its error to the process that started it by pickle.
        return _restored, (type(self), self.code, str(self), self.fields)

    def within(self, place: object, /, **fields: object) -> Self:
        """The same error with a place before its message: `place: message`."""
        return type(self)(self.code, f"{place}: {self}", **{**self.fields, **fields})


def _restored(
    kind: type[InputError], code: str, message: str, fields: dict[str, object]
) -> InputError:
    return kind(code, message, **fields)


class CombinedError(InputError):
    """Several errors that were found together; its message and code are those of the first.

    Attributes:
        problems: all of them, in the order in which they were found.
    """

    def __init__(self, problems: Sequence[InputError]) -> None:
        first = problems[0]
        super().__init__(first.code, str(first), **first.fields)
        self.problems = list(problems)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problems,)

    def within(self, place: object, /, **fields: object) -> Self:
        """The same errors with a place before each message."""
        return type(self)([one.within(place, **fields) for one in self.problems])


class Problems:
    """Collects errors, so that all of them can be reported at once.

    Example:
        problems = Problems()
        for task in tasks:
            with problems.collected():
                check(task)
        problems.raise_any()
    """

    def __init__(self) -> None:
        self.found: list[InputError] = []

    def add(self, *errors: InputError) -> None:
        for error in errors:
            new = error.problems if isinstance(error, CombinedError) else [error]
            self.found += [one for one in new if str(one) not in map(str, self.found)]

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keeps an `InputError` of its block instead of raising it."""
        try:
            yield
        except InputError as error:
            self.add(error)

    def raise_any(self) -> None:
        """Raises what was found: one error as it is, several as `CombinedError`."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else CombinedError(self.found)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that `name` is probably a misspelling of."""
    lower = {one.lower(): one for one in names}
    found = get_close_matches(name.lower(), lower, n=1, cutoff=0.7)
    return lower[found[0]] if found else None


def check_choice(option: str, value: str, choices: Collection[str]) -> None:
    """Refuses a value of an option that is not one of its choices."""
    if value not in choices:
        raise InputError(
            "option.unknown-value",
            f"{option}: found {value!r}; expected one of {', '.join(choices)}",
            option=option,
            found=value,
            expected=list(choices),
        )


_MAX_MESSAGE = 2000  # characters
_UNPRINTABLE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def one_line(text: str) -> str:
    """The text as one printable line of at most about 2000 characters."""
    line = printable(re.sub(r"\s*[\r\n]+\s*", " ", text))
    if len(line) > _MAX_MESSAGE:
        line = f"{line[: _MAX_MESSAGE // 2]} … {line[-_MAX_MESSAGE // 2 :]}"
    return line


def printable(text: str) -> str:
    """The text with escape sequences in place of unprintable characters.

    These are control characters, marks that change the direction of writing, and surrogates, which
    no file can contain.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LayoutError(InputError):
    """A file exists, but its layout is not what the task describes."""


def shortened(name: object, longest: int = 200) -> str:
    """A path for a message: one line of at most `longest` characters."""
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(name))
    return text if len(text) <= longest else f"{text[: longest - 61]}…{text[-60:]}"


# Messages of errors without a class of their own: torch on the CPU, C++, the dynamic loader.
_NO_MEMORY = re.compile(
    r"DefaultCPUAllocator|std::bad_alloc|Cannot allocate memory|failed to map segment"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the CPU or on a GPU."""
    # Compared by name, so that torch need not be imported.
    gpu = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return isinstance(error, MemoryError) or gpu or bool(_NO_MEMORY.search(str(error)))


def write_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Writes a traceback to standard error, without secrets; usable as `sys.excepthook`."""
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(redacted(text, os.environ))


def exit_on_error(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls `function`; an expected error ends the process with exit code 1.

    It prints one sentence for each problem.

    Expected errors are bad input and what the system refuses: no space, no permission, no such
    folder, no memory. Every other exception is a bug and is raised, so that its traceback is shown.
    """
    try:
        return function(*args, **kwargs)
    except InputError as error:
        _end(error)
    except Exception as error:
        if out_of_memory(error):
            _end(
                InputError(
                    "system.out-of-memory",
                    "out of memory; no output is half-written: give this job more memory (the "
                    "retries of a cluster profile do so), or end other programs that use it",
                )
            )
        if isinstance(error, OSError):
            _end(_system_error(error))
        raise


def _end(error: InputError) -> NoReturn:
    # The job's log may be on the disk that is full. The exit code is then the only sign.
    with suppress(OSError):
        for one in error.problems if isinstance(error, CombinedError) else [error]:
            sentence = f"{one} [{one.code}]" if one.code else str(one)
            sys.stderr.write(f"affectlocus: {redacted(sentence, os.environ)}\n")
        sys.stderr.flush()
    sys.exit(1)


def _system_error(error: OSError) -> InputError:
    names = [shortened(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or str(error) or type(error).__name__
    return InputError("system.error", f"{' → '.join(names)}: {reason}" if names else reason)
