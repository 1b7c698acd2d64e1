"""What an experiment has to say on the claims: its answers, its deltas, and what its pairs are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from affectlocus.claims.pair_facts import ClaimsSettings, PairFacts
from affectlocus.claims.statistics import Draws, Group, Labelled, Texts, bootstrap, first_alike
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS
from affectlocus.deltas.deltas import TUNING
from affectlocus.scoring.cell_answers import CellAnswers, read_answers

Key = tuple[str, str, str, str]
"""What a group of cells is asked for by: pair's group, kind, module set, mode."""
COLUMNS = list(PROJECTIONS)


class LackingError(Exception):
    """What a claim needs and an experiment has not: the claim is untestable."""


@dataclass(frozen=True)
class Scores:
    """Scores of an experiment's cells, by group; as observed, and in every draw.

    `by` is the metric, `n` the samples of all tasks, `texts` those of general text. Of each group:
    `seeds`, the number of its seeds, or of its random draws if it is in `random`; `cells`, their
    ids; `accuracy`, (tasks,) shares of right answers; and of one cell alone `right`, (n,) in how
    many tasks a sample's answer is. `single`: cell id → (tasks,) scores.
    """

    draws: Draws
    by: str
    confidence: float = 0.95
    n: int = 0
    fluency: Draws | None = None
    texts: int = 0
    seeds: Mapping[Key, int] = field(default_factory=dict)
    random: frozenset[Key] = frozenset()
    cells: Mapping[Key, list[str]] = field(default_factory=dict)
    right: Mapping[Key, np.ndarray] = field(default_factory=dict)
    accuracy: Mapping[Key, np.ndarray] = field(default_factory=dict)
    single: Mapping[str, np.ndarray] = field(default_factory=dict)
    source: str = ""
    noun: str = "cell"

    def has(self, key: Key) -> bool:
        return key in self.draws.groups

    @property
    def matrices(self) -> list[str]:
        """The groups of pairs that a matrix was run on, in order."""
        kinds = ("load", "tune", "ablate")
        return list(dict.fromkeys(str(key[0]) for key in self.keys if key[1] in kinds))

    @property
    def keys(self) -> list[Key]:
        return list(self.draws.groups)

    def basis(self, *keys: Key) -> str:
        """Where the numbers of some groups come from."""
        names = [name for key in keys for name in self.cells[key]]
        return f"{self.source}, {self.noun}s {', '.join(dict.fromkeys(names))}"


def gather(frames: Iterable[pd.DataFrame], settings: ClaimsSettings) -> list[Scores]:
    """Scores of all cells that answered the same tasks, drawn together; bases are with each.

    The largest set of cells comes first: the affective ones, where controls have their own tasks.

    Args:
        frames: predictions of every cell, as `evaluate` writes them, with the cell in `attrs`; read
            one after the other.

    Raises:
        InputError: no cell, or cells that did not answer the same samples.
        LackingError: no task with labels.
    """
    read = [(Cell(**one.attrs["cell"]), read_answers(one, settings.tasks)) for one in frames]
    if not read:
        raise InputError("no predictions; give predictions.parquet of every cell")
    sets: dict[frozenset[str], list[tuple[Cell, CellAnswers]]] = {}
    for cell, answers in read:
        if cell.pair is not None:
            sets.setdefault(frozenset(answers.labels), []).append((cell, answers))
    together = [[*_bases(read, tasks), *own] for tasks, own in sets.items()] or [read]
    found = []
    for ones in sorted(together, key=len, reverse=True):
        cells, answered_by = [cell for cell, _ in ones], [answers for _, answers in ones]
        tasks = _labelled(answered_by, cells, settings)
        found.append(drawn(cells, tasks, _texts(answered_by, cells), settings))
    return found


def _bases(
    read: Sequence[tuple[Cell, CellAnswers]], tasks: frozenset[str]
) -> Iterator[tuple[Cell, CellAnswers]]:
    """The bases with the answers to some of their tasks."""
    for cell, answers in read:
        if cell.pair is None:
            labels = {task: words for task, words in answers.labels.items() if task in tasks}
            yield cell, replace(answers, labels=labels)


def drawn(
    cells: Sequence[Cell],
    tasks: Mapping[str, Labelled],
    texts: Mapping[str, Texts],
    settings: ClaimsSettings,
) -> Scores:
    """The same from what the cells answered, a row of `tasks` and `texts` for each cell."""
    groups = _groups(cells, settings)
    if not tasks:
        raise LackingError("no task with labels among the predictions")
    places = {group.key: [place for unit in group.members for place in unit] for group in groups}
    right = [task.right for task in tasks.values()]  # each (cells, n)
    counts: dict[str, np.ndarray] = {}
    for task, each in zip(tasks.values(), right, strict=True):
        first = first_alike(tasks, task)
        counts[first] = counts.get(first, 0) + each.astype(int)
    share = np.array([each.mean(axis=1) for each in right])  # (tasks, cells)
    alone = [Group(cell.id, ((place,),)) for place, cell in enumerate(cells)]
    observed = bootstrap(tasks, alone, draws=0).values[0]  # (cells, tasks)
    return Scores(
        draws=bootstrap(tasks, groups, settings.draws, settings.seed),
        by=settings.metric,
        confidence=settings.confidence,
        n=sum(len(task.samples) for task in tasks.values()),
        fluency=bootstrap(texts, groups, settings.draws, settings.seed) if texts else None,
        texts=sum(len(text.samples) for text in texts.values()),
        seeds={group.key: len(group.seeds) for group in groups},
        random=frozenset(key for key, each in places.items() if _random(cells, each)),
        cells={key: [cells[place].id for place in members] for key, members in places.items()},
        right={
            key: np.concatenate([each[members[0]] for each in counts.values()])
            for key, members in places.items()
            if len(members) == 1
        },
        accuracy={key: share[:, members].mean(axis=1) for key, members in places.items()},
        single={cell.id: scores for cell, scores in zip(cells, observed, strict=True)},
        source="results/cells/*/predictions.parquet",
    )


def _aligned(
    tables: Sequence[Mapping[str, pd.DataFrame]], cells: Sequence[Cell]
) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """(task, a frame for each cell, sorted by sample) where all cells had the same samples."""
    for task, first in tables[0].items():
        samples = first["sample"].sort_values()
        parts = []
        for cell, own in zip(cells, tables, strict=True):
            part = own[task].sort_values("sample") if task in own else None
            if part is None or not np.array_equal(part["sample"], samples):
                raise InputError(
                    f"cell {cell.id}: task {task} has other samples than in cell {cells[0].id}; "
                    "evaluate all cells on the same data"
                )
            parts.append(part)
        yield task, parts


def _labelled(
    read: Sequence[CellAnswers], cells: Sequence[Cell], settings: ClaimsSettings
) -> dict[str, Labelled]:
    tables = []
    for one in read:
        parts = dict(iter(one.chosen.groupby("task", sort=False)))
        tables.append({task: parts[task] for task in one.labels if task in parts})
    found = {}
    for task, frames in _aligned(tables, cells):
        words, positive = read[0].labels[task], read[0].positive.get(task)
        codes = [
            np.asarray(pd.Categorical(part[column], categories=words).codes)
            for part, column in [(frames[0], "label"), *((part, "answer") for part in frames)]
        ]
        found[task] = Labelled(
            frames[0]["sample"].to_numpy(),
            codes[0],
            np.stack(codes[1:]),
            len(words),
            settings.metric,
            None if positive is None else words.index(positive),
        )
    return found


def _texts(read: Sequence[CellAnswers], cells: Sequence[Cell]) -> dict[str, Texts]:
    return {
        task: Texts(
            parts[0]["sample"].to_numpy(),
            -np.stack([part["loglik"].to_numpy(float) for part in parts]),
            parts[0]["tokens"].to_numpy(float),
        )
        for task, parts in _aligned([one.texts for one in read], cells)
    }


def _groups(cells: Sequence[Cell], settings: ClaimsSettings) -> list[Group]:
    """Cells that differ in seed or draw only, as groups; a base is a group of every pair on it.

    Where pairs of several seeds make a group, they are the seeds, and what was drawn within each
    is averaged; otherwise the cells' own seeds, or draws, are.
    """
    own = {pair: settings.group(pair) for cell in cells if (pair := cell.pair)}
    bases = {cell.base: place for place, cell in enumerate(cells) if cell.kind == "base"}
    found: dict[Key, list[tuple[int, Cell]]] = {}
    for place, cell in enumerate(cells):
        if cell.pair is None:
            continue
        group = own[cell.pair]
        if cell.base in bases:
            found.setdefault((group, "base", "", ""), [(bases[cell.base], cell)])
        key: Key = (group, cell.kind, cell.modules, cell.mode)
        found.setdefault(key, []).append((place, cell))
    groups = []
    for key, members in found.items():
        tuned = {settings.facts(cell.pair or "").seed for _, cell in members}
        units: dict[Any, list[int]] = {}
        for place, cell in members:
            unit = settings.facts(cell.pair or "").seed if len(tuned) > 1 else cell.replicate
            units.setdefault(unit, []).append(place)
        seeds = sorted(units, key=lambda unit: (isinstance(unit, tuple), unit or 0))
        groups.append(
            Group(key, tuple(tuple(units[seed]) for seed in seeds), tuple(seeds))
            if len(seeds) > 1
            else Group(key, (tuple(units[seeds[0]]),))
        )
    return groups


def _random(cells: Sequence[Cell], places: Sequence[int]) -> bool:
    """Whether cells differ in a random draw, and are of one checkpoint."""
    ones = [cells[place] for place in places]
    return all(one.draw is not None for one in ones) and len({one.pair for one in ones}) == 1


@dataclass(frozen=True)
class Locus:
    """The deltas of a group of pairs that differ in seed only.

    `tables` and `histograms`: pair → rows as `deltas` writes them.
    """

    name: str
    facts: PairFacts
    tables: Mapping[str, pd.DataFrame]
    histograms: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def basis(self) -> str:
        """Where the numbers come from."""
        files = ", ".join(f"results/deltas/{pair}.parquet" for pair in self.tables)
        return f"{files}, weights of all layers"

    def sizes(self, by: str) -> np.ndarray:
        """(pairs, layers, 7), a score of `deltas` for every layer and projection; only weights.

        Raises:
            LackingError: a projection that was not adapted is not ranked.
        """
        tables = []
        for pair, table in self.tables.items():
            rows = table[(table["parameter"] == "weight") & table["adapted"]]
            wide = rows.pivot(index="layer", columns="projection", values=by)
            missing = [one for one in COLUMNS if one not in wide or wide[one].isna().any()]
            if missing:
                raise LackingError(
                    f"{', '.join(missing)} of {pair} not adapted, or not in every layer"
                )
            tables.append(wide[COLUMNS].to_numpy(float))
        if len({table.shape for table in tables}) != 1:
            raise LackingError(f"the pairs of {self.name} differ in their layers")
        return np.stack(tables)


def loci(
    tables: Mapping[str, pd.DataFrame],
    histograms: Mapping[str, pd.DataFrame],
    settings: ClaimsSettings,
) -> list[Locus]:
    """Pair → deltas as groups of pairs that differ in seed only, in order."""
    found = []
    for group in dict.fromkeys(map(settings.group, tables)):
        pairs = [pair for pair in settings.members(group) if pair in tables]
        found.append(
            Locus(
                group,
                settings.facts(pairs[0]).completed(tables[pairs[0]].attrs.get(TUNING, {})),
                {pair: tables[pair] for pair in pairs},
                {pair: histograms[pair] for pair in pairs if pair in histograms},
            )
        )
    return found
