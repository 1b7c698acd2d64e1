"""Step `report`: the whole experiment on one page."""

from __future__ import annotations

from collections.abc import Sequence

from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.steps.evaluate import EvaluateJobs
from affectlocus.orchestration.steps.step import StepJobs


class ReportJobs(StepJobs):
    """The jobs of rules/report.smk.

    Args:
        exhibits: tables, figures and ledgers, in the order of the page.
    """

    def __init__(
        self, artifacts: Artifacts, evaluate: EvaluateJobs, exhibits: Sequence[str]
    ) -> None:
        super().__init__(artifacts)
        self._evaluate = evaluate
        self._exhibits = exhibits

    @property
    def shown(self) -> list[str]:
        """What the report shows: verdicts, then tables, figures (as PNG) and ledgers."""
        judged = ["results/claims.csv", "results/agreement.csv"]
        return [*judged, *(name for name in self._exhibits if not name.endswith(".svg"))]

    @property
    def tasks(self) -> list[str]:
        """The tasks that any checkpoint is tuned on or any cell answers."""
        recipes = [recipe for _, recipe in self.artifacts.tunings.values()]
        tuned = {task for recipe in recipes for task in recipe.data}
        cells = self.artifacts.cells.values()
        asked = {file for cell in cells for file in self._evaluate.data(cell)}
        return [
            task
            for task in self.parameters.tasks
            if task in tuned or f"results/data/{task}.parquet" in asked
        ]
