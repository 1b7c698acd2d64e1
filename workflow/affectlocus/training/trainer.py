"""A transformers Trainer that reads samples in order, reports the step of a NaN, and can resume.

A saved state holds what the Trainer saves (optimizer, schedule, random numbers, log), the trained
weights, and what the Trainer does not save: the losses since the last log entry, and the random
numbers of every GPU. A resumed training therefore ends with the same weights and the same log, bit
for bit, as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState

from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, write_json
from affectlocus.core.stop_signals import StopRequest
from affectlocus.training.training_state import TrainingStates, copy_or_link

_TRAINED, _LOOP, _CARDS, _TRAJECTORY = "trained.safetensors", "loop.json", "cards.pt", "kept"


class DivergedError(InputError):
    """A loss, a weight or an optimizer state is NaN or infinite."""


class SequentialTrainer(Trainer):
    """A Trainer that reads the samples in the given order.

    Args:
        states: saves the state of the training; with None no state is saved.
        trajectory: the folder of snapshots; if it exists, it is a part of each saved state.
    """

    def __init__(
        self, *, states: TrainingStates | None = None, trajectory: Path | None = None, **named: Any
    ) -> None:
        super().__init__(**named)
        self._states = states
        self._trajectory = trajectory
        self._losses: list[torch.Tensor] = []  # of the steps since the last check

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)

    # Losses are checked when a log entry is written. A check in each step would synchronise the
    # GPU.

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*arguments, **named)
        self._losses.append(loss)
        return loss

    def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
        self.check_losses()
        super().log(logs, *arguments, **named)

    def check_losses(self) -> None:
        """Raises DivergedError with the step of the first loss that is NaN or infinite."""
        losses = torch.stack(self._losses).tolist() if self._losses else []
        first = self.state.global_step - len(losses) + 1
        self._losses.clear()
        for step, loss in enumerate(losses, first):
            if math.isfinite(loss):
                continue
            said = f"the loss of step {step} of {self.state.max_steps} is {loss}"
            if step == 1:
                raise DivergedError(
                    "base.loss-not-finite",
                    f"{said}: the base itself has no finite loss: check its weights, or set "
                    "hardware.precision to float32",
                    step=step,
                    found=loss,
                    key="hardware.precision",
                )
            raise DivergedError(
                "tuning.loss-not-finite",
                f"{said}: training has diverged; lower learning_rate",
                step=step,
                found=loss,
                key="learning_rate",
            )

    def check_weights(self) -> None:
        """Raises DivergedError if a trained weight or an optimizer state is NaN or infinite."""
        for name, tensor in self._tensors():
            if not torch.isfinite(tensor).all():
                raise DivergedError(
                    "tuning.weight-not-finite",
                    f"{name} is not finite after step {self.state.global_step} of "
                    f"{self.state.max_steps}: training has diverged; lower learning_rate",
                    tensor=name,
                    step=self.state.global_step,
                    key="learning_rate",
                )

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        trained = [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]
        yield from trained
        states = self.optimizer.state if self.optimizer is not None else {}
        for name, parameter in trained:
            for key, value in states.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    yield f"{key} of {name}", value

    # The following three methods override those of Trainer, which calls them.

    def _save_checkpoint(self, *_: Any, **__: Any) -> None:
        assert self._states is not None
        self.check_losses()
        self.check_weights()
        self._states.save(self.state.global_step, self._write)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: Any, **__: Any) -> None:
        state = Path(resume_from_checkpoint)
        stored = load_file(state / _TRAINED)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(stored[name])
        if self._trajectory is not None and (state / _TRAJECTORY).is_dir():
            copy_or_link(state / _TRAJECTORY, self._trajectory)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        assert checkpoint is not None
        loop = read_json(Path(checkpoint, _LOOP))
        self._tr_loss.fill_(loop["loss"])
        self._globalstep_last_logged = loop["logged"]
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(torch.load(Path(checkpoint, _CARDS), weights_only=True))

    def _write(self, folder: Path) -> None:
        save_file(
            {
                name: one.detach().cpu().contiguous()
                for name, one in self.model.named_parameters()
                if one.requires_grad
            },
            folder / _TRAINED,
        )
        self._save_optimizer_and_scheduler(str(folder))
        self._save_rng_state(str(folder))
        if torch.cuda.is_available():
            torch.save(torch.cuda.get_rng_state_all(), folder / _CARDS)
        loop = {"loss": self._tr_loss.item(), "logged": self._globalstep_last_logged}
        write_json(folder / _LOOP, loop)
        self.state.save_to_json(str(folder / "trainer_state.json"))
        if self._trajectory is not None and self._trajectory.is_dir():
            copy_or_link(self._trajectory, folder / _TRAJECTORY)


class SaveCallback(TrainerCallback):
    """Saves the state when it is due, and stops the training after a stop signal."""

    def __init__(self, states: TrainingStates, request: StopRequest) -> None:
        self._states = states
        self._request = request

    def on_step_end(self, _: Any, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        if self._request.number is not None:
            control.should_save = control.should_training_stop = True
        elif state.global_step < state.max_steps and self._states.due():
            control.should_save = True
