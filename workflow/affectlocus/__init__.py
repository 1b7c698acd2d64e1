"""affectlocus: where in a network a fine-tune landed, and whether that place makes it work.

Importing the package imports none of its rooms; a name of the API is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from affectlocus.core.version import __version__

if TYPE_CHECKING:
    from affectlocus.api import (
        Diff,
        Experiment,
        convert,
        diff,
        graft,
        ledger,
        score,
        verify,
    )
    from affectlocus.core.errors import InputError

__all__ = [
    "Diff",
    "Experiment",
    "InputError",
    "__version__",
    "convert",
    "diff",
    "graft",
    "ledger",
    "score",
    "verify",
]


def __getattr__(name: str) -> Any:
    """The names of `__all__` (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from affectlocus import api

    value = getattr(api, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
