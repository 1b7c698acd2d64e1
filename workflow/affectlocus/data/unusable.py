"""Why a media file cannot be used."""

from __future__ import annotations

from pathlib import Path

REASONS: dict[str, str] = {
    "missing": "does not exist",
    "undecodable": "cannot be decoded",
    "no-stream": "has no stream of this kind",
    "silent": "is silent",
    "no-face": "has no face",
    "blank": "has one colour only",
    "pickled": "is an array of Python objects, which are never unpickled",
    "oversized": "is larger than the limits",
    "wrong-array": "is an array of another shape or type",
    "short": "is too short",
    "long": "is too long",
}
"""Reason, as the data report counts it → what it says of a file."""


class UnusableError(Exception):
    """A media file that has no features; the sample is refused or dropped, never given others.

    Attributes:
        reason: a key of `REASONS`.
        detail: what was found, and what was expected.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{REASONS[reason]} ({detail})" if detail else REASONS[reason])
        self.reason = reason
        self.detail = detail


def brief(error: Exception, path: Path) -> str:
    """A library's message about a file, short and without the path, which messages name already."""
    return " ".join(str(error).replace(str(path), path.name).split())[:200]
