"""A process that has imported libraries, and is forked for each command that a test starts.

    python server.py SOCKET MODULE...

Most of the time of a short command is the import of its libraries. `programs.py` starts this server
and writes the programs that send it a command: arguments, environment, folder and open files. The
child imports the package itself, from the command's own PYTHONPATH. The server ends when its
standard input does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import NoReturn

_answer: list[tuple[socket.socket, int]] = []


def _report() -> None:
    """Sends the exit code. The first function of atexit, so the last that runs."""
    for connection, code in _answer:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(bytes([code & 255]))
        os._exit(code & 255)


def _watch(connection: socket.socket) -> None:
    """Passes signals on to this process, and ends it when the program that asked is killed."""
    while number := connection.recv(1):
        os.kill(os.getpid(), number[0])
    os.kill(os.getpid(), signal.SIGKILL)


def _called(program: str) -> int:
    """Runs a program as its console script does; its exit code."""
    try:
        if program == "snakemake":
            from snakemake.cli import main
        else:
            from affectlocus.cli import main
        main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        sys.stderr.write(f"{ended.code}\n")
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def child(connection: socket.socket) -> NoReturn:
    """Does what the program at the other end asks for."""
    text, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 16)
    asked = json.loads(text)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = [asked["program"], *asked["arguments"]]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [str(Path(path).resolve()) for path in paths if path]
    resource.setrlimit(resource.RLIMIT_FSIZE, tuple(asked["room"]))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    early = {*asked["fresh"], *asked["blocked"]} & set(sys.modules)
    assert not early, f"imported before the command started: {', '.join(early)}"
    sys.modules.update(dict.fromkeys(asked["blocked"]))
    random.seed()
    if threads := os.environ.get("OMP_NUM_THREADS"):
        # Libraries read it when they are imported.
        from threadpoolctl import threadpool_limits

        threadpool_limits(int(threads))
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(int(threads))
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()
    _answer.append((connection, _called(asked["program"])))
    sys.exit(0)


def _reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> None:
    """Answers until its input ends."""
    atexit.register(_report)
    del sys.path[0]  # the folder of this file
    with socket.socket(socket.AF_UNIX) as listener:
        for name in sys.argv[2:]:
            importlib.import_module(name)
        gc.freeze()
        signal.signal(signal.SIGCHLD, _reap)
        address = Path(sys.argv[1])
        listener.bind(f"{address}.new")
        listener.listen(64)
        Path(f"{address}.new").rename(address)
        while sys.stdin not in (ready := select.select([listener, sys.stdin], [], [])[0]):
            assert ready
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                child(connection)
            connection.close()


if __name__ == "__main__":
    main()
