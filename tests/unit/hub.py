"""A model hub on loopback: real HTTP, the paths and headers that huggingface_hub uses, and faults.

Large files lie behind a redirect to another origin, as the hub's do. A data set's repository is
added as datasets/owner/name, which is how the hub writes its addresses. Each request is written
down, so that a test can ask what was fetched, from which byte on, and who saw a token.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

BIN = Path(sys.executable).parent
LARGE = (".safetensors", ".bin", ".pth", ".model", ".parquet")


def git_digest(content: bytes) -> str:
    """What git names a file by."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """Files of each commit, branches, a model card's data, and who may read it."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    card: dict[str, Any] = field(default_factory=dict)
    token: str | None = None
    refusal: tuple[int, dict[str, str]] = (401, {"X-Error-Code": "GatedRepo"})
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Fault:
    """What goes wrong, `times` times, with requests of a method whose path holds a text."""

    method: str
    path: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None
    how: str = "close"
    content: bytes | None = None


@dataclass(frozen=True)
class Request:
    """One request as it came in; `server` is hub or cdn."""

    server: str
    method: str
    path: str
    range: str | None
    authorization: str | None


class Hub:
    """Repositories, plain files, faults, and the list of requests."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.moved: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.credentials: str | None = None
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.released = threading.Event()
        self.held = threading.Event()
        self._lock = threading.Lock()
        self.url = ""
        self.cdn = ""

    def add(self, name: str, commit: str, files: dict[str, bytes], **about: Any) -> Repository:
        """A repository with one commit, which is main."""
        self.repositories[name] = Repository({commit: files}, {"main": commit}, **about)
        return self.repositories[name]

    def fail(self, method: str, path: str, **fault: Any) -> None:
        """From now on, requests of this kind go wrong."""
        self.faults.append(Fault(method, path, **fault))

    def seen(self, method: str, text: str) -> list[Request]:
        """The requests of a method whose path holds a text."""
        return [r for r in self.requests if r.method == method and text in r.path]

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    name: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing: the requests are written down."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, self.path
        headers = self.headers
        hub.requests.append(
            Request(self.name, self.command, path, headers["Range"], headers["Authorization"])
        )
        fault = hub.fault_for(self.command, path)
        if fault is not None and fault.status:
            return self._send(fault.status, fault.content or b"", fault.headers)
        plain = unquote(urlsplit(path).path)
        named = r"((?:datasets/)?[^/]+/[^/]+)"
        if found := re.fullmatch(rf"/api/(?:models/)?{named}(?:/revision/(.+))?", plain):
            return self._model(found[1], found[2] or "main")
        if found := re.fullmatch(rf"/{named}/resolve/([^/]+)/(.+)", plain):
            return self._resolve(found[1], found[2], found[3])
        if found := re.fullmatch(rf"/api/resolve-cache/(?:models/)?{named}/([^/]+)/(.+)", plain):
            content = hub.repositories[found[1]].commits[found[2]][found[3]]
            about = {"X-Repo-Commit": found[2], "ETag": f'"{git_digest(content)}"'}
            return self._content(content, about, fault)
        if plain.startswith("/cdn/"):
            digest = plain.removeprefix("/cdn/")
            for repository in hub.repositories.values():
                for files in repository.commits.values():
                    for content in files.values():
                        if hashlib.sha256(content).hexdigest() == digest:
                            return self._content(content, {"ETag": f'"{digest}"'}, fault)
        if plain in hub.files:
            if hub.credentials and headers["Authorization"] != hub.credentials:
                return self._send(401, b"", {})
            return self._content(hub.files[plain], {}, fault)
        return self._send(404, b"", {})

    def _repository(self, name: str) -> Repository | None:
        """The repository, if it is there and may be read; otherwise the refusal is sent."""
        if name in self.hub.moved:
            target = self.path.replace(name, self.hub.moved[name], 1)
            self._send(307, b"", {"Location": target})
            return None
        repository = self.hub.repositories.get(name)
        if repository is None:
            # What the hub answers to whoever has no token.
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        return repository

    def _commit(self, repository: Repository, revision: str) -> str | None:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit

    def _model(self, name: str, revision: str) -> None:
        repository = self._repository(name)
        commit = self._commit(repository, revision) if repository else None
        if repository is None or commit is None:
            return
        siblings = []
        for file, content in repository.commits[commit].items():
            entry: dict[str, Any] = {"rfilename": file}
            if "blobs=" in self.path:
                entry |= {"size": len(content), "blobId": git_digest(content)}
                if file.endswith(LARGE):
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
            siblings.append(entry | repository.listed.get(file, {}))
        answer = {"id": name, "sha": commit, "cardData": repository.card, "siblings": siblings}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._repository(name)
        commit = self._commit(repository, revision) if repository else None
        if repository is None or commit is None:
            return None
        allowed = f"Bearer {repository.token}"
        if repository.token and self.headers["Authorization"] != allowed:
            return self._send(repository.refusal[0], b"", repository.refusal[1])
        content = repository.commits[commit].get(file)
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        if not file.endswith(LARGE):
            of = name if name.startswith("datasets/") else f"models/{name}"
            target = f"/api/resolve-cache/{of}/{commit}/{file}"
            return self._send(307, b"", {"X-Repo-Commit": commit, "Location": target})
        digest = hashlib.sha256(content).hexdigest()
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{self.hub.cdn}/cdn/{digest}?X-Signature=signed",
        }
        return self._send(302, b"", headers)

    def _content(self, content: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        if fault is not None and fault.content is not None:
            content = fault.content
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked and self.hub.ranges:
            start, status = int(asked[1]), 206
            if start >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(status, content[start:], {"Accept-Ranges": "bytes", **headers}, fault)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is None or fault.after is None:
            self.wfile.write(body)
            return
        self.wfile.write(body[: fault.after])
        self.wfile.flush()
        if fault.how == "hold":
            self.hub.held.set()
            self.hub.released.wait(10)
            try:
                self.wfile.write(body[fault.after :])
            except OSError:
                self.close_connection = True  # who asked is gone
            return
        if fault.how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
        self.connection.close()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub and its CDN, answering on two ports until the block ends."""
    hub = Hub()
    servers = []
    for name in ("hub", "cdn"):
        handler = type(f"_{name}", (_Handler,), {"hub": hub, "name": name})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        hub.released.set()
        for server in servers:
            server.shutdown()
            server.server_close()


def start(
    hub: Hub,
    folder: Path,
    program: str,
    *arguments: str | Path,
    errors: int = subprocess.PIPE,
    room: int = -1,
    place: Path = BIN,
    **environment: str,
) -> subprocess.Popen[str]:
    """Starts a program of this environment in `folder`, with this hub and an HF_HOME of its own.

    Args:
        errors: where its standard error goes.
        room: as on a full disk, no file grows past so many bytes; -1 for no limit.
        place: the folder of the program.
    """
    own = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "HF_HOME": str(folder / "home"),
        "HF_ENDPOINT": hub.url,
        "AFFECTLOCUS_RETRY_WAIT": "0.01",
        "NO_PROXY": "127.0.0.1",
        "PATH": f"{place}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}",
        **environment,
    }
    return subprocess.Popen(
        [place / program, *arguments],
        cwd=folder,
        env=own,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
