"""The kinds of claims: what each may say.

A claim is data. Its `kind` says how it is tested, its other keys what is compared. The kinds are
tested by the functions in the registry of `affectlocus.claims.kinds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from affectlocus.config.claim_terms import (
    AblationName,
    CellText,
    CellTexts,
    Domain,
    MeasureName,
    Projection,
    Sets,
    SizeName,
    parse_cell,
    sets_or_singles,
)
from affectlocus.config.fields import (
    ModuleSet,
    Positive,
    Strict,
    distinct,
    unknown_name,
)
from affectlocus.config.messages import ParameterError


class Statement(Strict):
    """What every claim and every statement of a claim may say."""

    text: str = Field("", description="the claim in a sentence; by default made from its keys")
    source: str = Field("", description="where it is claimed: a paper and its section, or a note")
    part: str = Field("", description="name of the statement, if a claim makes several")
    stated: bool = Field(
        True, description="false: an additional test, which does not decide the claim"
    )
    domain: Domain = Field(
        "affective",
        description="the pairs that the claim is about; a claim on scores is also tested on the "
        "others, as an additional test",
    )
    pairs: Annotated[list[str], AfterValidator(distinct)] = Field(
        [], description="only these pairs; by default all of the domain"
    )


class OnScores(Statement):
    """A statement on the scores of cells."""

    tasks: Annotated[list[str], AfterValidator(distinct)] = Field(
        [], description="only these tasks; by default all that the cells answer"
    )
    margin: Positive | None = Field(
        None,
        description="a difference below it counts as none, in the unit of the comparison; by "
        "default score.margin, and one place for ranks",
    )

    @property
    def cells(self) -> Iterator[str]:
        """The cells that the statement compares, if it names them all."""
        return iter(())


def _check_rivals(own: str, over: list[str]) -> None:
    """Refuses a comparison of a module set with itself alone."""
    if not own:
        raise ParameterError(
            "claim.no-modules", "what has no module set; expected a cell such as load gate"
        )
    if not set(over) - {own}:
        raise ParameterError(
            "claim.no-rival", f"over has no other module set than {own}; add one", found=own
        )


def _check_distinct(what: str, others: list[str]) -> None:
    if what in others:
        raise ParameterError(
            "claim.compared-with-itself",
            f"{what} is compared with itself; name another one",
            found=what,
        )


class Leads(OnScores):
    """One cell has a higher score than the same cell with any other module set."""

    kind: Literal["leads"] = Field(description="how the claim is tested")
    what: CellText = Field(description="the cell that leads")
    over: Sets = Field(description="module sets of the rivals, or singles")
    by: Literal["score", "rank"] = Field(
        "score", description="score: mean over tasks; rank: mean rank over tasks"
    )

    @model_validator(mode="after")
    def _has_rivals(self) -> Self:
        _check_rivals(parse_cell(self.what)[1], self.over)
        return self

    @property
    def cells(self) -> Iterator[str]:
        arm, own, mode = parse_cell(self.what)
        yield self.what
        yield from (" ".join(filter(None, (arm, one, mode))) for one in self.over if one != own)


class Above(OnScores):
    """One cell has a higher score than each of some others."""

    kind: Literal["above"] = Field(description="how the claim is tested")
    what: CellText = Field(description="the cell with the higher score")
    than: CellTexts = Field(description="the cell with the lower score, or several")

    @model_validator(mode="after")
    def _of_different_cells(self) -> Self:
        _check_distinct(self.what, self.than)
        return self

    @property
    def cells(self) -> Iterator[str]:
        yield from (self.what, *self.than)


class Equal(OnScores):
    """A cell has the score of another, within the margin (two one-sided tests)."""

    kind: Literal["equal"] = Field(description="how the claim is tested")
    what: CellText = Field(description="a cell")
    to: CellTexts = Field(description="the cell that it equals, or several")
    average: bool = Field(
        False, description="compare with the mean of the cells in to, not with each"
    )
    measure: Literal["score", "perplexity"] = Field(
        "score", description="score in points, or perplexity of general text"
    )
    factor: Annotated[float, Field(gt=1)] = Field(
        1.05, description="perplexities within this factor are equal"
    )

    @model_validator(mode="after")
    def _of_different_cells(self) -> Self:
        _check_distinct(self.what, self.to)
        return self

    @property
    def cells(self) -> Iterator[str]:
        yield from (self.what, *self.to)


class Keeps(OnScores):
    """A cell keeps a share of another cell's score, which is above that of a third one."""

    kind: Literal["keeps"] = Field(description="how the claim is tested")
    what: CellText = Field(description="the cell that keeps")
    of: CellText = Field(description="the cell whose score is kept")
    share: Annotated[float, Field(gt=0, le=1)] = Field(description="the kept share")
    above: CellText = Field("base", description="a cell that `of` has to be above")
    gain: bool = Field(False, description="the share of the gain over `above`, not of the score")

    @property
    def cells(self) -> Iterator[str]:
        yield from (self.what, self.of, self.above)


class CostsMost(OnScores):
    """Destroying one module set of the tuned model costs more than destroying any other."""

    kind: Literal["costs_most"] = Field(description="how the claim is tested")
    what: ModuleSet = Field(description="the module set")
    over: Sets = Field(description="module sets of the rivals, or singles")
    additional_modes: list[AblationName] = Field(
        [], description="ways of destruction that are additional tests"
    )

    @model_validator(mode="after")
    def _has_rivals(self) -> Self:
        _check_rivals(self.what, self.over)
        return self


class Ranks(OnScores):
    """Module sets rank by their scores as they rank by a measure."""

    kind: Literal["ranks"] = Field(description="how the claim is tested")
    arm: Literal["load", "tune", "tune fair"] = Field(description="the cells that are ranked")
    over: Annotated[
        list[Projection],
        AfterValidator(distinct),
        Field(min_length=3),
        BeforeValidator(sets_or_singles, json_schema_input_type=str | list[str]),
    ] = Field(description="three projections or more, or singles")
    like: MeasureName = Field(description="the measure, as the mean over layers")
    direction: Literal["same", "opposite"] = Field(
        "same", description="opposite: the set with the smallest measure has the highest score"
    )

    @property
    def cells(self) -> Iterator[str]:
        arm, _, mode = self.arm.partition(" ")
        yield from (" ".join(filter(None, (arm, one, mode))) for one in self.over)


class Interaction(OnScores):
    """The difference of two cells is larger in pairs of one domain than in those of another."""

    kind: Literal["interaction"] = Field(description="how the claim is tested")
    what: CellText = Field(description="the cell with the higher score")
    than: CellText = Field(description="the cell with the lower score")
    against: Domain = Field("control", description="the domain with the smaller difference")

    @model_validator(mode="after")
    def _of_different_cells(self) -> Self:
        _check_distinct(self.what, [self.than])
        _check_distinct(self.domain, [self.against])
        return self

    @property
    def cells(self) -> Iterator[str]:
        yield from (self.what, self.than)


class LargestChange(Statement):
    """One projection's change is the largest of the seven in most layers."""

    kind: Literal["largest_change"] = Field(description="how the claim is tested")
    what: Projection = Field(description="the projection")
    by: SizeName = Field("l2", description="the measure of the change")
    also_by: list[SizeName] = Field([], description="measures that are additional tests")
    statistic: Literal["size", "spread", "shift"] = Field(
        "size",
        description="size of the change; or, of the distribution of relative changes of single "
        "weights, its spread (5th to 95th percentile) or shift (distance of the median from 0)",
    )
    matched: Domain | None = Field(
        None, description="needs a pair of this domain with the same base, method and budget"
    )


class ChangeInteraction(Statement):
    """The ratio of two projections' changes is larger in pairs of one domain than of another."""

    kind: Literal["change_interaction"] = Field(description="how the claim is tested")
    what: Projection = Field(description="the projection with the larger change")
    than: Projection = Field(description="the projection with the smaller change")
    by: SizeName = Field("l2", description="the measure of the change")
    against: Domain = Field("control", description="the domain with the smaller ratio")

    @model_validator(mode="after")
    def _of_different_projections(self) -> Self:
        _check_distinct(self.what, [self.than])
        _check_distinct(self.domain, [self.against])
        return self


class HoldsAcross(Statement):
    """Another claim of the set is true of each method of tuning and each family of models."""

    kind: Literal["holds_across"] = Field(description="how the claim is tested")
    claim: str = Field(description="a largest_change claim of the same set, in front of this one")
    methods: list[Literal["lora", "sft"]] = Field([], description="methods of tuning")
    families: list[Literal["qwen", "llama", "mistral"]] = Field([], description="model families")


_SINGLE: tuple[type[Statement], ...] = (
    *(Leads, Above, Equal, Keeps, CostsMost, Ranks, Interaction),
    *(LargestChange, ChangeInteraction, HoldsAcross),
)


def kind_of(model: type[Statement]) -> str:
    """The value of `kind` of a model."""
    (name,) = model.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
    return str(name)


KINDS: dict[str, type[Statement]] = {kind_of(model): model for model in _SINGLE}
"""kind → its schema."""


def _known_kind(value: Any, more: tuple[str, ...] = ()) -> Any:
    if not isinstance(value, dict) or value.get("kind") in (*KINDS, *more):
        return value
    if "kind" not in value:
        raise ParameterError(
            "claim.no-kind",
            f"kind is missing; expected one of {', '.join((*KINDS, *more))}",
            expected=[*KINDS, *more],
        )
    raise unknown_name("kind of claim", str(value["kind"]), (*KINDS, *more))


def _tag(value: Any) -> str:
    # Brackets keep the tag out of the keys in messages, as those of pydantic's "[key]".
    found = value.get("kind") if isinstance(value, dict) else value.kind
    return f"[{found}]"


_Singles = (
    Annotated[Leads, Tag("[leads]")]
    | Annotated[Above, Tag("[above]")]
    | Annotated[Equal, Tag("[equal]")]
    | Annotated[Keeps, Tag("[keeps]")]
    | Annotated[CostsMost, Tag("[costs_most]")]
    | Annotated[Ranks, Tag("[ranks]")]
    | Annotated[Interaction, Tag("[interaction]")]
    | Annotated[LargestChange, Tag("[largest_change]")]
    | Annotated[ChangeInteraction, Tag("[change_interaction]")]
    | Annotated[HoldsAcross, Tag("[holds_across]")]
)
AnySingle = Annotated[_Singles, Discriminator(_tag), BeforeValidator(_known_kind)]


class All(Statement):
    """Several statements; the claim is true if all of them are."""

    kind: Literal["all"] = Field(description="how the claim is tested")
    statements: Annotated[list[AnySingle], Field(min_length=1)] = Field(
        description="the statements"
    )

    @model_validator(mode="after")
    def _about_itself(self) -> Self:
        for one in self.statements:
            if one.text or one.source:
                raise ParameterError(
                    "claim.text-of-a-part",
                    "a statement of it has text or source, which belong to the claim as a whole; "
                    "move them up, and name the statement with part",
                )
        return self


AnyClaim = Annotated[
    _Singles | Annotated[All, Tag("[all]")],
    Discriminator(_tag),
    BeforeValidator(lambda value: _known_kind(value, ("all",))),
]


def statements_of(claim: Statement) -> list[Statement]:
    """The statements of a claim; the claim itself if it makes one."""
    return list(claim.statements) if isinstance(claim, All) else [claim]
