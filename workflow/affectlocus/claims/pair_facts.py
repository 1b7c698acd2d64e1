"""What the claims need to know of an experiment in addition to its results.

This module does not import pandas, because the Snakefile imports it and must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from affectlocus.config.fields import WHOLE, Strict

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
