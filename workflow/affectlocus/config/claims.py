"""Section `claims`: the sets of claims that are judged, and the experiment's own claims.

The shipped sets are YAML files in `claim_sets`, read by the same models as an experiment's own
claims.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from affectlocus.config.claim_kinds import (
    AnyClaim,
    HoldsAcross,
    LargestChange,
    OnScores,
    Statement,
    statements_of,
)
from affectlocus.config.fields import Name, Strict, distinct, one_of
from affectlocus.config.messages import ParameterError
from affectlocus.config.yaml_text import parsed

FOLDER = Path(__file__).parent / "claim_sets"
"""The folder of the shipped sets; a file's name is the name of the set."""
SHIPPED = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))
PAPER = "opening-the-black-box"
OWN = "own"
"""The name of the set of an experiment's own claims in results."""


def claim_sha256(claim: Statement, margin: float) -> str:
    """The SHA-256 of everything that a claim says, as sorted JSON without defaults.

    Args:
        margin: score.margin, which a statement on scores uses if it has none of its own.
    """
    said = claim.model_dump(mode="json", exclude_defaults=True)
    if any(isinstance(one, OnScores) and one.margin is None for one in statements_of(claim)):
        said["default_margin"] = margin
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def check_claims(claims: Mapping[str, Statement]) -> None:
    """Refuses claims that cannot be judged together.

    Raises:
        ParameterError: a claim states nothing; or it is about another claim, which is missing,
            comes later, or is not about the largest change.
    """
    before: list[str] = []
    for name, claim in claims.items():
        if not any(one.stated for one in statements_of(claim)):
            raise ParameterError(
                "claim.states-nothing",
                f"{name} has only additional tests (stated: false); remove stated from one of them",
                found=name,
            )
        for one in statements_of(claim):
            if isinstance(one, HoldsAcross) and one.claim not in before:
                expected = ", ".join(before) or "none is there"
                raise ParameterError(
                    "claim.unknown-claim",
                    f"{name} is about {one.claim!r}; expected a claim of kind largest_change of "
                    f"the same set, in front of {name} ({expected})",
                    found=one.claim,
                    expected=before,
                )
        if all(isinstance(one, LargestChange) for one in statements_of(claim)):
            before.append(name)


class ClaimSet(Strict):
    """Claims that are judged together: p values are corrected over the claims of a set."""

    source: str = Field("", description="the paper, or what the papers have in common")
    claims: dict[Name, AnyClaim]

    @model_validator(mode="after")
    def _of_each_other(self) -> Self:
        check_claims(self.claims)
        return self


@cache
def shipped(name: str) -> ClaimSet:
    """A shipped set of claims."""
    file = FOLDER / f"{name}.yaml"
    return ClaimSet.model_validate(parsed(file.read_text(encoding="utf-8"), str(file)))


class Claims(Strict):
    """Which claims are judged."""

    sets: Annotated[
        list[Annotated[str, *one_of("set of claims", SHIPPED)]], AfterValidator(distinct)
    ] = Field([PAPER], description="shipped sets of claims; p values are corrected within each")
    own: dict[Name, AnyClaim] = Field(
        {}, description="your own claims, a set of its own; write them before the first run"
    )

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not self.sets and not self.own:
            raise ParameterError(
                "claim.none",
                f"found no claims; list a set ({', '.join(SHIPPED)}), or write claims under own",
            )
        check_claims(self.own)
        for name in self.own:
            for other in SHIPPED:
                if name in shipped(other).claims:
                    raise ParameterError(
                        "claim.named-like-a-shipped-one",
                        f"own has a claim {name}, and so has the shipped set {other}; rename yours",
                        found=name,
                    )
        return self

    def judged(self) -> dict[str, ClaimSet]:
        """Name → set of claims, in the order in which they are judged."""
        found = {name: shipped(name) for name in self.sets}
        return found | ({OWN: ClaimSet(claims=self.own)} if self.own else {})

    def by_name(self) -> dict[str, AnyClaim]:
        """Every claim that is judged."""
        return {name: claim for one in self.judged().values() for name, claim in one.claims.items()}

    def digests(self, margin: float) -> dict[str, str]:
        """Every claim that is judged → its SHA-256 (`claim_sha256`)."""
        return {name: claim_sha256(claim, margin) for name, claim in self.by_name().items()}
