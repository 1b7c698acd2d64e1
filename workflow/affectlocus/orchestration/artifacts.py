"""The cells, checkpoints and tables of an experiment, which several steps refer to.

Nothing here imports torch, because Snakemake reads this at every start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from affectlocus.config.bridges import BridgeConfig
from affectlocus.config.experiment import Parameters
from affectlocus.config.matrix import MEDIA_ARMS, Arm
from affectlocus.config.sources import Base, Source
from affectlocus.config.tuning import PairRecipe, Tuning
from affectlocus.core.cells import FAIR, Cell, replicate_name, tune_checkpoint
from affectlocus.core.checkpoint_files import checkpoint_paths
from affectlocus.core.projections import ALL
from affectlocus.orchestration.matrix import all_cells, seeds_of
from affectlocus.orchestration.rule_values import checkpoint, complete, repeated

INITIAL = ".initial"
"""End of the name of the checkpoint with a pair's initial bridge."""

EXTRACTOR = "_extractor"
"""The name of the extraction model's manifest; no base and no pair may have it."""

_ENCODER = "_encoder."


def encoder_checkpoint(medium: str) -> str:
    """The name of the manifest of a medium's encoder; no base and no pair may have it."""
    return _ENCODER + medium


# In the order of the paper's tables. Tables of further pairs are named after them: table1.PAIR.csv.
ARMS: dict[str, Arm] = {
    "table1": "load",
    "table1_initial": "load_initial",
    "table1_none": "load_none",
    "table1_even": "even",
    "table1_dose": "dose",
    "table2": "tune",
    "table2_fair": "fair",
    "table3": "ablate",
    "table_media": "media",
}


class Artifacts:
    """The cells, checkpoints and tables of an experiment.

    Attributes:
        cells: cell id → cell.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.cells = {cell.id: cell for cell in all_cells(parameters)}

    @cached_property
    def checkpoints(self) -> dict[str, list[str]]:
        """Pair → its tuned checkpoints: one for each seed, or one of the pair's name if brought."""
        return {
            name: [replicate_name(name, seed) for seed in seeds]
            for name in self.parameters.pairs
            for seeds in [seeds_of(self.parameters, name)]
        }

    @cached_property
    def pair_of(self) -> dict[str, str]:
        """Tuned checkpoint of a pair → the pair."""
        return {name: pair for pair, names in self.checkpoints.items() for name in names}

    def base_of(self, tuned: str) -> str:
        """The base checkpoint of a pair's tuned checkpoint."""
        pair = self.pair_of[tuned]
        seed = seeds_of(self.parameters, pair)[self.checkpoints[pair].index(tuned)]
        return self.base_checkpoint(self.parameters.pairs[pair].base, seed)

    @cached_property
    def bases(self) -> dict[str, Base]:
        """Base checkpoint → its source."""
        return self.parameters.base_models

    def base_checkpoint(self, base: str, seed: int | None) -> str:
        """The base checkpoint that a seed's tunings start from."""
        name = replicate_name(base, seed)
        return name if name in self.bases else base

    @cached_property
    def shown_bases(self) -> list[str]:
        """The bases whose neurons and directions are shown: of several seeds the first.

        The neurons of one base are not those of another, and neither are their directions.
        """
        return [
            self.base_checkpoint(base, self.parameters.seeds[0]) for base in self.parameters.bases
        ]

    @cached_property
    def siblings(self) -> dict[str, list[str]]:
        """Base → the tuned checkpoints of all its pairs; without bases that have no pair."""
        found: dict[str, list[str]] = {}
        for tuned in self.pair_of:
            found.setdefault(self.base_of(tuned), []).append(tuned)
        return found

    @cached_property
    def tunings(self) -> dict[str, tuple[str, Tuning]]:
        """Checkpoint that the workflow tunes, for a pair or a tune cell → its base and recipe."""
        found: dict[str, tuple[str, Tuning]] = {}
        for name, pair in self.parameters.pairs.items():
            if pair.tuning is not None:
                seeds = self.parameters.tuning_seeds(name)
                for seed, tuned in zip(seeds, self.checkpoints[name], strict=True):
                    bridge = self.bridge_of(name)
                    recipe = Tuning(**pair.tuning.model_dump(), seed=seed, bridge=bridge)
                    found[tuned] = self.base_checkpoint(pair.base, seed), recipe
        for cell in self.cells.values():
            if cell.kind == "tune" and (name := self._tuned_as(cell)) not in found:
                found[name] = self.base_checkpoint(cell.base, cell.seed), self._recipe(cell)
        return found

    def _recipe(self, cell: Cell) -> Tuning:
        """The recipe of a tune cell: the section `tune` on its modules."""
        assert self.parameters.tune is not None
        assert cell.seed is not None
        own = self.parameters.tune.model_dump()
        fair = cell.mode == FAIR
        bridge = self.bridge_of(cell.pair)
        return Tuning(**own, modules=cell.modules, seed=cell.seed, fair=fair, bridge=bridge)

    def bridge_of(self, pair: str | None) -> BridgeConfig | None:
        """The bridge of a pair."""
        source = self.parameters.pairs.get(pair or "")
        if source is None or source.bridge is None:
            return None
        return self.parameters.bridges[source.bridge]

    def features(self, pair: str | None, tasks: Iterable[str]) -> list[str]:
        """The features of some tasks that a pair's bridge reads; none for a pair of text."""
        bridge = self.bridge_of(pair)
        if bridge is None:
            return []
        return [
            f"results/features/{task}/{medium}.safetensors"
            for task in tasks
            for medium in bridge.media
            if medium in self.parameters.tasks[task].media
        ]

    def initial(self, pair: str | None) -> list[str]:
        """The manifest of the checkpoint with a pair's initial bridge, if the user brings one."""
        source = self.parameters.pairs.get(pair or "")
        brings = source is not None and source.initial is not None
        return [checkpoint(f"{pair}{INITIAL}")] if brings else []

    def _tuned_as(self, cell: Cell) -> str:
        """The checkpoint of a tune cell.

        It is that of the cell's pair if the pair has the same recipe, which is then tuned once.
        """
        assert cell.pair is not None
        pair = self.parameters.pairs[cell.pair].tuning
        if pair is not None and self.parameters.tune is not None and cell.modules == ALL:
            # All seven projections have as many parameters as all seven, so `fair` changes nothing.
            recipe = PairRecipe(**self.parameters.tune.model_dump(), modules=ALL)
            if pair.model_copy(update={"trajectory": 0}) == recipe:
                return replicate_name(cell.pair, cell.seed)
        return tune_checkpoint(cell)

    def tuned_of(self, cell: Cell) -> str | None:
        """The tuned checkpoint that a cell needs; None for a base."""
        if cell.kind == "tune":
            return self._tuned_as(cell)
        if cell.pair is None:
            return None
        brought = self.parameters.pairs[cell.pair].tuning is None
        return cell.pair if brought else replicate_name(cell.pair, cell.seed)

    @property
    def brought(self) -> list[str]:
        """The checkpoints that the user brings, except those that are converted."""
        bases = [name for name, base in self.bases.items() if not (base.is_gguf or base.pretrain)]
        pairs = [name for name, pair in self.parameters.pairs.items() if pair.tuned is not None]
        pairs += [
            f"{name}{INITIAL}"
            for name, pair in self.parameters.pairs.items()
            if pair.initial is not None
        ]
        extracts = self.parameters.spoken and self.parameters.extraction.model is not None
        return bases + pairs + ([EXTRACTOR] if extracts else []) + self.brought_encoders

    @property
    def brought_encoders(self) -> list[str]:
        """The encoders that the user brings."""
        media = self.parameters.media.items()
        return [
            encoder_checkpoint(name)
            for name, medium in media
            if medium.encoder is not None and medium.encoder.pretrain is None
        ]

    def source(self, name: str) -> Source:
        """Where a base, a tuned checkpoint, the extraction model or an encoder comes from."""
        source: Source | None = self.parameters.extraction.model
        pairs = self.parameters.pairs
        if name.startswith(_ENCODER):
            source = self.parameters.media[name.removeprefix(_ENCODER)].encoder
        elif name != EXTRACTOR and name not in self.bases and name not in pairs:
            source = pairs[name.removesuffix(INITIAL)].initial
        elif name != EXTRACTOR:
            source = self.bases.get(name) or pairs[name].tuned
        assert source is not None
        return source

    @property
    def converted(self) -> list[str]:
        """The bases that are converted from a GGUF file."""
        return [name for name, base in self.bases.items() if base.is_gguf]

    @property
    def pretrained(self) -> list[str]:
        """The bases that the workflow pre-trains."""
        return [name for name, base in self.bases.items() if base.pretrain is not None]

    @property
    def tuned(self) -> list[str]:
        """The checkpoints that the workflow tunes, for pairs and for tune cells."""
        return list(self.tunings)

    def weights(self, *names: str) -> list[str]:
        """The weights of some checkpoints, as inputs; only those that the workflow makes.

        Jobs depend on the manifest, which holds the SHA-256 of the weights. With these inputs
        Snakemake first makes weights that are missing.
        """
        made = {*self.pretrained, *self.tunings}
        return [complete(name) for name in dict.fromkeys(names) if name in made]

    def external(self, path: str | None) -> str:
        """A path of params.yaml, which is relative to data_root."""
        assert path is not None
        whole = os.path.normpath(os.path.join(self.parameters.data_root, path))  # noqa: PTH118
        # The command line would take a path that begins with a dash for an option.
        return f"./{whole}" if whole.startswith("-") else whole

    def chain(self, base: str) -> list[str]:
        """The files of the adapters that are merged into a base (`then`), as inputs."""
        source = self.bases[base]
        paths = [self.external(path) for path in source.then]
        if source.awaited:
            paths = [path for path in paths if Path(path).exists()]
        return [
            str(file)
            for path in map(Path, paths)
            for file in (checkpoint_paths(path) if path.is_dir() else [path])
        ]

    def chain_flags(self, base: str) -> str:
        """The adapters that are merged into a base, as options of the command line."""
        return repeated("then", map(self.external, self.bases[base].then))

    @cached_property
    def table_rows(self) -> dict[str, tuple[str, Arm]]:
        """Table → its pair and arm. Tables of the first pair have no pair in their name."""
        matrix = self.parameters.matrix
        found: dict[str, tuple[str, Arm]] = {
            name if pair == matrix.pairs[0] else f"{name}.{pair}": (pair, arm)
            for pair in matrix.pairs
            for name, arm in ARMS.items()
            if matrix.sets(arm)
            and (arm not in MEDIA_ARMS or self.parameters.pairs[pair].bridge is not None)
        }
        return found | {f"table1.{pair}": (pair, "load") for pair in matrix.beside}

    def figure_name(self, stem: str, pair: str) -> str:
        """The name of a figure of the paper, without the pair for the first pair of the matrix."""
        return stem if pair == self.parameters.matrix.pairs[0] else f"{stem}.{pair}"
