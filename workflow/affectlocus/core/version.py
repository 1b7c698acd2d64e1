"""The package's version, and versions of installed packages."""

from importlib.metadata import PackageNotFoundError, version

__version__ = "0.1.0"


def installed_version(package: str) -> str:
    """The version of an installed package; `none` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
