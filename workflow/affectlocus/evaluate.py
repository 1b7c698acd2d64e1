"""Step `evaluate`: one cell answers every benchmark; its answers are kept, not yet scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import Progress
from transformers import AutoModelForCausalLM, PreTrainedModel

from affectlocus.candidates import log_likelihoods
from affectlocus.cells import Cell
from affectlocus.checkpoints import Pair
from affectlocus.errors import InputError
from affectlocus.interventions import intervened, verify
from affectlocus.prompts import Prompter


def build(
    base: Path | Sequence[Path], tuned: Path | None, cell: Cell, **reading: Any
) -> tuple[PreTrainedModel, dict[str, int]]:
    """The cell's model on the device at hand, and what `verify` counted.

    Args:
        base: a model's folder; or a chain, with the adapters that made it the base in question.
        reading: how the tuned checkpoint is read (`checkpoints.Pair`).
    """
    if (cell.kind == "base") != (tuned is None):
        expected = "no tuned checkpoint" if cell.kind == "base" else "a tuned checkpoint"
        raise InputError(f"cell {cell.id}: expected {expected} for kind {cell.kind!r}")
    chain = [base] if isinstance(base, Path) else list(base)
    model, loading = AutoModelForCausalLM.from_pretrained(
        chain[0], local_files_only=True, dtype="auto", output_loading_info=True
    )
    # transformers would draw these at random, and the cell would answer with them.
    if loading["missing_keys"]:
        name = min(loading["missing_keys"])
        raise InputError(
            f"{chain[0]}: the model needs {name}, which no file of the checkpoint holds"
        )
    counts: dict[str, int] = {}
    if tuned is None and len(chain) > 1:
        # The base in question is what the chain's last adapter made of the others.
        *chain, tuned = chain
        cell = Cell("tuned", cell.base)
    if tuned is not None:
        pair = Pair(chain, tuned, **reading)
        tensors = model.state_dict()  # shares the model's memory: writing here edits the model
        for name in pair.names:
            if name not in tensors:
                continue
            value = intervened(pair, name, cell)
            if value.shape != tensors[name].shape:
                raise InputError(
                    f"{tuned}: {name} has shape {tuple(value.shape)}, the base's model "
                    f"{tuple(tensors[name].shape)}; a {cell.kind} cell cannot hold it"
                )
            if value.dtype != tensors[name].dtype:
                raise InputError(
                    f"{tuned}: {name} is stored as {value.dtype}, in the base {chain[0]} as "
                    f"{tensors[name].dtype}; save both in one dtype"
                )
            tensors[name].copy_(value)
        counts = verify(tensors, pair, cell)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), counts


def evaluate(
    model: PreTrainedModel,
    prompter: Prompter,
    tasks: dict[str, pd.DataFrame],
    labels: dict[str, list[str]],
    batch_size: int,
    max_length: int,
) -> pd.DataFrame:
    """The log-likelihood of every label behind every test prompt.

    Args:
        tasks: prepared tasks, columns `id`, `split`, `prompt`, `answer`.
        labels: the label words of each task, in the order of params.yaml.

    Returns:
        A row per (task, sample, candidate): `task`, `sample`, `label` (the true one), `candidate`,
        `loglik` (nats, float32), `tokens` of the candidate.
    """
    frames = []
    total = sum(int((frame["split"] == "test").sum()) for frame in tasks.values())
    with Progress() as progress:
        bar = progress.add_task("samples", total=total)
        for task, frame in tasks.items():
            test = frame[frame["split"] == "test"]
            words = labels[task]
            candidates = [prompter.answer(word) for word in words]
            values = log_likelihoods(
                model,
                prompter.prompts(test["prompt"].tolist(), max_length),
                candidates,
                batch_size,
                lambda done: progress.advance(bar, done),
            )
            if not torch.isfinite(values).all():
                raise InputError(
                    f"task {task}: the model's log-likelihoods are not finite; "
                    "its weights hold NaN or overflow in their dtype"
                )
            frames.append(_tidy(task, test, words, [len(ids) for ids in candidates], values))
    return pd.concat(frames, ignore_index=True)


def _tidy(
    task: str, test: pd.DataFrame, words: list[str], tokens: list[int], values: torch.Tensor
) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "task": task,
        "sample": test["id"].repeat(len(words)).to_numpy(),
        "label": test["answer"].repeat(len(words)).to_numpy(),
        "candidate": words * len(test),
        "loglik": values.flatten().numpy(),
        "tokens": tokens * len(test),
    }
    return pd.DataFrame(columns).astype({"tokens": "int16"})
