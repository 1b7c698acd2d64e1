"""HTTP requests that are repeated after temporary errors, and resumed within a file.

Importing this module makes huggingface_hub use this client. Messages name only the host.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import get_session, parse_ratelimit_headers
from huggingface_hub.utils import logging as hub_logging

from affectlocus.core.errors import InputError

_TEMPORARY = (408, 429, 500, 502, 503, 504)  # HTTP status codes that are retried
_LONGEST_WAIT = 8.0  # seconds between two tries, unless the server asks for more
_LONGEST_REQUESTED_WAIT = 600.0  # seconds that a server may ask for
_NETWORK_ERRORS = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


def say(message: str) -> None:
    """Writes a line to standard error."""
    sys.stderr.write(f"affectlocus: {message}\n")


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
