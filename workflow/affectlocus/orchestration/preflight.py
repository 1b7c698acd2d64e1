"""Checks before any job starts: the users' data files, emotion wheels and brought pairs.

Reading a data file takes seconds for tens of thousands of rows. A file that passed is not read
again until the file or its section of params.yaml changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectlocus.checkpoints.gguf_files import read_header
from affectlocus.checkpoints.native_models import check_native
from affectlocus.config.bridges import KINDS
from affectlocus.config.experiment import Parameters
from affectlocus.config.sources import Source
from affectlocus.config.task_answers import is_valence
from affectlocus.config.tasks import Task
from affectlocus.core.checkpoint_files import checkpoint_paths
from affectlocus.core.errors import InputError, Problems
from affectlocus.core.files import STATE, is_there, matching, write_json
from affectlocus.core.installed_packages import is_installed, package_file
from affectlocus.data.sample_files import COLUMN
from affectlocus.data.sources import located, tables
from affectlocus.orchestration.code_digest import digest
from affectlocus.scoring.corrected_protocol import NEUTRAL

if TYPE_CHECKING:
    from affectlocus.scoring.wheels import Wheels

REMEMBERED = STATE / "preflight.json"


def _state(task: Task, files: dict[str, Path]) -> str:
    """A digest of everything that the check of a task depends on, including the code."""
    found = [file for path in files.values() for file in matching(path)]
    return _digest_of([digest("prepare"), task.model_dump(mode="json"), list(files)], found)


def _digest_of(settings: list[object], files: Iterable[Path]) -> str:
    """A digest of settings, and of the names, sizes and times of files."""
    stats = [(file, file.stat()) for file in files]
    parts = [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]
    return hashlib.sha256(json.dumps([*settings, *parts]).encode()).hexdigest()


def _remembered(folder: Path) -> dict[str, Any]:
    """What `remember` kept; empty if there is nothing readable."""
    try:
        known = json.loads((folder / REMEMBERED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _absent(task: Task, root: Path) -> bool:
    """Whether a file of a task is awaited and does not exist yet."""
    files = [table.file for table in tables(task).values() if table.hub is None]
    return task.awaited and not all(any(f.is_file() for f in matching(root / one)) for one in files)


def absent(parameters: Parameters, folder: Path) -> list[str]:
    """The keys in params.yaml of awaited files that do not exist yet; a dry run plans without."""
    root = folder / parameters.data_root
    found = [f"tasks.{name}" for name, task in parameters.tasks.items() if _absent(task, root)]
    sources: dict[str, Source | None] = {
        f"bases.{name}": base for name, base in parameters.base_models.items()
    }
    sources |= {f"pairs.{name}": pair.tuned for name, pair in parameters.pairs.items()}
    sources |= {f"pairs.{name}.initial": pair.initial for name, pair in parameters.pairs.items()}
    sources |= {f"media.{name}.encoder": one.encoder for name, one in parameters.media.items()}
    for key, source in sources.items():
        path = getattr(source, "gguf", None) or getattr(source, "folder", None)
        if source is not None and source.awaited and path is not None:
            found += [] if (root / path).exists() else [key]
    for name, base in parameters.base_models.items():
        if base.package is not None and not is_installed(base.package):
            found.append(f"bases.{name}")
    return found


def check_gguf(parameters: Parameters, folder: Path, source: str = "params.yaml") -> list[str]:
    """A line for each base that is converted from a GGUF file: its quantisation and its size.

    Reads the headers of the files.

    Raises:
        InputError: not a whole GGUF file of a model.
    """
    lines, problems = [], Problems()
    for name, base in parameters.base_models.items():
        if not base.is_gguf:
            continue
        try:
            if base.package is not None:
                path = package_file(base.package, base.file or "").path
            else:
                path = folder / parameters.data_root / (base.gguf or "")
            header = read_header(path)
        except InputError as error:
            problems.add(error.within(f"{source}: bases.{name}", base=name))
            continue
        count = sum(header.types.values())
        lines.append(f"base {name}: {path.name}, {count / 1e6:.1f}M parameters, {header.label}")
    problems.raise_any()
    return lines


def examined(
    parameters: Parameters,
    folder: Path,
    source: str = "params.yaml",
    planning: bool = False,
    download: bool = False,
) -> dict[str, dict[str, Any]]:
    """Reads every task that has files, as the step `prepare` does; writes nothing.

    Args:
        folder: the experiment's folder.
        source: how error messages name the file.
        planning: no job will run, so awaited files may be missing.
        download: download files of data sets on the hub that are not cached, and pin a branch.
            Without it such tasks are left out; their jobs download and check them.

    Returns:
        Task → its data report (`report`), a digest of what it depends on (`state`), and, if it has
        media, their files (`media`: medium → paths, one for each sample).

    Raises:
        InputError: a task's files cannot be used, or a media file does not exist and the task
            refuses samples without it; the message names the task.
        CombinedError: those of several tasks.
    """
    known, problems = _remembered(folder), Problems()
    good: dict[str, dict[str, Any]] = {}
    for name, task in parameters.tasks.items():
        if task.files is None:
            continue
        if not download and any(table.hub is not None for table in tables(task).values()):
            continue
        if planning and _absent(task, folder / parameters.data_root):
            continue
        try:
            pins = folder / "checkpoints.lock.json"
            files = located(task, folder / parameters.data_root, pins)
            state = _state(task, files)
            entry = known.get(name)
            if not (isinstance(entry, dict) and entry.get("state") == state):
                from affectlocus.data.prepare import prepare

                samples, report = prepare(name, task, files)
                entry = {"state": state, "report": report}
                if task.media:
                    entry["media"] = {
                        medium: samples[COLUMN + medium].tolist() for medium in task.media
                    }
            if task.media and task.absent == "refuse":
                _check_media(entry["media"], folder / parameters.data_root)
        except InputError as error:
            problems.add(error.within(f"{source}: tasks.{name}", task=name))
            continue
        good[name] = entry
    problems.raise_any()
    return good


def _check_media(listed: Mapping[str, list[str]], root: Path) -> None:
    """Refuses a task that refuses samples without media and names files that do not exist."""
    for medium, files in listed.items():
        missing = [file for file in files if not is_there(root / file)]
        if missing:
            raise InputError(
                "task.no-media-file",
                f"media.{medium}: {len(missing)} of {len(files)} samples have no file; the first "
                f"missing one is {root / missing[0]}: correct the path, or set absent: drop to "
                "leave such samples out",
                medium=medium,
                found=len(missing),
                file=root / missing[0],
            )


def listed_media(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Task → medium → the files of its samples, of what `examined` returns."""
    return {name: entry["media"] for name, entry in entries.items() if "media" in entry}


def remembered_media(folder: Path) -> dict[str, dict[str, list[str]]]:
    """The same, as the run that started this job remembered it."""
    known = _remembered(folder)
    return listed_media({name: one for name, one in known.items() if isinstance(one, dict)})


def check_data(parameters: Parameters, folder: Path, *args: Any, **more: Any) -> dict[str, Any]:
    """The data reports of `examined`, by task."""
    return reports(examined(parameters, folder, *args, **more))


def reports(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The data reports of what `examined` returns."""
    return {name: entry["report"] for name, entry in entries.items()}


def remember(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Stores which files passed, so that they are not read again until they change.

    Called at the start of a run, which holds the lock of the folder.
    """
    with suppress(InputError, OSError):  # if it cannot be written, the files are read again
        known = json.loads((folder / REMEMBERED).read_text(encoding="utf-8"))
        if all(known.get(name) == entry for name, entry in entries.items()):
            return
    with suppress(InputError, OSError):
        write_json(folder / REMEMBERED, dict(entries))


def check_wheels(
    parameters: Parameters,
    folder: Path,
    reports: Mapping[str, Mapping[str, Any]],
    source: str = "params.yaml",
    download: bool = False,
) -> list[str]:
    """Looks up the labels of every task under protocol mer-unibench on the emotion wheels.

    Args:
        folder: the experiment's folder.
        reports: the data reports of `check_data`; without a report all labels of a task count.
        download: download the released wheels if they are not cached. Without it they are not
            checked here; `affectlocus check` and the job that downloads them check them.

    Returns:
        A line for each label that the published or the corrected protocol does not score on some
        wheel: the wheels, and the number of test samples with this label.

    Raises:
        InputError: the wheels are not the released ones, or a wheel has none of a task's labels, so
            that the published protocol has no hit rate.
    """
    score = parameters.score
    words = {name: parameters.tasks[name].words for name in score.protocols}
    emotions = {name: labels for name, labels in words.items() if not is_valence(labels)}
    if not emotions or score.wheels is None:
        return []
    from affectlocus.scoring.wheels import RELEASED, load

    place: str | Path = folder / parameters.data_root / score.wheels
    if score.wheels == RELEASED:
        brought = folder / "results/wheels"
        if not download and not brought.is_dir():
            return []
        place = RELEASED if download else brought
    try:
        wheels = load(place, score.own_wheels)
    except InputError as error:
        raise error.within(f"{source}: score.wheels", key="score.wheels") from None
    lines = []
    for name, labels in emotions.items():
        counts = reports[name]["splits"]["test"]["labels"] if name in reports else None
        there = [label for label in labels if counts is None or label in counts]
        for wheel, clusters in wheels.published.items():
            if not any(label.lower() in clusters for label in there):
                raise InputError(
                    "score.no-label-on-wheel",
                    f"{source}: score.protocols.{name}: wheel {wheel} has none of the labels in "
                    f"the test split ({', '.join(there)}), so mer-unibench has no hit rate on it; "
                    f"give the labels words of the wheels (tasks.{name}.labels), or remove the "
                    "task here",
                    file=source,
                    key=f"score.protocols.{name}",
                    wheel=wheel,
                    found=there,
                )
        for label in there:
            samples = "" if counts is None else f", {counts[label]} test samples"
            lines += [f"{name}: {said}{samples}" for said in _unscored(label, wheels)]
    return lines


def _unscored(label: str, wheels: Wheels) -> Iterator[str]:
    word = label.lower()
    protocols = {"mer-unibench": wheels.published}
    if word != NEUTRAL:  # the corrected protocol scores it on every wheel
        protocols["corrected"] = wheels.corrected
    for protocol, maps in protocols.items():
        without = [str(wheel) for wheel, clusters in maps.items() if word not in clusters]
        if without:
            on = f"wheel{'s' if len(without) > 1 else ''} {', '.join(without)}"
            on = "any wheel" if len(without) == len(maps) else on
            yield f"{protocol} does not score {label!r} on {on}"


def examined_pairs(
    parameters: Parameters, folder: Path, source: str = "params.yaml"
) -> dict[str, dict[str, Any]]:
    """Checks every pair whose base and tuned checkpoint are on disk; writes nothing.

    Reads the headers of the files, and the head and embeddings where it matters whether they are
    tied. Pairs that passed before are not read again until a file or the pair's settings change.

    Args:
        folder: the experiment's folder.
        source: how error messages name the file.

    Returns:
        pairs/NAME → what the cells of this pair do with tensors outside the seven projections
        (`notes`), and a digest of everything that this depends on (`state`).

    Raises:
        InputError: a pair that cannot be evaluated, for example an adapter of another base, missing
            tensors, or a model without its base's head.
        CombinedError: those of several pairs.
    """
    root = folder / parameters.data_root
    known, problems = _remembered(folder), Problems()
    evaluated = {*parameters.matrix.pairs, *parameters.matrix.beside}
    found: dict[str, dict[str, Any]] = {}
    for name, pair in parameters.pairs.items():
        base, tuned = parameters.bases[pair.base], pair.tuned
        if base.folder is None or tuned is None or tuned.folder is None:
            continue
        chain = [root / path for path in (base.folder, *base.then)]
        paths = [*chain, root / tuned.folder]
        key, reading = f"pairs/{name}", pair.reading.model_dump()
        bridge = parameters.bridges[pair.bridge] if pair.bridge is not None else None
        initial = pair.initial.folder if pair.initial is not None else None
        start = None if initial is None else root / initial
        settings: list[object] = [reading, name in evaluated]
        settings += [] if bridge is None else [bridge.model_dump()]
        try:
            state = _pair_state([*paths, *([start] if start else [])], settings)
            entry = known.get(key)
            if isinstance(entry, dict) and entry.get("state") == state:
                found[key] = entry
                continue
            from affectlocus.checkpoints.model_pairs import ModelPair

            live = ModelPair(chain, root / tuned.folder, **reading)
            if bridge is not None and KINDS[bridge.kind].own:
                check_native(live.base.path, live.base.config)
            elif bridge is not None:
                from affectlocus.checkpoints.released_files import check_bridges

                layers = 1 + max(location.layer for location in live.base.projections)
                check_bridges(root / tuned.folder, bridge.kind, start, layers, bridge.tokens)
            notes = live.missed_layers()
            if name in evaluated:
                live.check()
                notes += live.notes_on_cells()
        except InputError as error:
            problems.add(error.within(f"{source}: pairs.{name}", pair=name))
            continue
        found[key] = {"state": state, "notes": [f"pairs.{name}: {note}" for note in notes]}
    problems.raise_any()
    return found


def _pair_state(paths: list[Path], settings: list[object]) -> str:
    """A digest of what the check of a pair depends on: its files, its settings and the code."""
    files = [checkpoint_paths(path) if path.is_dir() else [path] for path in paths]
    return _digest_of([digest("evaluate"), *settings], chain.from_iterable(files))


def check_pairs(parameters: Parameters, folder: Path, source: str = "params.yaml") -> list[str]:
    """The notes of `examined_pairs` on all pairs."""
    entries = examined_pairs(parameters, folder, source).values()
    return [note for entry in entries for note in entry["notes"]]
