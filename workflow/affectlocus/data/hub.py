"""Retrieves checkpoints and data files from a model hub: pinned to a commit, and verified.

A data set is written datasets/owner/name, as in the addresses of the hub.

huggingface_hub downloads the files and reads HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE.
This module selects the files and compares their digests with those that the hub lists.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import DatasetInfo, ModelInfo
from huggingface_hub.utils import tqdm

from affectlocus.core.checkpoint_files import checkpoint_files, is_weights
from affectlocus.core.durable import sync, sync_names
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, write_json
from affectlocus.data.download import (
    cache_folder,
    check_disk,
    download_lock,
    say,
    unwritable,
    without_retries,
)

COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds, for information about a repository


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
            f"{hub}: no such folder; if it is a hub id, add a revision: {_revision_advice(hub)}",
            hub=hub,
        )
    commit = revision.lower() if COMMIT.fullmatch(revision) else pinned(hub, revision, pins)
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
    commit = revision.lower() if COMMIT.fullmatch(revision) else pinned(hub, revision, pins)
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


def _repository(hub: str) -> tuple[str, str]:
    """The `repo_type` and `repo_id` of a repository, as huggingface_hub uses them."""
    kind, _, name = hub.partition("/")
    return ("dataset", name) if kind == "datasets" and "/" in name else ("model", hub)


def _revision_advice(hub: str) -> str:
    advice = "a commit's 40 hex digits"
    try:
        with without_retries():
            return f"{advice}; main is now {_info(hub, None).sha}"
    except InputError:
        return f"{advice}, from the repository's history on the hub"


def pinned(hub: str, revision: str, pins: Path) -> str:
    """The commit of a branch or tag: from `pins`, or asked from the hub and added to `pins`."""
    key = f"{hub}@{revision}"
    with download_lock(str(pins.resolve())):
        known = read_json(pins) if pins.is_file() else {}
        if key in known:
            if not COMMIT.fullmatch(str(known[key])):
                raise InputError(
                    "lock.not-a-commit",
                    f"{pins}: {key}: found {known[key]!r}, expected a commit's 40 hex digits",
                    file=pins,
                    key=key,
                    found=known[key],
                )
            return str(known[key])
        if constants.is_offline_mode():
            raise InputError(
                "hub.commit-unknown-offline",
                f"{hub}: cannot look up the commit of {revision!r}, because HF_HUB_OFFLINE is set; "
                "write a commit's 40 hex digits as the revision, or unset HF_HUB_OFFLINE for one "
                "run",
                hub=hub,
                revision=revision,
            )
        commit = _commit(hub, revision)
        write_json(pins, dict(sorted((known | {key: commit}).items())))
    say(
        f"warning: {hub}: {revision!r} can move; its current commit is pinned in {pins}; "
        f"write revision: {commit} in params.yaml"
    )
    return commit


def current_commit(hub: str, revision: str) -> str:
    """The current commit of a branch or tag; offline, the commit of the last look-up.

    Raises:
        InputError: no such repository or revision, no access, no network; offline, no look-up yet.
    """
    if COMMIT.fullmatch(revision):
        return revision.lower()
    key, known = f"{hub}@{revision}", cache_folder() / "hub" / "branches.json"
    if constants.is_offline_mode():
        commit = (read_json(known) if known.is_file() else {}).get(key)
        if not COMMIT.fullmatch(str(commit)):
            raise InputError(
                "hub.commit-unknown-offline",
                f"{hub}: cannot look up the commit of {revision!r}, because HF_HUB_OFFLINE is set "
                f"and it was never looked up; write {hub}@ and a commit's 40 hex digits, or unset "
                "HF_HUB_OFFLINE for one run",
                hub=hub,
                revision=revision,
            )
        say(f"note: {key} is {commit} by the last look-up; HF_HUB_OFFLINE is set")
        return str(commit)
    commit = _commit(hub, revision)
    try:
        with download_lock(str(known)):
            earlier = read_json(known) if known.is_file() else {}
            write_json(known, dict(sorted((earlier | {key: commit}).items())))
    except OSError:
        pass  # a shared cache that is read-only for this user
    say(f"note: {key} is {commit}; {revision!r} can move, but {hub}@{commit} cannot")
    return commit


def _commit(hub: str, revision: str) -> str:
    """The commit of a branch or tag, asked from the hub."""
    commit = _info(hub, revision).sha
    if commit is None or not COMMIT.fullmatch(commit):
        raise InputError(
            "hub.no-commit",
            f"{hub}: the hub returned no commit for {revision!r}; check HF_ENDPOINT",
            hub=hub,
            revision=revision,
            found=commit,
        )
    return commit


def _info(hub: str, revision: str | None) -> ModelInfo | DatasetInfo:
    kind, name = _repository(hub)
    request = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
    with _one_line_errors(hub, revision):
        return request(name, revision=revision, files_metadata=True, timeout=_TIMEOUT)


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
    info = _info(hub, commit)
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
    kind, repository = _repository(hub)
    found = try_to_load_from_cache(repository, name, revision=commit, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def _is_cached(hub: str, commit: str, name: str, listed: HubFile) -> bool:
    """Whether a file needs no more disk space: the cache has it for this or another commit."""
    kind, repository = _repository(hub)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
    blob = folder / "blobs" / (listed.digest or "unknown")
    return blob.exists() or _cached(hub, commit, name) is not None


def _downloaded(hub: str, commit: str, name: str) -> Path:
    kind, repository = _repository(hub)
    with _one_line_errors(hub, commit):
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
    with _one_line_errors(hub, commit):
        blob = path.resolve()
        sync(blob)
        for folder in {blob.parent, path.parent}:
            sync_names(folder)
    return {"file": name, "bytes": size, "sha256": sha256}


def _digests(path: Path, listed: HubFile) -> tuple[int, str, str, str]:
    """Size, SHA-256, digest of the listed kind, and listed digest of a file, which is read once.

    A mirror that lists no digests uses them as the names of its blobs.
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


@contextmanager
def _one_line_errors(hub: str, revision: str | None) -> Iterator[None]:
    """Context manager: turns errors of huggingface_hub into an `InputError` of one line.

    Texts of the library are left out: they may contain a signed address.
    """
    try:
        yield
    except HFValidationError:
        raise InputError(
            "hub.bad-id",
            f"{hub}: neither an existing folder nor a hub id; expected owner/name",
            hub=hub,
        ) from None
    except Exception as error:
        raise _one_line(_root_cause(error), hub, revision).within(hub, hub=hub) from None


def _root_cause(error: BaseException) -> BaseException:
    """The first error of the chain that the library wraps, or its HTTP error."""
    while not isinstance(error, HfHubHTTPError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _one_line(error: BaseException, hub: str, revision: str | None) -> InputError:
    """The error of a download as one sentence without the hub id."""
    page = f"{constants.ENDPOINT}/{hub}"
    if isinstance(error, InputError):
        return error
    if isinstance(error, RevisionNotFoundError):
        return InputError(
            "hub.no-such-revision",
            f"no revision {revision!r}; its commits are listed at {page}/commits/main",
            revision=revision,
        )
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            missing = "" if isinstance(error, GatedRepoError) else "no such repository, or "
            return InputError(
                "hub.no-access",
                f"{missing}no access (HTTP {status}); accept the licence at {page} and set "
                "HF_TOKEN to a token of that account",
                status=status,
            )
        if status == 404:
            return InputError(
                "hub.missing",
                f"no such repository or file (HTTP 404); check the spelling at {page}",
            )
        return InputError(
            "download.http-error",
            f"HTTP {status} from {constants.ENDPOINT}; run again later",
            status=status,
        )
    if isinstance(error, OfflineModeIsEnabled):
        return InputError(
            "hub.incomplete-offline",
            "not complete in the cache, and HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE for one "
            "run",
            revision=revision,
        )
    if isinstance(error, OSError) and error.errno is not None:
        return unwritable(Path(constants.HF_HUB_CACHE), error)
    return InputError(
        "download.failed",
        f"the download failed ({type(error).__name__}); run again: complete files are kept",
        reason=type(error).__name__,
    )
