"""Asks a model hub which commit a branch is at, and pins branches to commits.

Every error of huggingface_hub becomes one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import DatasetInfo, ModelInfo

from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, read_object, write_json
from affectlocus.data.download import cache_folder, download_lock, unwritable
from affectlocus.data.http_client import say, without_retries

COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_TIMEOUT = 30.0  # seconds, for information about a repository


def type_and_name(hub: str) -> tuple[str, str]:
    """The `repo_type` and `repo_id` of a repository, as huggingface_hub uses them."""
    kind, _, name = hub.partition("/")
    return ("dataset", name) if kind == "datasets" and "/" in name else ("model", hub)


def revision_advice(hub: str) -> str:
    """How to write the missing revision of a repository, for a message."""
    advice = "a commit's 40 hex digits"
    try:
        with without_retries():
            return f"{advice}; main is now {repository_info(hub, None).sha}"
    except InputError:
        return f"{advice}, from the repository's history on the hub"


def pinned(hub: str, revision: str, pins: Path) -> str:
    """The commit of a branch or tag: from `pins`, or asked from the hub and added to `pins`.

    A commit is returned in lower case.
    """
    if COMMIT.fullmatch(revision):
        return revision.lower()
    key = f"{hub}@{revision}"
    with download_lock(str(pins.resolve())):
        known = read_object(pins, "commits of branches and tags") if pins.is_file() else {}
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
    commit = repository_info(hub, revision).sha
    if commit is None or not COMMIT.fullmatch(commit):
        raise InputError(
            "hub.no-commit",
            f"{hub}: the hub returned no commit for {revision!r}; check HF_ENDPOINT",
            hub=hub,
            revision=revision,
            found=commit,
        )
    return commit


def repository_info(hub: str, revision: str | None) -> ModelInfo | DatasetInfo:
    kind, name = type_and_name(hub)
    request = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
    with one_line_errors(hub, revision):
        return request(name, revision=revision, files_metadata=True, timeout=_TIMEOUT)


@contextmanager
def one_line_errors(hub: str, revision: str | None) -> Iterator[None]:
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
