"""What a test asserts of an error: its code and its fields, not its wording.

The wording of every error is in docs/reference/errors.md, which docs/generate.py writes from the
code; a change of a sentence shows there and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from affectlocus.core.errors import InputError

_CODE = re.compile(r" \[([a-z0-9.-]+)\]$")


@contextmanager
def refused(
    code: str, kind: type[InputError] = InputError, /, **fields: object
) -> Iterator[pytest.ExceptionInfo[InputError]]:
    """Expects an error with this code whose fields hold at least these values."""
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert error.code == code, f"[{error.code}] {error}"
    assert {name: error.fields.get(name) for name in fields} == fields, error.fields


def printed_code(stderr: str) -> str:
    """The code in the last line that a command printed: `affectlocus: sentence [code]`."""
    lines = stderr.splitlines()
    found = _CODE.search(lines[-1]) if lines else None
    assert found, f"no error with a code in: {stderr!r}"
    return found[1]
