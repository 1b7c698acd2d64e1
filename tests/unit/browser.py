"""A headless Chromium without network, driven over its debugging pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """The path of a Chromium, if there is any."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page that is open: what it asked for, what it complained of, and commands to it.

    Attributes:
        requests: every address that it requested.
        complaints: errors on its console, exceptions, and what its log holds.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], read: Callable[[], Any]) -> None:
        self._send, self._read, self._number, self._session = send, read, 0, ""
        self._seen: set[str] = set()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._send(message | ({"sessionId": self._session} if self._session else {}))
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, path: Path, width: int, height: int = 900) -> None:
        """Opens a file at a width in CSS pixels, and waits until all of it is there."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._seen.discard("Page.loadEventFired")
        self.command("Page.navigate", url=path.resolve().as_uri())
        while "Page.loadEventFired" not in self._seen:
            self._note(self._read())

    def value(self, script: str) -> Any:
        """What an expression is on the page."""
        found = self.command("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Writes what is seen as a PNG, or the page from top to end."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print(self, path: Path) -> None:
        """Writes the page as it prints, a PDF."""
        made = self.command("Page.printToPDF", preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(made["data"]))

    def _note(self, event: dict[str, Any]) -> None:
        method, said = event.get("method", ""), event.get("params", {})
        self._seen.add(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(said["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(said["entry"]["text"])


@contextmanager
def browsing(program: str, profile: Path) -> Iterator[Page]:
    """A page in a fresh browser, which can resolve no host.

    Args:
        profile: an empty folder for what a browser keeps.
    """
    # The browser reads commands from its descriptor 3 and answers on 4, a zero byte after each.
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    arguments = [
        *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
        *("--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "about:blank"),
    ]
    # Out of the way of 3 and 4 first, which may be among them.
    given, taken = (fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in (commands, answers))
    process = os.posix_spawn(
        program,
        arguments,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, given, 3),
            (os.POSIX_SPAWN_DUP2, taken, 4),
            *((os.POSIX_SPAWN_OPEN, one, os.devnull, os.O_WRONLY, 0) for one in (1, 2)),
        ],
    )
    for one in (commands, answers, given, taken):
        os.close(one)
    rest = b""

    def send(message: dict[str, Any]) -> None:
        os.write(to_browser, json.dumps(message).encode() + b"\0")

    def read() -> Any:
        nonlocal rest
        while b"\0" not in rest:
            block = os.read(from_browser, 1 << 20)
            assert block, "the browser has ended"
            rest += block
        line, _, rest = rest.partition(b"\0")
        return json.loads(line)

    try:
        yield Page(send, read)
    finally:
        os.kill(process, signal.SIGTERM)
        for _ in range(100):
            if os.waitpid(process, os.WNOHANG)[0]:
                break
            time.sleep(0.1)
        else:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        os.close(to_browser)
        os.close(from_browser)
