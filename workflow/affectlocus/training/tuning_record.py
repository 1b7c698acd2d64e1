"""The record in the folder of a tuned checkpoint, which shows that its tuning is complete.

A job that makes several checkpoints may be repeated because one of them is new. A tuning whose
folder already holds the checkpoint of the same job is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, sha256, write_json
from affectlocus.core.output_files import COMPLETE, MARKER

RECORD = ".tuning"
"""File of the record in the folder of a tuned checkpoint."""


def write_record(folder: Path, job: Mapping[str, str], measured: Mapping[str, Any]) -> None:
    """Writes the record of a finished tuning into its folder.

    Args:
        job: topic → value that identifies the job, as of `TrainingStates`.
        measured: what `Tuner.tune` returned.
    """
    record = {"job": dict(job), "measured": dict(measured), "files": _digests(folder)}
    write_json(folder / RECORD, record)


def finished(folder: Path, job: Mapping[str, str]) -> dict[str, Any] | None:
    """What was measured, if the folder holds the undamaged checkpoint of the job; else None."""
    try:
        record = read_json(folder / RECORD)
        if record["job"] == dict(job) and record["files"] == _digests(folder):
            return dict(record["measured"])
    except (InputError, OSError, KeyError, TypeError, ValueError):
        pass  # no record, a record of an earlier version, or a damaged one
    return None


def _digests(folder: Path) -> dict[str, str]:
    """File below a folder → its SHA-256."""
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (RECORD, MARKER, COMPLETE)
    }
