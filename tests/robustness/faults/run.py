"""Faults of a run, and what is printed: `python tests/robustness/faults/run.py` writes faults.md.

A small experiment is run once to its end. Each fault is put into a copy of it. What the run prints
that meets it is kept, and what the next one prints, after which every result must have the
undisturbed run's bytes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs/reference/faults.md"
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import DOCTOR, FAULTS, TARGETS, Fault  # noqa: E402
from disks import mountable, own_mounts  # noqa: E402
from project import contents, copied, environment, hidden, run  # noqa: E402
from steps import STEPS as MET  # noqa: E402
from steps import Step  # noqa: E402

HEAD = """\
# Faults, and what each prints

Made by `python tests/robustness/faults/run.py`. Full and read-only disks are real ones (a small
tmpfs, a read-only bind mount) in a mount namespace of the script's own (`unshare --mount`), so that
they limit root too. If the kernel allows no such namespace, the script skips those cases and says
so.

"""
RUNS = """\
## A run of the workflow

The experiment is that of [Kills](kills.md): a base, a pair's tuning, its
deltas, their figure, and the answers of the base. Each fault is put into a copy of it that has
ended. Only the lines of affectlocus are shown, without what Snakemake prints about a failed job.
"Then" names what a person does before the next run, whose output follows. "The same bytes" means
that every result and every file of weights is the same as after an undisturbed run, and that no
partial file is left.

"""
COMMAND = f"$ affectlocus run -- --cores 2 {' '.join(TARGETS)}"
BY_ITSELF = """\
## A step by itself

Each ends in exit code 1, with nothing written; `tests/robustness/test_faults.py` runs them too.

"""


class UnmetError(Exception):
    """A fault that did not end as it must."""


def ours(output: str) -> list[str]:
    """The lines of affectlocus in what Snakemake printed, each once."""
    lines = (line.strip() for line in output.splitlines())
    return list(dict.fromkeys(line for line in lines if line.startswith("affectlocus: ")))


def cure(folder: Path, command: str) -> None:
    """What a person types, and then what the doctor says to type."""

    def typed(words: str) -> str:
        done = subprocess.run(
            words, shell=True, cwd=folder, env=environment(folder), capture_output=True, text=True
        )
        if done.returncode:
            raise UnmetError(f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    for more in re.findall(r"to make the missing files again: (.*)", typed(command)):
        typed(more)


def tried(fault: Fault, whole: Path, folder: Path, reference: dict[str, str]) -> str:
    """A fault's section of the page.

    Raises:
        UnmetError: it did not end as it must; the folder stays, with what was printed.
    """
    shutil.copytree(whole, folder, symlinks=True)
    with ExitStack() as causes:
        causes.enter_context(fault.cause(folder))
        met = run(folder, *TARGETS)
    if fault.cure.startswith(("rm ", DOCTOR)):
        cure(folder, fault.cure)
    again = run(folder, *TARGETS)
    said, there = ours(met.stdout), contents(folder)
    names = reference.keys() | there.keys()
    problems = [
        *[f"no {part!r}" for part in fault.says if part not in "\n".join(said)],
        *(["a traceback"] if "Traceback" in met.stdout + again.stdout else []),
        *([f"exit code {met.returncode}"] if met.returncode != fault.code else []),
        *([f"then {again.returncode}"] if again.returncode else []),
        *sorted(name for name in names if reference.get(name) != there.get(name)),
        *hidden(folder),
    ]
    if problems:
        (folder / "met.txt").write_text(met.stdout)
        (folder / "again.txt").write_text(again.stdout)
        raise UnmetError(f"{fault.kind}: {problems[:5]}: see {folder}")
    jobs = sum(map(int, re.findall(r"^total +(\d+)$", again.stdout, re.MULTILINE)))
    ran = f"{jobs} job{'s' * (jobs > 1)}" if jobs else "nothing to do"
    repaired = ours(again.stdout)
    return "\n".join(
        [
            f"### {fault.kind}",
            "",
            fault.done,
            "",
            "```",
            COMMAND,
            *(_plain(line, folder) for line in said),
            f"(exit code {met.returncode})",
            "```",
            "",
            f"Then: {_shown(fault.cure)}.",
            "",
            "```",
            COMMAND,
            *(_plain(line, folder) for line in repaired),
            f"(exit code 0, {ran})",
            "```",
            "",
            "The same bytes.",
            "",
        ]
    )


def _shown(cure: str) -> str:
    if cure == DOCTOR:
        return f"`{cure}`, and the command that it prints"
    return f"`{cure}`" if cure.startswith("rm ") else cure


def _plain(line: str, folder: Path) -> str:
    """Without what differs from run to run."""
    line = line.replace(str(folder), "/experiment")
    return re.sub(r"(process(?:es)?) \d+(?:, \d+)*(?: on [^\s)]+)?", r"\1 N", line)


def kept() -> tuple[dict[str, str], dict[str, str]]:
    """Kind → its section, as printed on the page: of the faults of a run, and of steps."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    runs, _, steps = text.partition(BY_ITSELF)
    return _sections(runs), _sections(steps)


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: f"### {part.rstrip()}\n" for part in parts}


def write_page(runs: dict[str, str], steps: dict[str, str]) -> None:
    """Writes the page of the sections that there are."""
    shown = [runs[fault.kind] for fault in FAULTS if fault.kind in runs]
    alone = [steps[step.kind] for step in MET if step.kind in steps]
    PAGE.write_text("\n".join([HEAD + RUNS, *shown, BY_ITSELF, *alone]), encoding="utf-8")


def finished(whole: Path) -> dict[str, str]:
    """Runs the experiment to its end in a folder; what `contents` tells of it."""
    if not whole.is_dir():
        copied(whole, HERE.parent / "kills/params.yaml")
    first = run(whole, *TARGETS)
    if first.returncode:
        raise SystemExit(first.stdout[-4000:])
    return contents(whole)


def section(step: Step) -> str:
    """A step's section of the page."""
    with tempfile.TemporaryDirectory() as place:
        step.write(Path(place))
        code, output = step.printed(Path(place))
        left = list((Path(place) / "out").iterdir())
    named = step.says in output and output.endswith(f" [{step.code}]\n")
    if code != 1 or not named or output.count("\n") != 1 or left:
        raise SystemExit(f"{step.kind}: exit code {code}, {left}: {output}")
    return "\n".join([f"### {step.kind}", "", "```", f"$ {step.shown}", output.strip(), "```", ""])


def main(
    only: Annotated[str, typer.Option(help="words of the faults of a run to try")] = "",
    missing: Annotated[bool, typer.Option(help="try what is not on the page yet")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="faults that are tried at once")] = 1,
    folder: Annotated[
        Path | None, typer.Option(help="where the copies go; kept, and its `whole` used again")
    ] = None,
) -> None:
    """Try faults on copies of a small experiment, and write the page of what was printed.

    Sections of faults that are not tried stay; one that does not end as it must is told at the end.
    """
    if mountable():
        own_mounts()
    place = folder or Path(tempfile.mkdtemp(prefix="faults"))
    runs, steps = kept()
    asked = [
        (place / f"fault{number}", fault)
        for number, fault in enumerate(FAULTS)
        if only.lower() in fault.kind.lower() and not (missing and fault.kind in runs)
    ]
    whole, failed = place / "whole", []
    reference = finished(whole) if asked else {}
    with ThreadPoolExecutor(jobs) as pool:
        trials = {
            pool.submit(tried, fault, whole, copy, reference): (copy, fault)
            for copy, fault in asked
            if _possible(fault.kind, fault.mounts)
        }
        for trial in as_completed(trials):
            copy, fault = trials[trial]
            try:
                runs[fault.kind] = trial.result()
            except UnmetError as unmet:
                failed.append(str(unmet))
                typer.echo(str(unmet), err=True)
            else:
                typer.echo(runs[fault.kind])
                shutil.rmtree(copy)
                # After each, so that nothing is lost when this is ended before its time.
                write_page(runs, steps)
    steps |= {
        step.kind: section(step) for step in MET if _possible(step.kind, bool(step.read_only))
    }
    write_page(runs, steps)
    if failed:
        raise SystemExit("\n".join(failed))
    if folder is None:
        shutil.rmtree(place)


def _possible(kind: str, mounts: bool) -> bool:
    if mounts and not mountable():
        typer.echo(f"left out, as nothing can be mounted here: {kind}", err=True)
        return False
    return True


if __name__ == "__main__":
    typer.run(main)
