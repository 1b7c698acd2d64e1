"""Errors in params.yaml and in settings: the place, the key and one sentence."""

from __future__ import annotations

import re
import reprlib

from pydantic import ValidationError

from affectlocus.core.errors import InputError

SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 3, 300, 300, 40
SHORT.maxlist = SHORT.maxtuple = SHORT.maxset = SHORT.maxdict = 12


_TAG = re.compile(r"\[\w+\]")


class ParameterError(InputError, ValueError):
    """A value that is not allowed; a ValueError, so that pydantic adds the key of the value."""


def first_problem(error: ValidationError) -> InputError:
    """The first error that pydantic reports, with its key in the field `key`."""
    first = error.errors(include_url=False)[0]
    # pydantic's "[key]", and the tags of `claim_kinds`.
    key = ".".join(str(part) for part in first["loc"] if not _TAG.fullmatch(str(part)))
    if first["type"] == "extra_forbidden":
        return InputError(
            "params.unknown-key", "unknown key; remove it or correct its spelling", key=key
        )
    if first["type"] == "missing":
        return InputError("params.missing-key", "missing; expected a value", key=key)
    problem = first.get("ctx", {}).get("error")
    if isinstance(problem, InputError):
        return InputError(problem.code, str(problem), **{**problem.fields, "key": key})
    message = first["msg"].removeprefix("Value error, ")
    return InputError(
        "params.invalid-value",
        f"found {SHORT.repr(first['input'])}; {message[0].lower()}{message[1:]}",
        key=key,
        found=first["input"],
        rule=first["type"],
    )


def located(problem: InputError, source: str) -> InputError:
    """The problem with the file or the option, and the key, before its message."""
    key = problem.fields.get("key")
    return problem.within(f"{source}: {key}" if key else source, file=source)
