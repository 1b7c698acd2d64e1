"""Retrieves checkpoints and data files from a model hub: pinned to a commit, and verified.

A data set is written datasets/owner/name, as in the addresses of the hub.

huggingface_hub downloads the files and reads HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE.
This module selects the files and compares their digests with those that the hub lists.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import DatasetInfo, ModelInfo
from huggingface_hub.utils import tqdm

from affectlocus.core.checkpoint_files import checkpoint_files, is_weights
from affectlocus.core.durable import sync, sync_names
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, write_json
from affectlocus.data.download import cache_folder, check_disk, download_lock
from affectlocus.data.http_client import say
from affectlocus.data.hub_commits import (
    one_line_errors,
    pinned,
    repository_info,
    revision_advice,
    type_and_name,
)

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class HubFile:
    """A file in the hub's listing; `digest` is a SHA-256, or for small files git's SHA-1."""

    bytes: int | None
    digest: str | None


@dataclass(frozen=True)
class Snapshot:
    """The retrieved files of one commit of a repository; `files` are manifest entries."""

    folder: Path
    commit: str
    licence: str | None
    files: list[dict[str, Any]]


def retrieve_hub(hub: str, revision: str | None, pins: Path) -> Snapshot:
    """Retrieves and verifies the checkpoint files of a commit, from the cache or the hub.

    Args:
        hub: `owner/name`.
        revision: a commit's 40 hex digits; or a branch or tag, which is pinned at its first use.
        pins: JSON file of `owner/name@branch` → commit; new pins are added.

    Raises:
        InputError: no such repository or revision, no access, no network, a full disk, no weights,
            or a file whose digest is not the one that the hub lists.
    """
    if revision is None:
        raise InputError(
            "hub.no-revision",
            f"{hub}: no such folder; if it is a hub id, add a revision: {revision_advice(hub)}",
            hub=hub,
        )
    commit = pinned(hub, revision, pins)
    with download_lock(f"{hub} at {commit}"):
        licence, listed = _listing(hub, commit)
        names = checkpoint_files(listed)
        if not any(is_weights(name) for name in names):
            raise InputError(
                "checkpoint.no-weights",
                f"{hub}: no .safetensors file or PyTorch weights in the top folder of commit "
                f"{commit}; it has {', '.join(sorted(listed)[:5]) or 'no files'}",
                hub=hub,
                commit=commit,
                found=sorted(listed),
            )
        missing = [name for name in names if not _is_cached(hub, commit, name, listed[name])]
        needed = sum(listed[name].bytes or 0 for name in missing)
        check_disk(Path(constants.HF_HUB_CACHE), needed, hub)
        # Small files first: missing access shows before the long download.
        order = sorted(names, key=lambda name: listed[name].bytes or 0)
        files = {name: _verified(hub, commit, name, listed[name]) for name in order}
        _save_listing(hub, commit, licence, listed)
        folder = _downloaded(hub, commit, names[0]).parent
    return Snapshot(folder, commit, licence, [files[name] for name in names])


def retrieve_file(hub: str, revision: str, file: str, pins: Path) -> Snapshot:
    """Retrieves and verifies one file of a commit of a data set, from the cache or the hub.

    Args:
        hub: `owner/name` of the data set.
        revision: a commit's 40 hex digits; or a branch or tag, which is pinned at its first use.
        file: its path inside the data set.
        pins: JSON file of `datasets/owner/name@branch` → commit; new pins are added.

    Returns:
        A snapshot with this file as its only entry, at this path below the snapshot's folder.

    Raises:
        InputError: no such data set, revision or file, no access, no network, a full disk, or a
            file whose digest is not the one that the hub lists.
    """
    hub = f"datasets/{hub}"
    commit = pinned(hub, revision, pins)
    with download_lock(f"{hub} at {commit}"):
        licence, listed = _listing(hub, commit, file)
        if file not in listed:
            names = [name for name in sorted(listed) if not name.startswith(".")]
            more = " …" if len(names) > 9 else ""
            raise InputError(
                "hub.no-such-file",
                f"{hub}: no file {file!r} in commit {commit}; it has {', '.join(names[:9])}{more}",
                hub=hub,
                commit=commit,
                file=file,
                found=names,
            )
        if not _is_cached(hub, commit, file, listed[file]):
            check_disk(Path(constants.HF_HUB_CACHE), listed[file].bytes or 0, hub)
        entry = _verified(hub, commit, file, listed[file])
        _save_listing(hub, commit, licence, listed)
        path = _downloaded(hub, commit, file)
    folder = path.parents[file.count("/")]
    return Snapshot(folder, commit, licence, [entry])


def _listing_path(hub: str, commit: str) -> Path:
    return cache_folder() / "hub" / hub.replace("/", "--") / f"{commit}.json"


def _save_listing(hub: str, commit: str, licence: str | None, listed: dict[str, HubFile]) -> None:
    files = {name: vars(entry) for name, entry in sorted(listed.items())}
    path = _listing_path(hub, commit)
    try:
        if not path.is_file():
            write_json(path, {"licence": licence, "files": files})
    except OSError:
        pass  # a shared cache that is read-only for this user


def _listing(
    hub: str, commit: str, wanted: str | None = None
) -> tuple[str | None, dict[str, HubFile]]:
    """Licence and files of a commit: from an earlier run, from the hub, or from the hub's cache.

    Args:
        wanted: the only file that is needed.
    """
    path = _listing_path(hub, commit)
    if path.is_file():
        record = read_json(path)
        files = {name: HubFile(**entry) for name, entry in record["files"].items()}
        return record["licence"], files
    if constants.is_offline_mode():
        return None, _from_cache(hub, commit, wanted)
    info = repository_info(hub, commit)
    files = {
        entry.rfilename: HubFile(entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in info.siblings or []
    }
    return _licence(info), files


def _licence(info: ModelInfo | DatasetInfo) -> str | None:
    card = info.card_data
    if card is None or card.license is None:
        return None
    named = card.get("license_name") if card.license == "other" else None
    return ", ".join(card.license) if isinstance(card.license, list) else str(named or card.license)


def _from_cache(hub: str, commit: str, wanted: str | None) -> dict[str, HubFile]:
    """The files that another program has downloaded; the names of the blobs are their digests."""
    if wanted is not None:
        path = _downloaded(hub, commit, wanted)
        return {wanted: HubFile(path.stat().st_size, path.resolve().name)}
    config = _cached(hub, commit, "config.json") or _cached(hub, commit, "adapter_config.json")
    paths = [path for path in config.parent.iterdir() if path.is_file()] if config else []
    if not any(is_weights(path.name) for path in paths):
        raise InputError(
            "hub.incomplete-offline",
            f"{hub}: commit {commit} is not complete in {constants.HF_HUB_CACHE}, and "
            "HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE for one run",
            hub=hub,
            revision=commit,
        )
    return {path.name: HubFile(path.stat().st_size, path.resolve().name) for path in paths}


def _cached(hub: str, commit: str, name: str) -> Path | None:
    kind, repository = type_and_name(hub)
    found = try_to_load_from_cache(repository, name, revision=commit, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def _is_cached(hub: str, commit: str, name: str, listed: HubFile) -> bool:
    """Whether a file needs no more disk space: the cache has it for this or another commit."""
    kind, repository = type_and_name(hub)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
    blob = folder / "blobs" / (listed.digest or "unknown")
    return blob.exists() or _cached(hub, commit, name) is not None


def _downloaded(hub: str, commit: str, name: str) -> Path:
    kind, repository = type_and_name(hub)
    with one_line_errors(hub, commit):
        return Path(
            hf_hub_download(
                repository, name, repo_type=kind, revision=commit, tqdm_class=_bar(name)
            )
        )


def _bar(name: str) -> type[tqdm]:
    """A progress bar with the file's name; that of the library shows a part of a signed address."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            if not str(options.get("desc")).startswith(name):
                options["desc"] = name
            super().__init__(*args, **options)

    return Bar


def _verified(hub: str, commit: str, name: str, listed: HubFile) -> dict[str, Any]:
    """The manifest entry of a file, which is downloaded if it is missing or damaged."""
    cached = _cached(hub, commit, name)
    path = cached or _downloaded(hub, commit, name)
    size, sha256, found, expected = _digests(path, listed)
    if cached is not None and found != expected:
        say(f"{path}: damaged in the cache; downloading it again")
        _remove(path)
        path = _downloaded(hub, commit, name)
        size, sha256, found, expected = _digests(path, listed)
    if found != expected:
        _remove(path)
        raise InputError(
            "hub.other-digest",
            f"{hub}: {name}: its digest is {found}, but the hub lists {expected}; the file was "
            "removed; run again, and if the error persists, report it to the repository's owner",
            hub=hub,
            file=name,
            found=found,
            expected=expected,
        )
    # huggingface_hub renames a download without syncing it. Synced here, because a manifest must
    # not list a file that a power failure can still remove.
    with one_line_errors(hub, commit):
        blob = path.resolve()
        sync(blob)
        for folder in {blob.parent, path.parent}:
            sync_names(folder)
    return {"file": name, "bytes": size, "sha256": sha256}


def _digests(path: Path, listed: HubFile) -> tuple[int, str, str, str]:
    """Size, SHA-256, digest of the listed kind, and listed digest of a file, which is read once.

    If the hub lists no digest, the name of the cached file is the digest.
    """
    expected = listed.digest or path.resolve().name
    if not _DIGEST.fullmatch(expected):
        raise InputError(
            "hub.no-digest",
            f"{path}: {constants.ENDPOINT} lists no digest of this file; use another hub",
            file=path,
        )
    size = path.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    is_git = len(expected) == 40
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK):
            sha256.update(block)
            if is_git:
                git.update(block)
    found = git.hexdigest() if is_git else sha256.hexdigest()
    return size, sha256.hexdigest(), found, expected


def _remove(path: Path) -> None:
    """Removes a file of the cache and the blob that it links to."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)
