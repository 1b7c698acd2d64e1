"""Error messages for params.yaml: the key and one sentence."""

from __future__ import annotations

import reprlib

from pydantic import ValidationError

SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 3, 300, 300, 40
SHORT.maxlist = SHORT.maxtuple = SHORT.maxset = SHORT.maxdict = 12


def sentence(error: ValidationError) -> tuple[str, str]:
    """The key and one sentence for the first error that pydantic reports."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return key, "unknown key; remove it or correct its spelling"
    if first["type"] == "missing":
        return key, "missing; expected a value"
    if first["type"] == "value_error":
        return key, message
    return key, f"found {SHORT.repr(first['input'])}; {message[0].lower()}{message[1:]}"
