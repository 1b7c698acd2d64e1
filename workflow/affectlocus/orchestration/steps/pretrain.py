"""Step `pretrain`: the tiny bases of the embedded default."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from affectlocus.config.corpus import Pretraining
from affectlocus.core.files import sha256
from affectlocus.orchestration.steps.step import StepJobs, equal_parts
from affectlocus.training.shipped import FOLDER, RECORD


class PretrainJobs(StepJobs):
    """The jobs of rules/pretrain.smk."""

    @property
    def shipped(self) -> str:
        """A digest of the bases in the package, so that a job reruns if they are replaced."""
        return sha256(FOLDER / RECORD)[:16]

    @cached_property
    def groups(self) -> list[list[str]]:
        """The bases that share a job: half of the seeds of one base at most."""
        size = self.parameters.matrix.tunings_per_job
        chunks: list[list[str]] = []
        for base in self.parameters.bases:
            seeds = self.parameters.base_seeds(base)
            names = [self.artifacts.base_checkpoint(base, seed) for seed in seeds]
            if names[0] in self.artifacts.pretrained:
                chunks += equal_parts(names, min(size, -(-len(names) // 2)))
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

    def bases_json(self, wildcards: Any, output: Any) -> str:  # noqa: ARG002
        """What the bases of a job have of their own, as JSON: outputs and seed.

        Snakemake does not compare parameters that are derived from `output`. So another number of
        bases in a job (matrix.tunings_per_job) reruns nothing.
        """
        files = [output.manifest] if isinstance(output.manifest, str) else output.manifest
        names = [Path(file).name.removesuffix(".json") for file in files]
        return json.dumps(
            [
                {"folder": f"checkpoints/{name}", "out": file, "seed": self._recipe(name).seed}
                for name, file in zip(names, files, strict=True)
            ]
        )
