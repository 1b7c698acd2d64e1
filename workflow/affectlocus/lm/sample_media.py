"""The features of the samples of a task, and the controls that change them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import pandas as pd
import torch
from torch import nn

from affectlocus.config.bridges import FUSED
from affectlocus.core.cells import SHUFFLED, ZEROED, Cell
from affectlocus.core.errors import InputError
from affectlocus.data.sample_files import COLUMN
from affectlocus.lm.bridges import Bridge, soft_tokens
from affectlocus.lm.soft_tokens import without_placeholders


class MediumFeatures(Protocol):
    """The features of one medium of a task (`features.Features`)."""

    @property
    def width(self) -> int:
        """The width of the features."""

    @property
    def rate(self) -> int | None:
        """Of sound, samples per second."""

    def of(self, sample: str) -> torch.Tensor:
        """The features of a sample (T, W)."""


TaskMedia = Mapping[str, MediumFeatures]
"""Medium → its features, of one task."""


def media_of(samples: pd.DataFrame) -> list[str]:
    """The media of a prepared task."""
    names = map(str, samples.columns)
    return [name.removeprefix(COLUMN) for name in names if name.startswith(COLUMN)]


def placeholders_of(samples: pd.DataFrame) -> list[str]:
    """The placeholders that prompts of a prepared task may contain; none without media."""
    media = media_of(samples)
    return list(dict.fromkeys([*media, *FUSED])) if media else []


def with_placeholders(samples: pd.DataFrame, kept: Collection[str]) -> pd.DataFrame:
    """A prepared task whose prompts have only these placeholders; the same frame without media.

    Args:
        kept: the placeholders of a bridge; none for a model that reads no media.
    """
    removed = [name for name in placeholders_of(samples) if name not in kept]
    if not removed:
        return samples
    prompts = [without_placeholders(text, removed) for text in samples["prompt"]]
    return samples.assign(prompt=prompts)


@dataclass(frozen=True)
class SampleMedia:
    """The media of some samples of a task.

    Attributes:
        features: medium → its features.
        samples: the id of each sample.
        donors: the id of the sample whose media each sample gets; by default its own.
        zeroed: a medium whose features are set to 0.
    """

    features: TaskMedia
    samples: Sequence[str]
    donors: Sequence[str] | None = None
    zeroed: str = ""

    def of(self, row: int, media: Sequence[str]) -> dict[str, torch.Tensor]:
        """Medium → the features (T, W) that a sample gets, float32.

        Raises:
            InputError: the task has no such medium.
        """
        donor = (self.samples if self.donors is None else self.donors)[row]
        found = {}
        for name in media:
            if name not in self.features:
                raise InputError(
                    "bridge.no-medium",
                    f"the bridge reads {name}, and the task has features of "
                    f"{', '.join(self.features) or 'no medium'}; give the task this medium",
                    found=list(self.features),
                    expected=name,
                )
            values = self.features[name].of(donor).float()
            found[name] = torch.zeros_like(values) if name == self.zeroed else values
        return found

    def controlled(self, cell: Cell, task: str) -> SampleMedia:
        """The media that a cell gets in place of these (`Cell.media`).

        Shuffled media are those of another sample, for every sample. Which one depends on the
        cell's seed, the task and the ids.

        Raises:
            InputError: media of a single sample cannot be shuffled; no such medium to set to 0.
        """
        if cell.media == SHUFFLED:
            if len(self.samples) < 2:
                raise InputError(
                    "media.too-few-to-shuffle",
                    f"task {task} has {len(self.samples)} test samples; expected two or more, "
                    "because the control gives each sample the media of another one",
                    task=task,
                    found=len(self.samples),
                )
            order = sorted(self.samples)
            random.Random(f"{cell.random_seed}/{task}/media").shuffle(order)
            # Each takes the media of the next one in a random circle.
            donor = dict(zip(order, [*order[1:], order[0]], strict=True))
            return replace(self, donors=[donor[name] for name in self.samples])
        if cell.media.startswith(ZEROED):
            return replace(self, zeroed=cell.media.removeprefix(ZEROED))
        return self

    def soft(
        self, bridge: nn.Module, media: Sequence[str], device: torch.device | str
    ) -> Callable[[Sequence[int]], torch.Tensor]:
        """The soft tokens of the samples, from a bridge on a device.

        Each sample goes through the bridge alone, so that its soft tokens have the same bits in
        every batch.
        """

        @torch.inference_mode()
        def of_rows(rows: Sequence[int]) -> torch.Tensor:
            found = [
                soft_tokens(
                    cast(Bridge, bridge),
                    {name: one[None] for name, one in self.of(row, media).items()},
                    device,
                )
                for row in rows
            ]
            return torch.cat(found)  # (B, K, H)

        return of_rows


def batch_soft_tokens(
    bridge: nn.Module, samples: Sequence[Mapping[str, torch.Tensor]]
) -> torch.Tensor:
    """The soft tokens (B, K, H) of a batch, on the bridge's device; 0 for samples without media.

    Args:
        samples: of each sample, medium → its features (T, W); empty for a sample of text. Media
            with one number of tokens go through the bridge together. At least one sample has media.
    """
    device = next(bridge.parameters()).device
    called = cast(Bridge, bridge)
    rows = [row for row, sample in enumerate(samples) if sample]
    given = [samples[row] for row in rows]
    shapes = {tuple((name, one.shape) for name, one in sample.items()) for sample in given}
    if len(shapes) == 1:
        stacked = {name: torch.stack([one[name] for one in given]) for name in given[0]}
        found = soft_tokens(called, stacked, device)
    else:
        single = [{name: one[None] for name, one in sample.items()} for sample in given]
        found = torch.cat([soft_tokens(called, one, device) for one in single])
    if len(rows) == len(samples):
        return found
    empty = found.new_zeros(len(samples), *found.shape[1:])
    return empty.index_copy(0, torch.tensor(rows, device=device), found)
