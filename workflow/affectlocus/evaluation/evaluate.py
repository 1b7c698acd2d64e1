"""Step `evaluate`: write the predictions of cells for every benchmark. They are scored later.

One loaded base serves any number of cells. Each cell writes the tensors that differ from the base,
and restores those of the previous cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from affectlocus.checkpoints.fused_experts import fuse_experts
from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.native_models import stored_native_model
from affectlocus.checkpoints.stored import as_array, as_torch, same_bits
from affectlocus.checkpoints.weights import Weights
from affectlocus.config.hardware import Hardware
from affectlocus.core.cells import INITIAL, Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE
from affectlocus.evaluation.cell_bridge import language_model_of
from affectlocus.evaluation.interventions import (
    BUFFER,
    ablated_tensor,
    check_layers,
    intervened,
    may_differ,
    verify,
)
from affectlocus.evaluation.prediction_cache import PredictionCache
from affectlocus.lm.devices import autocast, load, model_from_tensors
from affectlocus.lm.native_samples import NativeSamples
from affectlocus.lm.readouts import Readout
from affectlocus.lm.soft_tokens import Soft

HARDWARE = Hardware()
NO_CACHE = PredictionCache(None, {}, {})


class CellModel:
    """A base's model on the device, which is changed into one cell after another.

    Args:
        base: a model's folder, or a chain: the folder and the adapters to apply to it.
        hardware: the settings for GPUs.

    Attributes:
        model: the model, in evaluation mode.
        outside: of the current cell. `outside_is` (base or tuned) is the model that its tensors
            outside the module set come from. `outside_tuned` lists the modules outside the seven
            projections in which base and tuned model differ.
    """

    def __init__(self, base: Path | Sequence[Path], hardware: Hardware = HARDWARE) -> None:
        self._chain = [base] if isinstance(base, Path) else list(base)
        self._hardware = hardware
        # Module → its tensor on disk, where a multimodal model names the two differently.
        self._on_disk: dict[str, str] = {}
        self._native = stored_native_model(self._chain[0])
        if self._native is not None:
            names = Weights(self._chain[0]).names()
            self._on_disk = {self._native.module_name(name): name for name in names}
        self._adopt(load(self._chain[0], hardware))
        self._changed: set[str] | None = (
            None  # tensors that the previous cell changed; None before the first cell
        )
        self._last: tuple[tuple[Any, ...], ModelPair] | None = None
        self._rebuilt = False
        self.outside: dict[str, Any] = {}

    def _adopt(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        # Shares the model's memory: writing here edits the model.
        self._tensors: dict[str, torch.Tensor] = self._held()
        self._input: Any = self.model.get_input_embeddings()
        self._output: Any = self.model.get_output_embeddings()
        modules = {id(module): name for name, module in self.model.named_modules()}
        self._embedding = self._named(f"{modules[id(self._input)]}.weight")
        self._head = (
            None if self._output is None else self._named(f"{modules[id(self._output)]}.weight")
        )
        self._loaded_tied = self._is_tied()

    def _named(self, module: str) -> str:
        """The name on disk of a module's tensor."""
        return self._on_disk.get(module, module)

    def _held(self) -> dict[str, torch.Tensor]:
        """The model's tensors by their names on disk."""
        return {self._named(name): one for name, one in self.model.state_dict().items()}

    def become(self, tuned: Path | None, cell: Cell, **reading: Any) -> dict[str, int]:
        """Changes the model into that of a cell, with the same bits as from a newly loaded base.

        Args:
            reading: how the tuned checkpoint is read (`checkpoints.Pair`).

        Returns:
            The counts of `interventions.verify`.

        Raises:
            InputError: the checkpoints do not fit the cell or each other.
        """
        cell, tuned = language_model_of(cell, tuned)
        if (cell.kind == "base") != (tuned is None):
            expected = "no tuned checkpoint" if cell.kind == "base" else "a tuned checkpoint"
            raise InputError(
                "cell.wrong-checkpoints",
                f"cell {cell.id}: expected {expected} for kind {cell.kind!r}",
                cell=cell.id,
                expected=expected,
            )
        chain = self._chain
        if tuned is None and len(chain) > 1:
            # The base of a chain is the tuned cell of its last adapter.
            *chain, tuned = chain
            cell = Cell("tuned", cell.base)
        if tuned is None:
            if self._rebuilt:
                self._adopt(load(chain[0], self._hardware))
                self._changed, self._rebuilt = set(), False
            stored = Weights(chain[0])
            self._tie(True)
            for name in sorted(self._changed or ()):
                if name in stored:
                    self._write(name, stored.tensor(name), chain[0], cell)
            self._changed, self.outside = set(), {}
            return {}
        pair = self._opened(chain, tuned, reading)
        check_layers(pair, cell)
        whole = cell.kind in ("tuned", "tune", "ablate")
        if whole:
            pair.check()
        else:
            pair.check_dtypes()
        self.outside = {"outside_is": "tuned" if whole else "base", "outside_tuned": pair.outside}
        missing = {name for name in pair.names if name not in self._tensors}
        if self._rebuilt or any(not name.endswith(BUFFER) for name in missing):
            return self._rebuild(pair, cell, pair.is_untied(whole))
        self._tie(not pair.is_untied(whole))
        names = set(pair.names) - missing - ({self._head} if self._is_tied() else set())
        wanted = {name for name in names if may_differ(pair, name, cell)}
        if cell.kind == "tune":
            # A tuning changes its set and the bridge, which `take_bridge` gives the model.
            wanted -= self._bridge_of(pair)
        # The first cell writes and checks all tensors, because the loaded model may be the first of
        # a chain, not the base.
        before = names if self._changed is None else self._changed
        for name in sorted((wanted | before) & names):
            value = intervened(pair, name, cell) if name in wanted else pair.stored_base(name)
            self._write(name, as_torch(value), tuned, cell)
        self._changed = wanted
        return verify(self._tensors, pair, cell)

    def take_bridge(self, tuned: Path, cell: Cell, **reading: Any) -> dict[str, int]:
        """Gives a multimodal model the bridge of a cell: that of the tuned model, or of the base.

        Call it after `become`.

        Returns:
            The number of the bridge's tensors, `bridge_tensors`, and of these the ones that differ
            from the base's, `bridge_changed`.

        Raises:
            InputError: a tensor differs from the one that the cell should have.
        """
        pair = self._opened(self._chain, tuned, reading)
        names = sorted(self._bridge_of(pair))
        changed = 0
        for name in names:
            base, after = pair.stored_sides(name)
            value = base if cell.bridge == INITIAL else after
            if cell.modules == BRIDGE and cell.kind == "ablate":
                value = ablated_tensor(pair, name, cell.mode, cell.random_seed)
            self._write(name, as_torch(value), tuned, cell)
            held = as_array(self._tensors[name].cpu())
            if not same_bits(held, value):
                raise InputError(
                    "cell.changed-bridge",
                    f"{cell.id}: {name} of the bridge differs from the {cell.bridge} bridge",
                    cell=cell.id,
                    tensor=name,
                )
            changed += not same_bits(value, base)
        # The next cell writes them again.
        self._changed = (self._changed or set()) | set(names)
        return {"bridge_tensors": len(names), "bridge_changed": changed}

    def _bridge_of(self, pair: ModelPair) -> set[str]:
        """The tensors of a multimodal model's own bridge."""
        native = self._native
        return {n for n in pair.names if native is not None and native.region(n) == "bridge"}

    def _rebuild(self, pair: ModelPair, cell: Cell, apart: bool) -> dict[str, int]:
        """Loads the cell's tensors as a new model, for tensors that transformers renames.

        For example, it fuses the experts of a mixture into one tensor.
        """
        folder = self._chain[0]
        stored = Weights(folder)
        if unknown := set(pair.base.names()) - set(stored.names()):
            raise InputError(
                "base.prefixed-names",
                f"{pair.tuned}: transformers renames {min(unknown)} of {folder}; save the language "
                "model alone and use it as the base",
                file=pair.tuned,
                tensor=min(unknown),
            )
        tensors = {name: stored.stored(name) for name in stored.names() if name not in pair.names}
        tensors |= {name: intervened(pair, name, cell) for name in pair.names}
        counts = verify(tensors, pair, cell)
        if pair.embedding is not None:
            self._settings(vocab_size=len(tensors[pair.embedding]))
        if pair.tied:
            self._settings(tie_word_embeddings=not apart)
            if not apart:
                tensors.pop(str(pair.head), None)
        kind, config = type(self.model), self.model.config
        # The old model is deleted first, so that the GPU holds one model at a time.
        del self.model
        self._tensors, self._input, self._output, self._rebuilt = {}, None, None, True
        whole = {
            name: as_torch(value) for name, value in fuse_experts(tensors, stored.fused).items()
        }
        self._adopt(model_from_tensors(kind, config, folder, whole, self._hardware))
        return counts

    def _opened(self, chain: list[Path], tuned: Path, reading: dict[str, Any]) -> ModelPair:
        key = (*chain, tuned, *sorted(reading.items()))
        if self._last is None or self._last[0] != key:
            self._last = key, ModelPair(chain, tuned, **reading)
        return self._last[1]

    def _is_tied(self) -> bool:
        return (
            self._head is not None
            and self._output is not None
            and self._output.weight is self._input.weight
        )

    def _tie(self, tie: bool) -> None:
        """Makes head and embeddings one parameter or two; a model loaded with two keeps two."""
        if not self._loaded_tied or tie == self._is_tied():
            return
        assert self._output is not None
        if tie:
            self._output.weight = self._input.weight
        else:
            self._output.weight = torch.nn.Parameter(
                self._input.weight.detach().clone(), requires_grad=False
            )
        self._settings(tie_word_embeddings=tie)
        self._tensors = self._held()

    def _settings(self, **values: Any) -> None:
        """Sets values in the model's configuration, which is saved with the model."""
        config = self.model.config
        for each in (config, config.get_text_config()):
            for name, value in values.items():
                if hasattr(each, name):
                    setattr(each, name, value)

    def _write(self, name: str, value: torch.Tensor, tuned: Path, cell: Cell) -> None:
        held = self._tensors[name]
        if value.shape != held.shape and name in (self._head, self._embedding):
            held = self._resized(name, len(value))
        if value.shape != held.shape:
            raise InputError(
                "cell.other-shape",
                f"{tuned}: {name} has shape {tuple(value.shape)}, the base's model "
                f"{tuple(held.shape)}; a {cell.kind} cell cannot hold it",
                file=tuned,
                tensor=name,
                found=tuple(value.shape),
                expected=tuple(held.shape),
            )
        if value.dtype != held.dtype:
            raise InputError(
                "base.mixed-dtypes",
                f"{self._chain[0]}: {name} is stored as {value.dtype}, and transformers loads it "
                f"as {held.dtype}; save the base in one dtype, which its config.json names",
                file=self._chain[0],
                tensor=name,
                found=value.dtype,
                expected=held.dtype,
            )
        held.copy_(value)

    def _resized(self, name: str, rows: int) -> torch.Tensor:
        """Resizes the embeddings or the head to a number of tokens; both if they are tied."""
        held = self._tensors[name]
        new = torch.nn.Parameter(held.new_empty(rows, *held.shape[1:]), requires_grad=False)
        tied = self._is_tied()
        if tied or name == self._embedding:
            self._input.weight, self._input.num_embeddings = new, rows
            self._settings(vocab_size=rows)
        if self._output is not None and (tied or name == self._head):
            self._output.weight, self._output.out_features = new, rows
        self._tensors = self._held()
        return self._tensors[name]


def evaluate(
    model: PreTrainedModel,
    asked: Sequence[Readout],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
    hardware: Hardware = HARDWARE,
    answers: PredictionCache = NO_CACHE,
    soft: Mapping[str, Soft | NativeSamples] | None = None,
) -> pd.DataFrame:
    """A model's predictions for all tasks (`readouts`).

    Args:
        batch_tokens: tokens in one forward pass at most (`batching.in_batches`).
        progress: called with the number of samples done since the last call.
        hardware: the settings for GPUs, with the precision in which a float32 model multiplies.
        answers: the cache of this cell's predictions.
        soft: task → the soft tokens of its samples, for tasks whose prompts have them; or its
            samples as a multimodal model reads them itself.

    Returns:
        A row per (task, sample, candidate): `task`, `sample`, `label` (the true one), `candidate`,
        `loglik` (nats, float32), `tokens` of the candidate. For a text, a row per document without
        label and candidate: its log-likelihood and the number of predicted tokens. For free text, a
        row per (task, sample) without candidate and loglik. The column `text` holds generated text:
        the answer, or the continuation of a document's opening; it is empty in other rows. For a
        sample, all cells use the same stream of random numbers.
    """
    frames = []
    for one in asked:
        frame = answers.get(one.task)
        if frame is None:
            with autocast(model, hardware):
                frame = one.answer(model, batch_tokens, progress, (soft or {}).get(one.task))
            answers.keep(one.task, frame)
        else:
            progress(len(one.prompts))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
