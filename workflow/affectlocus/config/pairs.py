"""Section `pairs`: a base, a tuned checkpoint or a recipe, and what the pair is evidence of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from affectlocus.config.fields import Positive, Strict, as_folder
from affectlocus.config.sources import Source
from affectlocus.config.tuning import PairRecipe


class Reading(Strict):
    """How a tuned checkpoint is read, where its files do not tell."""

    alpha: Positive | None = Field(None, description="LoRA alpha of a .pth that has none")
    prefix: str = Field("", description="what a multimodal model's names begin with")
    any_base: bool = Field(False, description="read an adapter that names another base")


class PairConfig(Strict):
    """A base and a tuned checkpoint: one to read, or one to tune."""

    base: str = Field(description="name of one of bases")
    # YAML's bare null is the word, not an absence.
    domain: Annotated[
        Literal["affective", "control", "null"],
        BeforeValidator(lambda value: "null" if value is None else value),
    ] = Field(
        "affective",
        description="subject of the training data, which decides the benchmarks; null for a pair "
        "that learned nothing about either",
    )
    tuned: (
        Annotated[Source, BeforeValidator(as_folder, json_schema_input_type=str | Source)] | None
    ) = Field(None, description="a tuned model or an adapter: its path, or where it comes from")
    tuning: PairRecipe | None = None
    reading: Reading = Reading()

    @model_validator(mode="after")
    def _one_source(self) -> PairConfig:
        if (self.tuned is None) == (self.tuning is None):
            raise ValueError("expected either tuned (a checkpoint) or tuning (a recipe)")
        return self

    @property
    def evidence(self) -> Literal["affective", "control", "null"]:
        """What the pair's results are evidence of: a null if its answers were shuffled."""
        return "null" if self.tuning is not None and self.tuning.shuffled else self.domain
