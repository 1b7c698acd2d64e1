"""Step `evaluate`: cells answer every benchmark; their answers are kept, not yet scored.

One loaded base serves any number of cells: each writes the tensors in which it differs, and puts
back those of the cell before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from affectlocus.checkpoints.pairs import Pair, Weights
from affectlocus.config.hardware import Hardware
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.evaluation.interventions import intervened, touched, verify
from affectlocus.evaluation.prediction_cache import Answers
from affectlocus.lm.devices import computing, load
from affectlocus.lm.readouts import Asked

HARDWARE = Hardware()
NOTHING_KEPT = Answers(None, {}, {})


class Shared:
    """A base's model on the device at hand, which becomes one cell after another.

    Args:
        base: a model's folder; or a chain, with the adapters that made it the base in question.
        hardware: how it uses a card.

    Attributes:
        model: the model, in evaluation mode.
    """

    def __init__(self, base: Path | Sequence[Path], hardware: Hardware = HARDWARE) -> None:
        self._chain = [base] if isinstance(base, Path) else list(base)
        self.model = load(self._chain[0], hardware).eval()
        # Shares the model's memory: writing here edits the model.
        self._tensors: dict[str, torch.Tensor] = self.model.state_dict()
        self._changed: set[str] | None = None  # by the cell before; None: not known
        self._last: tuple[tuple[Any, ...], Pair] | None = None

    def become(self, tuned: Path | None, cell: Cell, **reading: Any) -> dict[str, int]:
        """Makes the model this cell's, bit for bit as if the base had just been loaded.

        Args:
            reading: how the tuned checkpoint is read (`checkpoints.Pair`).

        Returns:
            What `interventions.verify` counted.

        Raises:
            InputError: checkpoints that do not fit the cell, or each other.
        """
        if (cell.kind == "base") != (tuned is None):
            expected = "no tuned checkpoint" if cell.kind == "base" else "a tuned checkpoint"
            raise InputError(f"cell {cell.id}: expected {expected} for kind {cell.kind!r}")
        chain = self._chain
        if tuned is None and len(chain) > 1:
            # The base in question is what the chain's last adapter made of the others.
            *chain, tuned = chain
            cell = Cell("tuned", cell.base)
        if tuned is None:
            stored = Weights(chain[0])
            for name in sorted(self._changed or ()):
                self._write(name, stored.tensor(name), chain[0], cell)
            self._changed = set()
            return {}
        pair = self._opened(chain, tuned, reading)
        wanted = {name for name in pair.names if touched(pair, name, cell)}
        # At first every tensor: a chain's base is not what was loaded, and all are checked.
        before = set(pair.names) if self._changed is None else self._changed
        for name in sorted((wanted | before) & set(self._tensors)):
            value = intervened(pair, name, cell) if name in wanted else pair.base_tensor(name)
            self._write(name, value, tuned, cell)
        self._changed = wanted
        return verify(self._tensors, pair, cell)

    def _opened(self, chain: list[Path], tuned: Path, reading: dict[str, Any]) -> Pair:
        key = (*chain, tuned, *sorted(reading.items()))
        if self._last is None or self._last[0] != key:
            self._last = key, Pair(chain, tuned, **reading)
        return self._last[1]

    def _write(self, name: str, value: torch.Tensor, tuned: Path, cell: Cell) -> None:
        held = self._tensors[name]
        if value.shape != held.shape:
            raise InputError(
                f"{tuned}: {name} has shape {tuple(value.shape)}, the base's model "
                f"{tuple(held.shape)}; a {cell.kind} cell cannot hold it"
            )
        if value.dtype != held.dtype:
            raise InputError(
                f"{tuned}: {name} is stored as {value.dtype}, in the base {self._chain[0]} as "
                f"{held.dtype}; save both in one dtype"
            )
        held.copy_(value)


def build(
    base: Path | Sequence[Path], tuned: Path | None, cell: Cell, **reading: Any
) -> tuple[PreTrainedModel, dict[str, int]]:
    """One cell's model, and what `Shared.become` counted."""
    shared = Shared(base)
    counts = shared.become(tuned, cell, **reading)
    return shared.model, counts


def evaluate(
    model: PreTrainedModel,
    asked: Sequence[Asked],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
    hardware: Hardware = HARDWARE,
    answers: Answers = NOTHING_KEPT,
) -> pd.DataFrame:
    """What a model answers to everything that it is asked (`readouts`).

    Args:
        batch_tokens: tokens in one forward pass at most (`batching.in_batches`).
        progress: called with the number of samples done since the last call.
        hardware: what a float32 model multiplies in on a card.
        answers: those of this very cell that an earlier job was given, and where new ones go.

    Returns:
        A row per (task, sample, candidate): `task`, `sample`, `label` (the true one), `candidate`,
        `loglik` (nats, float32), `tokens` of the candidate. Of a text, a row per document, without
        label and candidate: its log-likelihood and the number of tokens that were predicted. Of
        free text, a row per (task, sample) without candidate and loglik. A column `text` holds
        what was written: the answer, or what a document's opening was gone on with; it is empty in
        the other rows. Every cell draws from one and the same stream for a sample.
    """
    frames = []
    for one in asked:
        frame = answers.get(one.task)
        if frame is None:
            with computing(model, hardware):
                frame = one.answered(model, batch_tokens, progress)
            answers.keep(one.task, frame)
        else:
            progress(len(one.prompts))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
