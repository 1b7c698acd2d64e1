"""How a base is tuned: section `tune`, and `tuning` of a pair."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    RootModel,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from affectlocus.config.bridges import BridgeConfig
from affectlocus.config.fields import (
    WHOLE,
    Count,
    Fraction,
    ModuleSet,
    Positive,
    Seed,
    Strict,
    distinct,
)
from affectlocus.config.messages import ParameterError
from affectlocus.core.projections import ALL

# Keys that recipes did not have at first.
_LATER = ("bridge", "start", "answers", "end", "clip", "schedule")


class Recipe(Strict):
    """How a model is tuned; compared arms have the same recipe, and so the same budget."""

    method: Literal["lora", "sft"] = Field(
        "lora", description="LoRA adapters, or full tuning of the chosen projections"
    )
    data: Annotated[list[str], AfterValidator(distinct), Field(min_length=1)] = Field(
        description="tasks whose train splits are mixed; a pass uses each sample once"
    )
    rank: Count = Field(8, description="LoRA rank r")
    alpha: Positive = Field(16, description="LoRA alpha: the delta is alpha / r · B·A")
    dropout: Fraction = Field(0.0, description="LoRA dropout during training")
    steps: Count = Field(300, description="optimizer steps; the state after the last step is used")
    batch_size: Count = Field(32, description="samples per step")
    learning_rate: Positive = Field(3e-3, description="maximum learning rate")
    warmup: Fraction = Field(
        0.05, description="share of the steps in which the learning rate rises"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW's weight decay")
    max_length: Count = Field(
        256, description="maximum number of tokens, prompt and target together"
    )
    group_by_length: bool = Field(
        False,
        description="put samples of similar length into a batch: less padding, but less mixing",
    )
    shuffled: bool = Field(
        False,
        description="shuffle the answers of each task among its samples; the pair is then a null "
        "in every domain",
    )
    start: str | None = Field(
        None,
        min_length=1,
        description="token before each sample in training alone. By default the tokenizer's start "
        "token, if it has one, is there in training and in evaluation; AffectGPT trains Qwen2.5 "
        "with <|im_start|> and asks it without",
    )
    answers: Literal["spaced", "separate"] = Field(
        "spaced",
        description="how an answer is encoded. spaced: as a word after a space, as in evaluation; "
        "separate: as a text of its own, as AffectGPT does, whose prompts end with a space",
    )
    end: str = Field(
        "", description="text after each answer, before the end token; AffectGPT's is ###"
    )
    clip: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="maximum norm of the gradient, to which a larger one is scaled; 0: no limit, "
        "as in AffectGPT",
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="learning rate after the warm-up: falling to 0, or the same"
    )

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The keys, without later ones that have their default.

        So the parameters of a tuning are those that it had before there were these keys, and
        nothing reruns.
        """
        keys: dict[str, Any] = dump(self)
        defaults = {name: one.default for name, one in type(self).model_fields.items()}
        later = {name for name in _LATER if keys.get(name, defaults) == defaults.get(name)}
        return {name: value for name, value in keys.items() if name not in later}


class PairRecipe(Recipe):
    """A recipe with the module set that it tunes; it runs once for each of `seeds`."""

    modules: ModuleSet = Field(ALL, description="module set to tune")
    trajectory: Annotated[int, Field(ge=0, le=10_000), WHOLE] = Field(
        0,
        description="number of evenly spaced steps at which the delta is measured; the last is the "
        "final step",
    )

    @model_validator(mode="after")
    def _enough_steps(self) -> Self:
        if self.trajectory == 1 or self.trajectory > self.steps:
            raise ParameterError(
                "params.wrong-trajectory",
                f"trajectory is {self.trajectory}; expected 2 to {self.steps}, or 0 (1 would be "
                "only the final step, which is always measured)",
                found=self.trajectory,
                expected=self.steps,
            )
        return self


class Tuning(PairRecipe):
    """A recipe with its seed, which defines one tuning."""

    seed: Seed = 0
    fair: bool = Field(
        False, description="choose the rank so that as many parameters are trained as for all seven"
    )
    bridge: BridgeConfig | None = None


class PlacedTuning(Tuning):
    """A tuning with its outputs: an entry of the option `--tunings` of the command `tune`."""

    folder: str = Field(min_length=1, description="folder of the adapter or model")
    out: str = Field(min_length=1, description="file of its manifest")

    @property
    def recipe(self) -> Tuning:
        """The tuning without its outputs."""
        return Tuning(**self.model_dump(exclude={"folder", "out"}))


class TuningList(RootModel[list[PlacedTuning]]):
    """The tunings of one call of `tune`."""

    root: Annotated[list[PlacedTuning], Field(min_length=1)]


class SharedKeys(RootModel[dict[str, Any]]):
    """Keys that all trainings of a call share."""


class OwnKeys(RootModel[list[dict[str, Any]]]):
    """Keys of trainings, which complete or replace those that all of them share."""
