"""What every benchmark needs: a process measured from outside, and where its figures are put.

A script that measures imports nothing large: a child's peak memory is never below what its parent
held when it was started.
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

WORKFLOW = Path(__file__).resolve().parents[1] / "workflow"
sys.path.insert(0, str(WORKFLOW))

from affectlocus.core.files import write_text  # noqa: E402
from affectlocus.core.output_files import replacing  # noqa: E402

TIMES = [
    "repetitions",
    "engine_s",
    "engine_min_s",
    "engine_max_s",
    "process_s",
    "process_min_s",
    "process_max_s",
    "peak_mb",
]


@dataclass
class Times:
    """Seconds and peak memory (MB) of an arm, repetition by repetition."""

    engine: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def add(self, engine: float, process: float, peak: float) -> None:
        self.engine.append(engine)
        self.process.append(process)
        self.peak.append(peak)

    def row(self) -> list[Any]:
        """Fields in the order of `TIMES`."""
        times = [
            f"{how(times):.3f}"
            for times in (self.engine, self.process)
            for how in (statistics.median, min, max)
        ]
        return [len(self.engine), *times, f"{max(self.peak):.0f}"]


def child(
    command: list[str], environment: Mapping[str, str] | None = None
) -> tuple[str, float, float]:
    """Output, seconds and peak memory (MB) of a process; its own, not its children's.

    It sees no GPU, reaches for no hub, and keeps compiled bytecode, as an installed program does.
    """
    given = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=given | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""} | dict(environment or {}),
    )
    assert running.stdout is not None
    output = running.stdout.read()
    _, status, usage = os.wait4(running.pid, 0)
    seconds = time.perf_counter() - start
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return output, seconds, usage.ru_maxrss / 1024


def machine() -> str:
    """The machine in words."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = next((line for line in cpu.splitlines() if line.startswith("model name")), ": CPU")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(
        f"{package} {version(package)}"
        for package in ("torch", "numpy", "numba", "safetensors", "transformers")
    )
    return (
        f"{len(os.sched_getaffinity(0))} cores ({name.split(':', 1)[1].strip()}), "
        f"{memory:.0f} GB of memory, {platform.system()}, Python {platform.python_version()}, "
        f"{packages}"
    )


def span(times: list[float]) -> str:
    """The median, and the least and the most of several."""
    middle = f"{statistics.median(times):.2f}"
    return middle if len(times) == 1 else f"{middle} ({min(times):.2f}–{max(times):.2f})"


def write_results(path: Path, columns: list[str], rows: Iterable[list[Any]]) -> None:
    """A csv file, replaced whole; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def put_tables(readme: Path, text: str) -> None:
    """Puts the tables between the marks of a README."""
    before, _, rest = readme.read_text(encoding="utf-8").partition("<!-- measured -->\n")
    _, _, after = rest.partition("<!-- end -->")
    write_text(readme, f"{before}<!-- measured -->\n{text}<!-- end -->{after}")


def put_results(folder: Path, columns: list[str], rows: list[list[str]], aligned: str) -> None:
    """Writes rows into a benchmark's results.csv and, with the machine, into its README.

    Args:
        aligned: the line below the table's heading, such as `|---|--:|`.
    """
    write_results(folder / "results.csv", columns, rows)
    lines = ["| " + " | ".join(columns) + " |", aligned]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    put_tables(folder / "README.md", "\n".join([machine() + ".", "", *lines, ""]))
