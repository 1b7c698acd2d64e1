"""Faults that a single step meets: its files, its command, and what must be said."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from cases import flipped
from safetensors.numpy import save_file

WORKFLOW = Path(__file__).resolve().parents[3] / "workflow"
PROGRAM = "from affectlocus.cli import main; main()"
OPENSET = ("openset", "answers.parquet", "--out", "out/openset.parquet")
DELTAS = ("deltas", "--base", "tiny.json", "--tuned", "tuned.json", "--out", "out/deltas.parquet")
WEIGHTS = Path("tiny/model.safetensors")
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@dataclass(frozen=True)
class Step:
    """A step that meets a fault.

    Attributes:
        kind: what is wrong.
        command: of affectlocus.
        code: the code of the error that must be printed.
        says: the value that its sentence begins with.
        fault: puts the fault into a folder with good files.
        largest: bytes that a file may have, as a quota or a full disk has it.
        read_only: a folder that is mounted so.
        variables: of the environment.
    """

    kind: str
    command: tuple[str, ...]
    code: str
    says: str
    fault: Callable[[Path], object] = lambda _: None
    largest: int | None = None
    read_only: str = ""
    variables: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The command line, for the page."""
        return " ".join([*self.variables, shlex.join(["affectlocus", *self.command])])

    def write(self, folder: Path) -> None:
        """Writes good files into a folder, and puts the fault into them."""
        (folder / "out").mkdir()
        (folder / "hub").mkdir()
        pd.DataFrame({"text": ["I am glad"] * 50}).to_parquet(folder / "answers.parquet")
        draw = np.random.default_rng(0)
        for name in ("tiny", "tuned"):
            path = folder / name / WEIGHTS.name
            path.parent.mkdir()
            weights = draw.normal(size=(8, 8)).astype(np.float32)
            save_file({"model.layers.0.self_attn.q_proj.weight": weights}, path)
            _list(folder, name)
        self.fault(folder)

    def printed(self, folder: Path) -> tuple[int, str]:
        """Exit code and output of the command, in a folder that `write` has filled."""
        command = [sys.executable, "-c", PROGRAM, *self.command]
        if self.read_only:
            command = ["unshare", "--mount", "sh", "-c", READ_ONLY, self.read_only, *command]
        given = dict(variable.split("=", 1) for variable in self.variables)
        done = subprocess.run(
            command,
            cwd=folder,
            # A step that ran in this process may have set it.
            env=os.environ | {"PYTHONPATH": str(WORKFLOW), "HF_HUB_OFFLINE": "0"} | given,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=self._limit,
        )
        return done.returncode, shortened(done.stdout + done.stderr, folder)

    def _limit(self) -> None:
        if self.largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest, self.largest))


def shortened(output: str, folder: Path) -> str:
    """Without the path of the folder, which differs from run to run."""
    return output.replace(f"{folder.resolve()}/", "")


def _list(folder: Path, name: str) -> None:
    """Writes a checkpoint's manifest as `retrieve` does."""
    sys.path.insert(0, str(WORKFLOW))
    from affectlocus.core.manifests import manifest_entry

    entry = manifest_entry(folder / name / WEIGHTS.name)
    record = {"folder": name, "kind": "model", "files": [entry]}
    (folder / f"{name}.json").write_text(json.dumps(record))


def _cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, size)


STEPS = [
    Step(
        "A truncated parquet file",
        OPENSET,
        "table.damaged",
        "answers.parquet: ",
        _cut("answers.parquet", 900),
    ),
    Step(
        "An empty parquet file",
        OPENSET,
        "table.damaged",
        "answers.parquet: ",
        _cut("answers.parquet", 0),
    ),
    Step(
        "A folder in place of a parquet file",
        ("openset", "tiny", "--out", "out/openset.parquet"),
        "table.is-a-folder",
        "tiny: ",
    ),
    Step(
        "A manifest that is not JSON",
        DELTAS,
        "json.not-json",
        "tiny.json: ",
        lambda folder: (folder / "tiny.json").write_text("{'folder': 'tiny'}\n"),
    ),
    Step(
        "A manifest with the JSON of another file",
        DELTAS,
        "manifest.other-content",
        "tiny.json: ",
        lambda folder: (folder / "tiny.json").write_text("[1, 2]\n"),
    ),
    Step(
        "Weights that are deleted while their manifest is kept",
        DELTAS,
        "manifest.file-missing",
        "tiny/model.safetensors: ",
        lambda folder: shutil.rmtree(folder / "tiny"),
    ),
    Step(
        "Truncated weights",
        DELTAS,
        "manifest.file-missing",
        "tiny/model.safetensors: ",
        _cut("tiny/model.safetensors", 200),
    ),
    Step(
        "A flipped bit in weights",
        DELTAS,
        "manifest.file-changed",
        "tiny/model.safetensors: ",
        lambda folder: flipped(folder / WEIGHTS),
    ),
    Step(
        "A disk that is full, or a quota that is used up",
        ("corpus", "--settings", "{}", "--out", "out/corpus"),
        "output.not-writable",
        "out/corpus: cannot be written (File too large)",
        largest=100_000,
    ),
    Step(
        "A folder that is read-only",
        ("schema", "--out", "out/schema.json"),
        "output.not-writable",
        "out/schema.json: ",
        read_only="out",
    ),
    Step(
        "A model hub's folder that is read-only",
        ("retrieve", "http://localhost:9/model.pth", "--sha256", "0" * 64, "--out", "out/m.json"),
        "disk.unwritable",
        "http://localhost:9/model.pth: cannot write hub",
        read_only="hub",
        variables=("HF_HOME=hub",),
    ),
    Step(
        "A file in place of a folder",
        ("schema", "--out", "answers.parquet/schema.json"),
        "output.below-a-file",
        "answers.parquet/schema.json: ",
    ),
]
