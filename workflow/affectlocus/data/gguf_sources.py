"""Finds a GGUF file, on disk or in an installed package, and checks its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.gguf_files import read_header
from affectlocus.core.errors import InputError
from affectlocus.core.files import sha256
from affectlocus.core.installed_packages import package_file


@dataclass(frozen=True)
class GgufSource:
    """A whole GGUF file.

    Attributes:
        sha256: of the file.
        source: where the file comes from, as a manifest names it.
    """

    path: Path
    sha256: str
    source: dict[str, Any]
    licence: str | None = None


def gguf_source(source: str, file: str | None = None, expected: str | None = None) -> GgufSource:
    """The GGUF file that a user names.

    Args:
        source: the path of the file; with `file`, an installed package as NAME==VERSION.
        file: the file in the package; `*` and `?` match any characters.
        expected: the SHA-256 that the file must have; None if any file is right.

    Raises:
        InputError: no such package or file, not a GGUF file, or another SHA-256.
    """
    if file is None:
        path, licence, about = Path(source), None, {"gguf": source}
        read_header(path)
        found = sha256(path)
    else:
        installed = package_file(source, file)
        path, licence = installed.path, installed.licence
        about = {"package": source, "file": installed.name}
        read_header(path)
        found = installed.check()
    if expected is not None and expected.lower() != found:
        raise InputError(
            "gguf.other-sha256",
            f"{path}: its SHA-256 is {found}, expected {expected.lower()}; fetch the file again, "
            "or correct sha256",
            file=path,
            found=found,
            expected=expected.lower(),
        )
    return GgufSource(path, found, about, licence)
