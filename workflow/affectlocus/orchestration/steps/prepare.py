"""Step `prepare`: the users' data files."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from affectlocus.config.corpus import SENSES_TASKS
from affectlocus.config.files import DataFile
from affectlocus.core.files import matching
from affectlocus.data.sources import tables
from affectlocus.orchestration import rule_values
from affectlocus.orchestration.rule_values import repeated
from affectlocus.orchestration.steps import senses
from affectlocus.orchestration.steps.step import StepJobs


class PrepareJobs(StepJobs):
    """The jobs of rules/prepare.smk."""

    @property
    def hub_tables(self) -> dict[str, DataFile]:
        """TASK.KEY → a file of a task that is downloaded from a data set on the hub."""
        return {
            f"{name}.{key}": table
            for name, task in self.parameters.tasks.items()
            for key, table in tables(task).items()
            if table.hub is not None
        }

    def hub_flags(self, wildcards: Any) -> str:
        """The source of a downloaded file, as an argument and options of the command line."""
        table = self.hub_tables[wildcards.name]
        return (
            f"{quote(str(table.hub))} {repeated('revision', [table.revision])} "
            f"{repeated('file', [table.file])}"
        )

    def paths(self, task: str) -> dict[str, str]:
        """Split, `all` or `join` → a path, which may contain * and ?, or a download's manifest."""
        if self.parameters.tasks[task].files is None:
            folder = senses.FOLDER if task in SENSES_TASKS else "results/corpus"
            return {"all": f"{folder}/{task}.csv"}
        return {
            key: f"results/data/sources/{task}.{key}.json"
            if table.hub is not None
            else self.artifacts.external(table.file)
            for key, table in tables(self.parameters.tasks[task]).items()
        }

    def files(self, wildcards: Any) -> dict[str, str | list[str]]:
        """The files of a task, and the indexes of its features, as inputs."""
        indexes = self._indexes(wildcards.task)
        return self.tables(wildcards.task) | ({"media": indexes} if indexes else {})

    def _indexes(self, name: str) -> list[str]:
        """The indexes of the features of a task's media."""
        media = self.parameters.tasks[name].media
        return [f"results/features/{name}/{medium}.parquet" for medium in media]

    def tables(self, name: str) -> dict[str, str | list[str]]:
        """Split, `all` or `join` → the files of a task, as inputs."""
        files: dict[str, str | list[str]] = {}
        task = self.parameters.tasks[name]
        awaited = tables(task) if task.awaited else {}
        for key, path in self.paths(name).items():
            found = matching(Path(path))
            missing = not any(file.exists() for file in found)
            if missing and key in awaited and awaited[key].hub is None:
                continue  # a dry run plans without it; a run has refused it before
            names = [str(file) for file in found]
            files[key] = path if names in ([path], []) else names
        return files

    def flags(self, wildcards: Any) -> str:
        """The files of a task, and the indexes of its features, as options of the command line."""
        files, indexes = self.table_flags(wildcards.task), self._indexes(wildcards.task)
        return f"{files} {repeated('media', indexes)}" if indexes else files

    def table_flags(self, name: str) -> str:
        """The files of a task as options of the command line."""
        return " ".join(f"--{key} {quote(path)}" for key, path in self.paths(name).items())

    def settings(self, wildcards: Any) -> str:
        """How a task is read, as JSON."""
        return rule_values.settings(self.parameters.tasks[wildcards.task].reading)
