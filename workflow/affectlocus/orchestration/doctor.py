"""What is damaged in an experiment's folder, and how it is put right without deleting anything.

Snakemake looks at a result's time and not into it, except for jobs that it saw being killed. What
else can go wrong is found here: weights that are gone or were changed (by SHA-256), results that
were cut (by how they end), what killed jobs left behind, and files dated in the future.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
"""Where damaged files are moved to, each run of `doctor --fix` into a folder of its own."""

RESULTS, CHECKPOINTS = Path("results"), Path("checkpoints")
# No rule's input: a cut one misleads no job, and the step that wrote it looks at it itself.
_OWN_CARE = ("answers", "extraction", "logs", "benchmarks")
_SKEW = 120  # seconds by which the clocks of a disk's server and of a host may differ

Cure = Literal["aside", "download", "date", "later", "person"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        said: what it is, in a sentence.
        cure: `aside`: `path` is moved aside; `download`: what `path`, a manifest, lists is
            downloaded again; `date`: `path` is dated to now; `later`: nothing is damaged, and a
            job that reads it makes it first; `person`: only a person can help.
        path: from the experiment's folder.
        target: what makes it again if a job has to, as a target for snakemake; empty for nothing.
    """

    said: str
    cure: Cure
    path: Path
    target: str = ""


def examine(folder: Path, jobs: Dag) -> list[Finding]:
    """All that is wrong in an experiment's folder; reads only.

    Args:
        folder: the experiment's; the process must be in it, as the paths of manifests start there.
    """
    return [*leftovers(folder), *at_a_glance(folder), *_weights(folder, jobs)]


def at_a_glance(folder: Path) -> list[Finding]:
    """What is wrong by names, ends and dates of results; no file is read whole."""
    return [*_cut(folder), *_ahead(folder)]


def leftovers(folder: Path) -> Iterator[Finding]:
    """Half-written files and folders whose process is gone, by names that only steps give them."""
    places = [folder / CHECKPOINTS] if (folder / CHECKPOINTS).is_dir() else []
    names = [path for place in places for path in place.iterdir()]
    for at, folders, files in os.walk(folder / RESULTS):
        names += [Path(at, name) for name in (*folders, *files)]
        folders[:] = [name for name in folders if not PARTIAL.fullmatch(name)]
    for path in sorted(names):
        if PARTIAL.fullmatch(path.name) and not _at_work(path.name):
            name = path.relative_to(folder)
            yield Finding(f"{name}: half-written, left by a job that was killed", "aside", name)


def _at_work(partial: str) -> bool:
    """Whether the process that writes this is alive."""
    process = partial.rpartition(".partial")[0].rpartition(".")[2]
    try:
        return b"affectlocus" in Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return False


def _files(folder: Path) -> Iterator[Path]:
    """The results that are some job's output, or a person's."""
    results = folder / RESULTS
    for at, folders, files in os.walk(results):
        if Path(at) == results:
            folders[:] = [name for name in folders if name not in _OWN_CARE]
        for name in sorted(files):
            path = Path(at, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder)


def _cut(folder: Path) -> Iterator[Finding]:
    for name in _files(folder):
        if how := cut(folder / name):
            yield Finding(f"{name}: {how}", "aside", name, name.as_posix())


def _ahead(folder: Path) -> Iterator[Finding]:
    now = time.time() + _SKEW
    for name in _files(folder):
        if (folder / name).stat().st_mtime > now:
            yield Finding(
                f"{name}: dated in the future, so it looks newer than what is made from now on",
                "date",
                name,
            )


def _weights(folder: Path, jobs: Dag) -> Iterator[Finding]:
    """Manifests and what they list: weights that are made here, downloads, and a user's own."""
    for name in (*jobs.pretrained, *jobs.tuned):
        manifest, place = Path(checkpoint(name)), CHECKPOINTS / name
        if (folder / manifest).is_file() and (said := manifest_problem(folder / manifest)):
            target = complete(name)
            if not is_listed(folder / manifest):
                yield Finding(said, "aside", manifest, checkpoint(name))
            elif (folder / place).is_dir():
                yield Finding(said, "aside", place, target)
            else:
                yield Finding(
                    f"{place}: not here; made again when a job reads it, with all that was made "
                    "from it",
                    "later",
                    place,
                    target,
                )
    downloads = {checkpoint(name): jobs.retrieve.source(name).folder for name in jobs.brought}
    downloads |= {f"results/data/sources/{name}.json": None for name in jobs.prepare.hub_tables}
    for listed, own in downloads.items():
        manifest = Path(listed)
        if (folder / manifest).is_file() and (said := manifest_problem(folder / manifest)):
            if not is_listed(folder / manifest):
                yield Finding(said, "aside", manifest, listed)
            elif own is None:
                yield Finding(said, "download", manifest)
            else:
                yield Finding(
                    f"{said}; these are your own files: put them back, or run snakemake, which "
                    "takes them as another checkpoint",
                    "person",
                    manifest,
                )


def put_right(folder: Path, findings: Sequence[Finding], jobs: Dag) -> list[str]:
    """Cures what can be cured; a sentence for each thing done.

    Raises:
        InputError: something cannot be moved, or a download fails.
    """
    done = []
    place = ASIDE / time.strftime("%Y-%m-%dT%H-%M-%S")
    for one in dict.fromkeys(finding for finding in findings if finding.cure == "aside"):
        if os.path.lexists(folder / one.path):
            move(folder, one.path, place)
            done.append(f"{one.path}: moved to {place / one.path}")
    ahead = [one.path for one in findings if one.cure == "date"]
    for path in sorted(ahead, key=lambda name: (folder / name).stat().st_mtime):
        # In their own order, as each is dated to the moment of its turn.
        if (folder / path).exists():
            os.utime(folder / path)
    if ahead:
        done.append(f"{len(ahead)} files that were dated in the future: dated to now")
    for one in findings:
        if one.cure == "download":
            _download(folder, one.path, jobs)
            done.append(f"{one.path}: what it lists was downloaded again, and is whole")
    return done


def move(folder: Path, name: Path, place: Path) -> None:
    """Moves a file or folder below `place`, both named from the experiment's folder."""
    target = folder / place / name
    try:
        durable.make_folder(target.parent)
        durable.move(folder / name, target)
    except OSError as error:
        raise InputError(f"{name}: cannot be moved to {place} ({error.strerror})") from None


def _download(folder: Path, manifest: Path, jobs: Dag) -> None:
    """Brings a manifest's files back from their source; the manifest stays as it is.

    Raises:
        InputError: no network, or the source has other files now.
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
    else:
        source = jobs.retrieve.source(manifest.stem)
        named = source.hub or source.url
        assert named is not None
        record = retrieve(named, source.revision, source.sha256, pins)
    if record["files"] != known["files"] or manifest_folder(record) != manifest_folder(known):
        raise InputError(
            f"{manifest}: its source has other files now than it lists; delete it, and the next "
            "run takes them, with all that is made from them"
        )


def next_step(findings: Sequence[Finding], folder: Path) -> str:
    """The command that makes again what was found damaged, and nothing else; empty for nothing."""
    targets = [one.target for one in findings if one.target]
    if not targets:
        return ""
    where = [] if folder.resolve() == Path.cwd() else [str(folder)]
    words = ["affectlocus", "run", *where, "--", "--cores", "all", *dict.fromkeys(targets)]
    return shlex.join(words)
