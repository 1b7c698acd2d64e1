"""Step `fluency`: perplexity and distinct-n of every cell."""

from __future__ import annotations

from typing import Any

from affectlocus.orchestration.rule_values import as_images
from affectlocus.orchestration.steps import tables
from affectlocus.orchestration.steps.step import StepJobs


class FluencyJobs(StepJobs):
    """The jobs of rules/fluency.smk."""

    @property
    def files(self) -> list[str]:
        """Two tables, and a figure for each pair and arm; nothing without a task with fluency."""
        if not self.parameters.texts:
            return []
        rows = self.artifacts.table_rows.values()
        figures = as_images(f"fluency.{arm}.{pair}" for pair, arm in rows)
        return ["results/fluency.csv", "results/fluency_intervals.csv", *figures]

    def title(self, wildcards: Any) -> str:
        """The title of a figure."""
        return tables.title(wildcards.pair, wildcards.arm)
