"""The training loop of pre-training and tuning: a deterministic transformers Trainer."""

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
from affectlocus.training.trainer import DivergedError, SaveCallback, SequentialTrainer
from affectlocus.training.training_state import TrainingStates, say

IGNORED = -100
"""Label of a token that does not count in the loss (padding, prompts)."""


@dataclass(frozen=True)
class Example:
    """Token ids; the first `prompt_length` of them are the prompt and do not count in the loss."""

    ids: list[int]
    prompt_length: int = 0


def collate(examples: Sequence[Example], pad: int = 0) -> dict[str, torch.Tensor]:
    """A padded batch: `input_ids`, `attention_mask`, `labels`, each int64 (batch, tokens)."""
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
    """The training budget, which is the same for all compared arms."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    seed: int
    group_by_length: bool = False
    beta2: float = 0.999


# Number of batches whose samples are sorted by length together: enough for little padding, and few
# enough for random batches.
_POOL = 25


def schedule(lengths: Sequence[int], budget: Budget) -> list[int]:
    """The order of the samples: steps x batch_size numbers of samples, pass after pass.

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


class _Snapshots(TrainerCallback):
    def __init__(self, steps: Sequence[int], save: Callable[[int], None]) -> None:
        self.steps = set(steps)
        self.save = save

    def on_step_end(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:
        if state.global_step in self.steps:
            self.save(state.global_step)


def snapshot_steps(steps: int, count: int) -> list[int]:
    """`count` evenly spaced steps of 1 … `steps`; the last one is `steps`."""
    return [round(steps * number / count) for number in range(1, count + 1)]


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    budget: Budget,
    hardware: Hardware = HARDWARE,
    snapshots: Sequence[int] = (),
    save: Callable[[int], None] = lambda _: None,
    states: TrainingStates | None = None,
    trajectory: Path | None = None,
) -> list[dict]:
    """Trains the parameters of `model` that require a gradient: AdamW, warm-up, cosine decay.

    The result is deterministic for a seed, a device and a number of threads. It is the same after
    resuming from a saved state, if model and examples are built as before.

    Args:
        snapshots: steps after which `save` is called with the step. It must not change the model
            or the random numbers.
        states: saves the state of the training, and restores a saved state. The caller removes the
            states when the trained model is on disk.
        trajectory: the folder into which `save` writes; it is a part of the state.

    Returns:
        The log: a dict with `step`, `loss` (mean nats per learned token since the last entry) and
        `learning_rate` for every twentieth of the steps.

    Raises:
        InputError: no samples; out of memory; a loss or weight that is NaN or infinite (the saved
            states are removed).
        Stopped: a stop signal arrived, and `states` is given; the state is saved.
    """
    if not examples:
        raise InputError(
            "tuning.no-samples", "no training samples; check the train split of the tasks"
        )
    set_seed(budget.seed)
    lengths = [len(example.ids) for example in examples]
    order = schedule(lengths, budget)
    stopping = deferred_stop() if states else contextlib.nullcontext(StopRequest())
    with tempfile.TemporaryDirectory() as scratch, stopping as request:
        callbacks: list[TrainerCallback] = [_Snapshots(snapshots, save)]
        if states is not None:
            callbacks.append(SaveCallback(states, request))
        trainer = SequentialTrainer(
            model=model,
            args=_arguments(budget, hardware, scratch),
            train_dataset=[examples[row] for row in order],
            data_collator=collate,
            callbacks=callbacks,
            states=states,
            trajectory=trajectory,
        )
        _run(trainer, budget, max(lengths), states)
        if states is not None and request.number is not None:
            raise Stopped(request.number, _next_start(trainer.state.global_step, budget, states))
    return [
        {key: entry[key] for key in ("step", "loss", "learning_rate")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def _run(
    trainer: SequentialTrainer, budget: Budget, longest: int, states: TrainingStates | None
) -> None:
    state = states.find() if states else None
    if states is not None and state is not None:
        say(f"resuming from the saved state of step {states.step()} of {budget.steps}")
    try:
        with _out_of_memory_advice(trainer, budget, longest):
            trainer.train(resume_from_checkpoint=None if state is None else str(state))
        trainer.check_losses()
        trainer.check_weights()
    except DivergedError:
        # A saved state leads to the same divergence.
        if states is not None:
            states.remove()
        raise


@contextlib.contextmanager
def _out_of_memory_advice(
    trainer: SequentialTrainer, budget: Budget, longest: int
) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            "tuning.out-of-memory",
            f"out of memory in step {trainer.state.global_step + 1} of {budget.steps}, with "
            f"{budget.batch_size} samples of up to {longest} tokens in a batch; lower batch_size "
            "or max_length, set hardware.checkpointing, or give the job more memory, as a cluster "
            "profile's retry does",
            step=trainer.state.global_step + 1,
            batch_size=budget.batch_size,
            tokens=longest,
        ) from None


def _next_start(step: int, budget: Budget, states: TrainingStates) -> str:
    """The end of the message of a stopped training: where the next run starts."""
    saved = states.step()
    start = "starts from the beginning" if saved is None else f"continues from step {saved}"
    start = "continues from there" if saved == step else start
    return f" after step {step} of {budget.steps}; the next run {start}"


def _arguments(budget: Budget, hardware: Hardware, scratch: str) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=scratch,
        max_steps=budget.steps,
        per_device_train_batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(budget.warmup * budget.steps)),
        weight_decay=budget.weight_decay,
        adam_beta2=budget.beta2,
        max_grad_norm=1.0,
        bf16=hardware.precision == "bfloat16"
        and torch.cuda.is_available()
        and torch.cuda.is_bf16_supported(),
        activation_checkpointing=hardware.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        seed=budget.seed,
        data_seed=budget.seed,
        # `SaveCallback` saves, by time.
        save_strategy="no",
        logging_steps=max(1, budget.steps // 20),
        # With the filter, NaN would be logged as 0.
        logging_nan_inf_filter=False,
        report_to="none",
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=not sys.stderr.isatty(),
    )
    # With several GPUs, Trainer would use one batch per GPU, which changes the budget.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
