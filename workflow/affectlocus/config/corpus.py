"""Sections `corpus` and `pretrain`: the embedded corpus, and a tiny base trained on it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from affectlocus.config.fields import Count, Positive, Seed, Strict

CORPUS_TASKS = (
    *("mini-caption", "mini-plot", "mini-sums"),
    *("mini-MER23", "mini-MER24", "mini-MELD", "mini-IEMOCAP"),
    *("mini-MOSI", "mini-MOSEI", "mini-SIMS", "mini-SIMSv2"),
    "mini-text",
    *("mini-place", "mini-doer"),
)
"""The tasks that the embedded corpus generator writes."""


class Corpus(Strict):
    """The embedded corpus: generated text and benchmarks, so that nothing is downloaded."""

    seed: Seed = Field(0, description="seed of the generator")
    documents: Count = Field(30000, description="pre-training documents")
    tuning_samples: Count = Field(6000, description="affective training samples")
    control_samples: Count = Field(6000, description="non-affective training samples")
    benchmark_samples: Count = Field(
        200, description="test samples of each benchmark; as many again for train and validation"
    )


class Pretraining(Strict):
    """A tiny base of our own, trained on the embedded corpus."""

    architecture: Literal["qwen2", "llama", "mistral"]
    hidden_size: Count = 64
    intermediate_size: Count = 176
    layers: Count = 3
    heads: Count = 4
    kv_heads: Count = 2
    sliding_window: Count | None = Field(
        None, description="tokens that a position sees back; none: all (Mistral's first had one)"
    )
    steps: Count = 1200
    batch_size: Count = 32
    learning_rate: Positive = 5e-3
    seed: Seed = 0

    @model_validator(mode="after")
    def _divides(self) -> Pretraining:
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        return self
