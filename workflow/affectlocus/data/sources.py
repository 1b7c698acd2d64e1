"""Where a task's files lie: on disk as they are named, or downloaded from a data set on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affectlocus.config.experiment import Parameters
from affectlocus.config.files import DataFile
from affectlocus.config.tasks import Task
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json
from affectlocus.core.manifests import is_manifest, manifest_folder, portable_path


def tables(task: Task) -> dict[str, DataFile]:
    """Split, `all` or `join` → the file that params.yaml names."""
    files: dict[str, DataFile] = dict(task.files.items()) if task.files is not None else {}
    return files | ({"join": task.join} if task.join is not None else {})


def retrieve_table(hub: str, revision: str, file: str, pins: Path) -> dict[str, Any]:
    """The manifest of a data set's file, which is on disk and verified when this returns."""
    from affectlocus.data.hub import retrieve_file

    snapshot = retrieve_file(hub, revision, file, pins)
    return {
        "folder": portable_path(snapshot.folder),
        "kind": "data",
        "source": {"hub": f"datasets/{hub}"},
        "revision": snapshot.commit,
        "licence": snapshot.licence,
        "files": snapshot.files,
    }


def manifest_path(manifest: dict[str, Any]) -> Path:
    """The file that such a manifest stands for."""
    return manifest_folder(manifest) / str(manifest["files"][0]["file"])


def located(task: Task, root: Path, pins: Path) -> dict[str, Path]:
    """Every file of a task on this machine; those of a hub are downloaded if they are not here.

    Args:
        task: as params.yaml describes it.
        root: the experiment's `data_root`.
        pins: where branches are pinned.
    """
    places = {}
    for key, table in tables(task).items():
        if table.hub is None:
            places[key] = root / table.file
        else:
            assert table.revision is not None
            record = retrieve_table(table.hub, table.revision, table.file, pins)
            places[key] = manifest_path(record)
    return places


def pin(parameters: Parameters, pins: Path) -> dict[str, str]:
    """`owner/name@branch` → the commit that it is from now on, for every branch in params.yaml.

    Args:
        pins: where they are written down; what stands there already stays.
    """
    from affectlocus.data.hub import COMMIT, pinned

    sources = [*parameters.bases.values(), parameters.extraction.model]
    sources += [pair.tuned for pair in parameters.pairs.values()]
    named = [(one.hub, one.revision) for one in sources if one is not None and one.hub]
    for task in parameters.tasks.values():
        found = tables(task).values()
        named += [(f"datasets/{one.hub}", one.revision) for one in found if one.hub]
    moving = [(hub, str(branch)) for hub, branch in named if not COMMIT.fullmatch(str(branch))]
    return {f"{hub}@{branch}": pinned(hub, branch, pins) for hub, branch in dict.fromkeys(moving)}


def handed(task: Task, files: dict[str, Path]) -> dict[str, Path]:
    """The files that a job was handed, each manifest of a hub's file replaced by what it lists."""
    named = tables(task)
    places = {}
    for key, path in files.items():
        places[key] = path
        if key in named and named[key].hub is not None:
            record = read_json(path)
            if not is_manifest(record) or record.get("kind") != "data":
                raise InputError(f"{path}: no manifest of a data set's file; run retrieve first")
            places[key] = manifest_path(record)
    return places
