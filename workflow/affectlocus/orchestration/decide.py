"""Command `decide`: adds replicates until a claim is decided, or the planned number is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.claims.decisions import AGAINST, EQUAL, OPEN, SUPPORT
from affectlocus.claims.kinds import kind
from affectlocus.claims.sequential import Look, planned_looks
from affectlocus.claims.verdict import CONTRADICTED, SUPPORTED, UNDECIDED, WITHIN
from affectlocus.config.claim_kinds import statements_of
from affectlocus.config.experiment import Parameters
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, write_json

_WORDS = {SUPPORT: SUPPORTED, AGAINST: CONTRADICTED, EQUAL: WITHIN, OPEN: UNDECIDED}


@dataclass(frozen=True)
class Seen:
    """A look and what it saw.

    Attributes:
        p, p_equal: the claim's own p values.
        verdict: at the levels of the look.
        effect: in `unit`, with its interval.
    """

    look: Look
    verdict: str
    p: float
    p_equal: float
    effect: float
    low: float
    high: float
    unit: str

    def __str__(self) -> str:
        look = self.look
        return (
            f"{look.replicates} replicates: {self.verdict}; effect {self.effect:.3g} "
            f"({self.low:.3g} to {self.high:.3g}) {self.unit}; p {self.p:.2g}, needed below "
            f"{look.level:.2g}; p of equality {self.p_equal:.2g}, needed below "
            f"{look.equality_level:.2g}"
        )


def numbers_of_looks(first: int, most: int, step: int) -> list[int]:
    """The numbers of replicates at which the claim is looked at; the last is `most`.

    Raises:
        InputError: there are already more replicates than planned, or one is too few.
    """
    if first < 2:
        raise InputError(
            "decide.one-replicate",
            f"seeds: found {first}; a verdict needs at least two replicates; add seeds to "
            "params.yaml",
            key="seeds",
            found=first,
        )
    if most < first:
        raise InputError(
            "decide.too-few",
            f"--most: found {most}, but the experiment has {first} seeds; give a larger number",
            option="--most",
            found=most,
            expected=first,
        )
    return [*range(first, most, step), most]


def plan_of(
    record: Path, claim: str, numbers: Sequence[int], claims: Mapping[str, str]
) -> list[Look]:
    """The plan in the record, or a new one, which is written there.

    A plan is kept: its levels hold only if all looks of it are made, and no others, at the same
    claim.

    Args:
        claims: each claim of the experiment → its SHA-256.

    Raises:
        InputError: the claim is unknown, says something else than when it was planned, or was
            planned with other looks.
    """
    if claim not in claims:
        raise InputError(
            "decide.unknown-claim",
            f"found {claim!r}; expected a claim that the experiment judges: {', '.join(claims)}. "
            "Add yours to claims.own in params.yaml, or its set to claims.sets",
            found=claim,
            expected=list(claims),
        )
    looks = planned_looks(numbers)
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        about = {"claim": claim, "claim_sha256": claims[claim]}
        write_json(record, about | {"looks": list(numbers), "seen": []})
        return looks
    content = read_json(record)
    # Records of earlier versions have no digest.
    if content.get("claim_sha256", claims[claim]) != claims[claim]:
        raise InputError(
            "decide.other-claim",
            f"{record}: {claim} says something else than when its looks were planned; give the "
            "changed claim another name, or undo the change",
            file=record,
            claim=claim,
            found=claims[claim],
            expected=content["claim_sha256"],
        )
    planned = content["looks"]
    # After a look the experiment may have been given more seeds.
    if planned[-1] != numbers[-1] or numbers[0] not in planned:
        raise InputError(
            "decide.other-plan",
            f"{record}: {claim} is looked at with {', '.join(map(str, planned))} replicates; a "
            "plan cannot be changed after it was made. Give the same --most and --step, and one of "
            "these numbers of seeds",
            file=record,
            found=list(numbers),
            expected=planned,
        )
    return planned_looks(planned)


def unlimited_pairs(parameters: Parameters, claim: str) -> dict[str, dict[str, None]]:
    """Changes to `pairs` with which a claim on deltas rests on all replicates of every pair.

    A claim on scores rests on the matrix, so the other pairs keep their limits.
    """
    statements = statements_of(parameters.claims.by_name()[claim])
    if all(kind(one).reads == "scores" for one in statements):
        return {}
    limited = [name for name, pair in parameters.pairs.items() if pair.replicates is not None]
    return {name: {"replicates": None} for name in limited}


def more_seeds(seeds: Sequence[int], number: int) -> list[int]:
    """The seeds, and those that follow the largest, until there are so many.

    Smaller seeds may have been used before, for example to choose the recipe.
    """
    following = range(max(seeds) + 1, max(seeds) + 1 + number)
    return [*seeds, *following][:number]


def looked(
    record: Path, claim: str, looks: Sequence[Look], judge: Callable[[int], Path]
) -> Iterator[Seen]:
    """The looks, until one decides. Each is added to the record before the next.

    Args:
        judge: makes the claims.csv of an experiment with so many replicates.

    Raises:
        InputError: the experiment cannot test the claim.
    """
    for look in looks:
        seen = _seen(look, claim, judge(look.replicates))
        content: dict[str, Any] = read_json(record)
        others = [one for one in content["seen"] if one["look"]["replicates"] != look.replicates]
        write_json(record, content | {"seen": [*others, asdict(seen)]})
        yield seen
        if seen.verdict != UNDECIDED:
            return


def _seen(look: Look, claim: str, path: Path) -> Seen:
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    rows = frame[(frame["claim"] == claim) & (frame["level"] == "claim") & frame["stated"]]
    row = rows.iloc[0]
    if pd.isna(row["p"]):
        raise InputError(
            "decide.untestable",
            f"{path}: {claim} is untestable: {row['why']}",
            file=path,
            claim=claim,
        )
    if row["replicates"] != look.replicates:
        raise InputError(
            "decide.not-replicated",
            f"{path}: {claim} rests on {row['replicates']} replicates, not on {look.replicates}; "
            "seeds add replicates only to pairs that are tuned in the experiment",
            file=path,
            claim=claim,
            found=int(row["replicates"]),
            expected=look.replicates,
        )
    outcome = look.outcome(row["p_for"], row["p_against"], row["p_equal"])
    return Seen(
        look,
        _WORDS[outcome],
        p=float(row["p"]),
        p_equal=float(row["p_equal"]),
        effect=float(row["effect"]),
        low=float(row["low"]),
        high=float(row["high"]),
        unit=str(row["unit"]),
    )
