"""Downloads with retries and resuming; one process at a time downloads a file.

Messages never contain secrets of an address: passwords, queries, values of environment variables.
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

_TEMPORARY = (408, 429, 500, 502, 503, 504)  # HTTP status codes that are retried
_LONGEST_WAIT = 8.0  # seconds between two tries, unless the server asks for more
_LONGEST_REQUESTED_WAIT = 600.0  # seconds that a server may ask for
_CHUNK = 1 << 20  # bytes
_NETWORK_ERRORS = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


def say(message: str) -> None:
    """Writes a line to standard error."""
    sys.stderr.write(f"affectlocus: {message}\n")


def cache_folder() -> Path:
    """The folder of this package's own downloads, below HF_HOME."""
    return Path(constants.HF_HOME) / "affectlocus"


_tries: ContextVar[int] = ContextVar("tries", default=6)


@contextmanager
def without_retries() -> Iterator[None]:
    """Context manager: a failed request is not repeated. For information that is optional."""
    token = _tries.set(1)
    try:
        yield
    finally:
        _tries.reset(token)


def _waits() -> Iterator[float]:
    """Seconds to wait between tries, doubled each time; AFFECTLOCUS_RETRY_WAIT is the first (1)."""
    wait = float(os.environ.get("AFFECTLOCUS_RETRY_WAIT", "1"))
    for _ in range(_tries.get() - 1):
        yield wait
        wait = min(2 * wait, _LONGEST_WAIT)


def _requested_wait(response: httpx2.Response) -> float:
    """Seconds to wait by the header Retry-After or the hub's RateLimit; 0 without either."""
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
    """A server cannot be reached, or every try ended in a temporary error."""


class RetryingClient(httpx2.Client):
    """An HTTP client that repeats a request after a temporary error, with growing waits.

    If the connection breaks within a body, the client requests the rest; the reader of the body
    does not notice.

    Raises:
        NoAnswerError: six tries in a row without a byte. The message names only the host.
    """

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        response = self.send_with_retries(request, **options)
        plain = "Content-Encoding" not in response.headers and response.status_code in (200, 206)
        if options.get("stream") and request.method == "GET" and plain:
            response.stream = _ResumingBody(self, request, options, response)
        return response

    def send_with_retries(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The first response that is not a temporary error."""
        waits = _waits()
        while True:
            requested = 0.0
            try:
                response = super().send(request, **options)
            except _NETWORK_ERRORS as error:
                # The text of a connection error (unknown name, certificate) helps the user.
                detail = str(error) if isinstance(error, httpx2.ConnectError) else ""
                problem = f"no answer ({detail or type(error).__name__})"
            else:
                if response.status_code not in _TEMPORARY:
                    return response
                problem, requested = f"HTTP {response.status_code}", _requested_wait(response)
                response.close()
            _pause(waits, request.url.host, problem, requested)


def _pause(waits: Iterator[float], host: str, problem: str, requested: float = 0.0) -> None:
    """Reports a problem and waits for the next try.

    Args:
        requested: seconds that the server asks to wait.

    Raises:
        NoAnswerError: no try is left, or the server asks to wait too long.
    """
    wait = next(waits, None)
    if wait is None or requested > _LONGEST_REQUESTED_WAIT:
        later = f"in {requested:.0f} s" if requested else "later"
        raise NoAnswerError(
            "download.no-answer",
            f"{host}: {problem}; check the network or run again {later}: complete files are kept",
            host=host,
            found=problem,
        )
    wait = max(wait, requested)
    say(f"{host}: {problem}; trying again in {wait:g} s")
    time.sleep(wait)


class _ResumingBody(httpx2.SyncByteStream):
    """The body of a response; after a broken connection it continues with a new request."""

    def __init__(
        self,
        client: RetryingClient,
        request: httpx2.Request,
        options: dict[str, Any],
        response: httpx2.Response,
    ) -> None:
        self._client, self._request, self._options = client, request, options
        self._stream: Any = response.stream
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        # A server without support for ranges sends the whole file, with status 200.
        self._start = int(wanted[1]) if wanted and response.status_code == 206 else 0

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
            except _NETWORK_ERRORS as error:
                problem = f"connection lost at byte {position} ({type(error).__name__})"
                _pause(waits, self._request.url.host, problem)
                skipped = 0 if self._resume(position) else position

    def _resume(self, position: int) -> bool:
        """Requests the bytes from a position on; False if the server sends the whole file."""
        self.close()
        headers = self._request.headers.copy()
        headers["Range"] = f"bytes={position}-"
        request = httpx2.Request(
            "GET", self._request.url, headers=headers, extensions=self._request.extensions
        )
        response = self._client.send_with_retries(request, **self._options)
        self._stream = response.stream
        if response.status_code not in (200, 206):
            raise NoAnswerError(
                "download.http-error",
                f"{request.url.host}: HTTP {response.status_code} for the rest of a file from "
                f"byte {position} on; run again",
                host=request.url.host,
                status=response.status_code,
            )
        return response.status_code == 206

    def close(self) -> None:
        self._stream.close()


# The hooks of huggingface_hub refuse requests in offline mode.
_HOOKS = get_session().event_hooks
set_client_factory(lambda: RetryingClient(event_hooks=_HOOKS, follow_redirects=True, timeout=None))
# The warnings of huggingface_hub contain whole addresses with their signatures.
hub_logging.set_verbosity_error()
constants.HF_HUB_DISABLE_TELEMETRY = True


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
