"""Finds damage in an experiment's folder, and repairs it without deleting anything.

Snakemake looks at the time of a result, not at its content. This module finds missing or changed
weights (by SHA-256), truncated results (by their last bytes), incomplete files of killed jobs, and
files dated in the future.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from affectlocus.checkpoints.checkpoint_manifests import is_listed, manifest_problem
from affectlocus.core import durable
from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE, cut, read_json
from affectlocus.core.manifests import manifest_folder
from affectlocus.core.output_files import PARTIAL
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.rule_values import checkpoint, complete

ASIDE = STATE / "aside"
"""Damaged files are moved here; each run of `doctor --fix` makes a folder of its own."""

RESULTS, CHECKPOINTS = Path("results"), Path("checkpoints")
# No rule reads these folders. The step that writes a file there checks it when it reads it again.
_OWN_CARE = ("answers", "extraction", "logs", "benchmarks")
_SKEW = 120  # seconds by which the clocks of a file server and a host may differ

Cure = Literal["aside", "download", "date", "later", "person"]


@dataclass(frozen=True)
class Finding:
    """One problem in an experiment's folder.

    Attributes:
        message: the problem in one sentence.
        cure: `aside`: move `path` aside; `download`: download the files that the manifest `path`
            lists; `date`: set the time of `path` to now; `later`: no damage, a job makes the file
            as soon as it is needed; `person`: only the user can repair it.
        path: relative to the experiment's folder.
        target: the target of Snakemake that makes the file again; empty if none is needed.
    """

    message: str
    cure: Cure
    path: Path
    target: str = ""


def examine(folder: Path, jobs: Dag) -> list[Finding]:
    """All problems in an experiment's folder; writes nothing.

    Args:
        folder: the experiment's folder. It must be the current one, because the paths in manifests
            are relative to it.
    """
    return [*leftovers(folder), *at_a_glance(folder), *_weights(folder, jobs)]


def at_a_glance(folder: Path) -> list[Finding]:
    """Truncated results and dates in the future; no file is read as a whole."""
    return [*_truncated(folder, _files(folder)), *_ahead(folder)]


def truncated_tables(folder: Path) -> list[str]:
    """A sentence for each truncated file in `results` itself; for the start of every run.

    These are the files that people read and that few jobs read, so that no job may refuse them.
    Files in folders of `results` are the inputs of jobs, which refuse a truncated one.
    """
    # The files of a folder come before those of its subfolders.
    tables = takewhile(lambda name: name.parent == RESULTS, _files(folder))
    return [
        f"{finding.message}; Snakemake considers it finished. Run affectlocus doctor --fix, which "
        "moves it aside, and then run this command again"
        for finding in _truncated(folder, tables)
    ]


def leftovers(folder: Path) -> Iterator[Finding]:
    """Incomplete files and folders of processes that have ended, found by their names."""
    places = [folder / CHECKPOINTS] if (folder / CHECKPOINTS).is_dir() else []
    names = [path for place in places for path in place.iterdir()]
    for at, folders, files in os.walk(folder / RESULTS):
        names += [Path(at, name) for name in (*folders, *files)]
        folders[:] = [name for name in folders if not PARTIAL.fullmatch(name)]
    for path in sorted(names):
        if PARTIAL.fullmatch(path.name) and not _at_work(path.name):
            name = path.relative_to(folder)
            yield Finding(f"{name}: incomplete file of a killed job", "aside", name)


def _at_work(partial: str) -> bool:
    """Whether the process that writes this file is still running."""
    process = partial.rpartition(".partial")[0].rpartition(".")[2]
    try:
        return b"affectlocus" in Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return False


def _files(folder: Path) -> Iterator[Path]:
    """The results of jobs, and other files in the folder of results."""
    results = folder / RESULTS
    for at, folders, files in os.walk(results):
        if Path(at) == results:
            folders[:] = [name for name in folders if name not in _OWN_CARE]
        for name in sorted(files):
            path = Path(at, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder)


def _truncated(folder: Path, names: Iterable[Path]) -> Iterator[Finding]:
    for name in names:
        if problem := cut(folder / name):
            yield Finding(f"{name}: {problem}", "aside", name, name.as_posix())


def _ahead(folder: Path) -> Iterator[Finding]:
    now = time.time() + _SKEW
    for name in _files(folder):
        if (folder / name).stat().st_mtime > now:
            yield Finding(
                f"{name}: dated in the future, so that it seems newer than later results",
                "date",
                name,
            )


def _weights(folder: Path, jobs: Dag) -> Iterator[Finding]:
    """Problems of manifests and the files they list: weights, downloads, and the user's own."""
    for name in (*jobs.pretrained, *jobs.tuned):
        manifest, place = Path(checkpoint(name)), CHECKPOINTS / name
        if (folder / manifest).is_file() and (problem := manifest_problem(folder / manifest)):
            target = complete(name)
            if not is_listed(folder / manifest):
                yield Finding(problem, "aside", manifest, checkpoint(name))
            elif (folder / place).is_dir():
                yield Finding(problem, "aside", place, target)
            else:
                yield Finding(
                    f"{place}: missing; a job that reads it makes it again, and everything that "
                    "depends on it reruns",
                    "later",
                    place,
                    target,
                )
    downloads = {checkpoint(name): jobs.source(name).folder for name in jobs.brought}
    downloads |= {checkpoint(name): None for name in jobs.converted}
    downloads |= {f"results/data/sources/{name}.json": None for name in jobs.prepare.hub_tables}
    for listed, own in downloads.items():
        manifest = Path(listed)
        if (folder / manifest).is_file() and (problem := manifest_problem(folder / manifest)):
            if not is_listed(folder / manifest):
                yield Finding(problem, "aside", manifest, listed)
            elif own is None:
                yield Finding(problem, "download", manifest)
            else:
                yield Finding(
                    f"{problem}; these are your own files: restore them, or run snakemake, which "
                    "treats them as a new checkpoint",
                    "person",
                    manifest,
                )


def repair(folder: Path, findings: Sequence[Finding], jobs: Dag) -> list[str]:
    """Repairs what can be repaired; returns a sentence for each repair.

    Raises:
        InputError: something cannot be moved, or a download fails.
    """
    done = []
    place = ASIDE / time.strftime("%Y-%m-%dT%H-%M-%S")
    for finding in dict.fromkeys(each for each in findings if each.cure == "aside"):
        if os.path.lexists(folder / finding.path):
            move(folder, finding.path, place)
            done.append(f"{finding.path}: moved to {place / finding.path}")
    ahead = [finding.path for finding in findings if finding.cure == "date"]
    for path in sorted(ahead, key=lambda name: (folder / name).stat().st_mtime):
        # In the order of their times, so that the order of the new times is the same.
        if (folder / path).exists():
            os.utime(folder / path)
    if ahead:
        done.append(f"{len(ahead)} files dated in the future: set to the current time")
    for finding in findings:
        if finding.cure == "download":
            _download(folder, finding.path, jobs)
            done.append(f"{finding.path}: the files that it lists were downloaded again")
    return done


def move(folder: Path, name: Path, place: Path) -> None:
    """Moves a file or folder into `place`; both are relative to the experiment's folder."""
    target = folder / place / name
    try:
        durable.make_folder(target.parent)
        durable.move(folder / name, target)
    except OSError as error:
        raise InputError(
            "run.cannot-move-aside",
            f"{name}: cannot be moved to {place} ({error.strerror})",
            file=name,
            reason=error.strerror,
        ) from None


def _download(folder: Path, manifest: Path, jobs: Dag) -> None:
    """Downloads the files of a manifest again; the manifest is not changed.

    Raises:
        InputError: the source cannot be reached, or has other files now.
    """
    from affectlocus.data.retrieve import retrieve
    from affectlocus.data.sources import retrieve_table

    pins = folder / "checkpoints.lock.json"
    known = read_json(folder / manifest)
    table = (
        jobs.prepare.hub_tables.get(manifest.stem) if manifest.parent.name == "sources" else None
    )
    if table is not None:
        assert table.hub is not None and table.revision is not None
        record = retrieve_table(table.hub, table.revision, table.file, pins)
    elif manifest.stem in jobs.converted:
        from affectlocus.data.gguf_sources import gguf_source
        from affectlocus.lm.gguf_models import kept_model

        base = jobs.bases[manifest.stem]
        given = base.package or folder / jobs.external(base.gguf)
        record = kept_model(gguf_source(str(given), base.file, base.sha256))
    else:
        source = jobs.source(manifest.stem)
        named = source.hub or source.url
        assert named is not None
        record = retrieve(named, source.revision, source.sha256, pins)
    if record["files"] != known["files"] or manifest_folder(record) != manifest_folder(known):
        raise InputError(
            "download.other-files",
            f"{manifest}: the files at its source have changed; to use the new files, delete "
            f"{manifest}, and the next run downloads them and reruns everything that depends on "
            "them",
            file=manifest,
        )


def next_step(findings: Sequence[Finding], folder: Path) -> str:
    """The command that makes only the damaged files again; empty if none is needed."""
    targets = [finding.target for finding in findings if finding.target]
    if not targets:
        return ""
    where = [] if folder.resolve() == Path.cwd() else [str(folder)]
    words = ["affectlocus", "run", *where, "--", "--cores", "all", *dict.fromkeys(targets)]
    return shlex.join(words)
