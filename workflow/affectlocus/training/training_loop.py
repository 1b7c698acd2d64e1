"""The training loop of pre-training and tuning: AdamW, warm-up, cosine decay; deterministic.

Logits are computed at the learned tokens only. Stacked runs share the samples of each step, the
model and the passes through it. Everything else, including the gradient norm, is separate for each
run.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from affectlocus.config.hardware import Hardware
from affectlocus.core.errors import InputError, out_of_memory
from affectlocus.core.stop_signals import Stopped, StopRequest, deferred_stop
from affectlocus.lm.native_samples import on_device
from affectlocus.lm.sample_media import batch_soft_tokens
from affectlocus.lm.soft_tokens import model_inputs
from affectlocus.training.batches import Budget, Example, collate, schedule
from affectlocus.training.native_examples import NativeExample
from affectlocus.training.training_run import Run, Slot
from affectlocus.training.training_state import TrainingStates, say

HARDWARE = Hardware()


class DivergedError(InputError):
    """A loss, a weight or an optimizer state is NaN or infinite."""


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    budget: Budget,
    hardware: Hardware = HARDWARE,
    snapshots: Sequence[int] = (),
    save: Callable[[int], None] = lambda _: None,
    states: TrainingStates | None = None,
    trajectory: Path | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Trains the parameters of `model` that require a gradient, in one run.

    Args:
        snapshots, save, states, trajectory: as in `Run`.
        progress: called after each step.

    Returns:
        The log, as in `Run`.

    Raises:
        InputError, Stopped: as in `train_runs`.
    """
    slots = {name: Slot(one) for name, one in model.named_parameters() if one.requires_grad}
    run = Run(slots, snapshots, save, states, trajectory)
    train_runs(model, examples, budget, [run], hardware, progress)
    return run.log


def train_runs(
    model: PreTrainedModel,
    examples: Sequence[Example],
    budget: Budget,
    runs: Sequence[Run],
    hardware: Hardware = HARDWARE,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Trains runs that read the same samples in the same order.

    The result is deterministic for a seed, a device and a number of threads. It is the same after
    resuming from saved states, if model and examples are built as before.

    Args:
        runs: the model repeats each batch for each of them: rows n·B to (n+1)·B of a pass belong to
            run n. The caller removes their states when what was trained is on disk.
        progress: called after each step.

    Raises:
        InputError: no samples; out of memory; a loss or weight that is NaN or infinite
            (DivergedError; the saved states are removed).
        Stopped: a stop signal arrived, and the runs have states; they are saved.
    """
    if not examples:
        raise InputError(
            "tuning.no-samples", "no training samples; check the train split of the tasks"
        )
    torch.manual_seed(budget.seed)
    stops = any(run.states for run in runs)
    with deferred_stop() if stops else contextlib.nullcontext(StopRequest()) as request:
        loop = _Loop(model, examples, budget, runs, hardware)
        try:
            loop.resume()
            _take_steps(loop, request, progress)
        except DivergedError:
            # A saved state leads to the same divergence.
            for run in runs:
                if run.states is not None:
                    run.states.remove()
            raise
        if request.number is not None:
            loop.save()
            raise Stopped(request.number, loop.next_start())


def _take_steps(loop: _Loop, request: StopRequest, progress: Callable[[], None]) -> None:
    """Takes the remaining steps, or those until a stop signal arrives; saves states in between."""
    steps = loop.budget.steps
    with answers_only(loop.model) as logits_at:
        while loop.step < steps:
            loop.advance(logits_at)
            progress()
            if request.number is not None:
                break
            if loop.step < steps and any(run.states and run.states.due() for run in loop.runs):
                loop.save()
    for run in loop.runs:
        loop.check(run)


def learning_rate(step: int, budget: Budget, peak: float | None = None) -> float:
    """The rate of a step, counted from 0: it rises to its peak, and falls to 0 along a cosine.

    With the schedule `constant` it stays at its peak; without warm-up, from the first step on.

    Args:
        peak: by default that of the budget.
    """
    highest = budget.learning_rate if peak is None else peak
    constant = budget.schedule == "constant"
    rising = max(0 if constant else 1, round(budget.warmup * budget.steps))
    if step < rising:
        return highest * step / rising
    if constant:
        return highest
    share = (step - rising) / max(1, budget.steps - rising)
    return highest * 0.5 * (1 + math.cos(math.pi * share))


class _Loop:
    """The state of a training. `step` is the number of steps taken."""

    def __init__(
        self,
        model: PreTrainedModel,
        examples: Sequence[Example],
        budget: Budget,
        runs: Sequence[Run],
        hardware: Hardware,
    ) -> None:
        self.model, self.examples, self.budget, self.runs = model, examples, budget, runs
        self.step = 0
        self._order = schedule([len(example.ids) for example in examples], budget)
        self._every = max(1, budget.steps // 20)
        model.train()
        for module in {module for run in runs for module in run.frozen}:
            module.eval()
        if hardware.checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        on_card = model.device.type == "cuda"
        self._half = hardware.precision == "bfloat16" and on_card and torch.cuda.is_bf16_supported()
        self._half_on_cpu = hardware.cpu_precision == "bfloat16" and model.device.type == "cpu"
        # As Trainer does: no weight decay of biases and norms. A bridge has a rate of its own.
        groups: dict[tuple[bool, bool], dict[torch.Tensor, None]] = {
            (bridge, decays): {} for bridge in (False, True) for decays in (True, False)
        }
        for run in runs:
            own = set(run.bridge.parameters()) if run.bridge is not None else set()
            for slot in run.slots.values():
                key = slot.parameter in own, slot.of(slot.parameter).dim() > 1
                groups[key][slot.parameter] = None
        self._peaks = [
            budget.bridge_learning_rate if bridge else None
            for (bridge, _), group in groups.items()
            if group
        ]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(group), "weight_decay": budget.weight_decay * decays}
                for (_, decays), group in groups.items()
                if group
            ],
            betas=(0.9, budget.beta2),
            fused=True,
        )

    def resume(self) -> None:
        """Continues from the saved states of all runs, if they are of one step."""
        found = [run.states.find() if run.states else None for run in self.runs]
        steps = {run.states.step() for run in self.runs if run.states}
        states = [state for state in found if state is not None]
        if len(states) < len(found) or len(steps) > 1:
            return
        self.step = int(steps.pop() or 0)
        say(f"resuming from the saved state of step {self.step} of {self.budget.steps}")
        stored = self.optimizer.state_dict()
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        moments: dict[torch.Tensor, dict[str, Any]] = {
            parameter: {
                "step": torch.tensor(float(self.step)),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            for parameter in parameters
        }
        for run, state in zip(self.runs, states, strict=True):
            run.read_state(state, moments)
        self.optimizer.load_state_dict(
            stored | {"state": dict(enumerate(moments[one] for one in parameters))}
        )

    def advance(self, logits_at: LogitsAt) -> None:
        """Takes a step, and then saves snapshots and writes the log if they are due."""
        with self._out_of_memory_advice():
            self._take_step(logits_at)
        self.step += 1
        for run in self.runs:
            if self.step in run.snapshots:
                run.save(self.step)
            if self.step % self._every == 0:
                self._write_log(run)
        if self.step % self._every == 0:
            losses = ", ".join(f"{run.log[-1]['loss']:.4f}" for run in self.runs)
            say(f"step {self.step} of {self.budget.steps}: loss {losses}")

    def _take_step(self, logits_at: LogitsAt) -> None:
        size = self.budget.batch_size
        rows = self._order[self.step * size : (self.step + 1) * size]
        examples = [self.examples[row] for row in rows]
        native = [one for one in examples if isinstance(one, NativeExample)]
        if native:
            losses = [self._pass_one_by_one(native, logits_at)]
        else:
            losses = self._pass_together(examples, logits_at)
        for run, loss in zip(self.runs, losses, strict=True):
            run.losses.append(loss.detach())
            if self.budget.clip:
                _clip(run, self.budget.clip)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = learning_rate(self.step, self.budget, peak)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _pass_together(
        self, examples: Sequence[Example], logits_at: LogitsAt
    ) -> list[torch.Tensor]:
        """A pass of a padded batch, forward and backward; the loss of each run."""
        count, batch = len(self.runs), collate(examples)
        places = torch.cat([batch.places + run * batch.ids.numel() for run in range(count)])
        with self._precision():
            soft = self._soft(examples) if bool((batch.ids < 0).any()) else None
            ids = batch.ids.repeat(count, 1)
            logits = logits_at(model_inputs(self.model, ids, soft), places).float()
        targets = batch.targets.to(logits.device)
        # A run's own mean, so that it has the same bits whatever the number of runs.
        losses = [torch.nn.functional.cross_entropy(part, targets) for part in logits.chunk(count)]
        torch.stack(losses).sum().backward()
        return losses

    def _pass_one_by_one(
        self, examples: Sequence[NativeExample], logits_at: LogitsAt
    ) -> torch.Tensor:
        """A pass for each sample, because processors pad media in their own ways; their loss."""
        learned = sum(len(example.answer) for example in examples)
        total = torch.zeros((), device=self.model.device)
        for example in examples:
            # From the end, wherever the model puts the media.
            places = torch.arange(-len(example.answer) - 1, -1)
            with self._precision():
                inputs = on_device(self.model, example.inputs())
                logits = logits_at(inputs, places).float()
            targets = torch.tensor(example.answer, device=logits.device)
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / learned
            loss.backward()
            total += loss.detach()
        return total

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        """The forward pass computes in bfloat16 if the hardware settings say so."""
        if self._half:
            with torch.autocast("cuda", torch.bfloat16):
                yield
        elif self._half_on_cpu:
            # The fused attention is slower than the plain one in bfloat16 on a CPU.
            with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield

    def _soft(self, examples: Sequence[Example]) -> torch.Tensor:
        """The soft tokens of the samples of a batch, from the bridge of each run: (n·B, K, H)."""
        found = [
            batch_soft_tokens(run.bridge, [example.media or {} for example in examples])
            for run in self.runs
            if run.bridge is not None
        ]
        return torch.cat(found)

    def _write_log(self, run: Run) -> None:
        losses = self._checked_losses(run)
        run.losses.clear()
        rate = learning_rate(self.step - 1, self.budget)
        entry = {"step": self.step, "loss": sum(losses) / len(losses), "learning_rate": rate}
        run.log.append(entry)

    def check(self, run: Run) -> None:
        """Raises DivergedError if a loss, a weight or a moment of a run is NaN or infinite."""
        self._checked_losses(run)
        for name, tensor in run.tensors(self.optimizer):
            if not torch.isfinite(tensor).all():
                raise DivergedError(
                    "tuning.weight-not-finite",
                    f"{name} is not finite after step {self.step} of {self.budget.steps}: "
                    "training has diverged; lower learning_rate",
                    tensor=name,
                    step=self.step,
                    key="learning_rate",
                )

    def _checked_losses(self, run: Run) -> list[float]:
        """The losses since the last entry of the log, if all are finite.

        Losses are not checked in each step, because that would synchronise the GPU.
        """
        losses: list[float] = torch.stack(run.losses).tolist() if run.losses else []
        for step, loss in enumerate(losses, self.step - len(losses) + 1):
            if math.isfinite(loss):
                continue
            said = f"the loss of step {step} of {self.budget.steps} is {loss}"
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
        return losses

    def save(self) -> None:
        """Saves the state of every run."""
        for run in self.runs:
            if run.states is not None:
                self.check(run)
                run.states.save(self.step, partial(run.write_state, optimizer=self.optimizer))

    def next_start(self) -> str:
        """The end of the message of a stopped training: where the next run starts."""
        saved = {run.states.step() for run in self.runs if run.states is not None}
        if saved == {self.step}:
            start = "continues from there"
        elif None in saved or len(saved) > 1:
            start = "starts from the beginning"
        else:
            start = f"continues from step {saved.pop()}"
        return f" after step {self.step} of {self.budget.steps}; the next run {start}"

    @contextlib.contextmanager
    def _out_of_memory_advice(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not out_of_memory(error):
                raise
            longest = max(len(example.ids) for example in self.examples)
            size = self.budget.batch_size
            stacked = f", for {len(self.runs)} adapters at once" if len(self.runs) > 1 else ""
            raise InputError(
                "tuning.out-of-memory",
                f"out of memory in step {self.step + 1} of {self.budget.steps}, with {size} "
                f"samples of up to {longest} tokens in a batch{stacked}; lower batch_size, "
                "max_length or hardware.adapters_at_once, set hardware.checkpointing, or give the "
                "job more memory, as a cluster profile's retry does",
                step=self.step + 1,
                batch_size=size,
                tokens=longest,
            ) from None


def _clip(run: Run, largest: float) -> None:
    """Scales a run's gradient to a norm of at most `largest`."""
    gradients = [
        slot.of(slot.parameter.grad)
        for slot in run.slots.values()
        if slot.parameter.grad is not None
    ]
    norm = torch.nn.utils.get_total_norm(gradients)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device))


class LogitsAt(Protocol):
    """Computes a model's logits at chosen places."""

    def __call__(self, inputs: Mapping[str, Any], places: torch.Tensor) -> torch.Tensor:
        """A model's inputs of shape (B, T), places (n,) in them, row after row → logits (n, V)."""


@contextlib.contextmanager
def answers_only(model: PreTrainedModel) -> Iterator[LogitsAt]:
    """A function that computes a model's logits at chosen places only.

    The model's own forward pass is used, because some models scale or cap their logits. A hook
    selects the hidden states that the output embedding reads.
    """
    wanted: list[torch.Tensor] = []
    applied: list[bool] = []

    def select(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        hidden, places = inputs[0], wanted[-1]
        applied.append(True)
        return (hidden.flatten(0, 1)[places.to(hidden.device)][None], *inputs[1:])

    def logits_at(inputs: Mapping[str, Any], places: torch.Tensor) -> torch.Tensor:
        wanted[:], applied[:] = [places], []
        # A batch of text needs no attention mask: padding is on the right, where a causal model
        # does not look.
        logits = model(**inputs, use_cache=False).logits
        return logits[0] if applied else logits.flatten(0, 1)[places.to(logits.device)]

    head = model.get_output_embeddings()
    if head is None:
        yield logits_at
        return
    handle = head.register_forward_pre_hook(select)
    try:
        yield logits_at
    finally:
        handle.remove()
