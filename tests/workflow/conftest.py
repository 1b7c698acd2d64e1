"""The one undisturbed run that the tests of this folder share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[1] / "benchmarks"
sys.path[:0] = [str(HERE), str(BENCHMARKS), str(BENCHMARKS / "kills")]

from project import copied  # noqa: E402
from small import PARAMETERS, Project  # noqa: E402


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The very small experiment, run once to its end; who changes it puts it back."""
    copy = Project(copied(tmp_path_factory.mktemp("small") / "project", PARAMETERS))
    copy.snakemake()
    return copy
