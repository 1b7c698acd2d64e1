"""What only the extra `workflow` installs, and the sentence where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

from affectlocus.core.errors import InputError

EXTRA = "workflow"
MODULES = {
    "accelerate": "accelerate",
    "dvc": "dvc",
    "jinja2": "jinja2",
    "openpyxl": "openpyxl",
    "peft": "peft",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "snakemake": "snakemake",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
}
"""Module → its distribution, of the extra in pyproject.toml."""


class MissingExtraError(InputError):
    """A step needs a library that is not installed.

    Attributes:
        module: its name as it is imported.
    """

    def __init__(self, who: str, module: str) -> None:
        super().__init__(f"{who} needs {module}: pip install 'affectlocus[{EXTRA}]'")
        self.module = module


def explained(error: ModuleNotFoundError, who: str) -> MissingExtraError | None:
    """The sentence for a failed import; None where it is not the extra's fault.

    Args:
        who: what needs the library, such as `affectlocus tune`.
    """
    module = (error.name or "").partition(".")[0]
    return MissingExtraError(who, module) if module in MODULES else None


def installed(module: str) -> bool:
    """Whether a library can be imported; it is not imported for that."""
    try:
        return find_spec(module) is not None
    except ValueError:  # blocked by None in sys.modules
        return False


def needed(module: str, who: str) -> None:
    """Refuses where a library of the extra is missing.

    Raises:
        MissingExtraError: as said.
    """
    if not installed(module):
        raise MissingExtraError(who, module)
