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
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
from filelock import FileLock, Timeout
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import get_session, parse_ratelimit_headers
from huggingface_hub.utils import logging as hub_logging
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from affectlocus.core.checkpoint_files import is_weights
from affectlocus.core.durable import make_folder, move
from affectlocus.core.errors import InputError
from affectlocus.core.files import sha256

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


_tries: ContextVar[int] = ContextVar("tries", default=6)


@contextmanager
def once() -> Iterator[None]:
    """In this block nothing is tried again: for what is only nice to know."""
    token = _tries.set(1)
    try:
        yield
    finally:
        _tries.reset(token)


def _waits() -> Iterator[float]:
    """Seconds to wait between tries; AFFECTLOCUS_RETRY_WAIT sets the first (1)."""
    wait = float(os.environ.get("AFFECTLOCUS_RETRY_WAIT", "1"))
    for _ in range(_tries.get() - 1):
        yield wait
        wait = min(2 * wait, _LONGEST)


def _asked(response: httpx2.Response) -> float:
    """Seconds to wait that an answer asks for, by Retry-After or the hub's RateLimit; or 0."""
    text = response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d+", text):
        return float(text)
    if text:
        try:
            return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
        except ValueError:
            return 0.0
    limit = parse_ratelimit_headers(response.headers) if response.status_code == 429 else None
    return float(limit.reset_in_seconds) if limit and not limit.remaining else 0.0


class NoAnswerError(InputError):
    """A server that cannot be reached, or stays unable to answer."""


class PatientClient(httpx2.Client):
    """An HTTP client that asks again, with growing waits, where that may help.

    A body that is cut goes on where it was cut, by a request for the rest: who reads it sees none
    of this.

    Raises:
        NoAnswerError: six tries in a row without a byte; the sentence names the host alone.
    """

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        response = self.ask(request, **options)
        plain = "Content-Encoding" not in response.headers and response.status_code in (200, 206)
        if options.get("stream") and request.method == "GET" and plain:
            response.stream = _Body(self, request, options, response)
        return response

    def ask(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """An answer that more tries would not change."""
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
                    return response
                problem, asked = f"HTTP {response.status_code}", _asked(response)
                response.close()
            _pause(waits, request.url.host, problem, asked)


def _pause(waits: Iterator[float], host: str, problem: str, asked: float = 0.0) -> None:
    """Says what went wrong and waits for the next try, if there is one."""
    wait = next(waits, None)
    if wait is None or asked > _PATIENCE:
        later = f"in {asked:.0f} s" if asked else "later"
        raise NoAnswerError(
            f"{host}: {problem}; check the network or run again {later}: whole files are kept"
        )
    wait = max(wait, asked)
    say(f"{host}: {problem}; trying again in {wait:g} s")
    time.sleep(wait)


class _Body(httpx2.SyncByteStream):
    """The bytes that answer a request, put together from as many answers as it takes."""

    def __init__(
        self,
        client: PatientClient,
        request: httpx2.Request,
        options: dict[str, Any],
        response: httpx2.Response,
    ) -> None:
        self._client, self._request, self._options = client, request, options
        self._stream: Any = response.stream
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        # A server that knows no ranges sends all of it, status 200, whatever was asked for.
        self._start = int(asked[1]) if asked and response.status_code == 206 else 0

    def __iter__(self) -> Iterator[bytes]:
        position, skipped, waits = self._start, 0, _waits()
        while True:
            try:
                for block in self._stream:
                    rest = block[skipped:]
                    skipped -= len(block) - len(rest)
                    if rest:
                        position += len(rest)
                        waits = _waits()
                        yield rest
                return
            except _CUT as error:
                problem = f"cut at byte {position} ({type(error).__name__})"
                _pause(waits, self._request.url.host, problem)
                skipped = 0 if self._resume(position) else position

    def _resume(self, position: int) -> bool:
        """Asks for the bytes from a position on; whether just these are what comes."""
        self.close()
        headers = self._request.headers.copy()
        headers["Range"] = f"bytes={position}-"
        request = httpx2.Request(
            "GET", self._request.url, headers=headers, extensions=self._request.extensions
        )
        response = self._client.ask(request, **self._options)
        self._stream = response.stream
        if response.status_code not in (200, 206):
            raise NoAnswerError(
                f"{request.url.host}: HTTP {response.status_code} for the rest of a file, from "
                f"byte {position}; run again"
            )
        return response.status_code == 206

    def close(self) -> None:
        self._stream.close()


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
    except OSError:
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
    scheme, _, rest = url.partition("://")
    place = re.split("[?#]", rest)[0]
    # A password may hold characters that should have been written as %2F, %3F or %23.
    return f"{scheme}://{'…' if '@' in rest and '@' not in place else place.rpartition('@')[2]}"


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
            make_folder(folder)
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
            raise _unwritable(what, folder, error) from None
        if found != expected:
            page = partial.open("rb").read(1) == b"<"
            partial.unlink()
            raise InputError(
                f"{what}: the SHA-256 of what came is {found}, expected {expected}"
                f"{' (it is a web page, not the file)' if page else ''}; the file was removed; "
                "correct the address or the sha256"
            )
        path = folder / _named(what, partial)
        try:
            move(partial, path)
        except OSError as error:
            raise _unwritable(what, folder, error) from None
        return path, expected


def _unwritable(what: str, folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{what}: cannot write {folder} ({error.strerror}); make room, or set HF_HOME to another "
        "disk"
    )


def _named(address: str, file: Path) -> str:
    """A name with the right suffix: the address's, or one by what the file begins with."""
    name = re.sub(r"[^\w.-]", "_", unquote(address).rpartition("/")[2]).lstrip(".")
    if is_weights(name):
        return name
    with file.open("rb") as stream:
        start = stream.read(9)
    stem = name or "checkpoint"
    return f"{stem}.safetensors" if start[8:9] == b"{" else f"{stem}.pth"


def _downloaded(url: str, what: str, path: Path) -> str:
    """The SHA-256 of `path` once the whole file is in it; goes on from what is there already."""
    digest = hashlib.sha256()
    with path.open("ab+") as stream:
        stream.seek(0)
        while block := stream.read(_CHUNK):
            digest.update(block)
        there = stream.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            status = response.status_code
            if status == 416 and there:
                # Nothing is left to send: it is whole, or another file, which the digest tells.
                return digest.hexdigest()
            _refused(status, what)
            if status != 206 and there:
                # A server that knows no ranges.
                stream.truncate(0)
                digest, there = hashlib.sha256(), 0
            length = int(response.headers.get("Content-Length", 0))
            check_disk(path.parent, length, what)
            with _progress() as bar:
                total = there + length if length else None
                task = bar.add_task(what.rpartition("/")[2], total=total, completed=there)
                for block in response.iter_bytes():
                    stream.write(block)
                    digest.update(block)
                    bar.advance(task, len(block))
    return digest.hexdigest()


def _refused(status: int, what: str) -> None:
    if status in (401, 403):
        raise InputError(
            f"{what}: no access (HTTP {status}); put the user and password, or the key, that "
            "its owner gave you into the address, as ${NAME} of an environment variable"
        )
    if status >= 400:
        raise InputError(f"{what}: HTTP {status}; correct the address")


def _progress() -> Progress:
    """Bytes so far and per second, on standard error where that is a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
