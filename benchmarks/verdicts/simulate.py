"""Simulated experiments: how often verdicts are false, and how often true effects are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from material import CELLS, Components, SimulatedClaim, stacked
from material import claims as claims_of_rules
from previous import previous

from affectlocus.claims.contrasts import Errors, fit_prior, moderated
from affectlocus.claims.decisions import (
    AGAINST,
    EQUAL,
    SUPPORT,
    ClaimP,
    OneSided,
    benjamini_hochberg,
    claim_p,
    holm,
    one_sided,
    outcomes,
)

MARGIN = 3.0
FAR = 30.0  # points; a rival so far behind is never in question
OTHER_CLAIMS = 6  # of the fourteen, those that are not simulated
FAMILIES = (0, 3, 6)  # how many of them are decided


@dataclass(frozen=True)
class Scenario:
    """What is true in a simulated experiment.

    Attributes:
        name: null, boundary, rival, true, edge.
        delta: the difference in points.
        truth: the verdict that is right; None if several are.
        wrong: the verdicts that are false.
    """

    name: str
    delta: float
    right: int | None
    wrong: tuple[int, ...]


SCENARIOS = (
    Scenario("null", 0, None, (SUPPORT, AGAINST)),
    Scenario("boundary", 0, None, (SUPPORT, AGAINST)),
    Scenario("rival", 5, AGAINST, (SUPPORT, EQUAL)),
    Scenario("rival", 10, AGAINST, (SUPPORT, EQUAL)),
    Scenario("true", 5, SUPPORT, (AGAINST, EQUAL)),
    Scenario("true", 10, SUPPORT, (AGAINST, EQUAL)),
    Scenario("edge above", MARGIN, SUPPORT, (AGAINST, EQUAL)),
    Scenario("edge below", MARGIN, AGAINST, (SUPPORT, EQUAL)),
)
NULLS = ("null", "boundary")


def shifts(
    scenario: Scenario,
    claims: list[SimulatedClaim],
    variance: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(draws, contrasts), the true contrasts.

    null: all are 0. boundary, edge: one is 0 or at the margin, the one with the largest variance;
    the claim leads all others by far. rival: one rival of each claim leads by delta, a random one;
    the others are level. true: each claim leads all rivals by delta.

    Args:
        variance: (contrasts,), between replicates.
    """
    _, places = stacked(claims)
    found = np.zeros((draws, len(variance)))
    for place in places:
        number = place.stop - place.start
        rows = found[:, place]
        if scenario.name == "true":
            rows[:] = scenario.delta
        elif scenario.name == "rival":
            rows[np.arange(draws), rng.integers(number, size=draws)] = -scenario.delta
        elif scenario.name != "null":
            worst = int(variance[place].argmax())
            rows[:] = FAR
            sign = -1.0 if scenario.name == "edge below" else 1.0
            rows[:, worst] = sign * scenario.delta
    return found


Noise = Callable[[np.random.Generator, Components, tuple[int, int]], np.ndarray]
"""(generator, components, (draws, replicates)) → (draws, replicates, cells)."""


def _normal(rng: np.random.Generator, covariance: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    root = np.linalg.cholesky(covariance)
    return rng.standard_normal((*shape, len(covariance))) @ root.T


def _measured(rng: np.random.Generator, parts: Components, shape: tuple[int, int]) -> np.ndarray:
    return _normal(rng, parts.covariance, shape)


def _heteroscedastic(
    rng: np.random.Generator, parts: Components, shape: tuple[int, int]
) -> np.ndarray:
    """In each experiment each cell has another standard deviation, by factors of about 0.4 to 2.

    What all cells of a replicate have in common cancels and is left as it is.
    """
    noise = _measured(rng, parts, shape)
    common = noise.mean(axis=-1, keepdims=True)
    factors = np.exp(0.6 * rng.standard_normal((shape[0], 1, noise.shape[-1])) - 0.36)
    return np.asarray(common + factors * (noise - common))


def _heavy(rng: np.random.Generator, parts: Components, shape: tuple[int, int]) -> np.ndarray:
    """Student's t with four degrees of freedom, one factor for each replicate."""
    factor = np.sqrt(2 / rng.chisquare(4, (*shape, 1)))
    return _measured(rng, parts, shape) * factor


def _independent(rng: np.random.Generator, parts: Components, shape: tuple[int, int]) -> np.ndarray:
    """Cells without anything in common; a contrast has the median measured variance."""
    return rng.standard_normal((*shape, len(CELLS))) * np.sqrt(_median_variance(parts) / 2)


def _factor(rng: np.random.Generator, parts: Components, shape: tuple[int, int]) -> np.ndarray:
    """Nine tenths of the variance are one factor, with other loadings in each experiment.

    All contrasts of an experiment then err together.
    """
    loadings = rng.standard_normal((shape[0], 1, len(CELLS)))
    common = rng.standard_normal((*shape, 1)) * loadings
    own = rng.standard_normal((*shape, len(CELLS)))
    mixed = np.sqrt(0.9) * common + np.sqrt(0.1) * own
    return np.asarray(mixed * np.sqrt(_median_variance(parts) / 2))


def _dependent(rng: np.random.Generator, parts: Components, shape: tuple[int, int]) -> np.ndarray:
    """A tenth of the variance is common to all replicates, which no procedure can see."""
    shared = _measured(rng, parts, (shape[0], 1))
    return np.sqrt(0.9) * _measured(rng, parts, shape) + np.sqrt(0.1) * shared


def _median_variance(parts: Components) -> float:
    weights, _ = stacked(claims_of_rules())
    return float(np.median(np.einsum("kc,cd,kd->k", weights, parts.covariance, weights)))


def _larger(rng: np.random.Generator, parts: Components, shape: tuple[int, int]) -> np.ndarray:
    return 2 * _measured(rng, parts, shape)


NOISES: dict[str, Noise] = {
    "measured": _measured,
    "heteroscedastic": _heteroscedastic,
    "heavy tails (t4)": _heavy,
    "cells independent": _independent,
    "contrasts correlated (one factor)": _factor,
    "four times the variance": _larger,
    "replicates correlated (0.1), against the assumption": _dependent,
}

PROCEDURES = {
    "until November 2026 (t, Holm over 18)": "previous",
    "plain t, BH": "plain",
    "moderated, Holm": "holm",
    "moderated, BH (the verdicts)": "bh",
}


def tests(
    mean: np.ndarray, variance: np.ndarray, replicates: int, samples: float, moderate: np.ndarray
) -> OneSided:
    """The one-sided p values of contrasts, as the claims compute them.

    Args:
        mean, variance: (draws, contrasts).
        moderate: (contrasts,) bool.
    """
    found, total = variance.copy(), np.full(variance.shape, replicates - 1.0)
    if moderate.any():
        own, df = variance[:, moderate], total[0, moderate]
        found[:, moderate], total[:, moderate] = moderated(own, df, fit_prior(own, df))
    errors = Errors(np.sqrt(found / replicates), total, np.full(mean.shape, samples))
    return one_sided(mean, errors, MARGIN)


def claim_ps(tests: OneSided, claims: list[SimulatedClaim]) -> ClaimP:
    """(draws, claims), the p values of all claims."""
    each = [claim_p(tests, place) for place in stacked(claims)[1]]
    names = ("support", "against", "equal")
    return ClaimP(*(np.stack([getattr(one, name) for one in each], axis=-1) for name in names))


def corrected(procedure: str, p: ClaimP, others: int) -> np.ndarray:
    """(draws, claims), the verdicts of a procedure.

    Args:
        others: how many of the claims that are not simulated are decided. If all are, Benjamini and
            Hochberg's correction is weakest.
    """
    rest = np.repeat([0.0, 1.0], [others, OTHER_CLAIMS - others])
    rest = np.broadcast_to(rest, (len(p.support), OTHER_CLAIMS))
    family = np.concatenate([p.two_sided, rest], axis=-1)
    adjusted = (holm if procedure == "holm" else benjamini_hochberg)(family)
    return outcomes(p, adjusted[:, : p.support.shape[-1]])


def _all_parts(claims: list[SimulatedClaim]) -> list[list[slice]]:
    return [
        list(_parts(claim, place)) for claim, place in zip(claims, stacked(claims)[1], strict=True)
    ]


def _parts(claim: SimulatedClaim, place: slice) -> Iterator[slice]:
    """The parts of a claim under the old procedure, which judged each apart."""
    lengths = {"C6": (1, 1, 1), "C8": (7, 1, 7, 1)}.get(claim.name, (len(claim.weights),))
    start = place.start
    for length in lengths:
        yield slice(start, start + length)
        start += length


@dataclass(frozen=True)
class Row:
    """How a procedure does in one scenario.

    Attributes:
        any_false: the share of experiments with a false verdict on any claim, if the claims that
            are not simulated are open.
        fdr: the mean share of false verdicts among the decided claims, if half of the claims that
            are not simulated are decided.
        worst: the share of false verdicts on the claim where it is largest, if all are decided.
        power: the share of right verdicts; NaN if several are right.
        equal: the share of verdicts "equal".
        powers: claim → the share of right verdicts on it.
    """

    noise: str
    procedure: str
    replicates: int
    scenario: str
    delta: float
    any_false: float
    fdr: float
    worst: float
    power: float
    equal: float
    powers: dict[str, float]


def simulate(
    parts: Components,
    claims: list[SimulatedClaim],
    noise: str,
    replicates: int,
    draws: int,
    seed: int = 0,
    procedures: dict[str, str] = PROCEDURES,
) -> Iterator[Row]:
    """Simulates experiments in all scenarios, and decides them by all procedures."""
    weights, _ = stacked(claims)
    comparable = np.concatenate([claim.moderate for claim in claims])
    rng = np.random.default_rng([seed, replicates, *noise.encode()])
    errors = NOISES[noise](rng, parts, (draws, replicates)) @ weights.T  # (draws, S, contrasts)
    shared = rng.standard_normal((draws, len(CELLS))) * np.sqrt(parts.samples / 2)
    mean = errors.mean(axis=1) + shared @ weights.T
    variance = errors.var(axis=1, ddof=1)
    true_variance = np.einsum("kc,cd,kd->k", weights, parts.covariance, weights)
    for scenario in SCENARIOS:
        moved = mean + shifts(scenario, claims, true_variance, draws, rng)
        p = {}
        for own in (False, True):
            used = comparable if own else np.zeros_like(comparable)
            found = tests(moved, variance, replicates, parts.samples, used)
            p[own] = claim_ps(found, claims)
        for name, procedure in procedures.items():
            if procedure == "previous":
                old = previous(moved, variance, replicates, parts.samples, _all_parts(claims))
                found = dict.fromkeys(FAMILIES, old)
            else:
                own = p[procedure != "plain"]
                found = {others: corrected(procedure, own, others) for others in FAMILIES}
            none, half, whole = found.values()
            wrong = np.isin(half, scenario.wrong)
            decided = np.isin(half, (SUPPORT, AGAINST, EQUAL)).sum(axis=1) + FAMILIES[1]
            right = (half == scenario.right).mean(axis=0)
            right = np.full(len(claims), np.nan) if scenario.right is None else right
            yield Row(
                noise,
                name,
                replicates,
                scenario.name,
                scenario.delta,
                float(np.isin(none, scenario.wrong).any(axis=1).mean()),
                float((wrong.sum(axis=1) / decided).mean()),
                float(np.isin(whole, scenario.wrong).mean(axis=0).max()),
                float(right.mean()),
                float((half == EQUAL).mean()),
                {claim.name: float(one) for claim, one in zip(claims, right, strict=True)},
            )
