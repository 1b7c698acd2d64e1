"""The very small experiment in a copy of the project, and what would run in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from programs import heavy
from project import environment

PARAMETERS = Path(__file__).with_name("params.yaml")


class Planner:
    """Dry runs, each in a fork of one process that has imported Snakemake (`planner.py`).

    What a dry run reads, it reads anew: params.yaml, rules, and the package's files for the
    digests. Only the package's own planning code is the one that was imported at first.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("planner.py"))],
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(self, folder: Path, *arguments: str, before: Path | None = None) -> str:
        """What Snakemake prints in a folder, if it ends well.

        Args:
            before: a folder whose packages are found before the installed ones.
        """
        code, said = self.tried(folder, *arguments, before=before)
        assert code == 0, said[-4000:]
        return said

    def tried(self, folder: Path, *arguments: str, before: Path | None = None) -> tuple[int, str]:
        """Its exit code, and what it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"folder": str(folder), "arguments": arguments, "before": before and str(before)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return int(answer["code"]), str(answer["said"])

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@dataclass(frozen=True)
class Project:
    """A folder with the workflow, a params.yaml and its results."""

    folder: Path
    planner: Planner

    def snakemake(self, *arguments: str, cwd: Path | None = None, **more: str) -> str:
        """Runs snakemake to a good end; what it printed on standard output and error."""
        run = subprocess.run(
            [heavy() / "snakemake", "--cores", "2", *arguments],
            cwd=cwd or self.folder,
            env=environment(self.folder, heavy()) | more,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
        return run.stdout + run.stderr

    def affectlocus(self, *words: str) -> str:
        """Runs a command of the package to a good end; what it printed."""
        run = subprocess.run(
            [heavy() / "affectlocus", *words],
            cwd=self.folder,
            env=environment(self.folder, heavy()),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
        return run.stdout + run.stderr

    def plan(self, *targets: str, before: Path | None = None) -> dict[str, set[str]]:
        """Rule → first outputs of its jobs that would run; of the groups, every cell's answers."""
        return jobs(self.planner.said(self.folder, "--dry-run", *targets, before=before))

    def planned(self, *targets: str) -> set[str]:
        """The rules that have jobs to run."""
        return set(self.plan(*targets))

    @contextmanager
    def changed(self, file: str, *changes: tuple[str, str]) -> Iterator[None]:
        """A file of the project with pieces of text replaced, and put back as old as it was."""
        path = self.folder / file
        # Bytes: read as text, a csv's line ends would not come back.
        before, stat = path.read_bytes(), path.stat()
        new = path.read_text()
        for old, instead in changes:
            assert old in new, old
            new = new.replace(old, instead, 1)
        path.write_text(new)
        try:
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def jobs(said: str) -> dict[str, set[str]]:
    """What a dry run's print says would run: rule → the first output of each job.

    A job that answers several cells counts as one for each, since how they are put together is no
    promise.
    """
    found: dict[str, set[str]] = {}
    for name, block in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", said, re.M):
        outputs = re.search(r"^    output: (.*)$", block, re.M)
        if outputs is None:
            continue
        files = outputs[1].split(", ")
        if re.fullmatch(r"evaluate_group_\d+", name):
            cells = [file for file in files if file.endswith("/predictions.parquet")]
            found.setdefault("evaluate", set()).update(cells)
        else:
            found.setdefault(name, set()).add(files[0])
    return found
