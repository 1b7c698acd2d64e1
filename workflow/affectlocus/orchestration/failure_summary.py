"""The reasons why a run failed: the last line of each failed job's log."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from affectlocus.core.compat import FAILED
from affectlocus.core.errors import shortened
from affectlocus.core.files import text_or_empty

_FULL = 1 << 20  # bytes of free space; with less, jobs cannot write their results
_ERROR = re.compile(r"affectlocus: .+|\w+(\.\w+)*(Error|Exception|Interrupt)\b.*")


def reasons(logs: Sequence[str], folder: Path) -> list[str]:
    """A sentence for each job that failed and whose output is still missing.

    Args:
        logs: Snakemake's own logs of the run.
        folder: the experiment's folder, to which the paths of jobs are relative.
    """
    failed: dict[str, str] = {}
    for log in logs:
        for found in FAILED.finditer(text_or_empty(Path(log))):
            if not all((folder / name).exists() for name in found["output"].split(", ")):
                failed[found["log"]] = found["rule"]
    sentences = [f"{rule}: {_last(folder / log)} ({log})" for log, rule in failed.items()]
    results = folder / "results"
    if results.is_dir() and shutil.disk_usage(results).free < _FULL:
        sentences.append("the disk of the results is full; free space and run again")
    return sentences


def _last(log: Path) -> str:
    lines = [line.strip() for line in text_or_empty(log).splitlines() if line.strip()]
    if lines and _ERROR.fullmatch(lines[-1]):
        return shortened(lines[-1].removeprefix("affectlocus: "), 600)
    return (
        "no error in its log; the process was probably killed (out of memory?). Run fewer jobs at "
        "once (--cores)"
    )
