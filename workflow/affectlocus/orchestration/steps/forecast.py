"""Step `forecast`: measures of a base that are written before its tunings start."""

from __future__ import annotations

from typing import Any

from affectlocus.config.tuning import Tuning
from affectlocus.core.cells import replicate_name
from affectlocus.orchestration.rule_values import checkpoint, settings
from affectlocus.orchestration.steps.step import StepJobs


class ForecastJobs(StepJobs):
    """The jobs of rules/forecast.smk."""

    @property
    def files(self) -> list[str]:
        """The measures for each tuned checkpoint of the matrix's pairs."""
        matrix = self.parameters.matrix
        names = [name for pair in matrix.pairs for name in self.artifacts.checkpoints[pair]]
        return self._existing(names)

    def before(self, checkpoints: list[str]) -> list[str]:
        """The files that must exist before these checkpoints are tuned.

        A tune cell waits for the file of its pair's checkpoint of the same seed.
        """
        pairs_of_cells = {
            self.artifacts.tuned_of(cell): replicate_name(cell.pair, cell.seed)
            for cell in self.artifacts.cells.values()
            if cell.pair in self.parameters.matrix.pairs and cell.kind in ("tuned", "tune")
        }
        own = [pairs_of_cells[name] for name in checkpoints if name in pairs_of_cells]
        return self._existing(list(dict.fromkeys(own)))

    def _existing(self, names: list[str]) -> list[str]:
        """The files of the checkpoints that the workflow tunes, if bases are measured at all."""
        tuned = self.artifacts.tuned if self.parameters.matrix.forecast else []
        return [f"results/forecasts/{name}.parquet" for name in names if name in tuned]

    def _recipe(self, wildcards: Any) -> Tuning:
        return self.artifacts.tunings[wildcards.tuned][1]

    def base(self, wildcards: Any) -> str:
        """The manifest of the base."""
        return checkpoint(self.artifacts.base_of(wildcards.tuned))

    def weights(self, wildcards: Any) -> list[str]:
        """The weights of the base, if the workflow makes them."""
        return self.artifacts.weights(self.artifacts.base_of(wildcards.tuned))

    def data(self, wildcards: Any) -> list[str]:
        """The prepared tasks that the checkpoint is tuned on."""
        return [f"results/data/{task}.parquet" for task in self._recipe(wildcards).data]

    def settings(self, wildcards: Any) -> str:
        """The recipe with its seed, as JSON: it decides which samples are read, and how."""
        return settings(self._recipe(wildcards))
