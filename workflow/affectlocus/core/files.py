"""Text and JSON files, digests, and the folder of run state."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from affectlocus.core.errors import InputError
from affectlocus.core.output_files import replacing

STATE = Path(".affectlocus")
"""The folder in an experiment's folder where runs keep locks and results of earlier checks."""

_READ = 1 << 20

_LARGEST_JSON = 100_000_000  # bytes


def write_text(path: Path, text: str) -> None:
    """Writes `text` in UTF-8, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


_ENDS = {
    ".csv": (b"\n",),
    ".html": (b"</html>", b"</html>\n"),
    ".json": (b"}\n", b"]\n"),
    ".jsonl": (b"\n",),
    ".parquet": (b"PAR1",),
    ".png": (b"IEND\xaeB`\x82",),
    ".svg": (b"</svg>\n",),
    ".txt": (b"\n",),
}


def cut(path: Path) -> str:
    """What is wrong with a truncated file of a step, by its last bytes; empty if it is complete.

    Only for files that steps wrote: a user's csv, for example, may lack the last line break.
    """
    ends = _ENDS.get(path.suffix)
    if ends is None:
        return ""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - 16))
        tail = stream.read()
    return "" if tail.endswith(ends) else f"truncated after {size} bytes" if size else "empty"


def check_whole(path: Path) -> None:
    """Refuses a file of an earlier step that was truncated later.

    Raises:
        InputError: the file is truncated or empty.
    """
    if path.is_file() and (how := cut(path)):
        raise InputError(
            "results.truncated",
            f"{path}: {how}; run affectlocus doctor --fix, which moves it aside; the next run "
            "makes it again",
            file=path,
            found=how,
        )


def is_there(path: Path) -> bool:
    """Whether a path is a file; false for a path that no file system can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def text_or_empty(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_json(path: Path) -> Any:
    """The value of a JSON file; `InputError` if the file is missing or is not JSON."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_JSON + 1)
        if len(content) > _LARGEST_JSON:
            raise InputError(
                "json.too-large",
                f"{path}: larger than {_LARGEST_JSON // 1_000_000} MB, the limit for JSON files; "
                "restore the file",
                file=path,
                expected=_LARGEST_JSON,
            )
        return json.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(
            "json.no-file", f"{path}: no such file; expected a JSON file", file=path
        ) from None
    except IsADirectoryError:
        raise InputError(
            "json.is-a-folder", f"{path}: a folder; expected a JSON file", file=path
        ) from None
    except RecursionError:
        raise InputError(
            "json.nested-too-deep",
            f"{path}: not JSON (nested too deep); restore the file",
            file=path,
        ) from None
    except ValueError as error:
        raise InputError(
            "json.not-json", f"{path}: not JSON ({error}); restore the file or delete it", file=path
        ) from None


def read_object(path: Path, content: str) -> dict[str, Any]:
    """The object in a JSON file, as a dict.

    Args:
        content: what the object holds, for the message.

    Raises:
        InputError: as `read_json`, or the file holds another JSON value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise InputError(
            "json.not-an-object",
            f"{path}: expected a JSON object with {content}, found {kind}; restore the file",
            file=path,
            found=kind,
        )
    return value


@cache
def read_data_file(path: Path) -> Any:
    """The content of a YAML file of this package, which several modules may share."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times faster
    return yaml.load(path.read_text(encoding="utf-8"), loader)


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
