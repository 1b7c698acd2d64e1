"""How the claims of an experiment are judged: which claims, the metric, and the facts on its pairs.

This module does not import pandas, because the Snakefile imports it and must start fast.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from affectlocus.claims.pair_facts import PairFacts
from affectlocus.config.claims import Claims
from affectlocus.config.fields import WHOLE, Strict
from affectlocus.config.task_answers import Scoring


class ClaimsSettings(Strict):
    """How claims are judged."""

    metric: str = "weighted_f1"
    draws: Annotated[int, Field(ge=100), WHOLE] = Field(
        2000, description="bootstrap draws, from which the variance by test samples is computed"
    )
    confidence: float = Field(0.95, gt=0, lt=1)
    margin: float = Field(
        3.0, gt=0, description="a difference of mean scores below it counts as none, in points"
    )
    seed: Annotated[int, Field(ge=0), WHOLE] = 0
    tasks: dict[str, Scoring] = Field(
        {}, description="task → its domain, positive label and number"
    )
    pairs: dict[str, PairFacts] = Field({}, description="pair → its facts")
    claims: Claims = Field(Claims(), description="the sets of claims, and own claims")

    def facts(self, pair: str) -> PairFacts:
        """The facts of a pair; the defaults if the settings do not name it."""
        return self.pairs.get(pair, PairFacts())

    def domain(self, group: str) -> str:
        """The domain of a group of pairs: affective, control or null."""
        return self.facts(self.members(group)[0]).domain

    def group(self, pair: str) -> str:
        """The name of the pair's group."""
        return self.facts(pair).group or pair

    def members(self, group: str) -> list[str]:
        """The pairs of a group, sorted by seed."""
        pairs = [pair for pair in self.pairs if self.group(pair) == group] or [group]
        return sorted(pairs, key=lambda pair: self.facts(pair).seed)
