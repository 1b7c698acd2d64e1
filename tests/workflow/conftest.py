"""The very small experiment, run once for all tests of its group."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from project import Planner, Project, copied


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The experiment with all its results; a test puts back what it changes.

    Its bases are kept in a cache of its own, beside it.
    """
    folder = tmp_path_factory.mktemp("project")
    copied(folder)
    planner = Planner(folder)
    project = Project(folder, planner)
    project.snakemake(AFFECTLOCUS_CACHE=str(folder.with_name("cache")))
    yield project
    planner.close()
