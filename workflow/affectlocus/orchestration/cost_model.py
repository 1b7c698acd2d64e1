"""What a job costs: seconds, memory, cards and disk, by formulas over a model's size.

Every formula stands here once; the rules ask for what it says, and `affectlocus plan` adds it up.
P is the number of parameters, of which a forward pass takes 2P operations for each token, and a
backward pass 2P for the activations and 2P for the weights that learn (Kaplan et al. 2020,
arXiv 2001.08361, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from affectlocus.checkpoints.model_size import Size
from affectlocus.config.hardware import Hardware, PlanAssumptions
from affectlocus.config.tuning import Recipe

_START = 20.0  # seconds: interpreter, libraries, a first kernel
_READ = 1e9  # bytes a second that weights are loaded with
_FREE = 0.9  # of a card's memory, what a job can fill
_ACTIVATIONS = 34  # bytes for each token, layer and unit of width (arXiv 2205.05198, section 4)
_LOGIT = 10  # bytes of a logit and its gradient, in half and in full precision
_WORKING = 4e9  # bytes of a card: CUDA, and a forward pass without gradients
_LIBRARIES = 2500  # MB of main memory


@dataclass(frozen=True)
class Rates:
    """What a job's device does in a second: operations, and bytes read from its memory."""

    operations: float
    bytes: float


def rates(plan: PlanAssumptions, on_card: bool) -> Rates:
    """Of one card, or of one core. Layers spread over several cards work one after the other."""
    if on_card:
        return Rates(
            plan.card_tflops * 1e12 * plan.share_of_peak, plan.card_gb_per_second * 1e9 / 2
        )
    return Rates(plan.core_gflops * 1e9, 5e9)


def tuning_seconds(size: Size, recipe: Recipe, modules: str, rate: Rates, again: bool) -> float:
    """A start, and for each of steps x batch_size x max_length tokens 4P operations for LoRA.

    Full tuning adds 2P for the share of the weights that learns; `again`, activations that are
    computed a second time, 2P. Samples shorter than max_length make it less.
    """
    tokens = recipe.steps * recipe.batch_size * recipe.max_length
    passes = 4.0 + 2 * again
    if recipe.method == "sft":
        passes += 2 * size.share(modules)
    return _loading(size) + tokens * passes * size.parameters / rate.operations


def tuning_bytes(size: Size, recipe: Recipe, modules: str, hardware: Hardware) -> float:
    """On the card: weights, 16 bytes for each parameter that learns, activations, logits.

    Full tuning holds the weights in float32. With checkpointing, two bytes for each token, layer
    and unit of width remain of the activations.
    """
    if recipe.method == "sft":
        held = 4 * size.parameters + 12 * size.share(modules) * size.parameters
    else:
        held = size.bytes + 16 * size.lora_parameters(modules, recipe.rank)
    tokens = recipe.batch_size * recipe.max_length
    each = 2 if hardware.checkpointing else _ACTIVATIONS
    return (
        held
        + tokens * size.hidden * size.layers * each
        + tokens * size.vocabulary * _LOGIT
        + _WORKING / 2
    )


def tuned_bytes(size: Size, recipe: Recipe, modules: str) -> int:
    """On disk: an adapter in float32, or a whole model in the base's dtype."""
    if recipe.method == "sft":
        return size.bytes
    return 4 * size.lora_parameters(modules, recipe.rank)


def answering_seconds(size: Size, tokens: float, rate: Rates) -> float:
    """2P operations for each token of the prompts and their candidates, in one forward pass."""
    return tokens * 2 * size.parameters / rate.operations


def writing_seconds(size: Size, samples: float, batch: int, tokens: int, rate: Rates) -> float:
    """Free text: for each of its tokens the weights are read once for a batch of samples.

    Or, where that takes longer, 2P operations for each sample of the batch.
    """
    batch = max(1, batch)
    steps = ceil(samples / batch) * tokens
    step = max(size.bytes / rate.bytes, min(samples, batch) * 2 * size.parameters / rate.operations)
    return steps * step


def evaluation_bytes(size: Size) -> float:
    """On the card: weights, and what a forward pass works with."""
    return size.bytes + _WORKING


def _loading(size: Size) -> float:
    return _START + size.bytes / _READ


def start_seconds(size: Size) -> float:
    """Of a job that loads the model once."""
    return _loading(size)


def cards(needed: float, plan: PlanAssumptions) -> int:
    """How many cards hold so many bytes; one at least."""
    return max(1, ceil(needed / (_FREE * plan.card_gb * 1e9)))


def minutes(seconds: float, attempt: int) -> int:
    """What a scheduler is asked for: ten minutes, and twice the estimate; attempts multiply it."""
    return (10 + ceil(2 * seconds / 60)) * attempt


def megabytes(size: Size, copies: float, attempt: int) -> int:
    """Main memory: the libraries, and some copies of the weights; attempts multiply it."""
    return round((_LIBRARIES + copies * size.bytes / 1e6) * attempt)
