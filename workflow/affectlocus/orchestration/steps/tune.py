"""Step `tune`: the checkpoints that the workflow tunes."""

from __future__ import annotations

from typing import Any

from affectlocus.orchestration import rule_values
from affectlocus.orchestration.rule_values import checkpoint
from affectlocus.orchestration.steps.step import StepJobs
from affectlocus.orchestration.wildcard_patterns import combinations_of


class TuneJobs(StepJobs):
    """The jobs of rules/tune.smk."""

    @property
    def pattern(self) -> str:
        """A regular expression of exactly the checkpoints that the workflow tunes."""
        return combinations_of(
            (head, f"{dot}{seed}")
            for head, dot, seed in (name.rpartition(".") for name in self.artifacts.tuned)
        )

    def base(self, wildcards: Any) -> str:
        """The manifest of the base."""
        return checkpoint(self.artifacts.tunings[wildcards.name][0])

    def weights(self, wildcards: Any) -> list[str]:
        """The weights of the base, if the workflow makes them."""
        return self.artifacts.weights(self.artifacts.tunings[wildcards.name][0])

    def data(self, wildcards: Any) -> list[str]:
        """The prepared tasks that a checkpoint is tuned on."""
        recipe = self.artifacts.tunings[wildcards.name][1]
        return [f"results/data/{task}.parquet" for task in recipe.data]

    def settings(self, wildcards: Any) -> str:
        """The recipe, as JSON."""
        return rule_values.settings(self.artifacts.tunings[wildcards.name][1])
