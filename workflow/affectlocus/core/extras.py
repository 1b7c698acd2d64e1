"""Libraries of the extras `workflow` and `media`, and the error if one is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from affectlocus.core.errors import InputError

EXTRA = "workflow"
MEDIA = {"av": "av", "soundfile": "soundfile"}
"""Module → distribution, for the extra `media` in pyproject.toml."""
MODULES = {
    "accelerate": "accelerate",
    "dvc": "dvc",
    "gguf": "gguf",
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
"""Module → distribution, for the extra `workflow` in pyproject.toml."""


class MissingExtraError(InputError):
    """A library of an extra is not installed."""


def missing_extra(who: str, module: str) -> MissingExtraError:
    """The error for a library that is not installed.

    Args:
        who: what needs the library, such as `affectlocus tune`.
        module: the name that is imported.
    """
    extra = "media" if module in MEDIA else EXTRA
    return MissingExtraError(
        "install.no-extra",
        f"{who} needs {module}: run pip install '.[{extra}]' in the checkout of affectlocus",
        module=module,
    )


def explained(error: ModuleNotFoundError, who: str) -> MissingExtraError | None:
    """The error for a failed import; None if the module belongs to no extra."""
    module = (error.name or "").partition(".")[0]
    return missing_extra(who, module) if module in MODULES or module in MEDIA else None


def installed(module: str) -> bool:
    """Whether a library is installed; it is not imported."""
    try:
        return find_spec(module) is not None
    except ValueError:  # blocked by None in sys.modules
        return False


def needed(module: str, who: str) -> None:
    """Checks that a library of an extra is installed.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not installed(module):
        raise missing_extra(who, module)
