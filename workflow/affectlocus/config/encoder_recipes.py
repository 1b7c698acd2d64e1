"""Key `media.X.encoder.pretrain`: a tiny encoder of the embedded example, made here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from affectlocus.config.fields import WHOLE, Count, Positive, Seed, Strict, check_heads
from affectlocus.config.messages import ParameterError


class EncoderRecipe(Strict):
    """A tiny encoder that is drawn from a seed, and trained on drawn faces if it sees pictures.

    The targets of the training are no labels of affect: who the person is, how large the face is,
    where it is, how it is lit, and a small picture of the same face in a standard view.
    """

    architecture: Literal["clip", "hubert"] = Field(
        description="clip: the vision tower of CLIP, for the drawn faces; hubert: for the "
        "synthetic voices"
    )
    hidden_size: Count = Field(64, description="width; must be a multiple of heads")
    layers: Count = Field(3, description="number of layers")
    heads: Count = Field(4, description="number of heads")
    examples: Count = Field(
        16000,
        description="drawn faces that clip is trained on, or drawn voices over which hubert's "
        "output gets mean 0 and deviation 1",
    )
    steps: Annotated[int, Field(ge=0), WHOLE] = Field(
        0, description="optimizer steps; 0: the initial weights. hubert is not trained"
    )
    batch_size: Count = Field(64, description="faces per step")
    learning_rate: Positive = Field(2e-3, description="maximum learning rate")
    seed: Seed = Field(0, description="seed of the initial weights, the faces and their order")

    @model_validator(mode="after")
    def _is_sound(self) -> EncoderRecipe:
        check_heads(self.hidden_size, self.heads)
        if self.architecture == "hubert" and self.steps:
            raise ParameterError(
                "encoder.hubert-not-trained",
                f"steps: found {self.steps}; hubert is not trained here: remove steps",
                found=self.steps,
            )
        return self
