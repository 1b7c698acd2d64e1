"""What a training reads: samples as token ids, their order, and batches of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Example:
    """Token ids; the first `prompt_length` of them are the prompt and do not count in the loss.

    Attributes:
        media: medium → the features (T, W) from which a bridge makes the sample's soft tokens. Soft
            tokens have negative ids (`lm.soft_tokens`).
    """

    ids: list[int]
    prompt_length: int = 0
    media: Mapping[str, torch.Tensor] | None = None


@dataclass(frozen=True)
class Budget:
    """The training budget, which is the same for all compared arms."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    seed: int
    group_by_length: bool = False
    beta2: float = 0.999
    clip: float = 1.0
    """The largest norm of a run's gradient; 0: no limit."""
    schedule: Literal["cosine", "constant"] = "cosine"
    bridge_learning_rate: float | None = None
    """The peak of the bridge's rate; by default `learning_rate`."""


@dataclass(frozen=True)
class Batch:
    """Samples that are padded on the right to the length of the longest.

    Attributes:
        ids: int64 (samples, tokens).
        places: int64 (learned,): the positions in the flattened `ids` whose logits predict a
            learned token.
        targets: int64 (learned,): the learned tokens.
    """

    ids: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor


def collate(examples: Sequence[Example], pad: int = 0) -> Batch:
    """A padded batch. The first token of a sample is never learned, because nothing predicts it."""
    width = max(len(example.ids) for example in examples)
    padded: list[list[int]] = []
    places: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(examples):
        ids = example.ids
        padded.append([*ids, *[pad] * (width - len(ids))])
        first = max(1, example.prompt_length)
        places += range(row * width + first - 1, row * width + len(ids) - 1)
        targets += ids[first:]
    return Batch(
        torch.tensor(padded),
        torch.tensor(places, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
    )


# The samples of this number of batches are sorted by length together. A larger pool needs less
# padding; a smaller pool keeps the batches more random.
_POOL = 25


def schedule(lengths: Sequence[int], budget: Budget) -> list[int]:
    """The order of the samples: steps x batch_size indices, pass after pass.

    Every pass is shuffled. With `group_by_length`, samples of similar length share a batch within a
    pool of batches.
    """
    batch_size, steps = budget.batch_size, budget.steps
    rng = random.Random(budget.seed)
    needed = steps * batch_size
    order: list[int] = []
    while len(order) < needed:
        one_pass = list(range(len(lengths)))
        rng.shuffle(one_pass)
        order += one_pass
    del order[needed:]
    if not budget.group_by_length:
        return order
    batches: list[list[int]] = []
    for start in range(0, needed, _POOL * batch_size):
        pool = sorted(order[start : start + _POOL * batch_size], key=lambda row: lengths[row])
        pooled = [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
        rng.shuffle(pooled)
        batches += pooled
    return [row for batch in batches for row in batch]


def snapshot_steps(steps: int, count: int) -> list[int]:
    """`count` evenly spaced steps of 1 … `steps`; the last one is `steps`."""
    return [round(steps * number / count) for number in range(1, count + 1)]
