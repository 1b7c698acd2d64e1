"""Section `matrix`: which cells an experiment has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from affectlocus.config.fields import Count, ModuleSets, Strict, distinct, draws_count
from affectlocus.core.ablations import ABLATIONS

SINGLES: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")
COMBINATIONS: tuple[str, ...] = (
    "q+k+v+o",
    "q+k+v+o+down",
    "q+k+v+o+up",
    "q+k+v+o+gate",
    "q+k+v+o+up+down",
    "q+k+v+o+gate+down",
    "q+k+v+o+gate+up",
    "o+gate",
    "all",
)


def _known(name: str) -> str:
    if name not in ABLATIONS:
        raise ValueError(f"unknown ablation {name!r}; expected one of {', '.join(ABLATIONS)}")
    return name


AblationName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(ABLATIONS)})
]


class Dose(Strict):
    """Loads of a part of the delta, or of more than it: how the score answers to the dose."""

    modules: ModuleSets = Field([], description="module sets that are loaded in doses")
    times: Annotated[
        list[Annotated[float, Field(ge=0, le=10)]], AfterValidator(distinct), Field(min_length=1)
    ] = Field([0.25, 0.5, 0.75, 1.25, 1.5], description="times the delta; 0 and 1 are there anyway")


class Matrix(Strict):
    """The cells: which module sets are loaded, tuned and ablated, in which pairs."""

    pairs: Annotated[list[str], AfterValidator(distinct), Field(min_length=1)] = Field(
        description="pairs that get the whole matrix; the first gives tables 1 to 3"
    )
    beside: Annotated[list[str], AfterValidator(distinct)] = Field(
        [], description="further pairs (controls, nulls) of which single modules are loaded alone"
    )
    load: ModuleSets = Field(
        [*SINGLES, *COMBINATIONS], description="module sets whose delta is loaded into the base"
    )
    dose: Dose = Dose()
    even: ModuleSets = Field(
        [], description="a null: sets that get noise of the whole delta's mean size instead"
    )
    tune: ModuleSets = Field(
        [*SINGLES, *COMBINATIONS], description="module sets on which alone the base is tuned"
    )
    fair: ModuleSets = Field(
        [],
        description="LoRA alone: sets tuned with as many parameters as all seven have at the rank",
    )
    ablate: ModuleSets = Field(
        [*SINGLES, "gate+up+down", "q+k+v+o"],
        description="module sets that are destroyed in the tuned model",
    )
    modes: Annotated[
        list[AblationName],
        AfterValidator(distinct),
        Field(min_length=1),
    ] = Field(
        list(ABLATIONS),
        description="what is put in the place of an ablated module",
    )
    draws: Annotated[int, Field(ge=1, le=1000), AfterValidator(draws_count)] = Field(
        5,
        description="random draws of each cell of mode shuffle or noise, and of each even cell, of "
        "a checkpoint that was brought; each is one more evaluation. 3 or more give an interval "
        "over draws (Student's t), 1 gives one over samples alone. Pairs that are tuned here have "
        "one draw for each seed instead",
    )

    def sets(self, arm: Arm) -> list[str]:
        """The module sets that an arm is of."""
        found: list[str] = self.dose.modules if arm == "dose" else getattr(self, arm)
        return found

    cells_per_job: Count = Field(
        1,
        description="load or ablate cells that a job answers one after the other with one loaded "
        "base: fewer starts, the same results; 1 spreads a matrix over most machines",
    )


Arm = Literal["load", "even", "dose", "tune", "fair", "ablate"]
"""What is done to a pair's checkpoints, with a table of its own."""
