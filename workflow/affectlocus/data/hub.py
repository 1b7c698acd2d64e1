"""What lies on a model hub: pinned to a commit, only the files a step needs, each verified.

A data set is written datasets/owner/name here, as in the hub's own addresses.

huggingface_hub downloads (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE hold as everywhere);
here is decided what, and whether what came is what the hub lists.
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
from affectlocus.data.download import NoAnswerError, alone, cache, check_disk, once, say

COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds, for an answer about a repository


@dataclass(frozen=True)
class Listed:
    """A file as the hub lists it; `digest` is a SHA-256, or git's SHA-1 of a small file."""

    bytes: int | None
    digest: str | None


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository on disk."""

    folder: Path
    commit: str
    licence: str | None
    files: list[dict[str, Any]]


def retrieve_hub(hub: str, revision: str | None, pins: Path) -> Snapshot:
    """The checkpoint files of a repository's commit, from the cache or the hub, all verified.

    Args:
        hub: `owner/name`.
        revision: a commit's 40 hex digits; or a branch or tag, which is looked up once.
        pins: JSON file of `owner/name@branch` → commit, read, and added to where needed.

    Raises:
        InputError: no such repository or revision, no access, no network, no room, no weights, a
            file that is not what the hub lists.
    """
    if revision is None:
        raise InputError(
            f"{hub}: no such folder; as a hub id it needs a revision: {_suggestion(hub)}"
        )
    commit = revision.lower() if COMMIT.fullmatch(revision) else pinned(hub, revision, pins)
    with alone(f"{hub} at {commit}"):
        licence, listed = _listing(hub, commit)
        names = checkpoint_files(listed)
        if not any(is_weights(name) for name in names):
            raise InputError(
                f"{hub}: neither .safetensors nor PyTorch weights at the top of commit {commit}; "
                f"it has {', '.join(sorted(listed)[:5]) or 'no files'}"
            )
        missing = [name for name in names if not _held(hub, commit, name, listed[name])]
        needed = sum(listed[name].bytes or 0 for name in missing)
        check_disk(Path(constants.HF_HUB_CACHE), needed, hub)
        # Small files first: what is wrong with access shows before the long download.
        order = sorted(names, key=lambda name: listed[name].bytes or 0)
        files = {name: _verified(hub, commit, name, listed[name]) for name in order}
        _remember(hub, commit, licence, listed)
        folder = _downloaded(hub, commit, names[0]).parent
    return Snapshot(folder, commit, licence, [files[name] for name in names])


def retrieve_file(hub: str, revision: str, file: str, pins: Path) -> Snapshot:
    """One file of a data set's commit, from the cache or the hub, verified.

    Args:
        hub: `owner/name` of the data set.
        revision: a commit's 40 hex digits; or a branch or tag, which is looked up once.
        file: its path inside the data set.
        pins: JSON file of `datasets/owner/name@branch` → commit, added to where needed.

    Returns:
        A snapshot whose only entry is the file, which lies at this path below its folder.

    Raises:
        InputError: no such data set, revision or file, no access, no network, no room, a file that
            is not what the hub lists.
    """
    hub = f"datasets/{hub}"
    commit = revision.lower() if COMMIT.fullmatch(revision) else pinned(hub, revision, pins)
    with alone(f"{hub} at {commit}"):
        licence, listed = _listing(hub, commit, file)
        if file not in listed:
            there = [name for name in sorted(listed) if not name.startswith(".")]
            raise InputError(
                f"{hub}: no file {file!r} in commit {commit}; it has {', '.join(there[:9])}"
                + (" …" if len(there) > 9 else "")
            )
        if not _held(hub, commit, file, listed[file]):
            check_disk(Path(constants.HF_HUB_CACHE), listed[file].bytes or 0, hub)
        entry = _verified(hub, commit, file, listed[file])
        _remember(hub, commit, licence, listed)
        path = _downloaded(hub, commit, file)
    folder = path.parents[file.count("/")]
    return Snapshot(folder, commit, licence, [entry])


def _kind(hub: str) -> tuple[str, str]:
    """What a repository holds, as the hub's library calls it, and its id."""
    kind, _, name = hub.partition("/")
    return ("dataset", name) if kind == "datasets" and "/" in name else ("model", hub)


def _suggestion(hub: str) -> str:
    advice = "a commit's 40 hex digits"
    try:
        with once():
            return f"{advice}; main is now {_info(hub, None).sha}"
    except InputError:
        return f"{advice}, from the repository's history on the hub"


def pinned(hub: str, revision: str, pins: Path) -> str:
    """The commit that a branch or tag stands for, here and from now on."""
    key = f"{hub}@{revision}"
    with alone(str(pins.resolve())):
        known = read_json(pins) if pins.is_file() else {}
        if key in known:
            if not COMMIT.fullmatch(str(known[key])):
                raise InputError(
                    f"{pins}: {key}: found {known[key]!r}, expected a commit's 40 hex digits"
                )
            return str(known[key])
        if constants.is_offline_mode():
            raise InputError(
                f"{hub}: which commit {revision!r} is cannot be asked with HF_HUB_OFFLINE set; "
                "write a commit's 40 hex digits as the revision, or unset it once"
            )
        commit = _info(hub, revision).sha
        if commit is None or not COMMIT.fullmatch(commit):
            raise InputError(f"{hub}: the hub names no commit for {revision!r}; check HF_ENDPOINT")
        write_json(pins, dict(sorted((known | {key: commit}).items())))
    say(
        f"warning: {hub}: {revision!r} can move; pinned to what it is now in {pins}; "
        f"write revision: {commit} in params.yaml"
    )
    return commit


def current_commit(hub: str, revision: str) -> str:
    """The commit that a branch or tag is now; offline, what it was when it was last looked up.

    Raises:
        InputError: no such repository or revision, no access, no network; offline, never looked up.
    """
    if COMMIT.fullmatch(revision):
        return revision.lower()
    key, known = f"{hub}@{revision}", cache() / "hub" / "branches.json"
    if constants.is_offline_mode():
        commit = (read_json(known) if known.is_file() else {}).get(key)
        if not COMMIT.fullmatch(str(commit)):
            raise InputError(
                f"{hub}: which commit {revision!r} is cannot be asked with HF_HUB_OFFLINE set, and "
                f"was not asked before; write {hub}@ and a commit's 40 hex digits, or unset it once"
            )
        say(f"note: {key} was last {commit}; HF_HUB_OFFLINE is set, so it is not asked again")
        return str(commit)
    commit = _info(hub, revision).sha
    if commit is None or not COMMIT.fullmatch(commit):
        raise InputError(f"{hub}: the hub names no commit for {revision!r}; check HF_ENDPOINT")
    try:
        with alone(str(known)):
            earlier = read_json(known) if known.is_file() else {}
            write_json(known, dict(sorted((earlier | {key: commit}).items())))
    except OSError:
        pass  # a shared cache that is only read
    say(f"note: {key} is {commit}; {revision!r} can move, and {hub}@{commit} cannot")
    return commit


def _info(hub: str, revision: str | None) -> ModelInfo | DatasetInfo:
    kind, name = _kind(hub)
    ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
    with _explained(hub, revision):
        return ask(name, revision=revision, files_metadata=True, timeout=_TIMEOUT)


def _record(hub: str, commit: str) -> Path:
    return cache() / "hub" / hub.replace("/", "--") / f"{commit}.json"


def _remember(hub: str, commit: str, licence: str | None, listed: dict[str, Listed]) -> None:
    files = {name: vars(entry) for name, entry in sorted(listed.items())}
    path = _record(hub, commit)
    try:
        if not path.is_file():
            write_json(path, {"licence": licence, "files": files})
    except OSError:
        pass  # a shared cache that is only read


def _listing(
    hub: str, commit: str, wanted: str | None = None
) -> tuple[str | None, dict[str, Listed]]:
    """Licence and files of a commit: as once retrieved, as the hub says, or as the cache holds."""
    path = _record(hub, commit)
    if path.is_file():
        record = read_json(path)
        return record["licence"], {n: Listed(**entry) for n, entry in record["files"].items()}
    if constants.is_offline_mode():
        return None, _from_cache(hub, commit, wanted)
    info = _info(hub, commit)
    files = {
        entry.rfilename: Listed(entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in info.siblings or []
    }
    return _licence(info), files


def _licence(info: ModelInfo | DatasetInfo) -> str | None:
    card = info.card_data
    if card is None or card.license is None:
        return None
    named = card.get("license_name") if card.license == "other" else None
    return ", ".join(card.license) if isinstance(card.license, list) else str(named or card.license)


def _from_cache(hub: str, commit: str, wanted: str | None) -> dict[str, Listed]:
    """What another program has downloaded; the blobs' names are their digests."""
    if wanted is not None:
        with _explained(hub, commit):
            path = _downloaded(hub, commit, wanted)
        return {wanted: Listed(path.stat().st_size, path.resolve().name)}
    config = _cached(hub, commit, "config.json") or _cached(hub, commit, "adapter_config.json")
    paths = [path for path in config.parent.iterdir() if path.is_file()] if config else []
    if not any(is_weights(path.name) for path in paths):
        raise InputError(
            f"{hub}: commit {commit} is not whole in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE "
            "is set; unset it once"
        )
    return {path.name: Listed(path.stat().st_size, path.resolve().name) for path in paths}


def _cached(hub: str, commit: str, name: str) -> Path | None:
    kind, repository = _kind(hub)
    found = try_to_load_from_cache(repository, name, revision=commit, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def _held(hub: str, commit: str, name: str, listed: Listed) -> bool:
    """Whether a file takes no room any more: it is there, for this commit or for another."""
    kind, repository = _kind(hub)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
    blob = folder / "blobs" / (listed.digest or "unknown")
    return blob.exists() or _cached(hub, commit, name) is not None


def _downloaded(hub: str, commit: str, name: str) -> Path:
    kind, repository = _kind(hub)
    with _explained(hub, commit):
        return Path(
            hf_hub_download(
                repository, name, repo_type=kind, revision=commit, tqdm_class=_bar(name)
            )
        )


def _bar(name: str) -> type[tqdm]:
    """A progress bar with the file's name, where the library shows the end of a signed address."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            if not str(options.get("desc")).startswith(name):
                options["desc"] = name
            super().__init__(*args, **options)

    return Bar


def _verified(hub: str, commit: str, name: str, listed: Listed) -> dict[str, Any]:
    """One file's entry in the manifest; downloads what is not there, or is damaged."""
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
            f"{hub}: {name}: its digest is {found}, the hub lists {expected}; the file was "
            "removed; run again, and if this stays, tell the repository's owner"
        )
    # The library renames what it downloads without syncing it; a manifest must not name a file that
    # a power cut can still take away.
    with _explained(hub, commit):
        blob = path.resolve()
        sync(blob)
        for folder in {blob.parent, path.parent}:
            sync_names(folder)
    return {"file": name, "bytes": size, "sha256": sha256}


def _digests(path: Path, listed: Listed) -> tuple[int, str, str, str]:
    """Size and SHA-256 of a file, its digest of the listed kind, and the listed one: one reading.

    A mirror that lists no digests still names its blobs by them.
    """
    expected = listed.digest or path.resolve().name
    if not _DIGEST.fullmatch(expected):
        raise InputError(f"{path}: {constants.ENDPOINT} lists no digest for it; use another hub")
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
    """Removes a file of the cache with the blob it points to."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


@contextmanager
def _explained(hub: str, revision: str | None) -> Iterator[None]:
    """Whatever the hub's library raises becomes one sentence, without its texts: they may name a
    signed address."""
    page = f"{constants.ENDPOINT}/{hub}"
    try:
        yield
    except NoAnswerError as error:
        raise InputError(f"{hub}: {error}") from None
    except HFValidationError:
        raise InputError(
            f"{hub}: no hub id; expected owner/name, and no such folder either"
        ) from None
    except Exception as error:
        raise InputError(f"{hub}: {_reason(_root(error), page, revision)}") from None


def _root(error: BaseException) -> BaseException:
    """What went wrong first, of what the library says by what it wraps."""
    while not isinstance(error, HfHubHTTPError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException, page: str, revision: str | None) -> str:
    if isinstance(error, RevisionNotFoundError):
        return f"no revision {revision!r}; its commits are listed at {page}/commits/main"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            missing = "" if isinstance(error, GatedRepoError) else "no such repository, or "
            return (
                f"{missing}no access (HTTP {status}); accept the licence at {page} and set "
                "HF_TOKEN to a token of that account"
            )
        if status == 404:
            return f"no such repository or file (HTTP 404); check the spelling at {page}"
        return f"HTTP {status} from {constants.ENDPOINT}; run again later"
    if isinstance(error, OfflineModeIsEnabled):
        return "not whole in the cache, and HF_HUB_OFFLINE is set; unset it once"
    if isinstance(error, OSError) and error.errno is not None:
        return (
            f"cannot write {constants.HF_HUB_CACHE} ({error.strerror}); make room, or set HF_HOME"
        )
    return f"the download failed ({type(error).__name__}); run again: whole files are kept"
