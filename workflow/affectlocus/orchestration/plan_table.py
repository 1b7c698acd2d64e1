"""A plan as a table on the terminal."""

from __future__ import annotations

import pandas as pd
from rich.console import Console

from affectlocus.orchestration.plan import Plan
from affectlocus.reporting.terminal import print_frame


def print_plan(plan: Plan, title: str) -> None:
    """Prints a plan: a row for each kind of jobs, their sum, and a line for each assumption."""
    rows = [
        {
            "kind": kind.kind,
            "jobs": str(kind.jobs),
            "done": str(kind.done) if kind.done else "",
            "GPU hours": _hours(kind.gpu_hours),
            "CPU hours": _hours(kind.cpu_hours),
            "download GB": _hours(kind.download_gb),
            "disk GB": _hours(kind.disk_gb),
            "time": kind.from_,
        }
        for kind in [*plan.kinds, plan.total]
    ]
    frame = pd.DataFrame(rows)
    print_frame(frame.iloc[:-1], title, below=frame.iloc[-1:])
    for line in plan.assumptions:
        Console(highlight=False, soft_wrap=True).print(f"- {line}", markup=False)


def _hours(value: float) -> str:
    return "" if not value else f"{value:.3g}" if value < 100 else f"{value:.0f}"
