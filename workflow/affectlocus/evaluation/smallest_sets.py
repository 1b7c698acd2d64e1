"""Step `smallest`: small sets of blocks of a delta that keep most of what the tuning gained.

A block is one projection of one layer. A set of blocks is loaded into the base as a load cell is:
its blocks have the bits of the tuned model, all others those of the base. Two searches order the
blocks; both use the gradient of the loss with respect to a factor m of each block's delta:

- `greedy`: from the whole delta, the blocks to which least of the gain is attributed, for each of
  their entries, are dropped, and the rest is attributed again at each size. A block's share is its
  gradient averaged over doses of the whole set (integrated gradients, arXiv 1703.01365): at the
  whole dose alone the loss is often saturated, and its gradient says little.
- `learned`: the factors, between 0 and 1, are trained (Adam) on the loss plus a price for the
  entries that they load; the price rises. Blocks are ordered by the mean of their factor over the
  training.

A third method, `pruned`, starts from the smallest set of both searches that keeps most of what the
tuning saves, and drops each of its blocks, the smallest share of the saving first, as long as the
set still keeps as much. The searches rank blocks by estimates; this one asks the model itself.

The loss is the cross-entropy of the right label among the candidates, on half of the test samples.
The other half is for the report, so that a set is not judged on the samples that chose it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from affectlocus.checkpoints.architectures import Rows
from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.stored import as_torch, select_rows
from affectlocus.config.hardware import Hardware
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import ALL, PROJECTIONS, ModuleSet
from affectlocus.evaluation.interventions import load_cell_tensor
from affectlocus.evaluation.random_places import changed_tensors
from affectlocus.lm.candidates import batch_log_likelihoods
from affectlocus.lm.devices import autocast
from affectlocus.lm.readouts import CandidateReadout

HARDWARE = Hardware()
Block = tuple[int, str]
"""A layer, and one of its projections."""

SEARCHES = ("greedy", "learned")
SHRINK = 0.7
"""The size of a set of the frontier, as a share of the next larger one."""
_DOSES = (1 / 6, 1 / 2, 5 / 6)
_BATCH = 16  # prompts in one pass with gradients
_RATE = 0.1  # of Adam, for factors between 0 and 1
_PRICES = (0.1, 100.0)  # of the whole delta, in units of the loss that the tuning saves


@dataclass(frozen=True)
class _Part:
    """A tensor, or its rows of one projection, in the base and in the tuned model."""

    block: Block
    parameter: torch.Tensor
    rows: Rows
    base: torch.Tensor
    tuned: torch.Tensor


class BlockModel:
    """A base whose blocks are loaded by factors: base + m · delta.

    Args:
        model: the model of the pair's base; `load` changes its weights.
        pair: the pair.
        hardware: the precision of passes with gradients.

    Attributes:
        blocks: the blocks that the tuning changed, in the order of every table.
        entries: (blocks,) the number of entries of each.
        change: (blocks,) the squared change of each.

    Raises:
        InputError: the model's parameters have other names than the checkpoint's tensors.
    """

    def __init__(
        self, model: PreTrainedModel, pair: ModelPair, hardware: Hardware = HARDWARE
    ) -> None:
        self.model, self._hardware = model, hardware
        parameters = dict(model.named_parameters())
        cell = Cell("load", "", "", ALL)
        self._parts: list[_Part] = []
        sizes: dict[Block, np.ndarray] = {}
        for (name, rows), tensor in changed_tensors(pair).items():
            if name not in parameters:
                raise InputError(
                    "smallest.renamed-tensor",
                    f"{pair.tuned}: transformers renames {name}; blocks of this model cannot be "
                    "loaded by factors",
                    file=pair.tuned,
                    tensor=name,
                )
            block = tensor.location.layer, tensor.location.projection
            own = np.array([tensor.entries, tensor.square])
            sizes[block] = sizes.get(block, np.zeros(2)) + own
            parameter = parameters[name]
            sides = (
                select_rows(pair.stored_base(name), rows),
                load_cell_tensor(pair, name, cell, rows),
            )
            base, tuned = (as_torch(side).to(parameter.device) for side in sides)
            whole = ((0, len(parameter)),)
            self._parts.append(_Part(block, parameter, rows or whole, base, tuned))
        self.blocks = sorted(sizes, key=lambda one: (one[0], PROJECTIONS.index(one[1])))
        self.entries = np.array([sizes[block][0] for block in self.blocks])
        self.change = np.array([sizes[block][1] for block in self.blocks])

    @torch.no_grad()
    def load(self, factors: np.ndarray) -> None:
        """Loads each block by its factor; 0 and 1 give the bits of base and tuned model."""
        factor_of = dict(zip(self.blocks, factors.tolist(), strict=True))
        for part in self._parts:
            factor = factor_of[part.block]
            if factor in (0.0, 1.0):
                value = part.tuned if factor else part.base
            else:
                value = torch.lerp(part.base, part.tuned, factor)
            start = 0
            for first, last in part.rows:
                part.parameter[first:last].copy_(value[start : start + last - first])
                start += last - first

    def gradient(self, questions: Sequence[Question]) -> tuple[float, np.ndarray]:
        """The mean loss over questions, and its gradient with respect to the factors."""
        parameters = list({id(part.parameter): part.parameter for part in self._parts}.values())
        self.model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
            parameter.grad = None
        try:
            with autocast(self.model, self._hardware):
                losses = [one.backward(self.model, len(questions)) for one in batched(questions)]
            found = dict.fromkeys(self.blocks, 0.0)
            for part in self._parts:
                assert part.parameter.grad is not None
                slope, start = 0.0, 0
                for first, last in part.rows:
                    own = slice(start, start + last - first)
                    delta = part.tuned[own].float() - part.base[own].float()
                    grad = part.parameter.grad[first:last].float()
                    slope += float((grad * delta).sum(dtype=torch.float64))
                    start += last - first
                found[part.block] += slope
        finally:
            for parameter in parameters:
                parameter.grad = None
                parameter.requires_grad_(False)
        return sum(losses), np.array([found[block] for block in self.blocks])

    @torch.inference_mode()
    def loss(self, questions: Sequence[Question], chosen: np.ndarray) -> float:
        """The mean loss over questions of the base with a set of blocks."""
        self.load(chosen.astype(float))
        with autocast(self.model, self._hardware):
            return sum(one.loss(self.model, len(questions)).item() for one in batched(questions))

    def share(self, chosen: np.ndarray) -> float:
        """The share of the delta's entries that some blocks have."""
        return float(self.entries[chosen].sum() / self.entries.sum())

    def text(self, chosen: np.ndarray) -> str:
        """The canonical text of a set of blocks, such as `up@10-15`."""
        layers: dict[str, list[int]] = {}
        for number in np.flatnonzero(chosen):
            layer, projection = self.blocks[number]
            layers.setdefault(projection, []).append(layer)
        terms = ((name, tuple(layers[name])) for name in PROJECTIONS if name in layers)
        return str(ModuleSet(tuple(terms)))


@dataclass(frozen=True)
class Question:
    """Prompts with the same candidates, and the index of the right one of each."""

    prompts: tuple[Sequence[int], ...]
    candidates: Sequence[Sequence[int]]
    right: tuple[int, ...]

    def backward(self, model: PreTrainedModel, total: int) -> float:
        """Adds the gradient of the summed loss / total to the weights; returns that loss."""
        loss = self.loss(model, total)
        loss.backward()
        return float(loss.detach())

    def loss(self, model: PreTrainedModel, total: int) -> torch.Tensor:
        """The summed loss / total, with gradients where the weights require them."""
        logs = batch_log_likelihoods(model, self.prompts, self.candidates)
        right = torch.tensor(self.right, device=logs.device)
        return torch.nn.functional.cross_entropy(logs, right, reduction="sum") / total


def questions_of(readouts: Sequence[CandidateReadout]) -> list[Question]:
    """The test samples that choose a set (`choosing`), of all tasks."""
    found = []
    for one in readouts:
        answers = one.samples["answer"].tolist()
        found += [
            Question((one.prompts[at],), one.candidates, (one.labels.index(answers[at]),))
            for at in choosing(answers)
        ]
    return found


def choosing(answers: Sequence[str]) -> list[int]:
    """The numbers of the samples that choose a set: of each label every other, the first included.

    So both halves have the same labels, whatever the order of the samples.
    """
    seen: dict[str, int] = {}
    found = []
    for number, answer in enumerate(answers):
        if seen.setdefault(answer, 0) % 2 == 0:
            found.append(number)
        seen[answer] += 1
    return found


def batched(questions: Sequence[Question]) -> Iterator[Question]:
    """The questions, those with the same candidates joined, shortest prompts first."""
    alike: dict[tuple[tuple[int, ...], ...], list[Question]] = {}
    for one in questions:
        alike.setdefault(tuple(map(tuple, one.candidates)), []).append(one)
    for own in alike.values():
        own.sort(key=lambda one: len(one.prompts[0]))
        for start in range(0, len(own), _BATCH):
            some = own[start : start + _BATCH]
            yield Question(
                tuple(one.prompts[0] for one in some),
                own[0].candidates,
                tuple(one.right[0] for one in some),
            )


def sizes_of(model: BlockModel) -> list[float]:
    """The shares of entries of the frontier, from 1 down to that of the smallest block."""
    smallest = float(model.entries.min() / model.entries.sum())
    found = [1.0]
    while found[-1] * SHRINK > smallest:
        found.append(found[-1] * SHRINK)
    return [*found, smallest]


def largest_first(model: BlockModel, order: Sequence[int], share: float) -> np.ndarray:
    """The first blocks of an order whose entries do not exceed a share; one at least."""
    chosen = np.zeros(len(model.blocks), bool)
    for number in order:
        more = chosen.copy()
        more[number] = True
        if chosen.any() and model.share(more) > share + 1e-9:
            break
        chosen = more
    return chosen


def greedy_order(
    model: BlockModel,
    questions: Sequence[Question],
    progress: Callable[[], None] = lambda: None,
) -> list[int]:
    """The blocks, the last one to be dropped first."""
    held = np.ones(len(model.blocks), bool)
    dropped: list[int] = []
    for share in sizes_of(model)[1:]:
        slopes = []
        for dose in _DOSES:
            model.load(dose * held)
            slopes.append(model.gradient(questions)[1])
        progress()
        cost = -np.mean(slopes, axis=0) / model.entries
        for number in sorted(np.flatnonzero(held), key=lambda at: cost[at]):
            if held.sum() == 1 or model.share(held) <= share + 1e-9:
                break
            held[number] = False
            dropped.append(int(number))
    return [*(int(number) for number in np.flatnonzero(held)), *reversed(dropped)]


def learned_order(
    model: BlockModel,
    questions: Sequence[Question],
    saved: float,
    steps: int,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> list[int]:
    """The blocks by the mean of their trained factor, the largest first.

    Args:
        saved: how much lower the tuned model's loss is than the base's, in nats.
        steps: training steps; each reads one batch of questions.
        seed: of the order of the questions.
    """
    factors = torch.ones(len(model.blocks), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([factors], lr=_RATE, betas=(0.5, 0.9))
    shares = torch.from_numpy(model.entries / model.entries.sum())
    total = torch.zeros(len(model.blocks), dtype=torch.float64)
    random = np.random.default_rng(seed)
    for step in range(steps):
        price = saved * np.geomspace(*_PRICES, steps)[step]
        some = random.permutation(len(questions))[: 2 * _BATCH]
        model.load(factors.detach().numpy())
        _, slope = model.gradient([questions[number] for number in some])
        factors.grad = torch.from_numpy(slope) + price * shares
        optimizer.step()
        with torch.no_grad():
            factors.clamp_(0, 1)
            total += factors
        progress()
    return [int(number) for number in np.argsort(-total.numpy(), kind="stable")]


def frontier(model: BlockModel, order: Sequence[int]) -> Iterator[np.ndarray]:
    """The sets of an order, one of each size, the largest first; without the whole delta."""
    seen: set[bytes] = set()
    for share in sizes_of(model)[1:]:
        chosen = largest_first(model, order, share)
        if chosen.tobytes() not in seen:
            seen.add(chosen.tobytes())
            yield chosen


def pruned(
    model: BlockModel,
    questions: Sequence[Question],
    found: Sequence[np.ndarray],
    most: float,
    progress: Callable[[], None] = lambda: None,
) -> np.ndarray | None:
    """The smallest of the found sets that keeps enough, without the blocks that it does not need.

    Blocks are tried in the order of what the loss rises by without them, each once, the least
    needed first.

    Args:
        found: sets of blocks.
        most: the loss that a set which keeps enough may have.

    Returns:
        None if no set keeps enough.
    """
    enough = []
    for one in found:
        if model.loss(questions, one) <= most:
            enough.append(one)
        progress()
    if not enough:
        return None
    held = min(enough, key=model.share).copy()
    without = {}
    for number in np.flatnonzero(held):
        less = held.copy()
        less[number] = False
        without[number] = model.loss(questions, less)
    for number in sorted(without, key=without.__getitem__):
        less = held.copy()
        less[number] = False
        if less.any() and model.loss(questions, less) <= most:
            held = less
    return held


def facts_of(model: BlockModel, chosen: np.ndarray) -> dict[str, Any]:
    """A set's text, its number of blocks, and its shares of the whole delta."""
    return {
        "modules": model.text(chosen),
        "blocks": int(chosen.sum()),
        "share_of_entries": model.share(chosen),
        "share_of_change": float(model.change[chosen].sum() / model.change.sum()),
    }
