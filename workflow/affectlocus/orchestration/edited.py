"""Results that something else than their job has changed, by Snakemake's own records.

A job's record holds the SHA-256 of each file that it read. A result that was written to after the
last job had ended, and is in none of its readers' records as it is now, is no job's work.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path

from affectlocus.core.files import sha256

_RECORDS = Path(".snakemake")
_LONGEST = 254  # characters of a record's name, which is cut into folders
_LATER = 1_000_000_000  # nanoseconds between a result and its record, at most


def edited(folder: Path, written: Mapping[str, int]) -> list[str]:
    """The names of the results that are no job's work.

    Args:
        folder: the experiment's.
        written: name of each result, as rules write it → when it was last written to (ns).
    """
    records = list(_recorded(folder, "metadata"))
    if not records:
        return []
    last = max(path.stat().st_mtime_ns for _, path in records)
    unfinished = {name for name, _ in _recorded(folder, "incomplete")}
    later = {name for name, when in written.items() if when > last + _LATER} - unfinished
    if not later:
        return []
    known: dict[str, set[str]] = {}
    for _, path in records:
        for name, checksum in _checksums(path).items():
            if name in later and isinstance(checksum, str):
                known.setdefault(name, set()).add(checksum.rpartition(":")[2])
    return sorted(name for name, found in known.items() if sha256(folder / name) not in found)


def of_jobs(folder: Path) -> set[str]:
    """The names of all files that Snakemake has a record of: jobs wrote them, or began to."""
    kinds = ("metadata", "incomplete")
    return {name for kind in kinds for name, _ in _recorded(folder, kind)}


def record_of(name: str, kind: str) -> Path:
    """Where Snakemake keeps what it knows of a result, below the experiment's folder.

    Args:
        kind: `metadata`, or `incomplete` for a mark that its job has not ended.
    """
    coded = urlsafe_b64encode(name.encode()).decode()
    parts = [coded[at : at + _LONGEST] for at in range(0, len(coded), _LONGEST)]
    return _RECORDS.joinpath(kind, *(f"@{one}" for one in parts[:-1]), parts[-1])


def any_record(folder: Path) -> bool:
    """Whether Snakemake knows anything of any result here; a dry run leaves empty folders."""
    return next(_recorded(folder, "metadata"), None) is not None


def _recorded(folder: Path, kind: str) -> Iterator[tuple[str, Path]]:
    """Each output that Snakemake keeps a file about, and that file."""
    top = folder / _RECORDS / kind
    for path in top.rglob("*"):
        if path.is_file():
            coded = "".join(part.removeprefix("@") for part in path.relative_to(top).parts)
            try:
                yield urlsafe_b64decode(coded).decode(), path
            except ValueError:
                continue


def _checksums(record: Path) -> dict[str, object]:
    try:
        return dict(json.loads(record.read_text(encoding="utf-8"))["input_checksums"] or {})
    except (OSError, ValueError, KeyError, TypeError):
        return {}
