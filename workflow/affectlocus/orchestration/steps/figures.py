"""Step `figures`: the figures of deltas and of tables."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from affectlocus.config.matrix import Arm
from affectlocus.core.projections import PROJECTIONS, in_band
from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.rule_values import as_images, repeated
from affectlocus.orchestration.steps.claims import ClaimsJobs
from affectlocus.orchestration.steps.deltas import DeltasJobs
from affectlocus.orchestration.steps.step import StepJobs
from affectlocus.orchestration.steps.tables import TablesJobs, title
from affectlocus.reporting.figure_panels import Panels, panels


class FiguresJobs(StepJobs):
    """The jobs of rules/figures.smk."""

    def __init__(
        self, artifacts: Artifacts, deltas: DeltasJobs, tables: TablesJobs, claims: ClaimsJobs
    ) -> None:
        super().__init__(artifacts)
        self._deltas = deltas
        self._tables = tables
        self._claims = claims

    @property
    def files(self) -> list[str]:
        """Every figure of deltas and of tables."""
        names = [f"deltas.{pair}" for pair in self.parameters.pairs]
        return as_images(
            [*names, *self.panels, *self.relatives, *self.bars, *self.doses, *self.bands]
        )

    # figures of deltas

    @cached_property
    def relatives(self) -> dict[str, str]:
        """Figure of relative changes → its pair; empty if they are not counted."""
        counted = self.parameters.pairs if self.parameters.deltas.companions else []
        return {self.artifacts.figure_name("fig10_relative", pair): pair for pair in counted}

    def of_relative(self, wildcards: Any) -> list[str]:
        """The tuned checkpoints of a figure's pair, one for each seed."""
        return self.artifacts.checkpoints[self.relatives[wildcards.relative]]

    @cached_property
    def panels(self) -> dict[str, Panels]:
        """Figure of several pairs' deltas → its panels."""
        facts = {
            name: self._claims.facts(pair).model_copy(
                update={"family": self._claims.family(pair.base)}
            )
            for name, pair in self.parameters.pairs.items()
        }
        return panels(self.parameters, facts)

    def of_panels(self, wildcards: Any) -> list[str]:
        """The tuned checkpoints in a figure of several pairs."""
        pairs = dict.fromkeys(self.panels[wildcards.panels].pairs)
        return [name for pair in pairs for name in self.artifacts.checkpoints[pair]]

    def panel_flags(self, wildcards: Any) -> str:
        """The deltas of these checkpoints as options: row → column → files."""
        chosen = self.panels[wildcards.panels]
        grid = {
            row: {column: self._deltas.of(pair) for column, pair in pairs.items()}
            for row, pairs in chosen.grid.items()
        }
        return repeated("grid", [json.dumps(grid)]) + " --lines" * chosen.lines

    # figures of tables

    @cached_property
    def bars(self) -> dict[str, tuple[str, Arm]]:
        """Figure of bars → the pair and arm of its table."""
        stems = {"load": "fig7_load", "tune": "fig8_tune"}
        name = self.artifacts.figure_name
        return {
            name(stems[arm], pair) if arm in stems else f"{arm}.{pair}": (pair, arm)
            for pair, arm in self.artifacts.table_rows.values()
            if arm != "dose" and self._has_bars(arm)
        }

    def _has_bars(self, arm: Arm) -> bool:
        """Whether an arm has cells that are drawn: ablations, media, or a single projection."""
        sets = self.parameters.matrix.sets(arm)
        return arm in ("ablate", "media") or any(modules in PROJECTIONS for modules in sets)

    def bar_table(self, wildcards: Any) -> str:
        """The table that a figure of bars shows."""
        return self._tables.name(*self.bars[wildcards.bars])

    def bar_flags(self, wildcards: Any, input: Any) -> str:  # noqa: A002
        """What a figure of bars shows, as options: ablations, media, or single projections.

        Arms that may have few replicates are shown by their gains.
        """
        arm = self.bars[wildcards.bars][1]
        if arm == "ablate":
            return repeated("ablation", input.intervals)
        if arm == "media":
            return f"{repeated('media', input.intervals)} {repeated('baselines', input.baselines)}"
        if arm in ("even", "fair"):
            return f"{repeated('singles', input.intervals)} --gains"
        return f"{repeated('singles', input.intervals)} {repeated('baselines', input.baselines)}"

    def bar_title(self, wildcards: Any) -> str:
        """The title of a figure of bars, which shows single projections only."""
        return title(*self.bars[wildcards.bars]).replace("a module set", "one projection")

    @cached_property
    def doses(self) -> dict[str, str]:
        """Figure of doses → its pair."""
        rows = self.artifacts.table_rows.values()
        return {f"dose.{pair}": pair for pair, arm in rows if arm == "dose"}

    @cached_property
    def bands(self) -> dict[str, str]:
        """Figure of gains by layer band → its pair; for matrices that load projections by band."""
        if not any(map(in_band, self.parameters.matrix.sets("load"))):
            return {}
        return {f"bands.{pair}": pair for pair in self.parameters.matrix.pairs}

    def band_table(self, wildcards: Any) -> str:
        """A pair's load table, which has the cells of layer bands."""
        return self._tables.name(wildcards.pair, "load")

    def dose_table(self, wildcards: Any) -> str:
        """A pair's dose table."""
        return self._tables.name(wildcards.pair, "dose")

    def dose_flags(self, wildcards: Any, input: Any) -> str:  # noqa: A002, ARG002
        """The dose table, as options."""
        return f"{repeated('dose', input.intervals)} {repeated('baselines', input.baselines)}"
