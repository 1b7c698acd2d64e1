"""Repeated looks at claims: the rule of `affectlocus.claims.sequential`, and 5 % at every look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from material import CELLS, Components, SimulatedClaim, stacked
from simulate import NOISES, SCENARIOS, claim_ps, shifts, tests

from affectlocus.claims.decisions import AGAINST, EQUAL, OPEN, SUPPORT
from affectlocus.claims.sequential import Look, planned_looks

LOOKS = (6, 8, 10, 12, 16, 20)
RULES = {
    "5 % at every look": [Look(number, 0.05, 0.05, 0.05) for number in LOOKS],
    "5 % spent over the looks (`affectlocus decide`)": planned_looks(LOOKS),
}


@dataclass(frozen=True)
class RepeatedRow:
    """How a rule does in one scenario, over all claims.

    Attributes:
        false: the share of false verdicts, of the mean claim.
        worst: of the claim where it is largest.
        decided, replicates: the share of decided claims, and the mean number of replicates used.
        right: the share of right verdicts; NaN if several are right.
    """

    rule: str
    scenario: str
    delta: float
    false: float
    worst: float
    right: float
    decided: float
    replicates: float


def repeated(
    parts: Components, claims: list[SimulatedClaim], draws: int, noise: str = "measured"
) -> Iterator[RepeatedRow]:
    """Simulates every claim by itself, with replicates added until it is decided."""
    weights, _ = stacked(claims)
    comparable = np.concatenate([claim.moderate for claim in claims])
    rng = np.random.default_rng([7, *noise.encode()])
    values = NOISES[noise](rng, parts, (draws, LOOKS[-1])) @ weights.T
    shared = rng.standard_normal((draws, len(CELLS))) * np.sqrt(parts.samples / 2) @ weights.T
    variance = np.einsum("kc,cd,kd->k", weights, parts.covariance, weights)
    for scenario in SCENARIOS:
        moved = shifts(scenario, claims, variance, draws, rng) + shared
        found = {rule: np.full((draws, len(claims)), OPEN) for rule in RULES}
        used = {rule: np.full((draws, len(claims)), LOOKS[-1]) for rule in RULES}
        for place, number in enumerate(LOOKS):
            seen = values[:, :number]
            p = claim_ps(
                tests(
                    moved + seen.mean(axis=1), seen.var(axis=1, ddof=1), number, parts.samples,
                    comparable,
                ),
                claims,
            )  # fmt: skip
            for rule, looks in RULES.items():
                look = looks[place]
                side = np.where(p.support <= p.against, SUPPORT, AGAINST)
                now = np.where(p.equal < look.equality_level, EQUAL, OPEN)
                now = np.where(p.two_sided < look.level, side, now)
                first = (found[rule] == OPEN) & (now != OPEN)
                found[rule] = np.where(first, now, found[rule])
                used[rule] = np.where(first, number, used[rule])
        for rule, verdicts in found.items():
            wrong = np.isin(verdicts, scenario.wrong)
            right = np.nan if scenario.right is None else (verdicts == scenario.right).mean()
            yield RepeatedRow(
                rule,
                scenario.name,
                scenario.delta,
                float(wrong.mean()),
                float(wrong.mean(axis=0).max()),
                float(right),
                float((verdicts != OPEN).mean()),
                float(used[rule].mean()),
            )
