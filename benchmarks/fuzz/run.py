"""Fuzzes every reader for as long as is asked: `python benchmarks/fuzz/run.py --minutes 10`.

Writes README.md with how many cases of each target ran, and what was found. A finding is printed
with the example that hypothesis has made of it, and the exit code is 1; `--only NAME` runs one
target, `--seed` starts from other examples.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "workflow")]

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings  # noqa: E402
from targets import TARGETS, Target  # noqa: E402

HEAD = """\
# Fuzzing

Made by `python benchmarks/fuzz/run.py --minutes {minutes:g}`. Each target gives a reader what no
owner of a good file would write: good files with bytes changed, settings with keys and values
replaced, whole trees of odd values. The reader must give its result, or refuse in one line that a
terminal can show; whatever experiment is accepted must keep its files below `results/`, each with
one owner, and give a shell texts that it reads back as they were. `tests/unit/test_fuzz.py` runs
some of the same cases each time.

| target | what is given | cases | seconds | findings |
|---|---|--:|--:|--:|
"""


def fuzz(target: Target, seconds: float, start: int, batch: int = 250) -> tuple[int, str]:
    """How many cases ran in so many seconds, and the first finding's traceback, or nothing."""
    ran = 0
    until = time.monotonic() + seconds

    def check(example: Any) -> None:
        nonlocal ran
        ran += 1
        target.check(example)

    while time.monotonic() < until:
        tried = settings(
            max_examples=batch,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            verbosity=Verbosity.quiet,
            print_blob=False,
        )(seed(start)(given(target.strategy)(check)))
        try:
            tried()
        except Exception:
            return ran, traceback.format_exc()
        start += 1
    return ran, ""


def main() -> None:
    """Runs the targets one after the other."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10, help="for all targets together")
    options.add_argument("--only", help="one target; README.md stays")
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    chosen = [one for one in TARGETS if asked.only in (None, one.name)]
    rows, findings = [], 0
    total = seconds = 0.0
    for target in chosen:
        began = time.monotonic()
        cases, finding = fuzz(target, 60 * asked.minutes / len(chosen), asked.seed * 1_000_000)
        took = time.monotonic() - began
        findings += bool(finding)
        print(f"{target.name}: {cases} cases in {took:.0f} s\n{finding}", flush=True)  # noqa: T201
        rows.append(
            f"| {target.name} | {target.about} | {cases:,} | {took:.0f} | {int(bool(finding))} |"
        )
        total, seconds = total + cases, seconds + took
    if asked.only is None:
        rows.append(f"| **all** | | **{total:,.0f}** | {seconds:.0f} | {findings} |")
        text = HEAD.format(minutes=asked.minutes) + "\n".join(rows) + "\n"
        (HERE / "README.md").write_text(text, encoding="utf-8")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
