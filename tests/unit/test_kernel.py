"""The compiled loops: where they are kept, and what comes of entries of every kind."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affectlocus.deltas import kernel
from affectlocus.deltas.kernel import PLACES, TABLES, add_up

NONE = np.zeros((0, 0), dtype=np.int64), np.zeros(0), np.zeros(0), 0


def test_loops_that_can_be_kept_nowhere_are_compiled_all_the_same() -> None:
    # Code that is in no file has no place beside it.
    found = {}
    exec("def double(x):\n    return 2 * x", found)
    assert kernel._compiled(found["double"])(4) == 8


def test_a_process_finds_what_another_one_compiled(tmp_path: Path) -> None:
    code = (
        "import numpy as np; from affectlocus.deltas.kernel import _gram as f; x = np.ones(3);"
        "print(f(x, x, None, np.uint64(0), np.uint64(3))[0], sum(f.stats.cache_hits.values()))"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, sys.path))
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["3.0", "0"], ["3.0", "1"]]


def test_entries_that_are_not_finite_are_counted_within_the_table() -> None:
    odd = np.array([math.nan, math.inf, -math.inf, 0.0, 1.0])
    base, tuned = (grid.ravel() for grid in np.meshgrid(odd, odd))
    counts, sums = np.zeros((TABLES, PLACES), dtype=np.int64), np.zeros(6)
    add_up(base, tuned, None, 1.0, 64, counts, *NONE[1:], sums)
    assert counts.sum() == 25
    assert not math.isfinite(sums[2])
    assert math.isnan(sums[5])


@pytest.mark.parametrize("delta", [1e-200, 1e200])
def test_the_largest_change_is_kept_where_squares_are_lost(delta) -> None:
    sums = np.zeros(6)
    with np.errstate(over="ignore"):
        add_up(np.zeros(9), np.full(9, -delta), None, 1.0, 64, *NONE, sums)
    assert sums[5] == delta
    assert sums[3] == pytest.approx(-9 * delta, rel=1e-12)
