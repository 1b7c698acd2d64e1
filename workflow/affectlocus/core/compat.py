"""Every use of something that Snakemake does not document, in one place.

Checked with Snakemake 9.27, the oldest that pyproject.toml admits, below 10. Each function says why
no documented way exists; `tests/unit/test_compat.py` runs a real Snakemake and fails when one of
them no longer works. Whoever raises the version range runs that test.
"""

from __future__ import annotations

import re
from typing import Any

FAILED = re.compile(
    r"^Error in rule (?P<rule>\S+):\n(?:    .*\n)*?(?:    output: (?P<output>.*)\n)"
    r"    log: (?P<log>.*?)(?: \(check log file.*)?$",
    re.MULTILINE,
)
"""A failed job in Snakemake's log, which a hook `onerror` is handed as text and nothing else."""


def is_job(workflow: Any) -> bool:
    """Whether a job on a cluster's node reads the Snakefile, after the run that submitted it.

    A run checks its parameters once. Snakemake offers a Snakefile no word on which process reads
    it.
    """
    return not workflow.is_main_process


def is_dry_run(workflow: Any) -> bool:
    """Whether Snakemake was asked for a plan (--dry-run, in any spelling).

    A plan is made without files that are marked `awaited`; a run is refused without them. A
    Snakefile is not told which it is read for, and sys.argv has abbreviations and profiles.
    """
    return bool(workflow.output_settings.dryrun)


def sends_jobs_away(workflow: Any) -> bool:
    """Whether jobs run on other hosts, whose cards are not this one's; known after parsing."""
    return bool(workflow.non_local_exec or workflow.remote_exec)


def offer(workflow: Any, resource: str, amount: int) -> None:
    """Limits a resource of all jobs together, where the command line and the profile do not.

    A profile holds a fixed number; how many cards a host has is known only on it.
    """
    if resource not in workflow.global_resources:
        workflow.register_resource(resource, amount)


def unlimited_starts(workflow: Any) -> None:
    """Lifts Snakemake's default limit of 100 starts a second; for a hook `onstart`.

    Under a limit, though it is never reached, Snakemake 9 starts a timer for each finished job,
    which looks at all ready jobs every second from then on: after some hundred jobs that takes a
    core. --max-jobs-per-timespan has no value for "no limit", and a longer timespan makes Snakemake
    wait as long at its end. A limit that the user has set stays.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None
