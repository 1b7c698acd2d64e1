"""Step `report`: the whole experiment on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.steps.evaluate import EvaluateJobs
from affectlocus.orchestration.steps.openset import OpensetJobs
from affectlocus.orchestration.steps.step import StepJobs


class ReportJobs(StepJobs):
    """The jobs of rules/report.smk.

    Args:
        exhibits: tables, figures and ledgers, in the order of the page.
    """

    def __init__(
        self,
        artifacts: Artifacts,
        evaluate: EvaluateJobs,
        openset: OpensetJobs,
        exhibits: Sequence[str],
    ) -> None:
        super().__init__(artifacts)
        self._evaluate = evaluate
        self._openset = openset
        self._exhibits = exhibits

    @property
    def shown(self) -> list[str]:
        """What the report shows: verdicts, then tables, figures (as PNG) and ledgers."""
        judged = ["results/claims.csv", "results/agreement.csv"]
        return [*judged, *(name for name in self._exhibits if not name.endswith(".svg"))]

    @property
    def drawings(self) -> list[str]:
        """The same figures as SVG, which the report contains."""
        return [name for name in self._exhibits if name.endswith(".svg")]

    @property
    def answers(self) -> list[str]:
        """The answers of all cells, from which the report takes samples."""
        return self._openset.answers(self.artifacts.cells.values())

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


def seen_from(home: Path) -> str:
    """The folder of results, as commands in the workflow's folder name it.

    An experiment outside that folder is named from its own folder: `results`.
    """
    here = Path.cwd()
    inside = here.is_relative_to(home)
    return (here.relative_to(home) / "results").as_posix() if inside else "results"
