"""Step `revisions`: the files by which dvc compares two revisions."""

from __future__ import annotations

from pathlib import Path

from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.steps.deltas import DeltasJobs
from affectlocus.orchestration.steps.step import StepJobs


class RevisionsJobs(StepJobs):
    """The jobs of rules/revisions.smk."""

    def __init__(self, artifacts: Artifacts, deltas: DeltasJobs) -> None:
        super().__init__(artifacts)
        self._deltas = deltas

    @property
    def layers(self) -> list[str]:
        """L2 by layer, a file for each table of deltas."""
        return [f"results/revisions/l2/{Path(file).stem}.csv" for file in self._deltas.files]
