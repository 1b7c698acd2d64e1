"""A copy of the project with the very small experiment, and what tests do with it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from project import BIN, environment

PARAMETERS = Path(__file__).with_name("params.yaml")


@dataclass(frozen=True)
class Project:
    """A copy of the project whose params.yaml is the very small experiment."""

    folder: Path

    def snakemake(self, *arguments: str) -> str:
        """Runs snakemake to a good end; what it printed on standard output and error."""
        run = subprocess.run(
            [str(BIN / "snakemake"), "--cores", "2", *arguments],
            cwd=self.folder,
            env=environment(self.folder),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
        return run.stdout + run.stderr

    def planned(self, *targets: str) -> set[str]:
        """The rules that have jobs to run."""
        stats = self.snakemake("--dry-run", *targets).partition("Job stats:")[2]
        names = re.findall(r"^(\w+) +\d+$", stats.partition("\n\n")[0], re.M)
        return {re.sub(r"_group_\d+$", "", name) for name in names} - {"total", "all"}

    @contextmanager
    def changed(self, file: str, old: str, new: str) -> Iterator[None]:
        """A file of the project with one piece of text replaced, and put back."""
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        try:
            yield
        finally:
            path.write_text(text)
