"""Step `probes`: what a linear probe reads from the media of tasks."""

from __future__ import annotations

from affectlocus.orchestration.steps.step import StepJobs


class ProbesJobs(StepJobs):
    """The jobs of rules/probes.smk."""

    @property
    def tasks(self) -> list[str]:
        """The benchmarks with media and labels that have a split to fit a probe to."""
        return [
            name
            for name in self.parameters.benchmarks
            if (task := self.parameters.tasks[name]).media and task.labels is not None
            if "train" in task.splits
        ]

    @property
    def features(self) -> list[str]:
        """The features of all media of these tasks."""
        return [
            f"results/features/{name}/{medium}.safetensors"
            for name in self.tasks
            for medium in self.parameters.tasks[name].media
        ]

    @property
    def indexes(self) -> list[str]:
        """The indexes of the features."""
        return [path.replace(".safetensors", ".parquet") for path in self.features]

    @property
    def files(self) -> list[str]:
        """The table of the probes; nothing if no benchmark has media."""
        return ["results/probes.csv"] if self.tasks else []
