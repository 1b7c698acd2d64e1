"""Fuzzes every reader for as long as is asked: `python tests/robustness/fuzz/run.py --minutes 10`.

Writes fuzzing.md with how many cases of each target ran, and what was found. A finding is printed
with the example that hypothesis has made of it, and the exit code is 1; `--only NAME` runs one
target, `--seed` starts from other examples.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs/reference/fuzzing.md"
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "workflow")]

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings  # noqa: E402
from targets import TARGETS, Target  # noqa: E402

HEAD = """\
# Fuzzing

Made by `python tests/robustness/fuzz/run.py`: each row as that target last ran. Each target gives a
reader what no owner of a good file would write: good files with bytes changed, settings with keys
and values replaced, whole trees of odd values. The reader must give its result, or refuse in one
line that a terminal can show; whatever experiment is accepted must keep its files below `results/`,
each with one owner, and give a shell texts that it reads back as they were.
`tests/robustness/test_fuzz.py` runs some of the same cases each time.

| target | what is given | cases | seconds | findings |
|---|---|--:|--:|--:|
"""


class Row(NamedTuple):
    """What came of a target."""

    cases: int
    seconds: int
    findings: int


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
    options.add_argument("--only", help="one target, whose row alone is written anew")
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    chosen = [one for one in TARGETS if asked.only in (None, one.name)]
    rows = written() if PAGE.is_file() else {}
    findings = 0
    for target in chosen:
        began = time.monotonic()
        cases, finding = fuzz(target, 60 * asked.minutes / len(chosen), asked.seed * 1_000_000)
        took = time.monotonic() - began
        findings += bool(finding)
        print(f"{target.name}: {cases} cases in {took:.0f} s\n{finding}", flush=True)  # noqa: T201
        rows[target.name] = Row(cases, round(took), int(bool(finding)))
        PAGE.write_text(page(rows), encoding="utf-8")
    sys.exit(bool(findings))


def written() -> dict[str, Row]:
    """The rows that are on the page."""
    found = re.findall(
        r"^\| ([\w-]+) \|.*\| ([\d,]+) \| (\d+) \| (\d+) \|$", PAGE.read_text(), re.M
    )
    return {name: Row(*(int(one.replace(",", "")) for one in counts)) for name, *counts in found}


def page(rows: dict[str, Row]) -> str:
    """The whole page."""
    about = {target.name: target.about for target in TARGETS if target.name in rows}
    lines = [
        f"| {name} | {what} | {rows[name].cases:,} | {rows[name].seconds} | {rows[name].findings} |"
        for name, what in about.items()
    ]
    total = [sum(getattr(rows[name], key) for name in about) for key in Row._fields]
    lines.append(f"| **all** | | **{total[0]:,}** | {total[1]} | {total[2]} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
