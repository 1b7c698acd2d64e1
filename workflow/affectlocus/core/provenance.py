"""Provenance of results: versions, hardware, code revision, parameters, time and memory of jobs."""

from __future__ import annotations

import base64
import csv
import json
import os
import platform
import re
import subprocess
import zlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affectlocus.core.files import text_or_empty
from affectlocus.core.phrases import counted
from affectlocus.core.version import installed_version

PACKAGE = Path(__file__).parents[1]
PACKAGES = (
    *("affectlocus", "snakemake", "torch", "transformers", "peft", "tokenizers", "safetensors"),
    *("numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "matplotlib", "dvc"),
)
"""Packages whose versions are reported: those that compute, draw or run the results."""


def versions() -> dict[str, str]:
    """Package → installed version, Python first; packages that are not installed are left out."""
    known = {name: installed_version(name) for name in PACKAGES}
    found = {name: version for name, version in known.items() if version != "none"}
    return {"Python": platform.python_version(), **found}


def hardware() -> dict[str, str]:
    """This machine's processor, cores, memory and GPUs, as far as the system reports them."""
    proc = Path(os.sep, "proc")
    model = re.search(r"^model name\s*:\s*(.+)$", text_or_empty(proc / "cpuinfo"), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", text_or_empty(proc / "meminfo"), re.M)
    cards = sorted(proc.glob("driver/nvidia/gpus/*/information"))
    names = [re.search(r"^Model:\s*(.+)$", text_or_empty(card), re.M) for card in cards]
    found = {
        "System": f"{platform.system()} {platform.machine()}",
        "Processor": model[1] if model else platform.processor(),
        "Cores": str(len(os.sched_getaffinity(0))),
        "Memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "",
        "GPU": ", ".join(name[1] for name in names if name) or "none",
    }
    return {name: value for name, value in found.items() if value}


def revision(folder: Path = PACKAGE) -> str:
    """The git commit of the code in `folder`, and how many files differ from it.

    Empty if there is no git, or if another repository contains the package without tracking it.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return ""
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/")
    count = len((changed or "").splitlines())
    since = f", with {counted(count, 'file')} changed since" if count else ""
    return f"{commit.strip()}{since}"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        run = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout if run.returncode == 0 else None


def overridden(config: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in `config` that differ from the file's, nested as in the file."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        before = written.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := overridden(value, before):
                found[key] = inner
        elif key not in written or value != before:
            found[key] = value
    return found


def merged(written: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with the overrides applied."""
    result = dict(written)
    for key, value in overrides.items():
        before = result.get(key)
        nested = isinstance(value, Mapping) and isinstance(before, Mapping)
        result[key] = merged(before, value) if nested else value  # type: ignore[arg-type]
    return result


ABSENT = "not set"


@dataclass(frozen=True)
class Difference:
    """A parameter with two different values.

    Args:
        key: the dotted key, as in `tune.steps`.
        used: the value that the results were made with.
        now: the other value.
    """

    key: str
    used: str
    now: str

    def below(self, name: str) -> Difference:
        """The same difference, with a name in front of the key."""
        return Difference(f"{name}: {self.key}", self.used, self.now)


def differences(used: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Every parameter whose values differ, in the order of keys; values are written as JSON."""
    found: list[Difference] = []
    for key in dict.fromkeys([*used, *now]):
        one, other = used.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = differences(one, other)
            found += [Difference(f"{key}.{each.key}", each.used, each.now) for each in inner]
        elif one != other or (key in used) != (key in now):
            shown = (
                json.dumps(value, ensure_ascii=False, default=str) if key in where else ABSENT
                for value, where in ((one, used), (other, now))
            )
            found.append(Difference(key, *shown))
    return found


_LONG = 60_000  # characters; Linux gives one argument 128 KiB
_PACKED = "zlib:"


def packed(values: Mapping[str, Any]) -> str:
    """Parameters as one command-line argument: JSON, compressed if it is long."""
    text = json.dumps(values, default=str)
    if len(text) <= _LONG:
        return text
    return _PACKED + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(text: str) -> dict[str, Any]:
    """The parameters in an argument that `packed` wrote.

    Raises:
        ValueError: the text has another form.
    """
    if text.startswith(_PACKED):
        try:
            text = zlib.decompress(base64.b64decode(text.removeprefix(_PACKED))).decode()
        except zlib.error as error:
            raise ValueError(str(error)) from None
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"expected keys and values, found {type(values).__name__}")
    return values


@dataclass(frozen=True)
class StepUsage:
    """Time and memory of the jobs of one step.

    Args:
        seconds, cpu: wall-clock and processor seconds, summed over all jobs.
        longest: wall-clock seconds of the longest job.
        memory: the largest resident set of a job, in MB.
    """

    step: str
    jobs: int
    seconds: float
    cpu: float
    longest: float
    memory: float


def resource_usage(folder: Path, files: Container[str] | None = None) -> list[StepUsage]:
    """Time and memory of the jobs of each step in their last run; the longest step comes first.

    The step `report` is left out, because its time is known only after the page is written.

    Args:
        folder: Snakemake's benchmark files: a folder for each step, a file for each job.
        files: the files that count, as paths below the folder; all by default.
    """
    steps: dict[str, list[dict[str, float]]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        step = path.relative_to(folder).parts[0].removesuffix(".tsv")
        known = files is None or path.relative_to(folder).as_posix() in files
        if step == "report" or not known:
            continue
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        steps.setdefault(step, []).extend(
            {name: _number(row.get(name)) for name in ("s", "cpu_time", "max_rss")} for row in rows
        )
    found = [
        StepUsage(
            step=step,
            jobs=len(jobs),
            seconds=sum(job["s"] for job in jobs),
            cpu=sum(job["cpu_time"] for job in jobs),
            longest=max(job["s"] for job in jobs),
            memory=max(job["max_rss"] for job in jobs),
        )
        for step, jobs in steps.items()
        if jobs
    ]
    return sorted(found, key=lambda one: (-one.seconds, one.step))


def _number(text: str | None) -> float:
    """A number in a benchmark file; 0 if the job was too short for Snakemake to measure."""
    try:
        value = float(text or "")
    except ValueError:
        return 0.0
    return value if value == value else 0.0
