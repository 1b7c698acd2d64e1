"""Step `openset`: the labels in free text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from affectlocus.core.cells import Cell
from affectlocus.orchestration.steps.step import StepJobs


class OpensetJobs(StepJobs):
    """The jobs of rules/openset.smk."""

    def extracted(self, wildcards: Any) -> list[str]:
        """The emotions that the extraction model read in a cell's texts, if there is a model."""
        if self.parameters.extraction.model is None:
            return []
        return [f"results/cells/{wildcards.cell}/extracted.parquet"]

    def answers(self, cells: Iterable[Cell]) -> list[str]:
        """The answers of cells; with the labels read in them if any task has free text."""
        kind = "openset" if self.parameters.spoken else "predictions"
        return [f"results/cells/{cell.id}/{kind}.parquet" for cell in cells]
