"""transformers' Trainer, which reads in order, names the step of a NaN, and can stop and go on.

A state holds what the Trainer saves of itself (optimizer, schedule, random numbers, log), the
weights that are trained and no others, and what the Trainer forgets: the losses since the last
entry of the log, and the random numbers of every card. So a training that went on from it ends with
the same weights and the same log, to the last bit, as one that was never stopped.
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
from affectlocus.training.training_state import Unfinished, copied

_TRAINED, _LOOP, _CARDS, _KEPT = "trained.safetensors", "loop.json", "cards.pt", "kept"


class DivergedError(InputError):
    """A loss or a weight that is no number."""


class InOrder(Trainer):
    """Reads the samples in the order in which they are given.

    Args:
        unfinished: where states are saved; none are, where it is None.
        kept: a folder that is part of a state, if it is there when one is saved.
    """

    def __init__(
        self, *, unfinished: Unfinished | None = None, kept: Path | None = None, **named: Any
    ) -> None:
        super().__init__(**named)
        self._unfinished = unfinished
        self._kept = kept
        self._losses: list[torch.Tensor] = []  # of the steps since they were last looked at

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)

    # A loss is looked at when the log is written, and not at each step: a card would have to be
    # waited for.

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*arguments, **named)
        self._losses.append(loss)
        return loss

    def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
        self.check_losses()
        super().log(logs, *arguments, **named)

    def check_losses(self) -> None:
        """Refuses a loss that is no number, by its step."""
        losses = torch.stack(self._losses).tolist() if self._losses else []
        first = self.state.global_step - len(losses) + 1
        self._losses.clear()
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                cause = (
                    "the base itself gives no number: look at its weights, or take "
                    "hardware.precision float32"
                    if step == 1
                    else "training has diverged; lower learning_rate"
                )
                raise DivergedError(
                    f"the loss of step {step} of {self.state.max_steps} is {loss}: {cause}"
                )

    def check_weights(self) -> None:
        """Refuses weights, or an optimizer's state, that are no numbers."""
        for name, tensor in self._tensors():
            if not torch.isfinite(tensor).all():
                raise DivergedError(
                    f"{name} is not finite after step {self.state.global_step} of "
                    f"{self.state.max_steps}: training has diverged; lower learning_rate"
                )

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        trained = [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]
        yield from trained
        states = self.optimizer.state if self.optimizer is not None else {}
        for name, parameter in trained:
            for key, value in states.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    yield f"{key} of {name}", value

    # Trainer calls these three.

    def _save_checkpoint(self, *_: Any, **__: Any) -> None:
        assert self._unfinished is not None
        self.check_losses()
        self.check_weights()
        self._unfinished.save(self.state.global_step, self._write)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: Any, **__: Any) -> None:
        state = Path(resume_from_checkpoint)
        stored = load_file(state / _TRAINED)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(stored[name])
        if self._kept is not None and (state / _KEPT).is_dir():
            copied(state / _KEPT, self._kept)

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
        if self._kept is not None and self._kept.is_dir():
            copied(self._kept, folder / _KEPT)


class Saving(TrainerCallback):
    """Has the Trainer save when it is time, and stop where it is asked to."""

    def __init__(self, unfinished: Unfinished, request: StopRequest) -> None:
        self._unfinished = unfinished
        self._request = request

    def on_step_end(self, _: Any, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        if self._request.number is not None:
            control.should_save = control.should_training_stop = True
        elif state.global_step < state.max_steps and self._unfinished.due():
            control.should_save = True
