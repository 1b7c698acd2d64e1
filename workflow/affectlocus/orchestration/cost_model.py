"""The cost of a job (seconds, memory, GPUs, disk) as formulas of the model's size.

The rules use these formulas for their resources, and `affectlocus plan` for its sums. P is the
number of parameters. For each token a forward pass takes 2P operations, and a backward pass 2P for
the activations and 2P for the weights that are trained (Kaplan et al. 2020,
arXiv 2001.08361, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from affectlocus.checkpoints.model_size import Size
from affectlocus.config.hardware import Hardware, PlanAssumptions
from affectlocus.config.tuning import Recipe

_START = 20.0  # seconds: interpreter, libraries, a first kernel
_READ = 1e9  # bytes a second at which weights are loaded
_FREE = 0.9  # share of a GPU's memory that a job can use
_ACTIVATIONS = 34  # bytes for each token, layer and unit of width (arXiv 2205.05198, section 4)
_LOGIT = 10  # bytes of a logit and its gradient, in half and full precision together
_WORKING = 4e9  # bytes of GPU memory: CUDA, and a forward pass without gradients
_LIBRARIES = 2500  # MB of main memory


@dataclass(frozen=True)
class Rates:
    """Operations and bytes read from memory per second, of a job's device."""

    operations: float
    bytes: float


def rates(plan: PlanAssumptions, on_card: bool) -> Rates:
    """The rates of one GPU or one core. Layers on several GPUs are computed one after another."""
    if on_card:
        return Rates(
            plan.card_tflops * 1e12 * plan.share_of_peak, plan.card_gb_per_second * 1e9 / 2
        )
    return Rates(plan.core_gflops * 1e9, 5e9)


def conversion_seconds(size: Size) -> float:
    """Seconds of the conversion of a GGUF file: read, dequantised, written, and tried on a text."""
    return _START + size.bytes / 2e7


def tuning_seconds(size: Size, recipe: Recipe, modules: str, rate: Rates, again: bool) -> float:
    """Seconds of a tuning after the start of its job: 4P operations for each token with LoRA.

    Tokens are steps x batch_size x max_length, an upper bound. Full tuning adds 2P for the share of
    the weights that is trained; `again` (activations are computed a second time) adds 2P.
    """
    tokens = recipe.steps * recipe.batch_size * recipe.max_length
    passes = 4.0 + 2 * again
    if recipe.method == "sft":
        passes += 2 * size.share(modules)
    return tokens * passes * size.parameters / rate.operations


def tuning_bytes(size: Size, recipe: Recipe, modules: str, hardware: Hardware) -> float:
    """Bytes of GPU memory: weights, 16 bytes for each trained parameter, activations, logits.

    Full tuning holds the weights in float32. With checkpointing, activations take two bytes for
    each token, layer and unit of width. Adapters in one pass (`adapters_at_once`) have tokens each.
    """
    at_once = 1 if recipe.method == "sft" else hardware.adapters_at_once
    if recipe.method == "sft":
        held = 4 * size.parameters + 12 * size.share(modules) * size.parameters
    else:
        held = size.bytes + at_once * 16 * size.lora_parameters(modules, recipe.rank)
    tokens = at_once * recipe.batch_size * recipe.max_length
    each = 2 if hardware.checkpointing else _ACTIVATIONS
    return (
        held
        + tokens * size.hidden * size.layers * each
        + tokens * size.vocabulary * _LOGIT
        + _WORKING / 2
    )


def tuned_bytes(size: Size, recipe: Recipe, modules: str) -> int:
    """Bytes on disk: of an adapter in float32, or of a whole model in the base's dtype."""
    if recipe.method == "sft":
        return size.bytes
    return 4 * size.lora_parameters(modules, recipe.rank)


def answering_seconds(size: Size, tokens: float, rate: Rates) -> float:
    """Seconds of forward passes: 2P operations for each token of prompts and candidates."""
    return tokens * 2 * size.parameters / rate.operations


def writing_seconds(size: Size, samples: float, batch: int, tokens: int, rate: Rates) -> float:
    """Seconds of generating text.

    Each token takes the time to read the weights once for the batch, or 2P operations for each
    sample of the batch if that is longer.
    """
    batch = max(1, batch)
    steps = ceil(samples / batch) * tokens
    step = max(size.bytes / rate.bytes, min(samples, batch) * 2 * size.parameters / rate.operations)
    return steps * step


def evaluation_bytes(size: Size) -> float:
    """Bytes of GPU memory: weights, and the working memory of a forward pass."""
    return size.bytes + _WORKING


def start_seconds(size: Size) -> float:
    """Seconds until a job has started and loaded its model."""
    return _START + size.bytes / _READ


def cards(needed: float, plan: PlanAssumptions) -> int:
    """The number of GPUs that hold so many bytes; at least one."""
    return max(1, ceil(needed / (_FREE * plan.card_gb * 1e9)))


def minutes(seconds: float, attempt: int) -> int:
    """Minutes to ask a scheduler for: (ten minutes + twice the estimate) x attempt."""
    return (10 + ceil(2 * seconds / 60)) * attempt


def megabytes(size: Size, copies: float, attempt: int) -> int:
    """MB of main memory: (libraries + copies of the weights) x attempt."""
    return round((_LIBRARIES + copies * size.bytes / 1e6) * attempt)
