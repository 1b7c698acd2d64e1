"""Finds the files of a task: on disk, or downloaded from a data set on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectlocus.config.files import DataFile
from affectlocus.config.tasks import Task
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json
from affectlocus.core.manifests import is_manifest, manifest_folder, portable_path

if TYPE_CHECKING:
    # At run time it would count for the digest of every command that reads data.
    from affectlocus.config.experiment import Parameters


def tables(task: Task) -> dict[str, DataFile]:
    """The files of a task in params.yaml, by split, `all` or `join`."""
    files: dict[str, DataFile] = dict(task.files.items()) if task.files is not None else {}
    return files | ({"join": task.join} if task.join is not None else {})


def retrieve_table(hub: str, revision: str, file: str, pins: Path) -> dict[str, Any]:
    """Downloads and verifies a file of a data set, and returns its manifest."""
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
    """The path of the file that a manifest of `retrieve_table` lists."""
    return manifest_folder(manifest) / str(manifest["files"][0]["file"])


def located(task: Task, root: Path, pins: Path) -> dict[str, Path]:
    """The paths of a task's files, by split, `all` or `join`; downloads those that are on the hub.

    Args:
        task: the task's section of params.yaml.
        root: the experiment's `data_root`.
        pins: JSON file that pins branches to commits.
    """
    paths = {}
    for key, table in tables(task).items():
        if table.hub is None:
            paths[key] = root / table.file
        else:
            assert table.revision is not None
            manifest = retrieve_table(table.hub, table.revision, table.file, pins)
            paths[key] = manifest_path(manifest)
    return paths


def pin(parameters: Parameters, pins: Path) -> dict[str, str]:
    """Pins every branch in params.yaml to its current commit; returns `owner/name@branch` → commit.

    Args:
        pins: JSON file of the pinned commits; existing entries are kept.
    """
    from affectlocus.data.hub_commits import COMMIT, pinned

    sources = [*parameters.base_models.values(), parameters.extraction.model]
    sources += [pair.tuned for pair in parameters.pairs.values()]
    revisions = [(source.hub, source.revision) for source in sources if source and source.hub]
    for task in parameters.tasks.values():
        files = tables(task).values()
        revisions += [(f"datasets/{file.hub}", file.revision) for file in files if file.hub]
    branches = [
        (hub, str(revision)) for hub, revision in revisions if not COMMIT.fullmatch(str(revision))
    ]
    return {f"{hub}@{branch}": pinned(hub, branch, pins) for hub, branch in dict.fromkeys(branches)}


def resolved(task: Task, files: dict[str, Path]) -> dict[str, Path]:
    """The input files of a job, with each manifest of a hub file replaced by the file it lists.

    Raises:
        InputError: a file of the hub whose manifest is not one.
    """
    wanted = tables(task)
    paths = {}
    for key, path in files.items():
        paths[key] = path
        if key in wanted and wanted[key].hub is not None:
            manifest = read_json(path)
            if not is_manifest(manifest) or manifest.get("kind") != "data":
                raise InputError(
                    "table.not-a-manifest",
                    f"{path}: expected the manifest of a data set's file; create it with "
                    "affectlocus retrieve --file",
                    file=path,
                )
            paths[key] = manifest_path(manifest)
    return paths
