"""The registry of kinds of claims: one entry holds how a kind is tested, and its sentence.

To add a kind, add its schema to `affectlocus.config.claim_kinds` and one entry here. A claim of
params.yaml or of a shipped set names its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from affectlocus.claims import delta_kinds, score_kinds
from affectlocus.claims.findings import ClaimFinding
from affectlocus.config.claim_kinds import (
    Above,
    All,
    ChangeInteraction,
    CostsMost,
    Equal,
    HoldsAcross,
    Interaction,
    Keeps,
    LargestChange,
    Leads,
    Ranks,
    Statement,
    kind_of,
    statements_of,
)


@dataclass(frozen=True)
class Kind:
    """One way to test a statement.

    Attributes:
        schema: the model of its keys.
        reads: scores: of each group of pairs with cells; deltas: of each group of pairs; claims:
            the findings of another claim.
        test: (comparisons of a group of pairs, statement) → findings. Of a kind that reads claims,
            see `delta_kinds.holds_across`.
        sentence: what a statement says, with the names of its keys in braces.
    """

    schema: type[Statement]
    reads: Literal["scores", "deltas", "claims"]
    test: Callable[..., list[ClaimFinding]]
    sentence: str


_ALL = (
    Kind(Leads, "scores", score_kinds.leads, "{what} has the best {by} of {over}"),
    Kind(Above, "scores", score_kinds.above, "{what} has a higher score than {than}"),
    Kind(Equal, "scores", score_kinds.equal, "{what} has the same {measure} as {to}"),
    Kind(Keeps, "scores", score_kinds.keeps, "{what} keeps {share} of the score of {of}"),
    Kind(
        CostsMost,
        "scores",
        score_kinds.costs_most,
        "destroying {what} costs more than any of {over}",
    ),
    Kind(
        Ranks,
        "scores",
        score_kinds.ranks,
        "by their scores ({arm}), {over} rank as by {like}: {direction} direction",
    ),
    Kind(
        Interaction,
        "scores",
        score_kinds.interaction,
        "{what} is above {than} by more in {domain} than in {against} pairs",
    ),
    Kind(
        LargestChange,
        "deltas",
        delta_kinds.largest_change,
        "{what}_proj has the largest {by} change of the seven in {domain} pairs",
    ),
    Kind(
        ChangeInteraction,
        "deltas",
        delta_kinds.change_interaction,
        "{what}_proj changes more "
        "than {than}_proj, by a larger factor in {domain} than in {against} pairs",
    ),
    Kind(
        HoldsAcross,
        "claims",
        delta_kinds.holds_across,
        "{claim} is true of {methods} and on {families}",
    ),
)

KINDS: dict[str, Kind] = {kind_of(kind.schema): kind for kind in _ALL}
"""kind → how it is tested."""


def kind(statement: Statement) -> Kind:
    """The registry's entry for a statement."""
    return KINDS[kind_of(type(statement))]


def sentence(claim: Statement) -> str:
    """The text of a claim, or a sentence made from its keys."""
    if claim.text or isinstance(claim, All):
        return claim.text or "; ".join(map(sentence, statements_of(claim)))
    return kind(claim).sentence.format(
        **{name: _words(value) for name, value in claim.model_dump().items()}
    )


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
