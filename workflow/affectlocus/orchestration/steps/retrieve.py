"""Step `retrieve`: the checkpoints that the user brings."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from affectlocus.config.media import Encoder
from affectlocus.core.checkpoint_files import checkpoint_paths
from affectlocus.orchestration.rule_values import repeated
from affectlocus.orchestration.steps.step import StepJobs


class RetrieveJobs(StepJobs):
    """The jobs of rules/retrieve.smk."""

    def flags(self, wildcards: Any) -> str:
        """The source as an argument and options of the command line."""
        source = self.artifacts.source(wildcards.name)
        if source.hub is not None:
            return f"{quote(source.hub)} {repeated('revision', [source.revision])}"
        if isinstance(source, Encoder) and source.package is not None:
            return f"{quote(source.package)} {repeated('package-file', [source.file])}"
        if source.url is not None:
            return f"{quote(source.url)} {repeated('sha256', [source.sha256])}"
        return quote(self.artifacts.external(source.folder))

    def files(self, wildcards: Any) -> list[str]:
        """The files of a local checkpoint, so that changed weights cause a rerun."""
        source = self.artifacts.source(wildcards.name)
        if source.folder is None:
            return []
        path = Path(self.artifacts.external(source.folder))
        if source.awaited and not path.exists():
            return []
        return [str(file) for file in (checkpoint_paths(path) if path.is_dir() else [path])]
