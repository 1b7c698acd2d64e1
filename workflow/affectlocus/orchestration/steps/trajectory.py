"""Step `trajectory`: the deltas along a tuning."""

from __future__ import annotations

from functools import cached_property

from affectlocus.orchestration.rule_values import as_images
from affectlocus.orchestration.steps.step import PairInputs


class TrajectoryJobs(PairInputs):
    """The jobs of rules/trajectory.smk."""

    @property
    def pairs(self) -> list[str]:
        """The pairs whose deltas are measured along the tuning."""
        recipes = {name: pair.tuning for name, pair in self.parameters.pairs.items()}
        return [name for name, recipe in recipes.items() if recipe and recipe.trajectory > 1]

    @cached_property
    def groups(self) -> list[list[str]]:
        """The checkpoints whose deltas along the tuning share a job."""
        return self.measured_together(self.pairs)

    @cached_property
    def single(self) -> list[str]:
        """The checkpoints that have a job of their own."""
        grouped = {name for group in self.groups for name in group}
        names = [name for pair in self.pairs for name in self.artifacts.checkpoints[pair]]
        return [name for name in names if name not in grouped]

    @property
    def files(self) -> list[str]:
        """The deltas along the tuning of each of these pairs, a file for each seed."""
        checkpoints = self.artifacts.checkpoints
        return [
            f"results/trajectory/{name}.parquet"
            for pair in self.pairs
            for name in checkpoints[pair]
        ]

    @property
    def figures(self) -> list[str]:
        """A figure for each of these pairs."""
        return as_images(f"trajectory.{pair}" for pair in self.pairs)
