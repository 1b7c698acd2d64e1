"""Downloads that outlast a poor network: retries, resuming, one job at a time.

What goes wrong is said without the address's secrets: a password, a query, a variable's value.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
from filelock import FileLock, Timeout
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import get_session
from huggingface_hub.utils import logging as hub_logging
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from affectlocus.errors import InputError
from affectlocus.files import is_weights, sha256

_TRIES = 6
_PASSING = (408, 429, 500, 502, 503, 504)
_LONGEST = 8.0  # seconds between two tries, unless the server asks for more
_PATIENCE = 600.0  # seconds that a server may ask for
_CHUNK = 1 << 20
_CUT = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


def say(message: str) -> None:
    """One line on standard error, where logs and terminals show it."""
    sys.stderr.write(f"affectlocus: {message}\n")


def cache() -> Path:
    """Where this package keeps what it downloads itself, below HF_HOME."""
    return Path(constants.HF_HOME) / "affectlocus"


def _waits() -> Iterator[float]:
    """Seconds to wait between tries; AFFECTLOCUS_RETRY_WAIT sets the first (1)."""
    wait = float(os.environ.get("AFFECTLOCUS_RETRY_WAIT", "1"))
    for _ in range(_TRIES - 1):
        yield wait
        wait = min(2 * wait, _LONGEST)


def _asked(response: httpx2.Response) -> float:
    """Seconds that a Retry-After header asks for; 0 without one, or with a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if re.fullmatch(r"\d+", text) else 0.0


class NoAnswerError(InputError):
    """A server that cannot be reached, or stays unable to answer."""


class _Body(httpx2.SyncByteStream):
    """A body whose every kind of cut is the one that huggingface_hub resumes from."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except httpx2.ReadError as error:
            raise httpx2.RemoteProtocolError(str(error)) from None

    def close(self) -> None:
        self._body.close()


class PatientClient(httpx2.Client):
    """An HTTP client that asks again, with growing waits, where a try may help.

    Raises:
        NoAnswerError: after six tries; the sentence names the host alone.
    """

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        waits = _waits()
        while True:
            asked = 0.0
            try:
                response = super().send(request, **options)
            except _CUT as error:
                # What a refused connection says (a name not found, a certificate) helps a user.
                said = str(error) if isinstance(error, httpx2.ConnectError) else ""
                problem = f"no answer ({said or type(error).__name__})"
            else:
                if response.status_code not in _PASSING:
                    response.stream = _Body(response.stream)
                    return response
                problem, asked = f"HTTP {response.status_code}", _asked(response)
                response.close()
            wait = next(waits, None)
            if wait is None or asked > _PATIENCE:
                later = f" in {asked:g} s" if asked else ""
                raise NoAnswerError(
                    f"{request.url.host}: {problem}; check the network or run again later{later}: "
                    "what has come whole is kept"
                )
            wait = max(wait, asked)
            say(f"{request.url.host}: {problem}; trying again in {wait:g} s")
            time.sleep(wait)


# The hub's own hooks refuse a request in offline mode.
_HOOKS = get_session().event_hooks
set_client_factory(lambda: PatientClient(event_hooks=_HOOKS, follow_redirects=True, timeout=None))
# Its warnings name whole addresses, signatures included.
hub_logging.set_verbosity_error()
constants.HF_HUB_DISABLE_TELEMETRY = True


@contextmanager
def alone(what: str) -> Iterator[None]:
    """One process at a time, of those that share HF_HOME, for each `what`."""
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = cache() / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            say(f"{what}: another job is retrieving it; waiting")
            lock.acquire()
    except PermissionError:
        # A cache that somebody else fills, and nobody here can write to.
        yield
        return
    try:
        yield
    finally:
        lock.release()


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Refuses to start what the disk cannot hold.

    Raises:
        InputError: fewer than `needed` bytes are free where `folder` is, or will be.
    """
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(
            f"{what}: needs {needed / 1e9:.1f} GB more, {there} has {free / 1e9:.1f} GB free; "
            "make room, or set HF_HOME to a larger disk"
        )


def shown(url: str) -> str:
    """An address as people and files may see it: without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _filled(url: str) -> str:
    """The address with each ${NAME} replaced by that environment variable."""

    def value(match: re.Match[str]) -> str:
        try:
            return os.environ[match[1]]
        except KeyError:
            raise InputError(
                f"{shown(url)}: the address names ${{{match[1]}}}, which is not set; "
                "set that environment variable"
            ) from None

    return re.sub(r"\$\{(\w+)\}", value, url)


def fetch(url: str, expected: str) -> tuple[Path, str]:
    """A file by its address and SHA-256, from the cache if it is there; its path and its SHA-256.

    `${NAME}` in the address stands for an environment variable.

    Raises:
        InputError: nothing there, no access, another content, no network, no room.
    """
    what = shown(url)
    folder = cache() / "files" / expected
    with alone(f"file {expected}"):
        for path in sorted(folder.glob("[!.]*")):
            if sha256(path) == expected:
                return path, expected
            say(f"{path}: damaged in the cache; downloading it again")
            path.unlink()
        if constants.is_offline_mode():
            raise InputError(f"{what}: not in {folder}, and HF_HUB_OFFLINE is set; unset it once")
        partial = folder / ".partial"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            resumed = partial.exists()
            found = _downloaded(_filled(url), what, partial)
            if found != expected and resumed:
                # What an earlier run left may be another file's beginning.
                partial.unlink()
                found = _downloaded(_filled(url), what, partial)
        except NoAnswerError as error:
            raise InputError(f"{what}: {error}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise InputError(
                f"{what}: the download failed ({type(error).__name__}); check the address"
            ) from None
        except OSError as error:
            raise InputError(
                f"{what}: cannot write {folder} ({error.strerror}); make room, or set HF_HOME to "
                "another disk"
            ) from None
        if found != expected:
            page = partial.open("rb").read(1) == b"<"
            partial.unlink()
            raise InputError(
                f"{what}: the SHA-256 of what came is {found}, expected {expected}"
                f"{' (it is a web page, not the file)' if page else ''}; the file was removed; "
                "correct the address or the sha256"
            )
        path = folder / _named(urlsplit(url).path, partial)
        partial.replace(path)
        return path, expected


def _named(address: str, file: Path) -> str:
    """A name with the right suffix: the address's, or one by what the file begins with."""
    name = re.sub(r"[^\w.-]", "_", unquote(address).rpartition("/")[2]).lstrip(".")
    if is_weights(name):
        return name
    with file.open("rb") as stream:
        start = stream.read(9)
    stem = name or "checkpoint"
    return f"{stem}.safetensors" if start[8:9] == b"{" else f"{stem}.pth"


class _Partial:
    """A file that is not whole yet, and the digest of what it holds."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("ab+")
        self._stream.seek(0)
        self.digest = hashlib.sha256()
        while block := self._stream.read(_CHUNK):
            self.digest.update(block)

    @property
    def size(self) -> int:
        return self._stream.tell()

    def append(self, block: bytes) -> None:
        self._stream.write(block)
        self.digest.update(block)

    def restart(self) -> None:
        self._stream.truncate(0)
        self._stream.seek(0)
        self.digest = hashlib.sha256()

    def close(self) -> None:
        self._stream.close()


def _downloaded(url: str, what: str, path: Path) -> str:
    """The SHA-256 of `path` once the whole file is in it; goes on from what is there already."""
    with closing(_Partial(path)) as partial:
        waits = _waits()
        while True:
            before = partial.size
            try:
                _receive(url, what, partial, path.parent)
                return partial.digest.hexdigest()
            except _CUT as error:
                if partial.size > before:
                    waits = _waits()
                wait = next(waits, None)
                if wait is None:
                    raise InputError(
                        f"{what}: the connection is cut again and again ({type(error).__name__}); "
                        f"run again: it goes on from {partial.size} bytes"
                    ) from None
                say(f"{what}: cut at {partial.size} bytes; going on in {wait:g} s")
                time.sleep(wait)


def _receive(url: str, what: str, partial: _Partial, folder: Path) -> None:
    headers = {"Accept-Encoding": "identity"}
    if partial.size:
        headers["Range"] = f"bytes={partial.size}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        status = response.status_code
        if status == 416 and partial.size:
            return  # nothing is left to send: whole, or another file, which the digest tells
        if status in (401, 403):
            raise InputError(
                f"{what}: no access (HTTP {status}); put the user and password, or the key, that "
                "its owner gave you into the address, as ${NAME} of an environment variable"
            )
        if status >= 400:
            raise InputError(f"{what}: HTTP {status}; correct the address")
        if status != 206 and partial.size:
            partial.restart()  # a server that knows no ranges sends it all again
        length = int(response.headers.get("Content-Length", 0))
        check_disk(folder, length, what)
        with _progress() as bar:
            task = bar.add_task(
                what.rpartition("/")[2],
                total=partial.size + length if length else None,
                completed=partial.size,
            )
            for block in response.iter_bytes(_CHUNK):
                partial.append(block)
                bar.advance(task, len(block))


def _progress() -> Progress:
    """Bytes so far and per second, on standard error where that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
