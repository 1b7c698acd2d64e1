"""The header of a job's log: versions, hardware, git revision, seed and parameters, no secrets."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from affectlocus.core.provenance import hardware, revision
from affectlocus.core.redaction import redacted
from affectlocus.core.version import __version__, installed_version

_LIBRARIES = (
    *("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors"),
    *("numpy", "pandas", "pyarrow", "snakemake"),
)
_SCHEDULERS = {"SLURM_JOB_ID": "slurm", "PBS_JOBID": "pbs", "LSB_JOBID": "lsf", "JOB_ID": "sge"}


def header_lines(
    step: str,
    arguments: Sequence[str],
    cards: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """The lines of the header, one for each topic.

    Args:
        arguments: the arguments of the command line; the first is the step.
        cards: the GPUs that are leased for the job.
        environment: the environment variables; by default those of the process.
    """
    environment = os.environ if environment is None else environment
    libraries = ", ".join(f"{name} {installed_version(name)}" for name in _LIBRARIES)
    seeds = list(dict.fromkeys(_seeds(arguments)))
    found = {
        "step": f"{step}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "code": f"affectlocus {__version__}, git {revision() or 'none'}",
        "versions": f"Python {platform.python_version()}, {libraries}",
        "hardware": _hardware(environment, cards),
        "seed": ", ".join(map(str, seeds)) or "none is drawn",
        "parameters": shlex.join(arguments),
    }
    return [f"# {key}: {redacted(text, environment)}" for key, text in found.items()]


def _hardware(environment: Mapping[str, str], cards: Sequence[str]) -> str:
    host = hardware()
    parts = [
        platform.node(),
        f"{host['Cores']} of {os.cpu_count()} CPUs ({host.get('Processor', platform.machine())})",
        *([host["Memory"]] if "Memory" in host else []),
        f"threads {environment.get('OMP_NUM_THREADS', 'as many')}",
        _cards(environment, cards),
        *(
            f"{name} job {environment[key]}"
            for key, name in _SCHEDULERS.items()
            if key in environment
        ),
    ]
    return ", ".join(parts)


def _cards(environment: Mapping[str, str], leased: Sequence[str]) -> str:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    which = [f"--id={visible}"] if visible else []
    try:
        run = subprocess.run(
            [
                *("nvidia-smi", "--query-gpu=index,name,memory.total,driver_version"),
                *("--format=csv,noheader", *which),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        found = "; ".join(line.strip() for line in run.stdout.splitlines())
    except (OSError, subprocess.SubprocessError):
        found = ""
    if visible == "":
        found = ""
    how = f" (leased {','.join(leased)})" if leased else ""
    return f"GPUs {found or 'none'}{how}"


def _seeds(arguments: Sequence[str]) -> Iterator[Any]:
    """Seeds and draws in JSON settings, and in the names of cells and checkpoints."""
    for argument in arguments:
        if argument.startswith(("{", "[")):
            try:
                yield from _seeds_in(json.loads(argument))
            except ValueError:
                continue
        else:
            yield from map(int, re.findall(r"\b(?:seed|draw)(\d{1,18})\b", argument))


def _seeds_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("seed", "draw"):
                yield inner
            else:
                yield from _seeds_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _seeds_in(inner)


def write_header(step: str, arguments: Sequence[str], cards: Sequence[str] = ()) -> None:
    """Writes the header to standard error, which goes to the job's log."""
    sys.stderr.write("\n".join(header_lines(step, arguments, cards)) + "\n")
    sys.stderr.flush()
