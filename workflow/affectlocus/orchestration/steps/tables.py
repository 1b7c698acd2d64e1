"""Step `tables`: the paper's tables."""

from __future__ import annotations

from typing import Any

from affectlocus.config.matrix import Arm
from affectlocus.orchestration.steps.step import StepJobs

_TITLES: dict[Arm, str] = {
    "load": "base + delta of a module set",
    "load_initial": "base + delta of a module set, with the initial bridge",
    "load_none": "base + delta of a module set, without media",
    "even": "base + noise of one size in a module set",
    "dose": "base + a part of the delta of a module set",
    "tune": "base tuned on a module set",
    "fair": "base tuned on a module set, all with as many parameters",
    "ablate": "tuned model with modules destroyed",
    "media": "tuned model with other media",
}


def title(pair: str, arm: Arm) -> str:
    """The title of a figure that shows the cells of a table."""
    return f"{pair}: {_TITLES[arm]}"


class TablesJobs(StepJobs):
    """The jobs of rules/tables.smk."""

    @property
    def files(self) -> list[str]:
        """Every table, with its intervals and baselines."""
        return [
            f"results/{name}{suffix}"
            for name in self.artifacts.table_rows
            for suffix in (".csv", "_intervals.csv", "_baselines.csv")
        ]

    def scores(self, wildcards: Any) -> str:
        """The scores that a table shows."""
        pair, arm = self.artifacts.table_rows[wildcards.table]
        return f"results/scores/{pair}/{arm}.parquet"

    def columns(self, wildcards: Any) -> list[str]:
        """The benchmarks that are a table's columns."""
        pair, _ = self.artifacts.table_rows[wildcards.table]
        return list(self.parameters.columns_of(pair))

    def name(self, pair: str, arm: Arm) -> str:
        """The table of a pair and an arm."""
        rows = self.artifacts.table_rows.items()
        (table,) = (name for name, row in rows if row == (pair, arm))
        return table
