"""Step `pretrain`: the tiny bases of the embedded default."""

from __future__ import annotations

from typing import Any

from affectlocus.core.files import sha256
from affectlocus.orchestration import rule_values
from affectlocus.orchestration.steps.step import StepJobs
from affectlocus.training.shipped import FOLDER, RECORD


class PretrainJobs(StepJobs):
    """The jobs of rules/pretrain.smk."""

    @property
    def shipped(self) -> str:
        """A digest of the bases in the package, so that a job reruns if they are replaced."""
        return sha256(FOLDER / RECORD)[:16]

    def settings(self, wildcards: Any) -> str:
        """The recipe of a base, as JSON."""
        recipe = self.artifacts.bases[wildcards.name].pretrain
        assert recipe is not None
        return rule_values.settings(recipe)
