"""Step `activations`: the shift of gate activations between emotional and neutral texts.

A gate's activation is act(gate_proj(x)), which multiplies the output of up, per neuron and token.
A text's activation is the mean over its tokens. The shift of a neuron is the standardised
difference of means between the two sets of texts. Neurons that training moved are compared with the
rest, which shows whether the training changed neurons that respond to emotion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import mannwhitneyu
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from affectlocus.checkpoints.architectures import Rows
from affectlocus.config.evaluation import Evaluate
from affectlocus.config.hardware import Hardware
from affectlocus.config.measures import Neurons
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.deltas.neurons import count_of
from affectlocus.evaluation.evaluate import HARDWARE, CellModel
from affectlocus.lm.batching import in_batches
from affectlocus.lm.devices import autocast
from affectlocus.lm.linear_projections import linear_projections
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.sample_media import with_placeholders


@dataclass(frozen=True)
class _Gate:
    """A layer's gate: the module that computes it, and its columns in the module's output."""

    layer: int
    module: torch.nn.Module
    rows: Rows | None


def _gates(model: PreTrainedModel) -> list[_Gate]:
    found = [
        _Gate(location.layer, module, rows)
        for location, module, rows in linear_projections(model)
        if location.projection == "gate"
    ]
    if not found:
        raise InputError(
            "model.no-gate",
            f"{model.config.model_type}: no module is a gate projection (a mixture's experts are "
            "one parameter, which no hook reaches); expected a dense model",
            found=model.config.model_type,
        )
    return sorted(found, key=lambda gate: gate.layer)


@contextmanager
def _recording(gates: list[_Gate], receive: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """Calls `receive(number, output)` with each gate's pre-activations (B, T, neurons)."""

    def hook(number: int, rows: Rows | None) -> Callable[..., None]:
        def listen(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
            if rows is not None:
                output = torch.cat([output[..., start:stop] for start, stop in rows], dim=-1)
            receive(number, output)

        return listen

    handles = [
        gate.module.register_forward_hook(hook(number, gate.rows))
        for number, gate in enumerate(gates)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _activation(model: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    text = model.config.get_text_config()
    name = getattr(text, "hidden_act", None) or getattr(text, "hidden_activation", None)
    if name not in ACT2FN:
        raise InputError(
            "model.unknown-activation",
            f"{model.config.model_type}: no activation named {name!r} is known",
            found=name,
        )
    return ACT2FN[name]


@torch.inference_mode()
def mean_activations(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], batch_tokens: int
) -> tuple[list[int], list[np.ndarray]]:
    """The mean activation of each gate neuron over the tokens of each text.

    Args:
        prompts: token ids, none empty.
        batch_tokens: tokens in one forward pass, padding included; see `batching.in_batches`.

    Returns:
        The layers, and for each layer an array of float32 (texts, neurons).
    """
    gates, act = _gates(model), _activation(model)
    found: dict[int, np.ndarray] = {}
    batch: dict[int, np.ndarray] = {}
    weights = torch.empty(0)

    def receive(number: int, output: torch.Tensor) -> None:
        mean = torch.einsum("btn,bt->bn", act(output).float(), weights)
        batch[number] = mean.cpu().numpy()

    def run(rows: list[int]) -> None:
        nonlocal weights
        # Padding follows the text, so attention from the text cannot reach it.
        width = max(len(prompts[row]) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(prompts[row])] = torch.tensor(prompts[row])
            mask[place, : len(prompts[row])] = 1
        weights = (mask / mask.sum(1, keepdim=True)).to(model.device)
        model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            logits_to_keep=1,
            use_cache=False,
        )
        for number, mean in batch.items():
            whole = found.setdefault(number, np.empty((len(prompts), mean.shape[1]), mean.dtype))
            whole[rows] = mean

    with _recording(gates, receive):
        in_batches([len(prompt) for prompt in prompts], batch_tokens, run, "text")
    return [gate.layer for gate in gates], [found[number] for number in range(len(gates))]


def effect_sizes(emotional: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """Hedges' g of each column: the difference of means over the pooled standard deviation.

    Corrected for small samples by 1 − 3 / (4(n₁ + n₂) − 9). A neuron without variation has NaN.

    Args:
        emotional: (texts, neurons).
        neutral: (texts, neurons).

    Raises:
        InputError: fewer than two texts on a side.
    """
    n, m = len(emotional), len(neutral)
    if min(n, m) < 2:
        raise InputError(
            "task.too-few-neutral",
            f"{n} emotional and {m} neutral texts; expected at least two of each",
            found=(n, m),
        )
    one, two = emotional.astype(float), neutral.astype(float)
    pooled = ((n - 1) * one.var(0, ddof=1) + (m - 1) * two.var(0, ddof=1)) / (n + m - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = (one.mean(0) - two.mean(0)) / np.sqrt(pooled)
    return np.where(pooled > 0, d * (1 - 3 / (4 * (n + m) - 9)), np.nan)


def shifts(
    model: PreTrainedModel,
    tasks: Mapping[str, tuple[Sequence[Sequence[int]], Sequence[bool]]],
    batch_tokens: int,
) -> pd.DataFrame:
    """The shift of every gate neuron, task by task.

    Args:
        tasks: name → the texts' token ids, and whether each text is neutral.

    Returns:
        A row per task, layer and neuron: `task`, `layer`, `neuron`, `emotional`, `neutral` (mean
        activations), `effect` (Hedges' g).
    """
    frames = []
    for task, (prompts, neutral) in tasks.items():
        calm = np.asarray(neutral, dtype=bool)
        layers, means = mean_activations(model, prompts, batch_tokens)
        for layer, mean in zip(layers, means, strict=True):
            frames.append(
                pd.DataFrame(
                    {
                        "task": task,
                        "layer": layer,
                        "neuron": np.arange(mean.shape[1], dtype=np.int32),
                        "emotional": mean[~calm].mean(0),
                        "neutral": mean[calm].mean(0),
                        "effect": effect_sizes(mean[~calm], mean[calm]),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def moved_against_rest(shift: pd.DataFrame) -> pd.DataFrame:
    """Whether moved neurons shift more than the rest, in |effect|.

    Args:
        shift: rows of one model with `moved`, a flag of each gate neuron.

    Returns:
        A row per task and layer, and a row per task over all layers, without `layer`: `task`,
        `layer`, `moved` and `rest` (numbers of neurons), `effect_moved` and `effect_rest` (medians
        of |effect|), `probability` that a moved neuron shifts more than one of the rest (0.5 by
        chance), and the two-sided `p` of Mann and Whitney's U. Empty where a side has no neuron.
    """
    rows = []
    sized = shift.assign(size=shift["effect"].abs()).dropna(subset=["size"])
    groups: list[tuple[Any, pd.DataFrame]] = [
        ((task, None), group) for task, group in sized.groupby("task", sort=False)
    ]
    groups += sized.groupby(["task", "layer"], sort=False)
    for (task, layer), group in groups:
        moved = group.loc[group["moved"], "size"]
        rest = group.loc[~group["moved"], "size"]
        row: dict[str, Any] = {"task": task, "layer": layer, "moved": len(moved), "rest": len(rest)}
        if len(moved) and len(rest):
            u, p = mannwhitneyu(moved, rest)
            row |= {"effect_moved": moved.median(), "effect_rest": rest.median()}
            row |= {"probability": u / (len(moved) * len(rest)), "p": p}
        rows.append(row)
    columns = [*("task", "layer", "moved", "rest"), "effect_moved", "effect_rest", "probability"]
    frame = pd.DataFrame(rows, columns=[*columns, "p"])
    return frame.astype({"layer": "Int64"})


def gate_shifts(
    chain: Sequence[Path],
    tuned: Path,
    tasks: Mapping[str, pd.DataFrame],
    neurons: pd.DataFrame,
    again: pd.DataFrame | None,
    which: Neurons,
    limits: Evaluate,
    reading: dict[str, Any],
    hardware: Hardware = HARDWARE,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The shifts in a pair's base and tuned model, and whether moved neurons shift more.

    Args:
        chain: the base's folder, and the adapters to apply to it.
        tasks: prepared tasks, columns `split`, `prompt`, `answer`; test samples are read.
        neurons: the neurons of the pair's deltas. Those with the largest change in gate are
            `moved`.
        again: the result of `neurons.moved_neurons`.
        reading: how the tuned checkpoint is read (`checkpoints.Pair`).
        hardware: the settings for GPUs.

    Returns:
        The rows of `shifts` with `model` (base, tuned), `moved` and, if it is known, `again`; and
        those of `moved_against_rest` for each `model` and `set` (moved, again).

    Raises:
        InputError: a task with fewer than two samples on a side.
    """
    prompter = Prompter(chain[0])
    texts = {}
    for name, frame in tasks.items():
        # Both models read the text alone: a neuron is compared between texts.
        test = with_placeholders(frame[frame["split"] == "test"], ())
        neutral = (test["answer"] == which.neutral).tolist()
        if min(sum(neutral), len(neutral) - sum(neutral)) < 2:
            raise InputError(
                "task.too-few-neutral",
                f"task {name}: {sum(neutral)} of {len(neutral)} test samples are "
                f"{which.neutral!r}; expected at least two of these and two others",
                task=name,
                found=(len(neutral) - sum(neutral), sum(neutral)),
            )
        texts[name] = (prompter.prompts(test["prompt"].tolist(), limits.max_length), neutral)
    flags = {"moved": _largest(neurons, which.share)}
    if again is not None:
        rows = again[again["again"] & (again["projection"] == "gate")]
        flags["again"] = set(zip(rows["layer"], rows["neuron"], strict=True))
    frames, summaries = [], []
    shared = CellModel(chain, hardware)
    for kind, path in (("base", None), ("tuned", tuned)):
        cell = Cell("base", "base") if path is None else Cell("tuned", "base", "pair")
        shared.become(path, cell, **(reading if path else {}))
        with autocast(shared.model, hardware):
            shift = shifts(shared.model, texts, limits.batch_tokens).assign(model=kind)
        here = list(zip(shift["layer"], shift["neuron"], strict=True))
        for name, chosen in flags.items():
            shift[name] = [place in chosen for place in here]
            found = moved_against_rest(shift.assign(moved=shift[name]))
            summaries.append(found.assign(model=kind, set=name))
        frames.append(shift)
    return pd.concat(frames, ignore_index=True), pd.concat(summaries, ignore_index=True)


def _largest(neurons: pd.DataFrame, share: float) -> set[tuple[int, int]]:
    """(layer, neuron) of the gate's most changed neurons, a share of each layer's."""
    found: set[tuple[int, int]] = set()
    for _, group in neurons[neurons["projection"] == "gate"].groupby("layer"):
        chosen = group.nlargest(count_of(share, len(group)), "l2")
        found |= set(zip(chosen["layer"].tolist(), chosen["neuron"].tolist(), strict=True))
    return found
