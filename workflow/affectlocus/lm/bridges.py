"""Bridges: modules that turn the features of media into soft tokens of a language model.

A class of bridge has the arguments `hidden`, `widths`, `tokens` and its own settings, as in a
`bridge_files.Description`. Its parameters have the names of the tensors in bridge.safetensors.

Notation: B samples, T tokens of a medium, W its width, H the width of the language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from affectlocus.checkpoints.bridge_files import BRIDGE, Description, StoredBridge, write_bridge
from affectlocus.checkpoints.stored import as_array, as_torch
from affectlocus.config.bridges import BridgeConfig
from affectlocus.core.errors import InputError
from affectlocus.lm.affectgpt_bridge import AffectGptBridge
from affectlocus.lm.emotion_llama_bridge import EmotionLlamaBridge


class Bridge(Protocol):
    """What every class of bridge has, in addition to what a `torch.nn.Module` has."""

    tokens: dict[str, int]
    """Placeholder → the number of its soft tokens."""

    def __call__(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Placeholder → soft tokens (B, number, H), from medium → features (B, T, W)."""


class Standardise(nn.Module):
    """Gives features mean 0 and deviation 1 in each dimension; not trained.

    A dimension that has one value in all training samples becomes 0.
    """

    mean: torch.Tensor
    inverse: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("inverse", torch.ones(width))

    def fit(self, features: Iterable[torch.Tensor]) -> None:
        """Takes mean and deviation from all tokens of these features, each (T, W)."""
        count = 0
        total = squares = torch.zeros_like(self.mean, dtype=torch.float64)
        for one in features:
            values = one.double()
            count += len(values)
            total = total + values.sum(0)
            squares = squares + values.square().sum(0)
        mean = total / count
        variance = squares / count - mean.square()
        # Less is rounding of a dimension with one value.
        varies = variance > 1e-12 * mean.square()
        self.mean.copy_(mean)
        self.inverse.copy_(torch.where(varies, variance.clamp(min=1e-300).rsqrt(), 0))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (B, T, W), standardised."""
        return (features - self.mean) * self.inverse


class LinearBridge(nn.Module):
    """A linear layer for each medium.

    The tokens of a medium are divided into as many equal parts as it has soft tokens, and each part
    is averaged (adaptive pooling), so that any number of tokens is possible.

    Args:
        standardise: whether the features are standardised first (`fit_standardise`).
    """

    def __init__(
        self,
        hidden: int,
        widths: Mapping[str, int],
        tokens: Mapping[str, int],
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = dict(tokens)
        self.media = nn.ModuleDict({name: self._layers(widths[name], hidden) for name in tokens})
        self.standardise = (
            nn.ModuleDict({name: Standardise(widths[name]) for name in tokens})
            if standardise
            else None
        )

    def _layers(self, width: int, hidden: int) -> nn.Module:
        return nn.Linear(width, hidden)

    def forward(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Placeholder → soft tokens (B, number, H), from medium → features (B, T, W)."""
        found = {}
        for name, number in self.tokens.items():
            values = features[name]
            if self.standardise is not None:
                values = self.standardise[name](values)
            pooled = nn.functional.adaptive_avg_pool1d(values.transpose(1, 2), number)
            found[name] = self.media[name](pooled.transpose(1, 2))
        return found


class MlpBridge(LinearBridge):
    """Two linear layers with a GELU between them for each medium, as in LLaVA.

    Args:
        width: between the two layers; by default H.
        standardise: as in `LinearBridge`.
    """

    def __init__(
        self,
        hidden: int,
        widths: Mapping[str, int],
        tokens: Mapping[str, int],
        width: int | None = None,
        standardise: bool = False,
    ) -> None:
        self._width = width or hidden
        super().__init__(hidden, widths, tokens, standardise)

    def _layers(self, width: int, hidden: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(width, self._width), nn.GELU(), nn.Linear(self._width, hidden)
        )


CLASSES: dict[str, type[nn.Module]] = {
    "linear": LinearBridge,
    "mlp": MlpBridge,
    "affectgpt": AffectGptBridge,
    "emotion-llama": EmotionLlamaBridge,
}
"""The registry: kind → class; `config.bridges.KINDS` describes them."""


def described(config: BridgeConfig, widths: Mapping[str, int], hidden: int) -> Description:
    """The description of a bridge of params.yaml.

    Args:
        widths: medium → the width of its features; may have other media too.
        hidden: the width of the language model.

    Raises:
        InputError: the bridge reads a medium that has no features.
    """
    missing = [name for name in config.media if name not in widths]
    if missing:
        raise InputError(
            "bridge.no-medium",
            f"the bridge reads {missing[0]}, and the tasks have features of "
            f"{', '.join(widths) or 'no medium'}; give the tasks this medium, or correct tokens of "
            "the bridge",
            found=list(widths),
            expected=missing[0],
        )
    own = {name: widths[name] for name in config.media}
    return Description(config.kind, hidden, own, dict(config.tokens), config.settings)


def built(description: Description) -> nn.Module:
    """The module of a description, float32, with random weights.

    Raises:
        InputError: no such kind.
    """
    if description.kind not in CLASSES:
        raise InputError(
            "bridge.unknown-kind",
            f"unknown kind of bridge {description.kind!r}; expected {', '.join(CLASSES)}",
            found=description.kind,
            expected=list(CLASSES),
        )
    sizes: dict[str, Any] = {
        "hidden": description.hidden,
        "widths": description.widths,
        "tokens": description.tokens,
    }
    return CLASSES[description.kind](**sizes, **description.settings)


def drawn(description: Description, seed: int) -> nn.Module:
    """The bridge before a tuning: its weights depend on the description and the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return built(description)


def fit_standardise(module: nn.Module, media: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Fits what standardises the features, if the bridge has it, to training samples.

    Args:
        media: of each sample, medium → features (T, W); may be empty for samples without media.
    """
    if isinstance(module, LinearBridge) and module.standardise is not None:
        for name, one in module.standardise.items():
            cast(Standardise, one).fit(sample[name] for sample in media if sample)


def loaded(stored: StoredBridge) -> nn.Module:
    """A bridge from disk, in its stored dtype.

    Raises:
        InputError: the tensors are not those of the description.
    """
    module = built(stored.description)
    expected = {name: tuple(one.shape) for name, one in module.state_dict().items()}
    tensors = {name: as_torch(value) for name, value in stored.read().items()}
    found = {name: tuple(one.shape) for name, one in tensors.items()}
    wrong = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if wrong:
        raise InputError(
            "bridge.other-tensors",
            f"{stored.path}: {wrong[0]} has shape {found.get(wrong[0], 'none')}; a bridge of kind "
            f"{stored.description.kind} with these sizes has {expected.get(wrong[0], 'none')}; "
            "restore the file and its .json",
            file=stored.path,
            tensor=wrong[0],
            found=found.get(wrong[0]),
            expected=expected.get(wrong[0]),
        )
    module.load_state_dict(tensors, assign=True)
    return module


def save(module: nn.Module, description: Description, folder: Path, stem: str = BRIDGE) -> None:
    """Writes a bridge into an existing folder (`bridge_files.write_bridge`)."""
    tensors = {name: as_array(one.detach().cpu()) for name, one in module.state_dict().items()}
    write_bridge(folder, description, tensors, stem)


def soft_tokens(
    bridge: Bridge, features: Mapping[str, torch.Tensor], device: torch.device | str
) -> torch.Tensor:
    """The soft tokens of a batch in the order of the placeholders: (B, K, H).

    Args:
        features: medium → features (B, T, W), of all media that the bridge reads.
    """
    found = bridge({name: one.to(device) for name, one in features.items()})
    return torch.cat([found[name] for name in bridge.tokens], dim=1)
