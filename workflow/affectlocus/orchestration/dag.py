"""What the rules lean on: from an experiment's parameters to paths, inputs and options.

The Snakefile holds rules only. Whatever a rule has to work out from its wildcards stands here, so
that it can be read and tested without Snakemake. No torch is imported: this runs whenever
snakemake starts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from types import SimpleNamespace
from typing import Any

from affectlocus.claims.pair_facts import ClaimsSettings, PairFacts, family_of
from affectlocus.config.corpus import CORPUS_TASKS
from affectlocus.config.experiment import Parameters
from affectlocus.config.fields import Strict
from affectlocus.config.files import DataFile
from affectlocus.config.matrix import Arm
from affectlocus.config.pairs import PairConfig, Reading
from affectlocus.config.sources import Source
from affectlocus.config.tasks import Scorings
from affectlocus.config.tuning import Tuning
from affectlocus.core.cells import FAIR, Cell, tune_checkpoint
from affectlocus.core.checkpoint_files import checkpoint_paths
from affectlocus.core.errors import InputError
from affectlocus.core.files import matching, read_json
from affectlocus.core.output_files import COMPLETE
from affectlocus.core.projections import PROJECTIONS
from affectlocus.data.sources import tables
from affectlocus.orchestration.matrix import all_cells, arm_of, seeds_of, table_cells
from affectlocus.reporting.figure_panels import Panels, panels
from affectlocus.scoring.wheels import RELEASED
from affectlocus.scoring.wheels import SHA256 as RELEASED_FILES

EXTRACTOR = "_extractor"
"""Names the extraction model's manifest; no base or pair may be called so."""

RELEASED_WHEELS = [f"results/wheels/{name}" for name in RELEASED_FILES]
"""The emotion wheels that AffectGPT released, once they are downloaded."""

# The order of the paper's tables; a further pair's are named after it (table1.PAIR.csv).
ARMS: dict[str, Arm] = {
    "table1": "load",
    "table1_even": "even",
    "table1_dose": "dose",
    "table2": "tune",
    "table2_fair": "fair",
    "table3": "ablate",
}
_TITLES = {
    "load": "base + delta of a module set",
    "even": "base + noise of one size in a module set",
    "dose": "base + a part of the delta of a module set",
    "tune": "base tuned on a module set",
    "fair": "base tuned on a module set, all with as many parameters",
    "ablate": "tuned model with modules destroyed",
}


def alternatives(names: Iterable[str]) -> str:
    """A regular expression of exactly these names; one that matches nothing for none.

    Snakemake tries it on every file that any job needs, so thousands of names share what they begin
    with: the expression reads a file's name once, whatever the number of names.
    """
    root: dict[str, Any] = {}
    for name in names:
        place = root
        for character in name:
            place = place.setdefault(character, {})
        place[""] = {}  # a name may end here
    return _branches(root) if root else "(?!)"


def _branches(place: dict[str, Any]) -> str:
    """The expression of what may follow at a place of the tree of names."""
    several = []
    for character, following in place.items():
        text = re.escape(character)
        # A stretch without a fork is written as it is.
        while len(following) == 1 and "" not in following:
            ((character, following),) = following.items()
            text += re.escape(character)
        rest = _branches(following) if following and list(following) != [""] else ""
        several.append(text + rest)
    # The empty one last: the longest name is tried first.
    several.sort(key=lambda text: not text)
    return several[0] if len(several) == 1 else f"(?:{'|'.join(several)})"


def combinations_of(names: Iterable[tuple[str, str]]) -> str:
    """The same of names in two parts: heads with the same tails are written once, and the tails.

    Snakemake carries the expression in every file name of a rule, so that its length counts too.
    """
    tails: dict[str, list[str]] = {}
    for head, tail in names:
        tails.setdefault(head, []).append(tail)
    heads: dict[tuple[str, ...], list[str]] = {}
    for head, each in tails.items():
        heads.setdefault(tuple(each), []).append(head)
    parts = [f"(?:{alternatives(some)})(?:{alternatives(each)})" for each, some in heads.items()]
    return "|".join(parts) or "(?!)"


def settings(model: Strict | Scorings) -> str:
    """A section of params.yaml as the JSON text that a step takes."""
    # The order of keys is kept: that of labels decides ties.
    return json.dumps(model.model_dump(mode="json"))


def unfilled(text: str) -> Callable[[Any], str]:
    """A text as a parameter in which Snakemake fills nothing in, whatever braces it holds."""

    def given(_: Any) -> str:
        return text

    return given


def checkpoint(name: str) -> str:
    """The manifest that stands for a checkpoint's weights."""
    return f"results/checkpoints/{name}.json"


def complete(name: str) -> str:
    """The file that Snakemake writes into the folder of weights that are made here."""
    return f"checkpoints/{name}/{COMPLETE}"


def _there(path: str) -> bool:
    """Whether a path, or any that its * and ? stand for, is on disk."""
    return any(file.exists() for file in matching(Path(path)))


def repeated(option: str, values: Iterable[object]) -> str:
    """An option once for each value, quoted for a shell."""
    return " ".join(f"--{option} {quote(str(value))}" for value in values)


@dataclass(frozen=True)
class Evaluation:
    """The checkpoints of a job of the matrix, as inputs, and how they are read."""

    base: str
    weights: list[str]
    tuned: list[str]
    data: list[str]
    chain: list[str]
    chain_flags: str
    reading: str


class Dag:
    """Inputs, parameters and names of an experiment's jobs.

    Methods that take `wildcards` are Snakemake's input and parameter functions.

    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._evaluations: dict[str, Evaluation] = {}
        self.cells = {cell.id: cell for cell in all_cells(parameters)}

    @cached_property
    def checkpoints(self) -> dict[str, list[str]]:
        """Pair → its tuned checkpoints, one for each seed; of its own name if it was brought."""
        return {
            name: [name if seed is None else f"{name}.seed{seed}" for seed in seeds]
            for name in self.parameters.pairs
            for seeds in [seeds_of(self.parameters, name)]
        }

    @cached_property
    def pair_of(self) -> dict[str, str]:
        """Tuned checkpoint of a pair → the pair."""
        return {name: pair for pair, names in self.checkpoints.items() for name in names}

    @cached_property
    def tunings(self) -> dict[str, tuple[str, Tuning]]:
        """Checkpoint that is tuned here → its base and recipe: the pairs', and the tune cells'."""
        made: dict[str, tuple[str, Tuning]] = {}
        for name, pair in self.parameters.pairs.items():
            if pair.tuning is not None:
                for seed, tuned in zip(self.parameters.seeds, self.checkpoints[name], strict=True):
                    recipe = Tuning(**pair.tuning.model_dump(), seed=seed)
                    made[tuned] = pair.base, recipe
        for cell in self.cells.values():
            if cell.kind == "tune":
                assert self.parameters.tune is not None
                assert cell.seed is not None
                own = self.parameters.tune.model_dump()
                fair = cell.mode == FAIR
                recipe = Tuning(**own, modules=cell.modules, seed=cell.seed, fair=fair)
                made[tune_checkpoint(cell)] = cell.base, recipe
        return made

    def tuned_of(self, cell: Cell) -> str | None:
        """The tuned checkpoint that a cell needs; None for a base."""
        if cell.kind == "tune":
            return tune_checkpoint(cell)
        if cell.pair is None:
            return None
        brought = self.parameters.pairs[cell.pair].tuning is None
        return cell.pair if brought else f"{cell.pair}.seed{cell.seed}"

    @cached_property
    def shared(self) -> list[list[Cell]]:
        """The cells that a job answers together: of one kind, from the same checkpoints.

        A tuned model goes with the load cells, which read the same two. Base and tune cells stay
        alone: each has a checkpoint of its own, and a job with several would run again whenever one
        is added or removed. Arms stay apart, so that a table costs no cells of another.

        Which cells share a job follows from their order in the matrix alone. So a cell that is
        added may take others with it, whose answers are then found and not asked again.
        """
        size = self.parameters.matrix.cells_per_job
        kinds: dict[tuple[str | None, ...], list[Cell]] = {}
        for cell in self.cells.values():
            if cell.kind not in ("base", "tune"):
                kind = (cell.pair, arm_of(cell) or "load", self.tuned_of(cell))
                kinds.setdefault(kind, []).append(cell)
        chunks = [
            cells[start : start + size]
            for cells in kinds.values()
            for start in range(0, len(cells), size)
        ]
        return [chunk for chunk in chunks if len(chunk) > 1]

    @cached_property
    def single(self) -> list[str]:
        """The cells that have a job of their own."""
        together = {cell.id for group in self.shared for cell in group}
        return [name for name in self.cells if name not in together]

    def cells_named(self, names: Iterable[str]) -> str:
        """A regular expression of exactly these cells."""
        parts = []
        for name in names:
            cell = self.cells[name]
            # PAIR/KIND/MODULES, and behind it mode and seed
            head = "/".join(name.split("/")[: 3 if cell.modules else 2])
            parts.append((head, name.removeprefix(head)))
        return combinations_of(parts)

    @property
    def tuned_named(self) -> str:
        """A regular expression of exactly the checkpoints that are tuned here."""
        return combinations_of(
            (head, f"{dot}{seed}") for head, dot, seed in (n.rpartition(".") for n in self.tuned)
        )

    @cached_property
    def table_rows(self) -> dict[str, tuple[str, Arm]]:
        """Table → its pair and arm; the first pair's are table1 to table3."""
        matrix = self.parameters.matrix
        found: dict[str, tuple[str, Arm]] = {
            name if pair == matrix.pairs[0] else f"{name}.{pair}": (pair, arm)
            for pair in matrix.pairs
            for name, arm in ARMS.items()
            if matrix.sets(arm)
        }
        return found | {f"table1.{pair}": (pair, "load") for pair in matrix.beside}

    @property
    def tables(self) -> list[str]:
        """Every table and its companions: intervals, and baselines."""
        return [
            f"results/{name}{suffix}"
            for name in self.table_rows
            for suffix in (".csv", "_intervals.csv", "_baselines.csv")
        ]

    @property
    def deltas(self) -> list[str]:
        """The deltas of every pair."""
        return [f"results/deltas/{name}.parquet" for name in self.pair_of]

    def pair_deltas(self, wildcards: Any) -> list[str]:
        """The deltas of one pair, a file for each seed."""
        return [f"results/deltas/{name}.parquet" for name in self.checkpoints[wildcards.pair]]

    def pair_histograms(self, wildcards: Any) -> list[str]:
        """The histograms of a figure's pair, a file for each seed."""
        names = self.checkpoints[self.relatives[wildcards.relative]]
        return [f"results/deltas/{name}.histogram.parquet" for name in names]

    def panel_deltas(self, wildcards: Any) -> list[str]:
        """The deltas in a figure of several pairs."""
        pairs = dict.fromkeys(self.panels[wildcards.panels].pairs)
        return [file for pair in pairs for file in self.pair_deltas(SimpleNamespace(pair=pair))]

    def panel_flags(self, wildcards: Any) -> str:
        """The same as options: row → column → files."""
        chosen = self.panels[wildcards.panels]
        grid = {
            row: {
                column: self.pair_deltas(SimpleNamespace(pair=pair))
                for column, pair in members.items()
            }
            for row, members in chosen.grid.items()
        }
        return repeated("grid", [json.dumps(grid)]) + " --lines" * chosen.lines

    @property
    def figures(self) -> list[str]:
        """Every figure of deltas and of tables, as PNG and SVG."""
        names = [f"deltas.{pair}" for pair in self.parameters.pairs]
        names += [*self.panels, *self.relatives, *self.bars, *self.doses]
        names += [f"trajectory.{pair}" for pair in self.followed]
        return [f"results/figures/{name}.{suffix}" for name in names for suffix in ("png", "svg")]

    def _named(self, stem: str, pair: str) -> str:
        """A figure of the paper: its name alone for the matrix's first pair, as with tables."""
        return stem if pair == self.parameters.matrix.pairs[0] else f"{stem}.{pair}"

    @cached_property
    def relatives(self) -> dict[str, str]:
        """Figure of relative changes → its pair; none where they are not counted."""
        counted = self.parameters.pairs if self.parameters.deltas.companions else []
        return {self._named("fig10_relative", pair): pair for pair in counted}

    @cached_property
    def bars(self) -> dict[str, tuple[str, Arm]]:
        """Figure of bars → the pair and arm of the table that it draws."""
        stems = {"load": "fig7_load", "tune": "fig8_tune"}
        return {
            self._named(stems[arm], pair) if arm in stems else f"{arm}.{pair}": (pair, arm)
            for pair, arm in self.table_rows.values()
            if arm != "dose" and self._drawn(arm)
        }

    @cached_property
    def doses(self) -> dict[str, str]:
        """Figure of doses → its pair."""
        return {f"dose.{pair}": pair for pair, arm in self.table_rows.values() if arm == "dose"}

    @cached_property
    def trade_offs(self) -> dict[str, str]:
        """Figure of the score against what was trained → its pair."""
        tuned = [pair for pair, arm in self.table_rows.values() if arm == "tune" and self.ledgers]
        return {self._named("fig9_get", pair): pair for pair in tuned}

    @cached_property
    def panels(self) -> dict[str, Panels]:
        """Figure of several pairs' deltas → what stands in it."""
        pairs = self.parameters.pairs.items()
        known = {
            name: self._facts(pair).model_copy(update={"family": self.family(pair.base)})
            for name, pair in pairs
        }
        return panels(self.parameters, known)

    @property
    def followed(self) -> list[str]:
        """The pairs whose deltas are measured along the tuning."""
        recipes = {name: pair.tuning for name, pair in self.parameters.pairs.items()}
        return [name for name, recipe in recipes.items() if recipe and recipe.trajectory > 1]

    def pair_trajectories(self, wildcards: Any) -> list[str]:
        """The deltas along the tuning of one pair, a file for each seed."""
        return [f"results/trajectory/{name}.parquet" for name in self.checkpoints[wildcards.pair]]

    @property
    def trajectories(self) -> list[str]:
        """The same of every pair."""
        return [
            f"results/trajectory/{name}.parquet"
            for pair in self.followed
            for name in self.checkpoints[pair]
        ]

    def _drawn(self, arm: Arm) -> bool:
        """Whether an arm has anything to draw: ablations, or a single projection."""
        sets = self.parameters.matrix.sets(arm)
        return arm == "ablate" or any(modules in PROJECTIONS for modules in sets)

    @property
    def corpus_tasks(self) -> list[str]:
        """The files of the tasks that the corpus generator writes: all, whichever are asked.

        So a task more finds its file there, and the text that bases learn is not made anew.
        """
        return [f"results/corpus/{name}.csv" for name in CORPUS_TASKS]

    def asked_data(self, cell: Cell) -> list[str]:
        """The prepared benchmarks that a cell answers, and the texts that every cell reads."""
        wanted = self.parameters
        asked = wanted.benchmarks if cell.pair is None else wanted.columns_of(cell.pair)
        return [f"results/data/{task}.parquet" for task in (*asked, *wanted.texts)]

    def table_data(self, wildcards: Any) -> list[str]:
        """The prepared benchmarks that are a table's columns."""
        pair, _ = self.table_rows[wildcards.table]
        return [f"results/data/{task}.parquet" for task in self.parameters.columns_of(pair)]

    @property
    def brought(self) -> list[str]:
        """Checkpoints that the user brings."""
        bases = [name for name, base in self.parameters.bases.items() if base.pretrain is None]
        pairs = [name for name, pair in self.parameters.pairs.items() if pair.tuned is not None]
        extracts = self.parameters.spoken and self.parameters.extraction.model is not None
        return bases + pairs + ([EXTRACTOR] if extracts else [])

    @property
    def pretrained(self) -> list[str]:
        """Bases that the workflow pre-trains."""
        return [name for name, base in self.parameters.bases.items() if base.pretrain is not None]

    @property
    def tuned(self) -> list[str]:
        """Checkpoints that the workflow tunes: pairs and tune cells."""
        return list(self.tunings)

    def external(self, path: str | None) -> str:
        """A path of params.yaml, which starts from data_root."""
        assert path is not None
        whole = os.path.normpath(os.path.join(self.parameters.data_root, path))  # noqa: PTH118
        # A first dash would be an option of the command line.
        return f"./{whole}" if whole.startswith("-") else whole

    # retrieve, pretrain, prepare

    def brought_source(self, name: str) -> Source:
        """Where a checkpoint that the user brings comes from."""
        source: Source | None = self.parameters.extraction.model
        if name != EXTRACTOR:
            source = self.parameters.bases.get(name) or self.parameters.pairs[name].tuned
        assert source is not None
        return source

    def brought_flags(self, wildcards: Any) -> str:
        """The same as an argument and options of the command line."""
        source = self.brought_source(wildcards.name)
        if source.hub is not None:
            return f"{quote(source.hub)} {repeated('revision', [source.revision])}"
        if source.url is not None:
            return f"{quote(source.url)} {repeated('sha256', [source.sha256])}"
        return quote(self.external(source.folder))

    def brought_files(self, wildcards: Any) -> list[str]:
        """Its files, so that a changed weight reruns what reads it; none of what is downloaded."""
        source = self.brought_source(wildcards.name)
        if source.folder is None:
            return []
        path = Path(self.external(source.folder))
        if source.awaited and not path.exists():
            return []
        return [str(file) for file in (checkpoint_paths(path) if path.is_dir() else [path])]

    def pretraining_settings(self, wildcards: Any) -> str:
        """The recipe of a base, as JSON."""
        recipe = self.parameters.bases[wildcards.name].pretrain
        assert recipe is not None
        return settings(recipe)

    @property
    def hub_tables(self) -> dict[str, DataFile]:
        """TASK.KEY → a task's file that lies in a data set on the hub."""
        return {
            f"{name}.{key}": table
            for name, task in self.parameters.tasks.items()
            for key, table in tables(task).items()
            if table.hub is not None
        }

    def table_flags(self, wildcards: Any) -> str:
        """Where such a file comes from, as an argument and options of the command line."""
        table = self.hub_tables[wildcards.name]
        return (
            f"{quote(str(table.hub))} {repeated('revision', [table.revision])} "
            f"{repeated('file', [table.file])}"
        )

    def _task_paths(self, task: str) -> dict[str, str]:
        """Split, all or join → a path, perhaps with * or ?, or the manifest of a hub's file."""
        if self.parameters.tasks[task].files is None:
            return {"all": f"results/corpus/{task}.csv"}
        return {
            key: f"results/data/sources/{task}.{key}.json"
            if table.hub is not None
            else self.external(table.file)
            for key, table in tables(self.parameters.tasks[task]).items()
        }

    def task_files(self, wildcards: Any) -> dict[str, str | list[str]]:
        """Split → file of a task, or files; `all` for one that the corpus generator writes."""
        files: dict[str, str | list[str]] = {}
        task = self.parameters.tasks[wildcards.task]
        named = tables(task) if task.awaited else {}
        for key, path in self._task_paths(wildcards.task).items():
            if key in named and named[key].hub is None and not _there(path):
                continue  # planned without it; a run has refused before
            found = [str(file) for file in matching(Path(path))]
            files[key] = path if found in ([path], []) else found
        return files

    def task_flags(self, wildcards: Any) -> str:
        """The same as options of the command line."""
        paths = self._task_paths(wildcards.task).items()
        return " ".join(f"--{key} {quote(path)}" for key, path in paths)

    def task_settings(self, wildcards: Any) -> str:
        """How the task is read, as JSON."""
        return settings(self.parameters.tasks[wildcards.task].reading)

    # weights

    def weights(self, *names: str) -> list[str]:
        """Of some checkpoints, the weights that are made here, as inputs of a job that reads them.

        What a job depends on is the manifest, which holds their SHA-256. These tell Snakemake to
        make them first where they are gone.
        """
        here = {*self.pretrained, *self.tunings}
        return [complete(name) for name in dict.fromkeys(names) if name in here]

    def tuning_weights(self, wildcards: Any) -> list[str]:
        """Those of the base that a checkpoint is tuned from."""
        return self.weights(self.tunings[wildcards.name][0])

    def pair_weights(self, wildcards: Any) -> list[str]:
        """Those of a tuned checkpoint of a pair, and of its base."""
        return self.weights(self.of_pair(wildcards).base, wildcards.tuned)

    def sibling_weights(self, wildcards: Any) -> list[str]:
        """Those of a base, and of the tuned checkpoints of its pairs."""
        return self.weights(wildcards.base, *self.siblings[wildcards.base])

    @property
    def ledger_weights(self) -> list[str]:
        """Those of the counted bases."""
        return self.weights(*self.counted_bases)

    # tune

    def tuning_base(self, wildcards: Any) -> str:
        """The manifest of the base that a checkpoint is tuned from."""
        return checkpoint(self.tunings[wildcards.name][0])

    def tuning_data(self, wildcards: Any) -> list[str]:
        """The prepared tasks that a checkpoint is tuned on."""
        return [f"results/data/{task}.parquet" for task in self.tunings[wildcards.name][1].data]

    def tuning_settings(self, wildcards: Any) -> str:
        """The recipe, as JSON."""
        return settings(self.tunings[wildcards.name][1])

    # deltas, evaluate

    def of_pair(self, wildcards: Any) -> PairConfig:
        """The pair of a tuned checkpoint."""
        return self.parameters.pairs[self.pair_of[wildcards.tuned]]

    def pair_base(self, wildcards: Any) -> str:
        """The manifest of a pair's base."""
        return checkpoint(self.of_pair(wildcards).base)

    def pair_reading(self, wildcards: Any) -> str:
        """How a pair's tuned checkpoint is read, as JSON."""
        return settings(self.of_pair(wildcards).reading)

    def chain(self, base: str) -> list[str]:
        """The files of the adapters that make a base the one in question."""
        given = self.parameters.bases[base]
        paths = [self.external(path) for path in given.then]
        if given.awaited:
            paths = [path for path in paths if Path(path).exists()]
        return [
            str(file)
            for path in map(Path, paths)
            for file in (checkpoint_paths(path) if path.is_dir() else [path])
        ]

    def chain_flags(self, base: str) -> str:
        """The same as options of the command line."""
        return repeated("then", map(self.external, self.parameters.bases[base].then))

    def pair_chain(self, wildcards: Any) -> list[str]:
        """The chain of a pair's base, as inputs."""
        return self.chain(self.of_pair(wildcards).base)

    def pair_chain_flags(self, wildcards: Any) -> str:
        """The chain of a pair's base, as options."""
        return self.chain_flags(self.of_pair(wildcards).base)

    def evaluation(self, cells: list[Cell]) -> Evaluation:
        """What a job reads that answers these cells: of one base, and of one kind."""
        pair = self.parameters.pairs.get(cells[0].pair or "")
        # A checkpoint that the workflow tuned itself tells everything.
        reading = pair.reading if pair and cells[0].kind != "tune" else Reading()
        tuned = [name for name in dict.fromkeys(map(self.tuned_of, cells)) if name]
        return Evaluation(
            base=checkpoint(cells[0].base),
            weights=self.weights(cells[0].base, *tuned),
            tuned=[checkpoint(name) for name in tuned],
            data=self.asked_data(cells[0]),
            chain=self.chain(cells[0].base),
            chain_flags=self.chain_flags(cells[0].base),
            reading=settings(reading),
        )

    def of_cell(self, field: str) -> Callable[[Any], Any]:
        """An input or parameter function: one of a cell's `evaluation`."""

        def of(wildcards: Any) -> Any:
            name = wildcards.cell
            if name not in self._evaluations:
                self._evaluations[name] = self.evaluation([self.cells[name]])
            return getattr(self._evaluations[name], field)

        return of

    # openset, score, tables, figures

    def extracted(self, wildcards: Any) -> list[str]:
        """What a model read out of a cell's texts, if one is asked."""
        if self.parameters.extraction.model is None:
            return []
        return [f"results/cells/{wildcards.cell}/extracted.parquet"]

    def answers(self, wanted: Iterable[Cell]) -> list[str]:
        """Where the answers of some cells lie, free text with the labels that were read in it."""
        kind = "openset" if self.parameters.spoken else "predictions"
        return [f"results/cells/{cell.id}/{kind}.parquet" for cell in wanted]

    @property
    def wheels(self) -> str | None:
        """The folder of emotion wheels, if any score needs them."""
        score = self.parameters.score
        if not score.protocols or score.wheels is None:
            return None
        return "results/wheels" if score.wheels == RELEASED else self.external(score.wheels)

    @property
    def wheel_files(self) -> list[str]:
        """The same as inputs."""
        if self.wheels is None:
            return []
        if self.parameters.score.wheels == RELEASED:
            return RELEASED_WHEELS
        files = sorted(Path(self.wheels).iterdir())
        return [str(file) for file in files if file.suffix in (".csv", ".xlsx")]

    def _arm_cells(self, wildcards: Any) -> list[Cell]:
        return table_cells(list(self.cells.values()), wildcards.pair, wildcards.arm)

    def arm_predictions(self, wildcards: Any) -> list[str]:
        """The answers of a table's cells, in its order."""
        return self.answers(self._arm_cells(wildcards))

    def arm_order(self, wildcards: Any) -> str:
        """That order, which Snakemake does not remember of inputs."""
        return " ".join(cell.id for cell in self._arm_cells(wildcards))

    def other_order(self, _: Any = None) -> str:
        """The order of the cells in no table."""
        return " ".join(cell.id for cell in self._other_cells)

    def other_predictions(self, _: Any = None) -> list[str]:
        """The answers of cells in no table, behind the bases that they are compared with."""
        return self.answers(self._other_cells)

    @cached_property
    def _other_cells(self) -> list[Cell]:
        listed = {
            cell.id
            for pair, arm in self.table_rows.values()
            for cell in table_cells(list(self.cells.values()), pair, arm)
        }
        rest = [cell for cell in self.cells.values() if cell.id not in listed]
        bases = [self.cells[Cell("base", cell.base).id] for cell in rest]
        return list(dict.fromkeys([*bases, *rest]))

    def all_scores(self, _: Any = None) -> list[str]:
        """The scores of every table, and of the cells in none."""
        scores = [f"results/scores/{pair}/{arm}.parquet" for pair, arm in self.table_rows.values()]
        return [*scores, *(["results/scores/others.parquet"] if self.other_predictions() else [])]

    def table_scores(self, wildcards: Any) -> str:
        """The scores that a table shows."""
        pair, arm = self.table_rows[wildcards.table]
        return f"results/scores/{pair}/{arm}.parquet"

    def table_companions(self, pair: str, arm: Arm) -> dict[str, str]:
        """The companions of a pair's table."""
        (table,) = (name for name, row in self.table_rows.items() if row == (pair, arm))
        return {kind: f"results/{table}_{kind}.csv" for kind in ("intervals", "baselines")}

    def bar_companions(self, wildcards: Any) -> dict[str, str]:
        """Those of the table that a figure of bars draws."""
        return self.table_companions(*self.bars[wildcards.bars])

    def bar_kind(self, wildcards: Any) -> str:
        """What it draws: ablations, or single modules."""
        return "ablation" if self.bars[wildcards.bars][1] == "ablate" else "singles"

    def bar_title(self, wildcards: Any) -> str:
        """What stands above it, which draws single projections alone."""
        pair, arm = self.bars[wildcards.bars]
        title = self.arm_title(SimpleNamespace(pair=pair, arm=arm))
        return title.replace("a module set", "one projection")

    def dose_companions(self, wildcards: Any) -> dict[str, str]:
        """The companions of a pair's dose table."""
        return self.table_companions(wildcards.pair, "dose")

    def arm_title(self, wildcards: Any) -> str:
        """What stands above the figure of a table."""
        return f"{wildcards.pair}: {_TITLES[wildcards.arm]}"

    # fluency

    @property
    def fluency(self) -> list[str]:
        """How fluent cells still are: two tables, and a figure for each arm; none without text."""
        if not self.parameters.texts:
            return []
        names = [f"fluency.{arm}.{pair}" for pair, arm in self.table_rows.values()]
        figures = [
            f"results/figures/{name}.{suffix}" for name in names for suffix in ("png", "svg")
        ]
        return ["results/fluency.csv", "results/fluency_intervals.csv", *figures]

    # claims

    @property
    def claimed_histograms(self) -> list[str]:
        """The histograms of the relative changes, where they are counted."""
        names = self.pair_of if self.parameters.deltas.companions else []
        return [f"results/deltas/{name}.histogram.parquet" for name in names]

    def claims_settings(self, _: Any = None) -> str:
        """How the claims are judged, and what they need to know of each pair, as JSON."""
        wanted = self.parameters.score
        facts = {name: self._facts(pair) for name, pair in self.parameters.pairs.items()}
        for name, checkpoints in self.checkpoints.items():
            for tuned, seed in zip(checkpoints, seeds_of(self.parameters, name), strict=True):
                if seed is not None:
                    facts[tuned] = facts[name].model_copy(update={"group": name, "seed": seed})
        return settings(
            ClaimsSettings(
                metric=wanted.metric,
                confidence=wanted.confidence,
                seed=wanted.seed,
                tasks=self.parameters.scorings.root,
                pairs=facts,
            )
        )

    def family(self, base: str) -> str:
        """A base's family, by which figures are planned; empty where it is not known.

        The name of a model on the hub stands for its configuration, so that the figures planned
        before and after its download are the same. The claims read the configuration itself.
        """
        given = self.parameters.bases[base]
        if given.pretrain is not None:
            return family_of(given.pretrain.architecture)
        if given.folder is None:
            return family_of(given.hub or "")
        try:
            config = read_json(Path(self.external(given.folder)) / "config.json")
        except (InputError, OSError):
            return ""
        return family_of(str(config.get("model_type", ""))) if isinstance(config, dict) else ""

    def _facts(self, pair: PairConfig) -> PairFacts:
        """What the recipe says; of a brought checkpoint the deltas say the rest."""
        recipe = pair.tuning
        apart = {"data", "shuffled", "trajectory"}
        budget = recipe.model_dump(mode="json", exclude=apart) if recipe else None
        own = self.parameters.bases[pair.base].pretrain
        return PairFacts(
            domain=pair.evidence,
            base=pair.base,
            method=recipe.method if recipe else "",
            family=family_of(own.architecture) if own else "",
            budget=json.dumps(budget, sort_keys=True) if budget else "",
        )

    # ledger, neurons, directions, activations

    @property
    def counted_bases(self) -> list[str]:
        """The bases that cells are tuned from: a ledger counts for each."""
        matrix, pairs = self.parameters.matrix, self.parameters.pairs
        return list(dict.fromkeys(pairs[name].base for name in matrix.pairs if matrix.tune))

    @property
    def ledgers(self) -> list[str]:
        """The ledger, and the step times where LoRA is timed; none where nothing is tuned."""
        if not self.counted_bases or self.parameters.tune is None:
            return []
        timed = ["results/step_times.csv"] if self.parameters.tune.method == "lora" else []
        return ["results/ledger.csv", *timed]

    @property
    def ledger_models(self) -> list[str]:
        """The manifests of the counted bases."""
        return [checkpoint(base) for base in self.counted_bases]

    def ledger_flags(self, _: Any = None) -> str:
        """Module sets, rank and method of the tune cells, as options."""
        recipe = self.parameters.tune
        if recipe is None:
            return ""
        sets = repeated("modules", self.parameters.matrix.tune)
        return f"{sets} --rank {recipe.rank} --method {recipe.method}"

    def tune_intervals(self, wildcards: Any) -> list[str]:
        """The companions of the tune tables of a figure's pair."""
        pair = self.trade_offs[wildcards.trade_off]
        budgets: tuple[Arm, ...] = ("tune", "fair")
        arms = [arm for arm in budgets if (pair, arm) in self.table_rows.values()]
        return [self.table_companions(pair, arm)["intervals"] for arm in arms]

    @cached_property
    def siblings(self) -> dict[str, list[str]]:
        """Base → the tuned checkpoints of its pairs, for bases with any."""
        found: dict[str, list[str]] = {}
        for tuned, pair in self.pair_of.items():
            found.setdefault(self.parameters.pairs[pair].base, []).append(tuned)
        return found

    @property
    def neurons(self) -> list[str]:
        """What is said of the neurons of each base's pairs; nothing without companions."""
        if not self.parameters.deltas.companions:
            return []
        suffixes = ("", ".concentration", ".overlaps", ".chance")
        return [
            f"results/neurons/{base}{suffix}.parquet"
            for base in self.siblings
            for suffix in suffixes
        ]

    def _neuron_files(self, base: str, affective: bool) -> list[str]:
        return [
            f"results/deltas/{name}.neurons.parquet"
            for name in self.siblings[base]
            if (self.parameters.pairs[self.pair_of[name]].evidence == "affective") == affective
        ]

    def neuron_inputs(self, wildcards: Any) -> dict[str, list[str]]:
        """The neurons of a base's pairs: affective ones, and the others."""
        base = wildcards.base
        return {
            "affective": self._neuron_files(base, True),
            "others": self._neuron_files(base, False),
        }

    def neuron_flags(self, wildcards: Any) -> str:
        """The same as options."""
        given = self.neuron_inputs(wildcards).items()
        return " ".join(repeated(name, files) for name, files in given)

    @cached_property
    def duos(self) -> dict[str, tuple[str, str]]:
        """FIRST-and-SECOND → two tuned checkpoints on one base, of which a figure is drawn.

        A pair of the matrix beside every other pair, and beside itself: what two seeds of one
        recipe share is the yardstick. Seeds differ where there are several, because two adapters
        of one seed start from the same factors, and share those whatever they learn.
        """
        pairs = self.parameters.pairs
        found: dict[frozenset[str], tuple[str, str]] = {}
        for first in self.parameters.matrix.pairs:
            for second, pair in pairs.items():
                domains = (pairs[first].evidence, pair.evidence)
                if pair.base == pairs[first].base and "affective" in domains:
                    duo = self.checkpoints[first][0], self.checkpoints[second][-1]
                    found.setdefault(frozenset((first, second)), duo)
        return {f"{one}-and-{two}": (one, two) for one, two in found.values() if one != two}

    @property
    def directions(self) -> list[str]:
        """The directions of every base of which a figure is drawn."""
        bases = dict.fromkeys(self._base_of(first) for first, _ in self.duos.values())
        return [f"results/directions/{base}.parquet" for base in bases]

    def _base_of(self, tuned: str) -> str:
        return self.parameters.pairs[self.pair_of[tuned]].base

    def sibling_checkpoints(self, wildcards: Any) -> list[str]:
        """The manifests of a base's tuned checkpoints."""
        return [checkpoint(name) for name in self.siblings[wildcards.base]]

    def sibling_readings(self, wildcards: Any) -> str:
        """How each of them is read, as JSON: tuned checkpoint → reading."""
        pairs = {name: self.pair_of[name] for name in self.siblings[wildcards.base]}
        read = {name: self.parameters.pairs[pair].reading for name, pair in pairs.items()}
        return json.dumps({name: reading.model_dump() for name, reading in read.items()})

    def base_chain(self, wildcards: Any) -> list[str]:
        """The chain of a base, as inputs."""
        return self.chain(wildcards.base)

    def base_chain_flags(self, wildcards: Any) -> str:
        """The same as options."""
        return self.chain_flags(wildcards.base)

    def duo_directions(self, wildcards: Any) -> str:
        """The directions that hold a figure's two pairs."""
        first, _ = self.duos[wildcards.duo]
        return f"results/directions/{self._base_of(first)}.parquet"

    def duo_flags(self, wildcards: Any) -> str:
        """The two pairs as options."""
        return repeated("pair", self.duos[wildcards.duo])

    @property
    def neutral_tasks(self) -> list[str]:
        """The benchmarks with neutral samples, which the others are set against."""
        word = self.parameters.neurons.neutral
        tasks = {name: self.parameters.tasks[name] for name in self.parameters.benchmarks}
        return [name for name, task in tasks.items() if word in (task.labels or {}).values()]

    @property
    def activated(self) -> list[str]:
        """Affective pairs' checkpoints in the matrix, where some task has neutral samples."""
        if not self.neutral_tasks or not self.parameters.deltas.companions:
            return []
        pairs = self.parameters.pairs
        chosen = [
            name for name in self.parameters.matrix.pairs if pairs[name].evidence == "affective"
        ]
        return [tuned for name in chosen for tuned in self.checkpoints[name]]

    @property
    def activations(self) -> list[str]:
        """The gate's activations in those checkpoints, and their summaries."""
        return [
            f"results/activations/{name}{suffix}.parquet"
            for name in self.activated
            for suffix in ("", ".summary")
        ]

    def activation_inputs(self, wildcards: Any) -> dict[str, str | list[str]]:
        """What a pair's activations are made from."""
        tuned = wildcards.tuned
        base = self._base_of(tuned)
        return {
            "base": checkpoint(base),
            "tuned": checkpoint(tuned),
            "neurons": f"results/deltas/{tuned}.neurons.parquet",
            "again": f"results/neurons/{base}.parquet",
            "data": [f"results/data/{task}.parquet" for task in self.neutral_tasks],
        }

    @property
    def weight_figures(self) -> list[str]:
        """Figures of the ledger, neurons, directions and activations, as PNG and SVG."""
        names = [*self.trade_offs]
        names += [f"neurons.{base}" for base in self.siblings if self.neurons]
        names += [f"directions.{duo}" for duo in self.duos]
        names += [f"activations.{tuned}" for tuned in self.activated]
        return [f"results/figures/{name}.{suffix}" for name in names for suffix in ("png", "svg")]

    # revisions, report

    @property
    def layers(self) -> list[str]:
        """L2 by layer, a file for each table of deltas."""
        return [f"results/revisions/l2/{Path(file).stem}.csv" for file in self.deltas]

    @property
    def shown(self) -> list[str]:
        """What the report shows: tables with their companions, figures, ledgers, verdicts."""
        made = [*self.tables, *self.figures, *self.fluency, *self.ledgers, *self.weight_figures]
        judged = ["results/claims.csv", "results/agreement.csv"]
        return [*judged, *(name for name in made if not name.endswith(".svg"))]

    @property
    def data_reports(self) -> list[str]:
        """The data reports of the tasks that something is tuned on or asked."""
        tuned = {task for _, recipe in self.tunings.values() for task in recipe.data}
        asked = {file for cell in self.cells.values() for file in self.asked_data(cell)}
        return [
            f"results/data/{task}.json"
            for task in self.parameters.tasks
            if task in tuned or f"results/data/{task}.parquet" in asked
        ]
