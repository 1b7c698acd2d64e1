"""What the claims need to know of an experiment besides its results: numpy-free, for the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from affectlocus.config.fields import Strict
from affectlocus.config.tasks import Scoring

FAMILIES = ("qwen", "llama", "mistral")
"""The architectures that the paper names (section 4.3)."""


def family_of(model_type: str) -> str:
    """One of `FAMILIES`, by a config.json's `model_type` (qwen2, mllama); empty for another."""
    return next((family for family in FAMILIES if family in model_type.lower()), "")


class PairFacts(Strict):
    """What the claims need to know of a pair."""

    domain: Literal["affective", "control", "null"] = Field(
        "affective", description="what the pair is evidence of (`Pair.evidence`)"
    )
    base: str = ""
    method: str = Field("", description="lora or sft; empty: as the deltas say, or unknown")
    family: str = Field("", description="one of FAMILIES; empty: as the deltas say, or another")
    budget: str = Field("", description="what one budget is told from another by; empty: unknown")
    group: str = Field("", description="pairs of one group differ in seed only; by default its own")
    seed: int = 0

    def completed(self, tuning: Mapping[str, Any]) -> PairFacts:
        """With method and family as the pair's files say, where the settings leave them out.

        Args:
            tuning: `deltas.Measured.tuning`.
        """
        told = {
            "method": self.method or str(tuning.get("method", "")),
            "family": self.family or family_of(str(tuning.get("model_type", ""))),
        }
        return self.model_copy(update=told)


class ClaimsSettings(Strict):
    """How claims are judged."""

    metric: str = "weighted_f1"
    draws: int = Field(10_000, ge=100)
    confidence: float = Field(0.95, gt=0, lt=1)
    seed: int = Field(0, ge=0)
    tasks: dict[str, Scoring] = Field(
        {}, description="what scoring a task needs to know beyond its labels"
    )
    pairs: dict[str, PairFacts] = Field({}, description="what each pair is")

    def facts(self, pair: str) -> PairFacts:
        """Of one pair; the defaults where nothing is said of it."""
        return self.pairs.get(pair, PairFacts())

    def domain(self, group: str) -> str:
        """affective, control or null, of a group of pairs."""
        return self.facts(self.members(group)[0]).domain

    def group(self, pair: str) -> str:
        """The name of the pair's group."""
        return self.facts(pair).group or pair

    def members(self, group: str) -> list[str]:
        """The pairs of a group, by seed."""
        pairs = [pair for pair in self.pairs if self.group(pair) == group] or [group]
        return sorted(pairs, key=lambda pair: self.facts(pair).seed)
