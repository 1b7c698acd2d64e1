"""Step `smallest`: small sets of blocks that keep most of a tuning's gain."""

from __future__ import annotations

from typing import Any

from affectlocus.core.projections import ALL
from affectlocus.orchestration.rule_values import as_images, repeated
from affectlocus.orchestration.steps.places import PlacesJobs


class SmallestJobs(PlacesJobs):
    """The jobs of rules/smallest.smk; tasks, data and options are as for random places."""

    @property
    def pairs(self) -> list[str]:
        """The pairs whose smallest sets are searched for."""
        matrix = self.parameters.matrix
        return list(matrix.pairs) if matrix.smallest.samples else []

    @property
    def files(self) -> list[str]:
        """The frontier of every pair."""
        return [f"results/smallest.{pair}.csv" for pair in self.pairs]

    @property
    def figures(self) -> list[str]:
        """A figure for each pair."""
        return as_images(f"frontier.{pair}" for pair in self.pairs)

    def answers(self, wildcards: Any) -> list[str]:
        """The answers of a pair's checkpoints."""
        return [f"results/smallest/{name}.parquet" for name in self.of_pair(wildcards)]

    @property
    def named(self) -> list[str]:
        """The sets of the load arm, except the whole delta."""
        return [one for one in self.parameters.matrix.sets("load") if one != ALL]

    def named_flags(self, wildcards: Any) -> str:  # noqa: ARG002
        """These sets, as options."""
        return repeated("named", self.named)

    def cells(self) -> int:
        """About the number of sets of a job: two frontiers of some twenty sets, and named sets."""
        return 42 + len(self.named)
