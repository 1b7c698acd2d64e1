"""`affectlocus` and `snakemake` as programs that start quickly: see `server.py`.

They are the same code in a process of its own, with its own environment, folder and open files.
A test that kills a process, or in which a library must read a variable as it is imported, takes the
installed program.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent

_LIBRARIES = (
    *("typer", "rich.console", "rich.progress", "rich.table", "yaml", "pydantic", "filelock"),
    *(
        "numpy",
        "pandas",
        "pyarrow.parquet",
        "safetensors.numpy",
        "ml_dtypes",
        "httpx2",
        "tqdm.auto",
    ),
    *("threadpoolctl", "matplotlib.pyplot", "importlib.metadata", "fsspec", "anyio"),
)
LIGHT = (
    *_LIBRARIES,
    *("affectlocus.cli", "affectlocus.checkpoints.adapters", "affectlocus.data.table_reader"),
    *("affectlocus.checkpoints.unsupported_formats", "affectlocus.config.tasks"),
)
"""What short commands import, without the extra `workflow` and without huggingface_hub."""

HEAVY = (
    *_LIBRARIES,
    *(
        "torch",
        "transformers.models.auto.modeling_auto",
        "transformers.models.qwen2.modeling_qwen2",
    ),
    *("transformers.tokenization_utils_tokenizers", "peft", "safetensors.torch", "scipy.stats"),
    *("seaborn", "jinja2", "snakemake.cli", "snakemake.dag", "snakemake.workflow"),
    *("snakemake.persistence.file", "snakemake.scheduling.greedy", "snakemake.executors.local"),
)
"""What the jobs of an experiment import, and Snakemake. Not the package: a copy has its own."""

# Commands that reach a hub: huggingface_hub reads its variables when it is imported.
_ONLINE = ("retrieve", "wheels", "check", "pin", "run", "decide", "doctor")

_PROGRAM = """#!{python} -IS
import json, os, resource, signal, socket, sys
if sys.argv[1:2] and sys.argv[1] in {online!r}:
    os.execv({installed!r}, sys.argv)
server = socket.socket(socket.AF_UNIX)
server.connect({server!r})
asked = {{
    "program": {name!r},
    "arguments": sys.argv[1:],
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "room": resource.getrlimit(resource.RLIMIT_FSIZE),
    "blocked": {blocked!r},
    "fresh": {fresh!r},
}}
text = json.dumps(asked).encode() + b"\\n"
sent = socket.send_fds(server, [text[:1024]], [0, 1, 2])
server.sendall(text[sent:])
for one in (signal.SIGTERM, signal.SIGINT):
    signal.signal(one, lambda number, _: server.send(bytes([number])))
code = server.recv(1)
if not code:
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(code[0])
"""


@cache
def light(blocked: tuple[str, ...] = ()) -> Path:
    """A folder with `affectlocus`, for commands that need no model and may reach a hub.

    Args:
        blocked: modules that cannot be imported.
    """
    values = {"blocked": sorted(blocked), "fresh": ["huggingface_hub"]}
    return _folder(LIGHT, ("affectlocus",), values)


@cache
def heavy(names: tuple[str, ...] = ("affectlocus", "snakemake")) -> Path:
    """A folder with programs for whole experiments."""
    return _folder(HEAVY, names, {"online": _ONLINE})


def jobs() -> Path:
    """A folder with `affectlocus` alone: a signal to Snakemake's process group reaches all jobs."""
    return heavy(("affectlocus",))


def search_path(*folders: Path) -> str:
    """PATH with these folders before the installed programs."""
    return os.pathsep.join(map(str, [*folders, BIN, os.environ["PATH"]]))


def _folder(modules: tuple[str, ...], names: tuple[str, ...], values: dict[str, Any]) -> Path:
    """A folder with programs that send their commands to a server."""
    server = _server(modules)
    folder = Path(tempfile.mkdtemp(dir=server.parent))
    for name in names:
        text = _PROGRAM.format(
            python=sys.executable,
            name=name,
            server=str(server),
            installed=str(BIN / name),
            **{"online": (), "blocked": [], "fresh": []} | values,
        )
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@cache
def _server(modules: tuple[str, ...]) -> Path:
    """Starts a server that ends with this process; its address."""
    # Not below pytest's folder, as the address of a socket has at most 107 characters.
    folder = tempfile.TemporaryDirectory(prefix="programs")
    address = Path(folder.name) / "server"
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("server.py")), str(address), *modules],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE,
    )

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)
        folder.cleanup()

    atexit.register(end)
    while not address.exists():
        assert process.poll() is None, "the server of programs did not start"
        time.sleep(0.02)
    return address
