"""The one training loop, of pre-training and of tuning: transformers' Trainer, made repeatable."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from affectlocus.config.hardware import Hardware
from affectlocus.core.errors import InputError, out_of_memory
from affectlocus.core.stop_signals import Stopped, StopRequest, deferred_stop
from affectlocus.training.trainer import DivergedError, InOrder, Saving
from affectlocus.training.training_state import Unfinished, say

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
    unfinished: Unfinished | None = None,
    kept: Path | None = None,
) -> list[dict]:
    """Trains the parameters of `model` that require a gradient; AdamW, cosine after a warm-up.

    Deterministic for a seed, a device and a number of threads; also where it was stopped, and went
    on from a saved state, with a model and examples that were made as they were before.

    Args:
        snapshots: steps after which `save` is called with the step; it must leave the model and
            the random numbers as they are.
        unfinished: where the state is saved, and a saved one is taken up. The caller removes it
            once what was trained is on disk.
        kept: the folder into which `save` writes, which is part of the state.

    Returns:
        The log: a dict with `step`, `loss` (mean nats per learned token since the last entry) and
        `learning_rate` for every twentieth of the steps.

    Raises:
        InputError: no samples, a loss or weights that are no numbers (no state is left), or memory
            that runs out.
        Stopped: a stop signal came, and `unfinished` is given; the state is saved.
    """
    if not examples:
        raise InputError("no training samples are left; check the train split of the tasks")
    set_seed(budget.seed)
    lengths = [len(example.ids) for example in examples]
    order = schedule(lengths, budget)
    stopping = deferred_stop() if unfinished else contextlib.nullcontext(StopRequest())
    with tempfile.TemporaryDirectory() as scratch, stopping as request:
        callbacks: list[TrainerCallback] = [_Snapshots(snapshots, save)]
        if unfinished is not None:
            callbacks.append(Saving(unfinished, request))
        trainer = InOrder(
            model=model,
            args=_arguments(budget, hardware, scratch),
            train_dataset=[examples[row] for row in order],
            data_collator=collate,
            callbacks=callbacks,
            unfinished=unfinished,
            kept=kept,
        )
        _run(trainer, budget, max(lengths), unfinished)
        if unfinished is not None and request.number is not None:
            raise Stopped(request.number, _where(trainer.state.global_step, budget, unfinished))
    return [
        {key: entry[key] for key in ("step", "loss", "learning_rate")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def _run(trainer: InOrder, budget: Budget, longest: int, unfinished: Unfinished | None) -> None:
    state = unfinished.find() if unfinished else None
    if unfinished is not None and state is not None:
        say(f"going on from the saved state of step {unfinished.step()} of {budget.steps}")
    try:
        with _memory(trainer, budget, longest):
            trainer.train(resume_from_checkpoint=None if state is None else str(state))
        trainer.check_losses()
        trainer.check_weights()
    except DivergedError:
        # What was saved before leads there again.
        if unfinished is not None:
            unfinished.remove()
        raise


@contextlib.contextmanager
def _memory(trainer: InOrder, budget: Budget, longest: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            f"out of memory in step {trainer.state.global_step + 1} of {budget.steps}, with "
            f"{budget.batch_size} samples of up to {longest} tokens in a batch; lower batch_size "
            "or max_length, set hardware.checkpointing, or give the job more memory, as a cluster "
            "profile's retry does"
        ) from None


def _where(step: int, budget: Budget, unfinished: Unfinished) -> str:
    """The end of the sentence of who is stopped: what the next run does."""
    kept = unfinished.step()
    goes = "begins anew" if kept is None else f"goes on from step {kept}"
    goes = "goes on from there" if kept == step else goes
    return f" after step {step} of {budget.steps}; the next run {goes}"


def _arguments(budget: Budget, hardware: Hardware, scratch: str) -> TrainingArguments:
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
        # By time, and by `Saving`.
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
    return arguments
