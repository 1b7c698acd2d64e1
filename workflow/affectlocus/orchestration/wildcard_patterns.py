"""Regular expressions that match exactly the names of an experiment, for Snakemake's wildcards."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


def alternatives(names: Iterable[str]) -> str:
    """A regular expression that matches exactly these names; without names it matches nothing.

    Snakemake tries the expression on every file that any job needs. Common beginnings are written
    once, so that matching a file name takes one pass, whatever the number of names.
    """
    root: dict[str, Any] = {}
    for name in names:
        node = root
        for character in name:
            node = node.setdefault(character, {})
        node[""] = {}  # a name may end here
    return _branches(root) if root else "(?!)"


def _branches(node: dict[str, Any]) -> str:
    """The expression of everything that may follow a node of the tree of names."""
    branches = []
    for character, following in node.items():
        text = re.escape(character)
        # A stretch without a fork is written as it is.
        while len(following) == 1 and "" not in following:
            ((character, following),) = following.items()
            text += re.escape(character)
        rest = _branches(following) if following and list(following) != [""] else ""
        branches.append(text + rest)
    # The empty branch comes last: the longest name is tried first.
    branches.sort(key=lambda text: not text)
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def combinations_of(names: Iterable[tuple[str, str]]) -> str:
    """A regular expression of names that consist of a head and a tail.

    Heads with the same tails share one copy of the tails. Snakemake puts the expression into every
    file name of a rule, so its length matters.
    """
    tails_of: dict[str, list[str]] = {}
    for head, tail in names:
        tails_of.setdefault(head, []).append(tail)
    heads_of: dict[tuple[str, ...], list[str]] = {}
    for head, tails in tails_of.items():
        heads_of.setdefault(tuple(tails), []).append(head)
    parts = [
        f"(?:{alternatives(heads)})(?:{alternatives(tails)})" for tails, heads in heads_of.items()
    ]
    return "|".join(parts) or "(?!)"
