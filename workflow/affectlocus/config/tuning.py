"""How a base is tuned: section `tune`, and `tuning` of a pair."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from affectlocus.config.fields import Count, Fraction, ModuleSet, Positive, Seed, Strict, distinct
from affectlocus.core.projections import ALL


class Recipe(Strict):
    """How a model is tuned: the budget, the same for every arm that is compared."""

    method: Literal["lora", "sft"] = Field(
        "lora", description="LoRA adapters, or full tuning of the chosen projections"
    )
    data: Annotated[list[str], AfterValidator(distinct), Field(min_length=1)] = Field(
        description="tasks whose train splits are mixed, each sample once per pass"
    )
    rank: Count = Field(8, description="LoRA rank r")
    alpha: Positive = Field(16, description="LoRA alpha: the delta is alpha / r · B·A")
    dropout: Fraction = Field(0.0, description="LoRA dropout during training")
    steps: Count = Field(300, description="optimizer steps; the state after the last one is used")
    batch_size: Count = Field(32, description="samples per step")
    learning_rate: Positive = Field(3e-3, description="highest learning rate")
    warmup: Fraction = Field(0.05, description="share of the steps in which the rate rises")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW's weight decay")
    max_length: Count = Field(256, description="tokens of prompt and target together")
    group_by_length: bool = Field(
        False, description="samples of like length share a batch: less padding, batches less mixed"
    )
    shuffled: bool = Field(
        False,
        description="the answers of each task are shuffled among its samples; the pair is a null, "
        "whatever its domain",
    )


class PairRecipe(Recipe):
    """A recipe and where it may act; it is followed once for each of `seeds`."""

    modules: ModuleSet = Field(ALL, description="module set that is tuned")
    trajectory: int = Field(
        0,
        ge=0,
        le=10_000,
        description="deltas are measured at so many steps, evenly spaced; the last is the end",
    )

    @model_validator(mode="after")
    def _enough_steps(self) -> Self:
        if self.trajectory == 1 or self.trajectory > self.steps:
            raise ValueError(
                f"trajectory is {self.trajectory}; expected 2 to {self.steps} steps to measure at "
                "(one would be the end, which is measured anyway), or 0"
            )
        return self


class Tuning(PairRecipe):
    """A recipe and its seed: what one tuning is."""

    seed: Seed = 0
    fair: bool = Field(
        False, description="another rank: as many parameters as all seven have at this one"
    )
