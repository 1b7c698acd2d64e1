"""Step `encode`: the features of the media of tasks."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from affectlocus.config.corpus import SENSES_TASKS
from affectlocus.core.errors import InputError
from affectlocus.orchestration import rule_values
from affectlocus.orchestration.artifacts import Artifacts, encoder_checkpoint
from affectlocus.orchestration.rule_values import checkpoint, complete, repeated
from affectlocus.orchestration.steps import senses
from affectlocus.orchestration.steps.prepare import PrepareJobs
from affectlocus.orchestration.steps.step import StepJobs


class EncodeJobs(StepJobs):
    """The jobs of rules/encode.smk.

    Attributes:
        listed: task → medium → the paths of its files, of the tasks whose tables were read. Of the
            others, which jobs write, the table is an input, and counts for its media.
    """

    def __init__(self, artifacts: Artifacts, prepare: PrepareJobs) -> None:
        super().__init__(artifacts)
        self._prepare = prepare
        self.listed: dict[str, dict[str, list[str]]] = {}

    @cached_property
    def jobs(self) -> list[tuple[str, str]]:
        """(task, medium) of every job."""
        return [(task, one) for task, keys in self.parameters.tasks.items() for one in keys.media]

    def features(self, task: str) -> list[str]:
        """The features of a task's media."""
        return [features(task, medium) for medium in self.parameters.tasks[task].media]

    def files(self, wildcards: Any) -> dict[str, Any]:
        """The tables of a task and the encoder, as inputs."""
        tables = self._prepare.tables(wildcards.task)
        encoder = self._encoder(wildcards.medium)
        if encoder is None:
            return tables
        made = []
        if self._is_made(wildcards.medium):
            made = [complete(f"encoders/{wildcards.medium}")]
        return tables | {"encoder": [encoder, *made]}

    def _is_made(self, medium: str) -> bool:
        encoder = self.parameters.media[medium].encoder
        return encoder is not None and encoder.pretrain is not None

    def _encoder(self, medium: str) -> str | None:
        """The manifest of a medium's encoder; None for features that are given as files."""
        if self.parameters.media[medium].encoder is None:
            return None
        if self._is_made(medium):
            return f"results/encoders/{medium}.json"
        return checkpoint(encoder_checkpoint(medium))

    def encoder_flag(self, wildcards: Any) -> str:
        """The encoder as an option of the command line."""
        encoder = self._encoder(wildcards.medium)
        return "" if encoder is None else repeated("encoder", [encoder])

    def flags(self, wildcards: Any) -> str:
        """The tables of a task as options of the command line."""
        return self._prepare.table_flags(wildcards.task)

    def root(self, wildcards: Any) -> str:
        """The folder that the paths of a task's media are relative to."""
        task = self.parameters.tasks[wildcards.task]
        if task.corpus and wildcards.task in SENSES_TASKS:
            return senses.FOLDER
        return self.artifacts.external(".")

    def settings(self, wildcards: Any) -> str:
        """Which samples a task has, as JSON; what only prompts depend on is left out."""
        task = self.parameters.tasks[wildcards.task]
        own = {
            "media": {wildcards.medium: task.media[wildcards.medium]},
            "prompt": "{text}",
            "context": None,
            "overlap_limit": 1.0,
        }
        return rule_values.settings(task.reading.model_copy(update=own))

    def reading(self, wildcards: Any) -> str:
        """How a medium is read and encoded, as JSON."""
        return rule_values.settings(self.parameters.media[wildcards.medium])

    def state(self, wildcards: Any) -> str:
        """A digest of the names, sizes and times of a job's media files."""
        listed = self.listed.get(wildcards.task, {}).get(wildcards.medium)
        if listed is None:
            return ""
        root = Path(self.root(wildcards))
        found = [[file, *_stat(root / file)] for file in listed]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def features(task: str, medium: str) -> str:
    """The features of one medium of a task; their index has the suffix .parquet."""
    return f"results/features/{task}/{medium}.safetensors"


def _stat(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except (OSError, ValueError, InputError):
        return []
    return [stat.st_size, stat.st_mtime_ns]
