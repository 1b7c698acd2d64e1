"""Step `senses`: the generated tasks with faces and voices."""

from __future__ import annotations

from affectlocus.config.corpus import SENSES_TASKS, Senses
from affectlocus.orchestration import rule_values
from affectlocus.orchestration.steps.step import StepJobs

FOLDER = "results/senses"
"""The folder of the tables; media paths of these tasks are relative to it."""


class SensesJobs(StepJobs):
    """The jobs of rules/senses.smk."""

    folder = FOLDER

    @property
    def tasks(self) -> list[str]:
        """The tables of all these tasks, whichever of them the experiment uses."""
        return [f"{FOLDER}/{name}.csv" for name in SENSES_TASKS]

    @property
    def used(self) -> bool:
        """Whether a task of the experiment is one of these."""
        tasks = self.parameters.tasks.items()
        return any(name in SENSES_TASKS and task.corpus for name, task in tasks)

    @property
    def settings(self) -> str:
        """The settings of the generator, as JSON."""
        return rule_values.settings(self.parameters.senses or Senses())
