"""Step `neurons`: single neurons of the feed-forward blocks, and their activations."""

from __future__ import annotations

import json
from typing import Any

from affectlocus.config.bridges import KINDS
from affectlocus.orchestration.rule_values import as_images, options, repeated
from affectlocus.orchestration.steps.step import PairInputs


class NeuronsJobs(PairInputs):
    """The jobs of rules/neurons.smk."""

    @property
    def bases(self) -> list[str]:
        """The bases whose pairs are compared."""
        shown = self.artifacts.shown_bases
        return [base for base in self.artifacts.siblings if base in shown]

    @property
    def files(self) -> list[str]:
        """The comparison of each base's pairs; nothing if companions of deltas are off."""
        if not self.parameters.deltas.companions:
            return []
        suffixes = ("", ".concentration", ".overlaps", ".chance")
        return [
            f"results/neurons/{base}{suffix}.parquet" for base in self.bases for suffix in suffixes
        ]

    @property
    def figures(self) -> list[str]:
        """A figure for each base."""
        return as_images(f"neurons.{base}" for base in self.bases if self.files)

    def affective(self, wildcards: Any) -> list[str]:
        """The tuned checkpoints of a base's affective pairs."""
        return [name for name in self.artifacts.siblings[wildcards.base] if self._affective(name)]

    def others(self, wildcards: Any) -> list[str]:
        """The tuned checkpoints of a base's other pairs."""
        names = self.artifacts.siblings[wildcards.base]
        return [name for name in names if not self._affective(name)]

    def _affective(self, tuned: str) -> bool:
        pair = self.parameters.pairs[self.artifacts.pair_of[tuned]]
        return pair.evidence == "affective"

    def flags(self, wildcards: Any, input: Any) -> str:  # noqa: A002
        """The inputs as options, and the pairs that have several seeds."""
        flags = [repeated("affective", input.affective), repeated("others", input.others)]
        pair_of, checkpoints = self.artifacts.pair_of, self.artifacts.checkpoints
        seeds = {
            tuned: pair_of[tuned]
            for tuned in self.artifacts.siblings[wildcards.base]
            if len(checkpoints[pair_of[tuned]]) > 1
        }
        if seeds:
            flags.append(options(pairs=json.dumps(seeds)))
        return " ".join(flags)

    # activations

    @property
    def neutral_tasks(self) -> list[str]:
        """The benchmarks with neutral samples, which emotional samples are compared with."""
        word = self.parameters.neurons.neutral
        tasks = {name: self.parameters.tasks[name] for name in self.parameters.benchmarks}
        return [name for name, task in tasks.items() if word in (task.labels or {}).values()]

    @property
    def activated(self) -> list[str]:
        """The checkpoints of the matrix's affective pairs, if a benchmark has neutral samples."""
        if not self.neutral_tasks or not self.parameters.deltas.companions:
            return []
        pairs = self.parameters.pairs
        bridges = {name: self.artifacts.bridge_of(name) for name in self.parameters.matrix.pairs}
        chosen = [
            name
            for name, bridge in bridges.items()
            if pairs[name].evidence == "affective" and not (bridge and KINDS[bridge.kind].own)
        ]
        checkpoints = [tuned for name in chosen for tuned in self.artifacts.checkpoints[name]]
        return [tuned for tuned in checkpoints if self.artifacts.base_of(tuned) in self.bases]

    @property
    def activations(self) -> list[str]:
        """The gate's activations in these checkpoints, and their summaries."""
        return [
            f"results/activations/{name}{suffix}.parquet"
            for name in self.activated
            for suffix in ("", ".summary")
        ]

    @property
    def activation_figures(self) -> list[str]:
        """A figure for each of these checkpoints."""
        return as_images(f"activations.{tuned}" for tuned in self.activated)
