"""Parts of sentences: a count with its noun, a list in words."""

from __future__ import annotations

from collections.abc import Sequence, Sized


def counted(things: int | Sized, noun: str) -> str:
    """A count with its noun: `1 module`, `2 modules`."""
    number = things if isinstance(things, int) else len(things)
    return f"{number} {noun}{'' if number == 1 else 's'}"


def in_words(parts: Sequence[str]) -> str:
    """A list in words: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
