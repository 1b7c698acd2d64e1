"""Text and JSON files, digests, and the folder of run state."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from affectlocus.core.errors import InputError
from affectlocus.core.output_files import replacing

STATE = Path(".snakemake/affectlocus")
"""The folder in an experiment's folder where runs keep their own state."""

_READ = 1 << 20

_LARGEST_JSON = 100_000_000  # bytes


def write_text(path: Path, text: str) -> None:
    """Writes `text` in UTF-8, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file; `InputError` if the file is missing or is not JSON."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_JSON + 1)
        if len(content) > _LARGEST_JSON:
            raise InputError(
                f"{path}: larger than {_LARGEST_JSON // 1_000_000} MB, the limit for JSON files; "
                "restore the file"
            )
        return json.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a JSON file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; expected a JSON file") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON (nested too deep); restore the file") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); restore the file or delete it") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ):
            digest.update(block)
    return digest.hexdigest()


def matching(path: Path) -> list[Path]:
    """The files that match a path with `*` or `?`, sorted; the path alone if it has neither."""
    if not re.search(r"[*?]", str(path)) or path.exists():
        return [path]
    anchor = Path(path.anchor)
    return sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if file.is_file())
