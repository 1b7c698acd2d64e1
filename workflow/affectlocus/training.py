"""The one training loop, of pre-training and of tuning: transformers' Trainer, made repeatable."""

from __future__ import annotations

import math
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from affectlocus.errors import InputError
from affectlocus.parameters import Hardware

IGNORED = -100
"""Label of a token that the loss leaves out (padding, prompts)."""


@dataclass(frozen=True)
class Example:
    """Token ids, and how many of them are prompt: they are read, not learned."""

    ids: list[int]
    prompt_length: int = 0


def collate(examples: Sequence[Example], pad: int = 0) -> dict[str, torch.Tensor]:
    """Pads to the longest: `input_ids`, `attention_mask`, `labels`, each int64 (batch, tokens)."""
    width = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), width), pad)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED)
    for row, example in enumerate(examples):
        length = len(example.ids)
        tokens = torch.tensor(example.ids)
        ids[row, :length] = tokens
        mask[row, :length] = 1
        labels[row, example.prompt_length : length] = tokens[example.prompt_length :]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


HARDWARE = Hardware()


@dataclass(frozen=True)
class Budget:
    """What every compared arm gets the same of."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    seed: int
    group_by_length: bool = False


# Batches whose samples are sorted by length among themselves: enough that a batch holds samples of
# like length and little padding, few enough that batches stay random.
_POOL = 25


def schedule(lengths: Sequence[int], budget: Budget) -> list[int]:
    """Which sample is read when: steps x batch_size positions, pass after pass.

    Every pass is shuffled. Where the budget groups by length, samples of like length share a batch
    within a pool of batches.
    """
    batch_size, steps = budget.batch_size, budget.steps
    draw = random.Random(budget.seed)
    needed = steps * batch_size
    order: list[int] = []
    while len(order) < needed:
        whole = list(range(len(lengths)))
        draw.shuffle(whole)
        order += whole
    del order[needed:]
    if not budget.group_by_length:
        return order
    batches: list[list[int]] = []
    for start in range(0, needed, _POOL * batch_size):
        pool = sorted(order[start : start + _POOL * batch_size], key=lambda row: lengths[row])
        some = [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
        draw.shuffle(some)
        batches += some
    return [row for batch in batches for row in batch]


class _InOrder(Trainer):
    """Reads the samples in the order in which they are given."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)


class _StopAtNaN(TrainerCallback):
    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            raise InputError(
                f"the loss is {logs['loss']}: training has diverged; lower learning_rate"
            )


class _Snapshots(TrainerCallback):
    def __init__(self, steps: Sequence[int], save: Callable[[int], None]) -> None:
        self.steps = set(steps)
        self.save = save

    def on_step_end(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:
        if state.global_step in self.steps:
            self.save(state.global_step)


def snapshot_steps(steps: int, count: int) -> list[int]:
    """`count` steps out of 1 … `steps`, evenly spaced; the last is the end."""
    return [round(steps * number / count) for number in range(1, count + 1)]


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    budget: Budget,
    hardware: Hardware = HARDWARE,
    snapshots: Sequence[int] = (),
    save: Callable[[int], None] = lambda _: None,
) -> list[dict]:
    """Trains the parameters of `model` that require a gradient; AdamW, cosine after a warm-up.

    Deterministic for a seed, a device and a number of threads.

    Args:
        snapshots: steps after which `save` is called with the step; it must leave the model and
            the random numbers as they are.

    Returns:
        The log: a dict with `step`, `loss` (mean nats per learned token since the last entry) and
        `learning_rate` for every twentieth of the steps.
    """
    if not examples:
        raise InputError("no training samples are left; check the train split of the tasks")
    set_seed(budget.seed)
    lengths = [len(example.ids) for example in examples]
    order = schedule(lengths, budget)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=budget.steps,
            per_device_train_batch_size=budget.batch_size,
            learning_rate=budget.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, round(budget.warmup * budget.steps)),
            weight_decay=budget.weight_decay,
            max_grad_norm=1.0,
            bf16=hardware.precision == "bfloat16"
            and torch.cuda.is_available()
            and torch.cuda.is_bf16_supported(),
            activation_checkpointing=hardware.checkpointing,
            activation_checkpointing_kwargs={"use_reentrant": False},
            seed=budget.seed,
            data_seed=budget.seed,
            save_strategy="no",
            logging_steps=max(1, budget.steps // 20),
            # Left on, NaN would be logged as 0.
            logging_nan_inf_filter=False,
            report_to="none",
            remove_unused_columns=False,
            dataloader_num_workers=0,
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=not sys.stderr.isatty(),
        )
        # More cards would each take a batch of their own, and the budget would be another.
        arguments._n_gpu = min(1, arguments.n_gpu)
        trainer = _InOrder(
            model=model,
            args=arguments,
            train_dataset=[examples[row] for row in order],
            data_collator=collate,
            callbacks=[_StopAtNaN(), _Snapshots(snapshots, save)],
        )
        trainer.train()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise InputError(f"{name} is not finite: training has diverged; lower learning_rate")
    return [
        {key: entry[key] for key in ("step", "loss", "learning_rate")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
