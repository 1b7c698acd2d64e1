"""Step `encoders`: the tiny encoders of the embedded example."""

from __future__ import annotations

from typing import Any

from affectlocus.config.encoder_recipes import EncoderRecipe
from affectlocus.core.files import sha256
from affectlocus.orchestration import rule_values
from affectlocus.orchestration.steps.step import StepJobs
from affectlocus.training.shipped import RECORD
from affectlocus.training.shipped_encoders import FOLDER


class EncodersJobs(StepJobs):
    """The jobs of rules/encoders.smk."""

    @property
    def recipes(self) -> dict[str, EncoderRecipe]:
        """Medium → the recipe of its encoder, for the encoders that are made here."""
        encoders = {name: medium.encoder for name, medium in self.parameters.media.items()}
        return {
            name: encoder.pretrain
            for name, encoder in encoders.items()
            if encoder is not None and encoder.pretrain is not None
        }

    @property
    def media(self) -> list[str]:
        """The media whose encoder is made here."""
        return [*self.recipes]

    @property
    def shipped(self) -> str:
        """A digest of the encoders in the package, so that a job reruns if they are replaced."""
        return sha256(FOLDER / RECORD)[:16]

    def settings(self, wildcards: Any) -> str:
        """The recipe of an encoder, as JSON."""
        return rule_values.settings(self.recipes[wildcards.medium])
