"""Sections `hardware` and `plan`: how machines are used, and what a plan assumes of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from affectlocus.config.fields import Count, Name, Positive, Strict


class Hardware(Strict):
    """How a job uses its device; on a CPU models stay in their stored dtype, and alone."""

    precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16",
        description="on a GPU, what evaluation computes float32 models in, and what tuning "
        "multiplies in; half precision stays as it is stored",
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="sdpa: PyTorch's fused attention"
    )
    placement: Literal["balanced", "auto", "sequential"] = Field(
        "balanced",
        description="how accelerate spreads the layers of a model over the cards of its job, where "
        "there are several; for evaluation and for tuning",
    )
    checkpointing: bool = Field(
        False,
        description="tuning: activations are computed again in the backward pass: less memory, a "
        "third more time",
    )
    # It changes no result, and is in no job's parameters: rules/common.smk hands it over.
    save_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        10,
        exclude=True,
        description="tuning and pre-training: minutes between two saves of the state, which the "
        "next run goes on from if this one is killed; 0 saves after every step; changed, it reruns "
        "nothing",
    )


class StatedSize(Strict):
    """A model's size, stated."""

    parameters: Positive = Field(examples=[7.6e9], description="number of parameters")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="dtype of the weights"
    )


class PlanAssumptions(Strict):
    """What is assumed where nothing is known yet: it sizes jobs, and changes no result."""

    sizes: dict[Name, StatedSize] = Field(
        {}, description="base or pair → its size, until its config.json is here"
    )
    samples: dict[Name, Count] = Field(
        {}, description="task → its test samples, until it is prepared"
    )
    unknown_samples: Count = Field(1000, description="of a task that is not listed")
    prompt_tokens: Count = Field(96, description="tokens of a prompt, in the mean")
    card_gb: Positive = Field(80, description="memory of a card; a model that needs more gets more")
    card_tflops: Positive = Field(
        300, description="peak of a card in bfloat16, without sparsity: A100 312, H100 and H200 989"
    )
    share_of_peak: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of that peak which tuning and evaluation reach"
    )
    card_gb_per_second: Positive = Field(
        1500, description="memory bandwidth of a card: a token of free text reads every weight"
    )
    core_gflops: Positive = Field(40, description="what a CPU core reaches in float32")
    cards_from: Positive = Field(
        5e7, description="parameters from which a cluster's job asks for a card"
    )
