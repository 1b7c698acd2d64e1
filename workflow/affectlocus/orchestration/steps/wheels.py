"""Step `wheels`: the emotion wheels of protocol mer-unibench."""

from __future__ import annotations

from pathlib import Path

from affectlocus.orchestration.rule_values import repeated
from affectlocus.orchestration.steps.step import StepJobs
from affectlocus.scoring.wheels import RELEASED
from affectlocus.scoring.wheels import SHA256 as RELEASED_FILES

RELEASED_WHEELS = [f"results/wheels/{name}" for name in RELEASED_FILES]
"""The emotion wheels that AffectGPT released, after their download."""


class WheelsJobs(StepJobs):
    """The jobs of rules/wheels.smk, and the wheels as other steps read them."""

    @property
    def folder(self) -> str | None:
        """The folder of the emotion wheels; None if no score needs them."""
        score = self.parameters.score
        if not score.protocols or score.wheels is None:
            return None
        return (
            "results/wheels" if score.wheels == RELEASED else self.artifacts.external(score.wheels)
        )

    @property
    def files(self) -> list[str]:
        """The files of the wheels, as inputs."""
        if self.folder is None:
            return []
        if self.parameters.score.wheels == RELEASED:
            return RELEASED_WHEELS
        files = sorted(Path(self.folder).iterdir())
        return [str(file) for file in files if file.suffix in (".csv", ".xlsx")]

    @property
    def flags(self) -> str:
        """The folder as an option of the command line."""
        return repeated("wheels", [self.folder] if self.folder else [])
