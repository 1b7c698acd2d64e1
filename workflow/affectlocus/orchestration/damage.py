"""What a kill, a full disk or a wrong clock left in a folder, put right before a run starts.

Snakemake looks at a result's time, never into it: a file that was cut passes for finished. So one
that does not end as its kind does is removed here, if a job wrote it, and made again where a job
or a target needs it (`restore`); so is what a job has noted as damaged. Files that are dated in
the future are dated back: they would look newer than whatever is made from now on.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE, read_json
from affectlocus.core.manifests import is_manifest
from affectlocus.core.output_files import PARTIAL
from affectlocus.orchestration.edited import any_record, edited, of_jobs, record_of

RESULTS, CHECKPOINTS = Path("results"), Path("checkpoints")
_NOTES = STATE / "damaged.jsonl"
# No rule's input: a cut one misleads no job.
_ASIDE = ("answers", "logs", "benchmarks")
_ENDS = {
    ".csv": (b"\n",),
    ".html": (b"</html>", b"</html>\n"),
    ".json": (b"}\n", b"]\n"),
    ".jsonl": (b"\n",),
    ".parquet": (b"PAR1",),
    ".png": (b"IEND\xaeB`\x82",),
    ".svg": (b"</svg>\n",),
    ".txt": (b"\n",),
}
# Seconds by which the clocks of a disk's server and of a host may differ.
_SKEW = 120
_LONG_AGO = 946_684_800  # the year 2000


@dataclass
class Mended:
    """What was wrong with a folder.

    Attributes:
        said: a sentence for each thing that a user may wonder about.
        gone: results that were removed, by their names, now or earlier.
        weights: manifests whose weights a job found damaged.
    """

    said: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)


def writable(folder: Path) -> None:
    """Refuses a folder in which results cannot be written, before any job starts.

    Raises:
        InputError: `results` or `checkpoints` is no folder, is read-only, or lies on a full disk.
    """
    for name in (RESULTS, CHECKPOINTS):
        place = folder / name
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: a file is there; a run needs a folder of that name")
        there = place if place.is_dir() else folder
        probe = there / f".space.{os.getpid()}.partial"
        try:
            try:
                probe.write_bytes(bytes(1 << 16))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{place}: cannot be written ({error.strerror}); nothing was started, and what is "
                "there stays: make room, or make it writable, and run again"
            ) from None


def mend(folder: Path, wanted: Container[str] = ()) -> Mended:
    """Puts a folder's results right, as no run lives in it.

    Args:
        wanted: names of results that are made again even where no job waits for them.

    Raises:
        InputError: something cannot be removed.
    """
    found = Mended()
    try:
        _noted(folder, found)
        for path in _partial(folder):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        written: dict[str, int] = {}
        known: set[str] | None = None
        for path in _files(folder / RESULTS):
            there = path.stat()
            name = path.relative_to(folder).as_posix()
            if wrong := _wrong(path, there.st_size):
                known = of_jobs(folder) if known is None else known
                if name in wanted:
                    _unfinished(folder, name)
                elif name in known:
                    path.unlink()
                    found.gone.append(name)
                else:
                    # A person's file may end as it likes.
                    continue
                found.said.append(f"{name} {wrong}; it is made again where it is needed")
            else:
                written[name] = there.st_mtime_ns
        _remember(folder, found)
        ours = any(Path(name).suffix in _ENDS for name in written)
        if ours and not any_record(folder):
            found.said.append(
                "there are results, but Snakemake's records of what made them (.snakemake) are "
                "gone: what changed since then is not seen; with params.yaml as it was when they "
                "were made, run snakemake --touch --forceall once, and change it after that"
            )
        now = (time.time() + _SKEW) * 1e9
        ahead = {name: when for name, when in written.items() if when > now}
        found.said += [
            f"{name} is not what its job wrote, and is used as it is; if that is not meant, delete "
            "it, and the next run makes it again"
            for name in edited(folder, written if not ahead else {})
        ]
        found.said += _dated_back([folder / name for name in sorted(ahead, key=ahead.__getitem__)])
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; nothing was started") from None
    return found


def _unfinished(folder: Path, name: str) -> None:
    """Makes Snakemake take a result for one whose job was killed, by its own kind of record."""
    mark = folder / record_of(name, "incomplete")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text('{"external_jobid": null}')


def note(path: Path) -> None:
    """Keeps in mind that a file is damaged, for the next run; a job calls this as it fails."""
    try:
        found = path.stat()
        with _NOTES.open("a", encoding="utf-8") as notes:
            notes.write(json.dumps([str(path), found.st_size, found.st_mtime_ns]) + "\n")
    except OSError:
        pass  # the job's own sentence says what to delete


def _noted(folder: Path, found: Mended) -> None:
    """What jobs noted and nobody has put right since: removed, but for a manifest of weights."""
    notes = folder / _NOTES
    if not notes.is_file():
        return
    for line in dict.fromkeys(notes.read_text(encoding="utf-8").splitlines()):
        try:
            name, size, modified = json.loads(line)
        except ValueError:
            continue  # the disk was full
        path = folder / name
        if (folder / RESULTS).resolve() not in path.resolve().parents:
            continue
        if size is None:
            # Removed earlier, and not needed until now.
            found.gone += [] if path.exists() else [name]
            continue
        if not path.is_file():
            continue
        there = path.stat()
        if (there.st_size, there.st_mtime_ns) != (size, modified):
            continue
        if _lists_weights(path):
            if not _whole_again(path):
                found.weights.append(name)
                found.said.append(f"{name}: a job found what it lists damaged")
        else:
            path.unlink()
            found.gone.append(name)
            found.said.append(f"{name}: a job found it damaged; it is made again")


def _remember(folder: Path, found: Mended) -> None:
    """Keeps in mind what is damaged or gone until somebody needs it, and it is made again."""
    lines = [json.dumps([name, None, None]) for name in dict.fromkeys(found.gone)]
    for name in found.weights:
        there = (folder / name).stat()
        lines.append(json.dumps([name, there.st_size, there.st_mtime_ns]))
    notes = folder / _NOTES
    if lines:
        notes.parent.mkdir(parents=True, exist_ok=True)
        notes.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        notes.unlink(missing_ok=True)


def _lists_weights(path: Path) -> bool:
    try:
        return path.suffix == ".json" and is_manifest(read_json(path))
    except InputError:
        return False


def _whole_again(manifest: Path) -> bool:
    """Whether a manifest's files have come back."""
    from affectlocus.checkpoints.pairs import checkpoint_folder

    try:
        checkpoint_folder(manifest)
    except InputError:
        return False
    return True


def _partial(folder: Path) -> list[Path]:
    """What a killed job was writing: files and folders under names that only `replacing` gives."""
    checkpoints = folder / CHECKPOINTS
    found = list(checkpoints.iterdir()) if checkpoints.is_dir() else []
    for at, folders, files in os.walk(folder / RESULTS):
        found += [Path(at, name) for name in (*folders, *files)]
        folders[:] = [name for name in folders if not PARTIAL.fullmatch(name)]
    return [path for path in found if PARTIAL.fullmatch(path.name) and not _at_work(path.name)]


def _at_work(partial: str) -> bool:
    """Whether who writes this lives: a step that somebody runs by hand, which no run waits for."""
    process = partial.rpartition(".partial")[0].rpartition(".")[2]
    try:
        return b"affectlocus" in Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return False


def _files(results: Path) -> Iterator[Path]:
    """The results that are some job's input, or a person's."""
    for at, folders, files in os.walk(results):
        if Path(at) == results:
            folders[:] = [name for name in folders if name not in _ASIDE]
        for name in files:
            path = Path(at, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _wrong(path: Path, size: int) -> str:
    """What is wrong with a result, by how it ends; nothing if it is as its kind should be."""
    ends = _ENDS.get(path.suffix)
    if ends is None:
        return ""
    if size == 0:
        return "is empty"
    with path.open("rb") as stream:
        stream.seek(max(0, size - 16))
        tail = stream.read()
    return "" if tail.endswith(ends) else f"was cut, at {size} bytes"


def _dated_back(ahead: list[Path]) -> list[str]:
    """Dates files to long ago, in their own order, so that content alone decides what reruns."""
    for number, path in enumerate(ahead):
        when = (_LONG_AGO * 1000 + number) * 1_000_000
        os.utime(path, ns=(when, when))
    if not ahead:
        return []
    return [
        f"{len(ahead)} files of results are dated in the future, so the clock was set back: they "
        "are dated to the year 2000, and run again only where their content asks for it"
    ]
