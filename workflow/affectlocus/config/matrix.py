"""Section `matrix`: which cells an experiment has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from affectlocus.config.fields import (
    WHOLE,
    Count,
    LayerBands,
    ModuleSets,
    Strict,
    distinct,
    draws_count,
    one_of,
)
from affectlocus.config.messages import ParameterError
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.cells import BRIDGE_STATES, PLACES, BridgeState
from affectlocus.core.projections import ALL, PROJECTIONS

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


Arm = Literal[
    "load", "load_initial", "load_none", "even", "dose", "tune", "fair", "ablate", "media"
]
"""The arms; each has a table."""
MEDIA_ARMS: tuple[Arm, ...] = ("load_initial", "load_none", "media")
"""The arms of pairs with a bridge only: loads with another bridge, and the controls of media."""
MediaControl = Literal["shuffled", "zeroed", "text"]

AblationName = Annotated[str, *one_of("ablation", ABLATIONS)]


def parts(sets: list[str]) -> list[str]:
    if ALL in sets:
        raise ParameterError(
            "matrix.random-place-of-all",
            "found all; a random place with as many entries as the whole delta is the whole delta: "
            "name sets that are a part of it",
            found=ALL,
        )
    return sets


def with_tuned(states: list[BridgeState]) -> list[BridgeState]:
    if "tuned" not in states:
        raise ParameterError(
            "matrix.no-tuned-bridge",
            f"found {', '.join(states) or 'nothing'}; expected tuned among them, because the table "
            "of load cells has the tuned bridge: add it",
            found=states,
        )
    return states


class Dose(Strict):
    """Loads of a multiple of the delta, which show the score as a function of the dose."""

    modules: ModuleSets = Field([], description="module sets that are loaded in several doses")
    times: Annotated[
        list[Annotated[float, Field(ge=0, le=10)]], AfterValidator(distinct), Field(min_length=1)
    ] = Field(
        [0.25, 0.5, 0.75, 1.25, 1.5],
        description="factors of the delta; 0 and 1 are always included",
    )


class RandomPlaces(Strict):
    """Module sets that are compared with random places in the delta, which are as large."""

    modules: Annotated[ModuleSets, AfterValidator(parts)] = Field(
        [], description="module sets; each is a part of the seven projections"
    )
    draws: Annotated[int, Field(ge=19, le=10_000), WHOLE] = Field(
        50,
        description="random places of each kind; with fewer than 19 no set can be above their "
        "95th percentile",
    )
    kinds: Annotated[
        list[Annotated[str, *one_of("kind of random place", PLACES)]],
        AfterValidator(distinct),
        Field(min_length=1),
    ] = Field(
        list(PLACES),
        description="entries: random places with as many entries of the delta as the set; change: "
        "with as much squared change",
    )
    samples: Count = Field(
        100,
        description="test samples of each task that these cells answer at most, evenly spaced; the "
        "set, the base and the tuned model answer the same ones",
    )


class SmallestSets(Strict):
    """Searches for the smallest set of blocks (a projection of a layer) that keeps the gain."""

    samples: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] = Field(
        0,
        description="test samples of each task at most; half of them choose the sets, the other "
        "half judges them; 0: no search",
    )
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="share of the tuned model's gain that the set has to keep"
    )
    steps: Count = Field(60, description="training steps of the learned factors")


class Matrix(Strict):
    """The cells: which module sets of which pairs are loaded, tuned and ablated."""

    pairs: Annotated[list[str], AfterValidator(distinct), Field(min_length=1)] = Field(
        description="pairs that get every kind of cell; tables without a pair in their name belong "
        "to the first"
    )
    beside: Annotated[list[str], AfterValidator(distinct)] = Field(
        [], description="further pairs (controls, nulls) of which only single modules are loaded"
    )
    load: ModuleSets = Field(
        [*SINGLES, *COMBINATIONS], description="module sets whose delta is loaded into the base"
    )
    bands: LayerBands = Field(
        [],
        description="bands of layers, such as 0-7 and 8-15, counted from 0: each projection is "
        "also loaded in each band alone; the cells are rows of the load table",
    )
    dose: Dose = Dose()
    even: ModuleSets = Field(
        [], description="a null: module sets that get noise of the mean size of the whole delta"
    )
    tune: ModuleSets = Field(
        [*SINGLES, *COMBINATIONS], description="module sets on each of which the base is tuned"
    )
    fair: ModuleSets = Field(
        [],
        description="LoRA only: module sets tuned with as many parameters as all seven have at "
        "the rank",
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
        description="what replaces the delta of an ablated module set",
    )
    bridge: Annotated[list[BridgeState], AfterValidator(distinct), AfterValidator(with_tuned)] = (
        Field(
            list(BRIDGE_STATES),
            description="for pairs with a bridge: the bridges with which module sets are loaded. "
            "tuned: as it was tuned; initial: as it was before the tuning; none: without media, so "
            "that the model reads the text alone. Cells with another bridge than tuned have tables "
            "of their own",
        )
    )
    media_controls: Annotated[list[MediaControl], AfterValidator(distinct)] = Field(
        ["shuffled", "zeroed", "text"],
        description="for pairs with a bridge: what the tuned model is given in place of a sample's "
        "media. shuffled: the media of another sample; zeroed: one medium at a time is set to 0; "
        "text: no media",
    )
    random_places: RandomPlaces = RandomPlaces()
    smallest: SmallestSets = SmallestSets()
    forecast: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] = Field(
        0,
        description="training samples on which each base is measured before it is tuned for a pair "
        "of `pairs` (gradients, feature norms, spectra); claims of kind ranks compare these "
        "measures with scores; 0: not measured",
    )
    draws: Annotated[int, Field(ge=1, le=1000), WHOLE, AfterValidator(draws_count)] = Field(
        5,
        description="number of random draws of each even cell and of each cell of mode shuffle or "
        "noise, for existing checkpoints; each draw is one evaluation. With 3 or more, intervals "
        "are over draws too (Student's t); with 1, over samples only. Pairs that are tuned here "
        "have one draw for each seed",
    )

    replicates: dict[Arm, Count] = Field(
        {},
        description="for an arm, how many replicates its cells have at most: those of the first "
        "seeds. Without an entry: all. An arm that only a figure shows needs fewer than an arm "
        "that a claim rests on",
    )
    cells_per_job: Count = Field(
        1,
        description="number of cells in one job at most: cells of one arm of a pair; several seeds "
        "share a job if all their cells fit. More cells need fewer starts, with the same results; "
        "1 allows the most parallel jobs",
    )
    tunings_per_job: Count = Field(
        1,
        description="number of checkpoints that one job trains at most: tune cells of one pair and "
        "seed, which share one loaded base, the seeds of a pair, or the seeds of a base; those of "
        "the matrix's pairs are at least two jobs. More need fewer starts, with the same results; "
        "1 allows the most parallel jobs",
    )

    def sets(self, arm: Arm) -> list[str]:
        """The module sets of an arm; of `media` the names of the controls."""
        if arm == "load":
            bands = [f"{name}@{band}" for band in self.bands for name in PROJECTIONS]
            return list(dict.fromkeys([*self.load, *bands]))
        if arm in ("load_initial", "load_none"):
            return self.sets("load") if arm.removeprefix("load_") in self.bridge else []
        if arm == "media":
            return list(self.media_controls)
        found: list[str] = self.dose.modules if arm == "dose" else getattr(self, arm)
        return found

    @property
    def listed(self) -> dict[str, list[str]]:
        """Key of this section → the module sets that follow from it."""
        arms: tuple[Arm, ...] = ("even", "tune", "fair", "ablate")
        found = {
            "load": self.load,
            "bands": [f"{PROJECTIONS[0]}@{band}" for band in self.bands],
            "dose.modules": self.dose.modules,
            "random_places.modules": self.random_places.modules,
        }
        return found | {arm: self.sets(arm) for arm in arms}
