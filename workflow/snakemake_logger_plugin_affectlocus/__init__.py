"""Snakemake's logger plugin `affectlocus`: a bar over jobs, and what runs now.

`affectlocus run` uses it (`snakemake --logger affectlocus`). Snakemake finds a logger plugin by the
name of its package, and loads it at every start, so nothing heavy is imported here. Snakemake's own
log file has everything.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Information that changes what the user expects of the run.
_SAID = ("Nothing to be done", "Will exit", "Terminating", "Shutting down", "Trying to restart")
# A failed job's shell command and the end of its run: a sentence of its own says why it failed.
_SAID_BETTER = ("CalledProcessError", "At least one job did not complete")
_EVERY = 10.0  # seconds between two lines where no terminal shows a bar


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """The plugin has no settings."""


class LogHandler(LogHandlerBase):
    """Shows the progress of a run on standard error.

    On a terminal it is one line that changes; elsewhere a line at most every ten seconds. Warnings
    and errors are printed; of a failed job only its rule and its log.
    """

    def __post_init__(self) -> None:
        self._rules: dict[int, str] = {}
        self._running: dict[int, str] = {}
        self._done = 0
        self._total = 0
        self._said = 0.0
        self._counted = 0
        self._stopping = False
        self._last = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._take(record)
        except Exception:
            self.handleError(record)

    def _take(self, record: logging.LogRecord) -> None:
        about: dict[str, Any] = record.__dict__
        match about.get("event"):
            case LogEvent.RUN_INFO:
                self._total = int(about["stats"].get("total", 0))
                self._show()
            case LogEvent.JOB_INFO:
                job = about["jobid"]
                self._rules[job] = _label(about)
                if job in self._running:  # a start may be logged before what the job is
                    self._running[job] = self._rules[job]
                    self._show()
            case LogEvent.JOB_STARTED:
                jobs = about["jobs"]
                for job in jobs if isinstance(jobs, list) else [jobs]:
                    self._running[job] = self._rules.get(job, "job")
                self._show()
            case LogEvent.JOB_FINISHED:
                self._running.pop(about["job_id"], None)
                self._done = max(self._done + 1, 0)
                self._show()
            case LogEvent.PROGRESS:
                self._done, self._total = about["done"], about["total"]
                self._show()
            case LogEvent.JOB_ERROR:
                self._running.pop(about.get("jobid", -1), None)
                if self._stopping:
                    return
                log = ", ".join(map(str, about.get("log") or ()))
                self._print(f"failed: {about.get('rule_name', 'a job')} (log: {log or 'none'})")
            case _:
                self._say(record.getMessage(), record.levelno)

    def _say(self, text: str, level: int) -> None:
        """Prints a message that the user has to see."""
        self._stopping = self._stopping or text.startswith("Terminating")
        if text == self._last or any(one in text for one in _SAID_BETTER):
            return
        self._last = text
        if level >= logging.WARNING or text.startswith(_SAID):
            self._print(text)

    def _show(self) -> None:
        if sys.stderr.isatty():
            self._draw()
        elif self._done > self._counted and (
            time.monotonic() - self._said > _EVERY or self._done == self._total
        ):
            self._said, self._counted = time.monotonic(), self._done
            now = self._now()
            text = f"{self._done} of {self._total} jobs" + f"; {now}" * bool(now)
            print(text, file=sys.stderr)  # noqa: T201

    def _draw(self) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeElapsedColumn as Elapsed
            from rich.table import Column

            self._bar = Progress(
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                Elapsed(),
                # What runs is cut at the end of the line.
                TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1)),
                console=Console(stderr=True),
                expand=True,
            )
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()
        assert self._task is not None
        self._bar.update(
            self._task, completed=self._done, total=self._total, description=self._now()
        )

    def _now(self) -> str:
        """The rules of the running jobs, and what the jobs are about."""
        counts = Counter(self._running.values())
        texts = [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
        return f"now {', '.join(texts)}" if texts else ""

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr)  # noqa: T201

    def close(self) -> None:
        """Ends the bar; Snakemake calls it at its end."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        super().close()


def _label(about: dict[str, Any]) -> str:
    """A job in a few words: its rule without the number of a group, and its wildcards."""
    rule = str(about.get("rule_name", "job")).partition("_group_")[0]
    values = dict(about.get("wildcards") or {}).values()
    return " ".join([rule, *map(str, values)])
