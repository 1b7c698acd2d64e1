"""Step `convert`: the bases that are converted from a GGUF file."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from affectlocus.core.installed_packages import package_file
from affectlocus.orchestration.rule_values import repeated
from affectlocus.orchestration.steps.step import StepJobs


class ConvertJobs(StepJobs):
    """The jobs of rules/convert.smk."""

    def path(self, name: str) -> Path:
        """The GGUF file of a base.

        Raises:
            InputError: the package of the file is not installed, or has no such file.
        """
        source = self.artifacts.bases[name]
        if source.package is not None:
            assert source.file is not None
            return package_file(source.package, source.file).path
        return Path(self.artifacts.external(source.gguf))

    def flags(self, wildcards: Any) -> str:
        """The source as an argument and options of the command line."""
        source = self.artifacts.bases[wildcards.name]
        digest = repeated("sha256", [source.sha256] if source.sha256 else [])
        if source.package is not None:
            return f"{quote(source.package)} {repeated('file', [source.file])} {digest}".strip()
        return f"{quote(self.artifacts.external(source.gguf))} {digest}".strip()

    def files(self, wildcards: Any) -> list[str]:
        """A GGUF file on disk, so that a changed file causes a rerun."""
        source = self.artifacts.bases[wildcards.name]
        if source.gguf is None:
            return []
        path = Path(self.artifacts.external(source.gguf))
        return [] if source.awaited and not path.exists() else [str(path)]
