"""One run of a training: its trained tensors, and its saved state.

A saved state holds the trained tensors, AdamW's moments, the random numbers, the log, the losses
since the last log entry, and the snapshots. A resumed run therefore ends with the same weights and
the same log, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from affectlocus.core.files import read_json, write_json
from affectlocus.training.training_state import TrainingStates, copy_or_link

TRAINED = "trained.safetensors"
"""File in a state: the trained tensors by name."""

_MOMENTS, _LOOP, _RANDOM, _TRAJECTORY = "moments.safetensors", "loop.json", "random.pt", "kept"
_KINDS = ("exp_avg", "exp_avg_sq")  # AdamW's names of its moments


@dataclass(frozen=True)
class Slot:
    """A trained tensor of a run: a whole parameter, or one row of a parameter of stacked runs."""

    parameter: torch.Tensor
    row: int | None = None

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The run's part of the parameter, or of a tensor of the parameter's shape; a view."""
        return tensor if self.row is None else tensor[self.row]


@dataclass
class Run:
    """A run of a training; stacked runs take their steps together.

    Attributes:
        slots: name → trained tensor.
        snapshots: steps after which `save` is called with the step. It must not change the trained
            tensors or the random numbers.
        states: saves the state of the run, and finds the state to resume from; None: no state is
            saved.
        trajectory: the folder into which `save` writes; it is a part of the state.
        bridge: what makes the soft tokens of the samples; its trained tensors are among `slots`.
        frozen: modules without dropout, as in evaluation: the frozen encoders of the model.
        log: a dict with `step`, `loss` (mean nats per learned token since the last entry) and
            `learning_rate`; one entry after each twentieth of the steps.
        losses: the losses of the steps since the last entry of the log.
    """

    slots: Mapping[str, Slot]
    snapshots: Sequence[int] = ()
    save: Callable[[int], None] = lambda _: None
    states: TrainingStates | None = None
    trajectory: Path | None = None
    bridge: torch.nn.Module | None = None
    frozen: Sequence[torch.nn.Module] = ()
    log: list[dict[str, Any]] = field(default_factory=list, init=False)
    losses: list[torch.Tensor] = field(default_factory=list, init=False)

    def tensors(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
        """The trained tensors and their moments, with names for messages."""
        for name, slot in self.slots.items():
            yield name, slot.of(slot.parameter.detach())
            state = optimizer.state.get(slot.parameter, {})
            for kind in _KINDS:
                if kind in state:
                    yield f"{kind} of {name}", slot.of(state[kind])

    def write_state(self, folder: Path, optimizer: torch.optim.Optimizer) -> None:
        """Writes the files of a state into a folder."""
        trained = {name: slot.of(slot.parameter.detach()) for name, slot in self.slots.items()}
        moments = {
            f"{kind}.{name}": slot.of(optimizer.state[slot.parameter][kind])
            for name, slot in self.slots.items()
            if slot.parameter in optimizer.state
            for kind in _KINDS
        }
        _save(trained, folder / TRAINED)
        _save(moments, folder / _MOMENTS)
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        torch.save({"cpu": torch.get_rng_state(), "cuda": gpus}, folder / _RANDOM)
        losses = [float(loss) for loss in self.losses]
        write_json(folder / _LOOP, {"log": self.log, "losses": losses})
        if self.trajectory is not None and self.trajectory.is_dir():
            copy_or_link(self.trajectory, folder / _TRAJECTORY)

    def read_state(self, folder: Path, moments: Mapping[torch.Tensor, dict[str, Any]]) -> None:
        """Reads the state that `write_state` wrote.

        Args:
            moments: parameter → its state in AdamW, into which the moments are copied.
        """
        trained, saved = load_file(folder / TRAINED), load_file(folder / _MOMENTS)
        with torch.no_grad():
            for name, slot in self.slots.items():
                slot.of(slot.parameter).copy_(trained[name])
                for kind in _KINDS:
                    if f"{kind}.{name}" in saved:
                        slot.of(moments[slot.parameter][kind]).copy_(saved[f"{kind}.{name}"])
        drawn = torch.load(folder / _RANDOM, weights_only=True)
        torch.set_rng_state(drawn["cpu"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(drawn["cuda"])
        loop = read_json(folder / _LOOP)
        self.log = loop["log"]
        self.losses = [torch.tensor(loss) for loss in loop["losses"]]
        if self.trajectory is not None and (folder / _TRAJECTORY).is_dir():
            copy_or_link(folder / _TRAJECTORY, self.trajectory)


def _save(tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    # Cloned, because safetensors refuses tensors that share memory, as rows of a stack do.
    save_file({name: tensor.cpu().clone() for name, tensor in tensors.items()}, file)
