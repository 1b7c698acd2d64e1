"""What the claims need to know of an experiment in addition to its results.

This module does not import pandas, because the Snakefile imports it and must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from affectlocus.config.fields import WHOLE, Strict
from affectlocus.config.tasks import Scoring

if TYPE_CHECKING:
    from affectlocus.deltas.delta_tables import TuningFacts

FAMILIES = ("qwen", "llama", "mistral")
"""The architectures that the paper names (section 4.3)."""


def family_of(model_type: str) -> str:
    """The entry of `FAMILIES` in a config.json's `model_type` (qwen2, mllama); empty for others."""
    return next((family for family in FAMILIES if family in model_type.lower()), "")


class PairFacts(Strict):
    """What the claims need to know of a pair."""

    domain: Literal["affective", "control", "null"] = Field(
        "affective", description="the kind of evidence that the pair gives (`evidence` of the pair)"
    )
    base: str = ""
    method: str = Field("", description="lora or sft; empty: as in the deltas' file, or unknown")
    family: str = Field("", description="one of FAMILIES; empty: as in the deltas' file, or other")
    budget: str = Field("", description="an identifier of the tuning budget; empty: unknown")
    group: str = Field(
        "", description="name of a group of pairs that differ only in seed; by default the pair's"
    )
    seed: Annotated[int, WHOLE] = 0
    own_base: bool = Field(
        False, description="each seed of the group has a base of its own, trained with that seed"
    )

    def completed(self, tuning: TuningFacts) -> PairFacts:
        """The facts with method and family from the pair's files, if the settings leave them out.

        Args:
            tuning: what these files say.
        """
        update = {
            "method": self.method or tuning.method,
            "family": self.family or family_of(tuning.model_type),
        }
        return self.model_copy(update=update)


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
