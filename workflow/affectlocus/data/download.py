"""Downloads into the cache; one process at a time downloads a file.

Messages never contain secrets of an address: passwords, queries, values of environment variables.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import httpx2
from filelock import FileLock, Timeout
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from affectlocus.core.checkpoint_files import is_weights
from affectlocus.core.durable import make_folder, move
from affectlocus.core.errors import InputError
from affectlocus.core.files import sha256
from affectlocus.data.http_client import NoAnswerError, say

_CHUNK = 1 << 20  # bytes


def cache_folder() -> Path:
    """The folder of this package's own downloads, below HF_HOME."""
    return Path(constants.HF_HOME) / "affectlocus"


@contextmanager
def download_lock(what: str) -> Iterator[None]:
    """Context manager: a lock on `what` among all processes that share HF_HOME.

    Where the cache is read-only, nothing is locked.
    """
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = cache_folder() / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            say(f"{what}: another job is downloading it; waiting")
            lock.acquire()
    except OSError:
        # A shared cache that is read-only for this user.
        yield
        return
    try:
        yield
    finally:
        lock.release()


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Refuses a download that does not fit on the disk.

    Args:
        folder: the target folder, which need not exist.
        needed: bytes.
        what: the download, for messages.

    Raises:
        InputError: fewer than `needed` bytes are free.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            "disk.full",
            f"{what}: needs {needed / 1e9:.1f} GB more, {existing} has {free / 1e9:.1f} GB free; "
            "free disk space, or set HF_HOME to a larger disk",
            file=existing,
            found=free,
            expected=needed,
        )


def redacted_url(url: str) -> str:
    """An address without user, password, query and fragment, for messages and manifests."""
    scheme, _, rest = url.partition("://")
    place = re.split("[?#]", rest)[0]
    # A password may contain a /, ? or # that should have been written as %2F, %3F or %23.
    return f"{scheme}://{'…' if '@' in rest and '@' not in place else place.rpartition('@')[2]}"


def _with_variables(url: str) -> str:
    """The address with each ${NAME} replaced by the value of that environment variable."""

    def value(match: re.Match[str]) -> str:
        try:
            return os.environ[match[1]]
        except KeyError:
            raise InputError(
                "download.variable-not-set",
                f"{redacted_url(url)}: the environment variable {match[1]} in the address is not "
                "set; set it",
                url=redacted_url(url),
                variable=match[1],
            ) from None

    return re.sub(r"\$\{(\w+)\}", value, url)


def fetch(url: str, expected: str) -> tuple[Path, str]:
    """Downloads a file, unless the cache holds it; returns its path and SHA-256.

    Args:
        url: its address; `${NAME}` is replaced by that environment variable.
        expected: its SHA-256, which is verified.

    Raises:
        InputError: no such file, no access, another SHA-256, no network, or a full disk.
    """
    what = redacted_url(url)
    folder = cache_folder() / "files" / expected
    with download_lock(f"file {expected}"):
        for path in sorted(folder.glob("[!.]*")):
            if sha256(path) == expected:
                return path, expected
            say(f"{path}: damaged in the cache; downloading it again")
            path.unlink()
        if constants.is_offline_mode():
            raise InputError(
                "download.not-cached-offline",
                f"{what}: not in the cache ({folder}), and HF_HUB_OFFLINE is set; unset "
                "HF_HUB_OFFLINE for one run",
                url=what,
                file=folder,
            )
        partial = folder / ".partial"
        try:
            make_folder(folder)
            resumed = partial.exists()
            found = _downloaded(_with_variables(url), what, partial)
            if found != expected and resumed:
                # The partial file of an earlier run may be the beginning of another file.
                partial.unlink()
                found = _downloaded(_with_variables(url), what, partial)
        except NoAnswerError as error:
            raise error.within(what, url=what) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise InputError(
                "download.failed",
                f"{what}: the download failed ({type(error).__name__}); check the address",
                url=what,
                reason=type(error).__name__,
            ) from None
        except OSError as error:
            raise unwritable(folder, error).within(what, url=what) from None
        if found != expected:
            page = partial.open("rb").read(1) == b"<"
            partial.unlink()
            raise InputError(
                "download.other-sha256",
                f"{what}: the SHA-256 of the download is {found}, expected {expected}"
                f"{' (the server sent a web page)' if page else ''}; the download was removed: "
                "correct the address or the sha256",
                url=what,
                found=found,
                expected=expected,
            )
        path = folder / _file_name(what, partial)
        try:
            move(partial, path)
        except OSError as error:
            raise unwritable(folder, error).within(what, url=what) from None
        return path, expected


def unwritable(folder: Path, error: OSError) -> InputError:
    """The refusal of a folder in which no download can be stored."""
    return InputError(
        "disk.unwritable",
        f"cannot write {folder} ({error.strerror}); free disk space, or set HF_HOME to another "
        "disk",
        file=folder,
        reason=error.strerror,
    )


def _file_name(address: str, file: Path) -> str:
    """The file name of the address; if its suffix is unknown, one by the file's first bytes."""
    name = re.sub(r"[^\w.-]", "_", unquote(address).rpartition("/")[2]).lstrip(".")
    if is_weights(name):
        return name
    with file.open("rb") as stream:
        start = stream.read(9)
    stem = name or "checkpoint"
    return f"{stem}.safetensors" if start[8:9] == b"{" else f"{stem}.pth"


def _downloaded(url: str, what: str, path: Path) -> str:
    """Downloads a file to `path`, continuing an existing partial file; returns its SHA-256."""
    digest = hashlib.sha256()
    with path.open("ab+") as stream:
        stream.seek(0)
        while block := stream.read(_CHUNK):
            digest.update(block)
        start = stream.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            status = response.status_code
            if status == 416 and start:
                # No bytes are left: the file is complete, or it is another one; the caller
                # compares the digest.
                return digest.hexdigest()
            _check_status(status, what)
            if status != 206 and start:
                # A server without support for ranges sends the whole file.
                stream.truncate(0)
                digest, start = hashlib.sha256(), 0
            length = int(response.headers.get("Content-Length", 0))
            check_disk(path.parent, length, what)
            with _progress() as bar:
                total = start + length if length else None
                task = bar.add_task(what.rpartition("/")[2], total=total, completed=start)
                for block in response.iter_bytes():
                    stream.write(block)
                    digest.update(block)
                    bar.advance(task, len(block))
    return digest.hexdigest()


def _check_status(status: int, what: str) -> None:
    if status in (401, 403):
        raise InputError(
            "download.no-access",
            f"{what}: no access (HTTP {status}); add the user and password, or the key, that the "
            "owner gave you to the address, as ${NAME} with the name of an environment variable",
            url=what,
            status=status,
        )
    if status >= 400:
        raise InputError(
            "download.http-error",
            f"{what}: HTTP {status}; correct the address",
            url=what,
            status=status,
        )


def _progress() -> Progress:
    """A progress bar on standard error; nothing is shown if that is not a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
