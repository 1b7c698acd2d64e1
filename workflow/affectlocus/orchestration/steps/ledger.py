"""Step `ledger`: what tuning costs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from affectlocus.config.bridges import KINDS
from affectlocus.config.matrix import Arm
from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.rule_values import (
    as_images,
    index_of,
    options,
    repeated,
    settings,
)
from affectlocus.orchestration.steps.step import StepJobs
from affectlocus.orchestration.steps.tables import TablesJobs


class LedgerJobs(StepJobs):
    """The jobs of rules/ledger.smk."""

    def __init__(self, artifacts: Artifacts, tables: TablesJobs) -> None:
        super().__init__(artifacts)
        self._tables = tables

    @property
    def bases(self) -> list[str]:
        """The bases that cells are tuned from; of several seeds the first, as all are one size."""
        matrix, pairs = self.parameters.matrix, self.parameters.pairs
        found = dict.fromkeys(pairs[name].base for name in matrix.pairs if matrix.tune)
        return [
            self.artifacts.base_checkpoint(base, self.parameters.base_seeds(base)[0])
            for base in found
        ]

    @property
    def files(self) -> list[str]:
        """The ledger, and with LoRA the step times; nothing if no cell is tuned."""
        if not self.bases or self.parameters.tune is None:
            return []
        timed = ["results/step_times.csv"] if self.parameters.tune.method == "lora" else []
        return ["results/ledger.csv", *timed]

    @property
    def weights(self) -> list[str]:
        """The weights of the bases that the workflow makes."""
        return self.artifacts.weights(*self.bases)

    def flags(self, _: Any = None) -> str:
        """Module sets, rank and method of the tune cells, as options."""
        recipe = self.parameters.tune
        if recipe is None:
            return ""
        sets = repeated("modules", self.parameters.matrix.tune)
        return f"{sets} --rank {recipe.rank} --method {recipe.method}"

    @property
    def bridged(self) -> str | None:
        """The first pair of the matrix with a bridge, whose parameters the ledger counts."""
        pairs = self.parameters.matrix.pairs
        return next((name for name in pairs if self.artifacts.bridge_of(name)), None)

    @property
    def features(self) -> list[str]:
        """The features of one task, whose widths are those of a bridge beside the model."""
        bridge = self.artifacts.bridge_of(self.bridged)
        if bridge is None or KINDS[bridge.kind].own:
            return []
        recipe, tasks = self.parameters.tune, self.parameters.tasks
        seen = [name for name in (recipe.data if recipe else ()) if tasks[name].media]
        return self.artifacts.features(self.bridged, seen[:1])

    @property
    def indices(self) -> list[str]:
        """The indices of these features."""
        return [index_of(file) for file in self.features]

    def bridge_flags(self, _: Any = None) -> str:
        """The bridge and the features as options."""
        bridge = self.artifacts.bridge_of(self.bridged)
        if bridge is None:
            return ""
        return f"{options(bridge=settings(bridge))} {repeated('features', self.features)}"

    @cached_property
    def trade_offs(self) -> dict[str, str]:
        """Figure of the score against the trainable parameters → its pair."""
        rows = self.artifacts.table_rows.values() if self.files else []
        name = self.artifacts.figure_name
        return {name("fig9_get", pair): pair for pair, arm in rows if arm == "tune"}

    @property
    def figures(self) -> list[str]:
        """Every figure of the score against the trainable parameters."""
        return as_images(self.trade_offs)

    def figure_flags(self, wildcards: Any, input: Any) -> str:  # noqa: A002, ARG002
        """What a figure shows, as options: the tune tables, the ledger and constant answers."""
        # Constant answers are the same for every table of a pair.
        return " ".join(
            [
                repeated("trade-off", input.intervals),
                repeated("ledger", [input.ledger]),
                repeated("baselines", input.baselines[:1]),
            ]
        )

    def tables(self, wildcards: Any) -> list[str]:
        """The tune tables of a figure's pair."""
        pair = self.trade_offs[wildcards.trade_off]
        budgets: tuple[Arm, ...] = ("tune", "fair")
        rows = self.artifacts.table_rows.values()
        arms = [arm for arm in budgets if (pair, arm) in rows]
        return [self._tables.name(pair, arm) for arm in arms]
