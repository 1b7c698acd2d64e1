"""Sections `corpus` and `pretrain`: the embedded corpus, and a tiny base trained on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel, model_validator

from affectlocus.config.fields import WHOLE, Count, Fraction, Positive, Seed, Strict, check_heads
from affectlocus.config.messages import ParameterError

CORPUS_TASKS = (
    *("mini-caption", "mini-plot", "mini-sums"),
    *("mini-MER23", "mini-MER24", "mini-MELD", "mini-IEMOCAP"),
    *("mini-MOSI", "mini-MOSEI", "mini-SIMS", "mini-SIMSv2"),
    "mini-text",
    *("mini-place", "mini-doer"),
)
"""The tasks that the embedded corpus generator writes."""
SENSES_TASKS = ("mini-senses", "mini-face", "mini-voice", "mini-quadrant", "mini-conflict")
"""The generated tasks with a face and a voice for each sample: results/senses/TASK.csv."""


class Senses(Strict):
    """The generated tasks in which each sample has a text, a drawn face and a synthetic voice."""

    seed: Seed = Field(0, description="seed of the generator")
    people: Annotated[int, Field(ge=8), WHOLE] = Field(
        80, description="faces and speakers; the last quarter occurs only in test splits"
    )
    tuning_samples: Count = Field(3000, description="training samples of mini-senses")
    benchmark_samples: Count = Field(
        200, description="samples in each split, train and test, of each benchmark"
    )


class Corpus(Strict):
    """The embedded corpus: generated text and benchmarks, which need no download."""

    seed: Seed = Field(0, description="seed of the generator")
    documents: Count = Field(30000, description="pre-training documents")
    answered: Fraction = Field(
        0.0,
        description="share of the pre-training documents that end with a question and its answer, "
        "where the text states the answer outright; at most 0.8",
        le=0.8,
    )
    tuning_samples: Count = Field(6000, description="affective training samples")
    control_samples: Count = Field(6000, description="non-affective training samples")
    benchmark_samples: Count = Field(
        200, description="test samples of each benchmark; train and validation get the same number"
    )


class Pretraining(Strict):
    """A tiny base model that is trained on the embedded corpus."""

    architecture: Literal["qwen2", "llama", "mistral"] = Field(
        description="architecture of the model"
    )
    hidden_size: Count = Field(
        64, description="width of the residual stream; must be a multiple of heads"
    )
    intermediate_size: Count = Field(176, description="width of the feed-forward block")
    layers: Count = Field(3, description="number of layers")
    heads: Count = Field(4, description="number of query heads")
    kv_heads: Count = Field(2, description="number of key and value heads; must divide heads")
    sliding_window: Count | None = Field(
        None,
        description="number of tokens in the attention window of a position, as in the first "
        "Mistral; null: all tokens",
    )
    initializer_range: Positive = Field(
        0.05, description="standard deviation of the initial weights"
    )
    steps: Count = Field(1200, description="optimizer steps")
    batch_size: Count = Field(32, description="documents per step")
    learning_rate: Positive = Field(5e-3, description="maximum learning rate")
    beta2: Fraction = Field(0.999, description="AdamW's decay of the second moment", lt=1)
    group_by_length: bool = Field(
        False, description="put documents of similar length into a batch: less padding"
    )
    seed: Seed | Literal["each"] = Field(
        0,
        description="seed of the initial weights and of the order of documents; each: a base of "
        "its own for each of the experiment's seeds, with that seed",
    )

    @model_validator(mode="after")
    def _divides(self) -> Pretraining:
        check_heads(self.hidden_size, self.heads)
        if self.heads % self.kv_heads:
            raise ParameterError(
                "model.uneven-kv-heads",
                f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}",
                found=self.heads,
                expected=self.kv_heads,
            )
        return self


class PlacedBase(Pretraining):
    """A base with its outputs: an entry of the option `--bases` of the command `pretrain`."""

    folder: str = Field(min_length=1, description="folder of the checkpoint")
    out: str = Field(min_length=1, description="file of its manifest")

    @property
    def recipe(self) -> Pretraining:
        """The base without its outputs."""
        return Pretraining(**self.model_dump(exclude={"folder", "out"}))


class BaseList(RootModel[list[PlacedBase]]):
    """The bases of one call of `pretrain`."""

    root: Annotated[list[PlacedBase], Field(min_length=1)]
