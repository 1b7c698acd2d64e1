"""Searches for small sets of blocks, and the answers of every set (`smallest_sets`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.config.evaluation import Evaluate
from affectlocus.config.hardware import Hardware
from affectlocus.config.matrix import SmallestSets
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import parse_modules
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation import smallest_sets as sets
from affectlocus.evaluation.evaluate import CellModel, evaluate
from affectlocus.evaluation.predictions import Predictions
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.readouts import CandidateReadout


@dataclass(frozen=True)
class SearchResult:
    """The answers of every set.

    Attributes:
        sets: of each set `mode` and `draw` of its cell, `named`, and what `smallest_sets.facts_of`
            says. The mode is the search, or empty for a named set; draws count the sets of a
            search; `named` is the name of the same set in the matrix, or empty.
        chosen_by: task → the samples that chose the sets.
    """

    answers: list[Predictions]
    sets: list[dict[str, Any]]
    chosen_by: dict[str, list[str]]


def search(
    chain: Sequence[Path],
    pair: ModelPair,
    cell: Cell,
    tasks: Sequence[PreparedTask],
    named: Sequence[str],
    settings: SmallestSets,
    asked: Evaluate,
    hardware: Hardware,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> SearchResult:
    """Searches, and evaluates base, tuned model, the sets of both frontiers, and named sets.

    If the tuned model's loss is not below the base's on the samples that choose, there is nothing
    to search for, and only named sets are evaluated.

    Args:
        chain: the base's folder, and the adapters that are applied to it.
        cell: the tuned cell.
        tasks: with the samples that are used.
        progress: called with the number of finished passes and evaluations, and their total.

    Raises:
        InputError: a task is not answered by candidates; a named set is not a part of the delta.
    """
    answered = [
        one for one in tasks if one.labels and asked.of(one.name) == "candidates" and len(one.test)
    ]
    if not answered:
        raise InputError(
            "smallest.no-candidates",
            "no task is answered by candidates; the search needs their log-likelihoods "
            "(evaluate.readouts)",
        )
    live, prompter = CellModel(chain, hardware), Prompter(chain[0])
    live.become(None, Cell("base", cell.base))
    readouts = [
        CandidateReadout.of(one.name, one.samples, one.labels, prompter, asked.max_length)
        for one in answered
    ]
    labels = {one.name: one.labels for one in answered}
    model = sets.BlockModel(live.model, pair, hardware)
    questions = sets.questions_of(readouts)
    count = len(model.blocks)
    none, whole = np.zeros(count, bool), np.ones(count, bool)
    losses = []
    for held in (none, whole):
        model.load(held.astype(float))
        losses.append(model.gradient(questions)[0])
    wanted: list[tuple[Cell, np.ndarray]] = [
        (Cell("base", cell.base, seed=cell.seed), none),
        (cell, whole),
    ]
    names: dict[str, str] = {}
    for modules in named:
        chosen = _of_modules(model, modules)
        text = model.text(chosen)
        if chosen.all() or text in names:
            continue  # the adapter left the rest as it was
        names[text] = modules
        wanted.append((replace(cell, kind="load", modules=text), chosen))
    sizes = len(sets.sizes_of(model))
    expected = sizes + settings.steps + len(sets.SEARCHES) * sizes
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, expected + len(wanted))

    if losses[1] < losses[0]:
        orders = {
            "greedy": sets.greedy_order(model, questions, step),
            "learned": sets.learned_order(
                model, questions, losses[0] - losses[1], settings.steps, cell.seed or 0, step
            ),
        }
        found = {method: list(sets.frontier(model, order)) for method, order in orders.items()}
        every = [chosen for frontier in found.values() for chosen in frontier]
        most = losses[1] + (1 - settings.keep) * (losses[0] - losses[1])
        least = sets.pruned(model, questions, every, most, step)
        done = expected
        if least is not None:
            found["pruned"] = [least]
        for method, frontier in found.items():
            for draw, chosen in enumerate(frontier):
                load = replace(cell, kind="load", modules=model.text(chosen), mode=method)
                wanted.append((replace(load, draw=draw), chosen))
    else:
        done = expected
    answers, facts = [], []
    for one, chosen in wanted:
        model.load(chosen.astype(float))
        rows = evaluate(live.model, readouts, asked.batch_tokens, hardware=hardware)
        answers.append(Predictions(one, labels, rows))
        if one.kind == "load":
            about = {"mode": one.mode, "draw": one.draw, "named": names.get(one.modules, "")}
            facts.append(about | sets.facts_of(model, chosen))
        step()
    chosen_by = {
        one.task: one.samples["id"].iloc[sets.choosing(one.samples["answer"].tolist())].tolist()
        for one in readouts
    }
    return SearchResult(answers, facts, chosen_by)


def _of_modules(model: sets.BlockModel, modules: str) -> np.ndarray:
    """The blocks of a module set.

    Raises:
        InputError: the tuning changed none of them.
    """
    wanted = parse_modules(modules)
    chosen = np.array([wanted.contains(layer, name) for layer, name in model.blocks])
    if not chosen.any():
        raise InputError(
            "smallest.nothing-in-set",
            f"the tuning changed nothing in {modules}; leave this module set out",
            modules=modules,
        )
    return chosen
