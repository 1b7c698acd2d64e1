"""Section `pairs`: a base with a tuned checkpoint or a recipe, and the domain of the tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from affectlocus.config.fields import Count, Positive, Strict
from affectlocus.config.messages import ParameterError
from affectlocus.config.sources import SourceOrPath
from affectlocus.config.tuning import PairRecipe


class Reading(Strict):
    """How a tuned checkpoint is read, if its files do not say."""

    alpha: Positive | None = Field(None, description="LoRA alpha of a .pth file without one")
    prefix: str = Field(
        "", description="prefix of the language model's tensor names in a multimodal model"
    )
    any_base: bool = Field(False, description="read an adapter even if it names another base")


class PairConfig(Strict):
    """A base and a tuned checkpoint, which exists or is tuned here."""

    base: str = Field(description="name of a base in bases")
    # A bare null in YAML means the word here.
    domain: Annotated[
        Literal["affective", "control", "null"],
        BeforeValidator(lambda value: "null" if value is None else value),
    ] = Field(
        "affective",
        description="subject of the training data; it decides which benchmarks the pair's cells "
        "answer. null: the pair learned nothing about either domain",
    )
    tuned: SourceOrPath | None = Field(
        None, description="a tuned model or an adapter: a path or a source"
    )
    tuning: PairRecipe | None = None
    bridge: str | None = Field(
        None,
        description="name of a bridge in bridges, which turns media into soft tokens; it is tuned "
        "together with the language model, or is part of the tuned checkpoint",
    )
    initial: SourceOrPath | None = Field(
        None,
        description="with tuned and bridge: a checkpoint with the bridge as it was before the "
        "tuning; by default a bridge is drawn",
    )
    replicates: Count | None = Field(
        None,
        description="how many replicates the pair has at most: those of the first seeds. Without "
        "it: all. For a pair that is tuned here. A base is trained for the seeds of its pairs only",
    )
    reading: Reading = Reading()

    @model_validator(mode="after")
    def _one_source(self) -> PairConfig:
        if (self.tuned is None) == (self.tuning is None):
            raise ParameterError(
                "pair.not-one-source", "expected either tuned (a checkpoint) or tuning (a recipe)"
            )
        if self.initial is not None and (self.tuned is None or self.bridge is None):
            raise ParameterError(
                "pair.unused-initial",
                "initial needs tuned and bridge, because a bridge that is tuned here starts from "
                "the bridge that is drawn here; remove initial",
            )
        if self.replicates is not None and self.tuning is None:
            raise ParameterError(
                "pair.replicates-of-brought",
                "replicates is for a pair that is tuned here; a brought checkpoint has one. "
                "Remove the key",
                unused="replicates",
            )
        return self

    @property
    def evidence(self) -> Literal["affective", "control", "null"]:
        """The domain that the pair's results are evidence for; null if its answers are shuffled."""
        return "null" if self.tuning is not None and self.tuning.shuffled else self.domain
