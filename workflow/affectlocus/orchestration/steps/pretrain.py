"""Step `pretrain`: the tiny bases of the embedded default."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from affectlocus.config.corpus import Pretraining
from affectlocus.core.files import sha256
from affectlocus.orchestration.steps.step import TrainingJobs
from affectlocus.training.shipped import FOLDER, RECORD


class PretrainJobs(TrainingJobs):
    """The jobs of rules/pretrain.smk."""

    @property
    def shipped(self) -> str:
        """A digest of the bases in the package, so that a job reruns if they are replaced."""
        return sha256(FOLDER / RECORD)[:16]

    @cached_property
    def groups(self) -> list[list[str]]:
        """The bases that share a job: seeds of one base."""
        chunks: list[list[str]] = []
        for base in self.parameters.bases:
            seeds = self.parameters.base_seeds(base)
            names = [self.artifacts.base_checkpoint(base, seed) for seed in seeds]
            if names[0] in self.artifacts.pretrained:
                pairs = self.parameters.pairs.items()
                chunks += self.seeds_together(
                    names, [key for key, one in pairs if one.base == base]
                )
        return [chunk for chunk in chunks if len(chunk) > 1]

    @cached_property
    def single(self) -> list[str]:
        """The bases that have a job of their own."""
        grouped = {name for group in self.groups for name in group}
        return [name for name in self.artifacts.pretrained if name not in grouped]

    def _recipe(self, name: str) -> Pretraining:
        recipe = self.artifacts.bases[name].pretrain
        assert recipe is not None
        return recipe

    def settings(self, name: str) -> str:
        """The recipe of a base without its seed, as JSON; the bases of a job have the same."""
        return json.dumps(self._recipe(name).model_dump(mode="json", exclude={"seed"}))

    def of_base(self, wildcards: Any) -> str:
        """A parameter function: the same of a base that has a job of its own."""
        return self.settings(wildcards.name)

    def _own(self, name: str) -> dict[str, Any]:
        return {"seed": self._recipe(name).seed}
