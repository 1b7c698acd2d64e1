"""The users' own files, read before any job starts: columns, labels, ids, overlapping splits.

Reading takes seconds for tens of thousands of rows, so a file that was good is not read again
until it, or what params.yaml says of it, changes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from affectlocus.errors import InputError
from affectlocus.files import write_json
from affectlocus.parameters import Parameters, Task

REMEMBERED = Path(".snakemake/affectlocus-precheck.json")


def _state(task: Task, files: dict[str, Path]) -> str:
    """A digest of what a task's check depends on."""
    parts: list[object] = [task.model_dump(mode="json")]
    for split, path in files.items():
        stat = path.stat()
        parts.append([split, str(path), stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def precheck(parameters: Parameters, folder: Path) -> None:
    """Reads every task that has files of its own as the `prepare` step would.

    Args:
        folder: the experiment's folder.

    Raises:
        InputError: what is wrong with which task.
    """
    try:
        known = json.loads((folder / REMEMBERED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    good: dict[str, str] = {}
    for name, task in parameters.tasks.items():
        if task.files is None:
            continue
        files: dict[str, Path] = {
            split: folder / parameters.data_root / file for split, file in task.files.items()
        }
        good[name] = _state(task, files)
        if known.get(name) != good[name]:
            from affectlocus.prepare import prepare

            try:
                prepare(name, task, files)
            except InputError as error:
                raise InputError(f"params.yaml: tasks.{name}: {error}") from None
    if good != known and (folder / REMEMBERED).parent.is_dir():
        write_json(folder / REMEMBERED, good)
