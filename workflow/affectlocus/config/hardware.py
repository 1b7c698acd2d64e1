"""Sections `hardware` and `plan`: how jobs use the hardware, and assumptions of a plan."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from affectlocus.config.fields import Count, Name, Positive, Strict


class Hardware(Strict):
    """How a job uses its hardware."""

    precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16",
        description="on a GPU: dtype in which float32 models are evaluated, and in which tuning "
        "multiplies matrices; models in half precision keep their dtype",
    )
    cpu_precision: Literal["bfloat16", "float32"] = Field(
        "float32",
        description="on a CPU: dtype in which float32 models multiply matrices, in evaluation and "
        "tuning; weights stay in float32. bfloat16 is two to three times faster on a CPU with its "
        "instructions (avx512_bf16, amx_bf16) and slower on others; scores change slightly",
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="implementation of attention; sdpa is PyTorch's fused one"
    )
    placement: Literal["balanced", "auto", "sequential"] = Field(
        "balanced",
        description="how accelerate distributes the layers of a model over the GPUs of a job, in "
        "evaluation and tuning",
    )
    checkpointing: bool = Field(
        False,
        description="tuning: compute activations again in the backward pass; needs less memory and "
        "a third more time",
    )
    adapters_at_once: Count = Field(
        1,
        description="tuning: number of adapters that share each pass through the base; they must "
        "read the same samples and differ in their modules only. On a GPU more adapters are "
        "faster, and the last digits of a result depend on this number; on a CPU neither",
    )
    # It changes no result, so it is not among the parameters of jobs; rules/common.smk passes it.
    save_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        10,
        exclude=True,
        description="tuning and pre-training: minutes between two saves of the state, from which "
        "the next run continues after a kill; 0: save after every step. A change reruns no job",
    )


class StatedSize(Strict):
    """The size of a model, for a plan."""

    parameters: Positive = Field(examples=[7.6e9], description="number of parameters")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="dtype of the weights"
    )


class PlanAssumptions(Strict):
    """Assumptions for the plan and the size of jobs; they change no result."""

    sizes: dict[Name, StatedSize] = Field(
        {}, description="base or pair → its size, as long as its config.json is missing"
    )
    samples: dict[Name, Count] = Field(
        {}, description="task → number of its test samples, as long as it is not prepared"
    )
    unknown_samples: Count = Field(
        1000, description="number of test samples of a task that is not listed"
    )
    prompt_tokens: Count = Field(96, description="mean number of tokens of a prompt")
    card_gb: Positive = Field(
        80, description="memory of a GPU in GB; a model that needs more gets several GPUs"
    )
    card_tflops: Positive = Field(
        300,
        description="peak of a GPU in bfloat16 in TFLOPS, without sparsity: A100 312, H100 and "
        "H200 989",
    )
    share_of_peak: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="share of the peak that tuning and evaluation reach"
    )
    card_gb_per_second: Positive = Field(
        1500,
        description="memory bandwidth of a GPU in GB/s; each generated token reads all weights",
    )
    core_gflops: Positive = Field(40, description="speed of a CPU core in float32 in GFLOPS")
    cards_from: Positive = Field(
        5e7, description="number of parameters from which a job on a cluster requests a GPU"
    )
