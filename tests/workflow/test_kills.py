"""Kills of the very small experiment; tests/robustness/kills does fifty."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from killing import Moment, chain
from programs import jobs
from project import contents, copied, snakemake
from small import PARAMETERS

# In the group of other long tests, which start first.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

# Ten jobs: a base, its tuning, what the tuning changed, and what the base answers.
TARGETS = [
    "results/deltas/tiny-affective.seed0.parquet",
    "results/cells/tiny/base/predictions.parquet",
]
JOBS = 10


def test_three_kills_on_the_way_lose_nothing_and_no_finished_job_runs_again(
    tmp_path: Path,
) -> None:
    undisturbed = copied(tmp_path / "undisturbed", PARAMETERS)
    assert snakemake(undisturbed, *TARGETS, places=[jobs()]).returncode == 0
    draw = random.Random(7)
    numbers = sorted(draw.sample(range(JOBS - 1), 3))
    moments = [Moment(number, draw.uniform(0, 1.5)) for number in numbers]
    copy = copied(tmp_path / "killed", PARAMETERS)
    found = chain(copy, TARGETS, moments, contents(undisturbed), places=[jobs()])
    assert len(found.kills) == 3
    assert found.kills[-1].finished
    assert [kill.broken for kill in found.kills] == [[]] * 3
    assert [kill.again for kill in found.kills] == [[]] * 3
    assert (found.differing, found.left, found.code, found.idle) == ([], [], 0, True)
