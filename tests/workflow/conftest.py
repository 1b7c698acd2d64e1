"""The very small experiment, run once for all tests of its group."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROBUSTNESS = HERE.parent / "robustness"
sys.path[:0] = [str(HERE), str(ROBUSTNESS), str(ROBUSTNESS / "kills")]

from project import copied  # noqa: E402
from small import PARAMETERS, Planner, Project  # noqa: E402


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The experiment with all its results; a test puts back what it changes.

    Its bases are kept in a cache of its own, beside it.
    """
    folder = copied(tmp_path_factory.mktemp("small") / "project", PARAMETERS)
    planner = Planner(folder)
    project = Project(folder, planner)
    project.snakemake(AFFECTLOCUS_CACHE=str(folder.with_name("cache")))
    yield project
    planner.close()
