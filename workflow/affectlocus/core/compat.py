"""All uses of undocumented interfaces of Snakemake.

Each function says why no documented interface works. `tests/unit/test_compat.py` runs Snakemake
itself and fails if one of them no longer works. `make test` runs it with the newest version, and
`make test-all` also with the lowest one that pyproject.toml allows. Run it before you raise the
range.
"""

from __future__ import annotations

import re
from typing import Any

FAILED = re.compile(
    r"^Error in rule (?P<rule>\S+):\n(?:    .*\n)*?(?:    output: (?P<output>.*)\n)"
    r"    log: (?P<log>.*?)(?: \(check log file.*)?$",
    re.MULTILINE,
)
"""A failed job in Snakemake's log; a hook `onerror` gets only the text of the log."""


def is_job(workflow: Any) -> bool:
    """Whether the Snakefile is read by a job on a cluster's node, not by the run itself.

    Only the run checks its parameters. Snakemake has no documented way to tell the two apart.
    """
    return not workflow.is_main_process


def is_dry_run(workflow: Any) -> bool:
    """Whether this is a dry run (--dry-run in any spelling).

    A dry run does not need files that are marked `awaited`; a run does. There is no documented way
    to find out: sys.argv may contain abbreviations, and profiles are not in it.
    """
    return bool(workflow.output_settings.dryrun)


def sends_jobs_away(workflow: Any) -> bool:
    """Whether jobs run on other hosts, with their own GPUs; known after the rules are read."""
    return bool(workflow.non_local_exec or workflow.remote_exec)


def offer(workflow: Any, resource: str, amount: int) -> None:
    """Limits a resource of all jobs together, unless the command line or the profile does.

    A profile can only set a fixed number, and the number of GPUs is known only on the host.
    """
    if resource not in workflow.global_resources:
        workflow.register_resource(resource, amount)


def unlimited_starts(workflow: Any) -> None:
    """Lifts Snakemake's default limit of 100 starts a second; for a hook `onstart`.

    With any limit, Snakemake 9 starts a timer for each finished job, which checks all ready jobs
    every second. After some hundred jobs the timers use a whole core. --max-jobs-per-timespan has
    no value for "no limit", and with a longer timespan Snakemake waits that long at its end. The
    user's own limit is kept.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None
