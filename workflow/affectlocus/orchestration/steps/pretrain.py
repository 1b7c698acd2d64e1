"""Step `pretrain`: the tiny bases of the embedded default."""

from __future__ import annotations

from typing import Any

from affectlocus.orchestration import rule_values
from affectlocus.orchestration.steps.step import StepJobs


class PretrainJobs(StepJobs):
    """The jobs of rules/pretrain.smk."""

    def settings(self, wildcards: Any) -> str:
        """The recipe of a base, as JSON."""
        recipe = self.parameters.bases[wildcards.name].pretrain
        assert recipe is not None
        return rule_values.settings(recipe)
