"""Weights that are not here, and results that were damaged, made again before a run plans its jobs.

Snakemake runs whatever is behind a job that runs, though what that job makes be the same to the
last bit. So a run of its own makes them first, and only those that the jobs at hand need; the run
that was asked for then looks at contents, and reruns what has really changed.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE, read_json
from affectlocus.core.manifests import first_missing_file, is_manifest
from affectlocus.orchestration.dag import Dag, checkpoint
from affectlocus.orchestration.edited import record_of
from affectlocus.orchestration.run_lock import held

RESTORING = "AFFECTLOCUS_RESTORING"
"""Environment variable: set in such a run, which its parent holds the folder for."""

_ASIDE = STATE / "aside"
# It reads what manifests say of the bases, and no weights.
_NO_WEIGHTS = "collect"
# What a command line asks for, by the names that Snakemake's parser gives it; all else is how.
_GOAL = (
    *("targets", "target_jobs", "until", "omit_from", "batch", "allowed_rules"),
    *("force", "forceall", "forcerun", "dryrun", "quiet", "printshellcmds", "verbose"),
    *("report", "report_after_run", "reporter", "runtime_profile"),
)
_BLOCK = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", re.M)


def lost(jobs: Dag) -> list[str]:
    """Manifests of weights or data that this workflow can bring, and that are not here whole.

    By size alone: a job that reads them compares their SHA-256. Of a manifest that is not there
    either Snakemake knows what to do.
    """
    fetched = [name for name in jobs.brought if jobs.brought_source(name).folder is None]
    manifests = [checkpoint(name) for name in (*fetched, *jobs.pretrained, *jobs.tuned)]
    manifests += [f"results/data/sources/{name}.json" for name in jobs.hub_tables]
    return [name for name in manifests if Path(name).is_file() and not _here(Path(name))]


def _here(manifest: Path) -> bool:
    try:
        record = read_json(manifest)
        return is_manifest(record) and first_missing_file(record) is None
    except (InputError, OSError):
        return False


def needed(plan: str, gone: Iterable[str], jobs: Dag) -> list[str]:
    """Those of the lost things that planned jobs read, but for what is planned anew as it is.

    Args:
        plan: what a dry run prints.
        gone: results that were removed, and manifests whose weights are not here.
    """
    made: set[str] = set()
    read: set[str] = set()
    for rule, block in _BLOCK.findall(plan):
        if rule == "all":
            continue
        made |= _listed("output", block)
        inputs = _listed("input", block)
        if rule == _NO_WEIGHTS:
            inputs = {name for name in inputs if not Path(name).match("results/checkpoints/*")}
        read |= inputs
    # A manifest that is there and planned, by changed parameters say, is no business of this run.
    wanted = {name for name in gone if name in read and not (name in made and Path(name).exists())}
    bases = {checkpoint(name): checkpoint(base) for name, (base, _) in jobs.tunings.items()}
    wanted |= {bases[name] for name in wanted if name in bases}.intersection(gone)
    return sorted(wanted)


def _listed(what: str, block: str) -> set[str]:
    line = re.search(rf"^    {what}: (.*)$", block, re.M)
    return set(line[1].split(", ")) if line else set()


def restore(jobs: Dag, gone: Sequence[str], say: Callable[[str], None]) -> None:
    """Makes again what is gone and needed, in a run of its own.

    Args:
        gone: results that were removed, and manifests whose weights a job found damaged.
        say: is told in a sentence what is about to happen.

    Raises:
        InputError: it could not be made; the manifests of what is not here stay.
    """
    _put_back()
    done: set[str] = set()
    # What is made again may show that more is needed: a tuning need not run again, and its weights
    # are not here either.
    while missing := [name for name in dict.fromkeys([*gone, *lost(jobs)]) if name not in done]:
        code, plan = _snakemake({"dryrun": True}, plan=True)
        if code:
            # As a rule, what it refuses this very run is about to refuse.
            last = next((line for line in reversed(plan.splitlines()) if line.strip()), "no word")
            say(f"what is not here, and needed, could not be planned ({last.strip()})")
            return
        first = needed(plan, missing, jobs)
        if not first:
            return
        say(f"not here, or damaged, and needed: {', '.join(first)}; made again before all else")
        _make(first)
        done.update(first)


def _make(first: Sequence[str]) -> None:
    for name in filter(os.path.isfile, first):
        for path in (Path(name), record_of(name, "metadata")):
            if path.is_file():
                (_ASIDE / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, _ASIDE / path)
    try:
        code, _ = _snakemake({"targets": list(first), "force": True})
    finally:
        _put_back()
    if code:
        raise InputError(
            f"{', '.join(first)}: could not be made again, for the reason above; nothing else was "
            "started, and what is there stays: mend that, and run again"
        )


def _put_back() -> None:
    """Manifests that a run had to make again and did not, with Snakemake's records of them."""
    for path in sorted((_ASIDE / "results").rglob("*.json")):
        name = path.relative_to(_ASIDE)
        unfinished = record_of(str(name), "incomplete")
        if name.exists() and not unfinished.exists():
            # As it was, it is as old as it was: nothing that hangs from it is older now.
            if name.read_bytes() == path.read_bytes():
                shutil.copystat(path, name)
            continue
        unfinished.unlink(missing_ok=True)
        for kept in (name, record_of(str(name), "metadata")):
            if (_ASIDE / kept).is_file():
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(_ASIDE / kept, kept)
    shutil.rmtree(_ASIDE, ignore_errors=True)


def _typed_in() -> Path:
    """Where this process's command line was typed, from which its relative paths start.

    Snakemake goes to --directory before it reads the rules, and keeps where it came from.
    """
    frame = inspect.currentframe()
    while frame is not None:
        handler = getattr(frame.f_locals.get("self"), "_workdir_handler", None)
        if (before := getattr(handler, "olddir", None)) is not None:
            return Path(before)
        frame = frame.f_back
    return Path.cwd()


def _snakemake(goal: dict[str, Any], plan: bool = False) -> tuple[int, str]:
    """Exit code, and the plan where one is asked for, of this command line with another goal."""
    command = [
        sys.executable,
        "-m",
        "affectlocus.orchestration.restore",
        json.dumps(goal),
        *sys.argv[1:],
    ]
    process = subprocess.Popen(
        command,
        cwd=_typed_in(),
        env=os.environ | {RESTORING: "1"},
        stdout=subprocess.PIPE if plan else None,
        stderr=subprocess.STDOUT if plan else None,
        text=True,
        # The folder stays held by what works there, should this process be killed.
        pass_fds=held(),
    )
    with _stopping(process):
        said, _ = process.communicate()
    return process.returncode, said or ""


@contextmanager
def _stopping(process: subprocess.Popen[str]) -> Iterator[None]:
    """Hands SIGTERM on, and lets the other process end by itself after Ctrl-C, which both get."""
    stopped: list[int] = []

    def stop(number: int, _: Any) -> None:
        stopped.append(number)
        if number == signal.SIGTERM:
            process.terminate()

    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.wait()
        for one, handler in before.items():
            signal.signal(one, handler)
        if stopped:
            _put_back()
            sys.exit(128 + stopped[0])


def main() -> None:
    """Snakemake by a command line, with another goal: JSON, the first argument."""
    from snakemake import cli

    goal = json.loads(sys.argv.pop(1))
    parser, args = cli.parse_args(sys.argv[1:])
    plain = parser.parse_args([])
    for name in _GOAL:
        setattr(args, name, goal.get(name, getattr(plain, name)))
    sys.exit(0 if cli.args_to_api(args, parser) else 1)


if __name__ == "__main__":
    main()
