"""Names of bases, pairs and tasks that would give two results the same file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import combinations

from affectlocus.core.errors import InputError

# Suffixes that `dag` adds to the name of a base or a pair in the names of its results.
_COMPANIONS = re.compile(
    r"(?:seed\d+|tune|initial|experts|histogram|neurons|concentration|overlaps|chance|summary)(?:\..*)?"
)
_OF_TABLES = ("_intervals", "_baselines")
_AND = "-and-"


def clashes(
    bases: Collection[str], pairs: Collection[str], tasks: Collection[str]
) -> Iterator[InputError]:
    """A problem for every name whose results would have the file names of another's.

    Some file systems do not distinguish `a` from `A`.
    """
    models = {name: f"bases.{name}" for name in bases}
    models |= {name: f"pairs.{name}" for name in pairs}
    named = {name: f"tasks.{name}" for name in tasks}
    for group in (models, named):
        folded: dict[str, str] = {}
        for name, key in group.items():
            other = folded.setdefault(name.lower(), key)
            if other != key:
                yield InputError(
                    "params.names-differ-by-case",
                    f"differs from {other} only in case, which some file systems ignore; rename it",
                    key=key,
                    other=other,
                )
    lower = {name.lower(): key for name, key in models.items()}
    for name, key in models.items():
        for stem in _stems(name.lower()):
            if stem in lower:
                yield InputError(
                    "params.same-result-names",
                    f"its results would have the same file names as those of {lower[stem]}; "
                    "rename it",
                    key=key,
                    other=lower[stem],
                )
        if name.lower().startswith("others."):
            yield InputError(
                "params.reserved-name",
                "the name others is reserved for results of several pairs; rename it",
                key=key,
            )
    for name in _ambiguous(pairs):
        yield InputError(
            "pair.ambiguous-name",
            f"contains {_AND!r}, so that two figures would have the same name; rename it",
            key=f"pairs.{name}",
        )


def _stems(name: str) -> Iterator[str]:
    """Names of which some result would have this name."""
    for place, character in enumerate(name):
        if character == "." and _COMPANIONS.fullmatch(name[place + 1 :]):
            yield name[:place]
    for suffix in _OF_TABLES:
        if name.endswith(suffix):
            yield name.removesuffix(suffix)


def _ambiguous(pairs: Iterable[str]) -> list[str]:
    """A name with `-and-`, if two couples of names joined with it give the same text."""
    names = [name.lower() for name in pairs]
    joining = [name for name in names if _AND in name]
    if not joining:
        return []
    seen = set()
    for one, two in combinations(names, 2):
        for text in (f"{one}{_AND}{two}", f"{two}{_AND}{one}"):
            if text in seen:
                return joining[:1]
            seen.add(text)
    return []
