"""SIGTERM to Snakemake and all its jobs, as a scheduler sends it, and what the next run does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from programs import jobs, search_path

from affectlocus.config.experiment import load
from affectlocus.data.corpus import write_corpus
from affectlocus.training.pretrain import pretrain
from affectlocus.training.training_state import states_folder

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BASE = "results/checkpoints/tiny.json"
LONGEST = 400  # seconds; what a crowded machine may take
LOG = "results/logs/pretrain/tiny.log"

PARAMETERS = """
corpus: {documents: 60, tuning_samples: 5, control_samples: 5, benchmark_samples: 5}
bases:
  tiny:
    pretrain: {architecture: qwen2, hidden_size: 16, intermediate_size: 24, layers: 2, steps: 150}
pairs:
  mine: {base: tiny, tuning: {data: [mini-MOSI], rank: 2, steps: 4}}
tasks:
  mini-MOSI:
    corpus: true
    columns: {label: label}
    labels: [positive, negative]
    prompt: "{text} {question}"
matrix: {pairs: [mine], load: [gate], tune: [], ablate: []}
"""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


def snakemake(folder: Path) -> subprocess.Popen[str]:
    """The tiny base, in a session of its own: what is sent to its group, each of its jobs gets."""
    return subprocess.Popen(
        [
            *(str(BIN / "snakemake"), "--cores", "1", "--snakefile", str(ROOT / "Snakefile")),
            *("--directory", str(folder), BASE),
        ],
        cwd=ROOT,
        env={
            # With compiled bytecode each start takes a third of the time.
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "PATH": search_path(jobs()),
            "PYTHONPATH": str(ROOT / "workflow"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_pretraining_that_is_stopped_through_snakemake_goes_on_at_the_next_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "params.yaml").write_text(PARAMETERS)
    parameters = load(tmp_path / "params.yaml")
    assert parameters.corpus is not None
    write_corpus(parameters.corpus, tmp_path / "results/corpus")
    log = tmp_path / LOG
    first = snakemake(tmp_path)
    end = time.monotonic() + LONGEST
    while first.poll() is None and time.monotonic() < end:
        if log.exists() and " of 150: loss " in log.read_text():
            break
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGTERM)
    said, _ = first.communicate(timeout=LONGEST)
    assert first.returncode == 1, said
    last = log.read_text().splitlines()[-1]
    assert last.startswith("affectlocus: stopped by SIGTERM after step ")
    assert last.endswith(" of 150; the next run continues from there")
    # Snakemake prints a failed job's log.
    assert last in said
    assert not (tmp_path / BASE).exists()
    assert not (tmp_path / "checkpoints/tiny").exists()
    assert states_folder(tmp_path / "checkpoints/tiny").is_dir()

    second = snakemake(tmp_path)
    said, _ = second.communicate(timeout=LONGEST)
    assert second.returncode == 0, said
    step = last.partition("after step ")[2].split()[0]
    assert f"resuming from the saved state of step {step} of 150\n" in log.read_text()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["tiny"]
    ended = (tmp_path / "checkpoints/tiny/model.safetensors").read_bytes()

    # And as nobody stops it.
    recipe = parameters.bases["tiny"].pretrain
    assert recipe is not None
    torch.set_num_threads(1)
    pretrain(tmp_path / "results/corpus/pretraining.txt", recipe, tmp_path / "whole")
    assert (tmp_path / "whole/model.safetensors").read_bytes() == ended
