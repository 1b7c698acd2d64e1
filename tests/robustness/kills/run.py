"""Kills a small experiment at random moments, runs it on, and compares what comes out.

Example: python tests/robustness/kills/run.py --kills 50 --seed 0 writes kills.md and results.csv
"""

from __future__ import annotations

import platform
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs/reference/kills.md"
sys.path[:0] = [str(HERE), str(HERE.parent)]

from killing import TARGETS, Chain, Start, chain, drawn  # noqa: E402
from project import ASIDE, contents, copied  # noqa: E402

_TEXT = """\
# Killed at random moments

Made by `python tests/robustness/kills/run.py --kills {asked} --chain {length} --seed {seed}`, which
runs the experiment of `params.yaml` ({jobs} jobs) once undisturbed ({seconds:.0f} s), and then from
nothing again, {chains} times, each time with up to {length} kills on the way. A kill is `kill -9`
of the whole process group of `affectlocus run --cores {cores}`; then the same command is started
again, until the last start comes to its end. The moments are drawn evenly over the
undisturbed run's time; a moment is found again by the number of jobs that have finished and the
seconds since, so that work that a kill undid does not push the later ones together.

**{kills} of the {asked} kills: {verdict}**

| what was looked at | found |
|---|--:|
| kills after which a result or a file of weights had other bytes than undisturbed | {broken} |
| outputs of jobs that had finished before a kill and ran again after it | {again} |
| chains whose {files} results and weights are byte for byte the same | {same} of {chains} |
| chains that left partial files behind | {left} of {chains} |
| chains after which one more start had nothing to do | {idle} of {chains} |

Files that exist are looked at after each kill, before the next start; what had finished is what
Snakemake had called finished by then. Not compared: {aside}.

`results.csv` has a row for each kill: its chain, the moment in seconds of the undisturbed run, the
rules whose jobs it hit, outputs recorded as finished, files looked at, files with other bytes,
finished outputs that were made again, and jobs that the next start began. The kills hit {rules}
rules, and {starting} of them Snakemake itself, before or between jobs.

{machine}, {cores} cores, {total:.0f} minutes in all.
"""


def main(
    kills: Annotated[int, typer.Option(min=1, help="kills in all")] = 50,
    length: Annotated[
        int, typer.Option("--chain", min=1, help="kills on the way of one experiment; 1: apart")
    ] = 5,
    seed: Annotated[int, typer.Option(help="of the moments")] = 0,
    cores: Annotated[int, typer.Option(min=1, help="for snakemake")] = 2,
    folder: Annotated[
        Path | None, typer.Option(help="where the copies go; kept  [default: a temporary one]")
    ] = None,
    write: Annotated[bool, typer.Option(help="write kills.md and results.csv here")] = True,
) -> None:
    """Kill a small experiment at random moments; exit code 1 if anything was lost or done twice.

    Prints a line for each kill.
    """
    scratch = folder or Path(tempfile.mkdtemp(prefix="kills"))
    try:
        good = _tried(scratch, kills, length, seed, cores, write)
    finally:
        if folder is None:
            shutil.rmtree(scratch, ignore_errors=True)
    raise typer.Exit(not good)


def _tried(scratch: Path, kills: int, length: int, seed: int, cores: int, write: bool) -> bool:
    undisturbed = copied(scratch / "undisturbed", HERE / "params.yaml")
    start = Start(undisturbed, TARGETS, cores)
    if start.wait():
        raise SystemExit(start.text[-4000:])
    seconds, reference = start.finishes[-1], contents(undisturbed)
    jobs = len(start.finishes)
    typer.echo(f"undisturbed: {jobs} jobs, {seconds:.1f} s, {len(reference)} files")
    draw = random.Random(seed)
    chains: list[Chain] = []
    done = 0
    while done < kills:
        moments = drawn(start.finishes, seconds, min(length, kills - done), draw)
        copy = copied(scratch / f"chain{len(chains)}", HERE / "params.yaml")
        found = chain(copy, TARGETS, moments, reference, cores)
        chains.append(found)
        done += len(found.kills)
        for line in _lines(len(chains), found):
            typer.echo(line)
        if found.good:
            shutil.rmtree(copy)
        if not found.kills:
            raise SystemExit("no kill came in time; the machine is now much faster than it was")
        if write:
            # After each chain: this program may be killed as well.
            about = {"asked": kills, "length": length, "seed": seed, "cores": cores, "jobs": jobs}
            _write(chains, len(reference), seconds, about)
    return all(one.good for one in chains)


def _write(chains: list[Chain], files: int, seconds: float, about: dict[str, int]) -> None:
    rows = pd.DataFrame([row for number, one in enumerate(chains, 1) for row in _rows(number, one)])
    rows.to_csv(HERE / "results.csv", index=False)
    PAGE.write_text(_page(rows, chains, files, seconds, about), encoding="utf-8")


def _lines(number: int, found: Chain) -> Iterator[str]:
    for kill in found.kills:
        hit = ", ".join(kill.running) or "no job"
        yield (
            f"chain {number}: killed at {kill.moment.at:.1f} s in {hit}; {kill.finished} outputs "
            f"finished, {len(kill.again)} of them made again; {kill.files} files, "
            f"{len(kill.broken)} with other bytes; {kill.begun} jobs begun after it"
        )
    yield (
        f"chain {number}: exit code {found.code}, {len(found.differing)} files differ "
        f"{found.differing[:3]}, left behind {found.left[:3]}, "
        f"{'nothing' if found.idle else 'something'} to be done; {found.seconds:.0f} s"
    )


def _rows(number: int, found: Chain) -> Iterator[dict[str, object]]:
    for kill in found.kills:
        yield {
            "chain": number,
            "moment_s": round(kill.moment.at or 0.0, 2),
            "hit": " ".join(kill.running),
            "finished_outputs": kill.finished,
            "files": kill.files,
            "other_bytes": len(kill.broken),
            "made_again": len(kill.again),
            "begun_after": kill.begun,
            "same_at_the_end": not found.differing,
        }


def _page(
    rows: pd.DataFrame, chains: list[Chain], files: int, seconds: float, about: dict[str, int]
) -> str:
    good = all(one.good for one in chains)
    hit = {rule for one in chains for kill in one.kills for rule in kill.running}
    return _TEXT.format(
        **about,
        kills=len(rows),
        chains=len(chains),
        files=files,
        seconds=seconds,
        verdict="nothing lost, nothing half-written, nothing done twice." if good else "FAILED.",
        broken=int((rows["other_bytes"] > 0).sum()),
        again=int(rows["made_again"].sum()),
        same=sum(not one.differing for one in chains),
        left=sum(bool(one.left) for one in chains),
        idle=sum(one.idle for one in chains),
        aside="; ".join(f"`{name}` ({why})" for name, why in ASIDE.items()),
        rules=len(hit),
        starting=int((rows["hit"] == "").sum()),
        machine=f"{platform.machine()}, Python {platform.python_version()}",
        total=sum(one.seconds for one in chains) / 60,
    )


if __name__ == "__main__":
    typer.run(main)
