"""Step `directions`: whether two deltas of one base have the same direction.

Each matrix has two measures: the cosine of the two deltas as vectors, and the overlap of the
subspaces of their leading singular vectors, on the left (output space, d_out) and on the right
(input space, d_in). Each measure is reported with its expectation by chance.

All computations are in float64. Those of a LoRA use r×r matrices and the QR decomposition of its
factors, not their product. For a full delta, all singular vectors are computed if the matrix is
small, else the leading ones by Lanczos iteration (scipy's svds, to machine precision). One matrix
of each pair is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.sparse.linalg import svds

from affectlocus.checkpoints.architectures import Rows
from affectlocus.checkpoints.computed_matrices import dense
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.spectra import LowRank
from affectlocus.core.errors import InputError
from affectlocus.core.projections import Location

RANK = 8
"""Default number of leading singular directions that are compared."""

_SMALL = 512  # up to this smaller side, LAPACK's full decomposition is faster than iteration
_ZERO = 1e-10  # share of the largest singular value; a smaller one is rounding error

COLUMNS = (
    *("first", "second", "layer", "projection", "expert", "numel"),
    *("cosine", "cosine_sd", "rank_first", "rank_second"),
    *("left_overlap", "left_expected", "left_angle"),
    *("right_overlap", "right_expected", "right_angle"),
)


@dataclass(frozen=True)
class LowRankDelta:
    """A low-rank delta, scaling · B·A, given by its factors."""

    factors: LowRank

    @property
    def shape(self) -> tuple[int, int]:
        return self.factors.shape

    @property
    def l2(self) -> float:
        return self.factors.l2

    @cached_property
    def _vectors(self) -> tuple[np.ndarray, np.ndarray]:
        left, inner_b = np.linalg.qr(self.factors.b)
        right, inner_a = np.linalg.qr(self.factors.a.T)
        u, values, vh = np.linalg.svd(inner_b @ inner_a.T, full_matrices=False)
        kept = _kept(values)
        return left @ u[:, :kept], right @ vh[:kept].T

    def leading(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        left, right = self._vectors
        return left[:, :rank], right[:, :rank]


@dataclass(frozen=True)
class FullDelta:
    """A delta as a full matrix, float64."""

    matrix: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def l2(self) -> float:
        return float(np.linalg.norm(self.matrix))

    def leading(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        if min(self.shape) <= max(_SMALL, 4 * rank):
            u, values, vh = np.linalg.svd(self.matrix, full_matrices=False)
        else:
            start = np.random.default_rng(0).standard_normal(min(self.shape))
            found = svds(self.matrix, k=rank, v0=start)
            order = np.argsort(-found[1])
            u, values, vh = found[0][:, order], found[1][order], found[2][order]
        kept = min(rank, _kept(values))
        return u[:, :kept], vh[:kept].T


def _kept(values: np.ndarray) -> int:
    """The number of singular values, in descending order, that are not rounding errors."""
    return int((values > _ZERO * values[0]).sum()) if len(values) and values[0] > 0 else 0


def inner(first: LowRankDelta | FullDelta, second: LowRankDelta | FullDelta) -> float:
    """⟨Δ₁, Δ₂⟩ = Σ Δ₁ ∘ Δ₂; for two low-rank deltas Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ), which are r×r."""
    if isinstance(first, FullDelta) and isinstance(second, FullDelta):
        return float((first.matrix * second.matrix).sum())
    if isinstance(first, FullDelta):
        return inner(second, first)
    one = first.factors
    if isinstance(second, FullDelta):
        return one.scaling * float(((second.matrix @ one.a.T) * one.b).sum())
    other = second.factors
    products = (one.b.T @ other.b) * (one.a @ other.a.T)
    return one.scaling * other.scaling * float(products.sum())


def overlap(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """The overlap of two subspaces of one space.

    Args:
        first: (d, k₁), orthonormal columns.
        second: (d, k₂), orthonormal columns.

    Returns:
        The mean squared cosine of the principal angles, ‖UᵀV‖² / min(k₁, k₂): 1 if one subspace
        contains the other, 0 if they are orthogonal; its expectation for random subspaces,
        max(k₁, k₂) / d; and the smallest principal angle in degrees. NaN if a subspace is empty.
    """
    d, least, most = len(first), *sorted((first.shape[1], second.shape[1]))
    if not least:
        return math.nan, math.nan, math.nan
    cosines = np.minimum(1, np.linalg.svd(first.T @ second, compute_uv=False))
    return (
        float((cosines**2).sum()) / least,
        most / d,
        math.degrees(math.acos(float(cosines[0]))),
    )


def compare_deltas(
    first: LowRankDelta | FullDelta, second: LowRankDelta | FullDelta, rank: int
) -> dict[str, float]:
    """The values of `COLUMNS` from `numel` on, for two deltas of one matrix.

    Args:
        rank: number of leading singular directions.

    Raises:
        ValueError: the deltas differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"deltas of shapes {first.shape} and {second.shape}")
    numel = math.prod(first.shape)
    size = first.l2 * second.l2
    mine, other = first.leading(rank), second.leading(rank)
    row = {
        "numel": numel,
        "cosine": inner(first, second) / size if size else math.nan,
        # Standard deviation for a delta and one that is rotated at random on both sides.
        "cosine_sd": 1 / math.sqrt(numel),
        "rank_first": mine[0].shape[1],
        "rank_second": other[0].shape[1],
    }
    for side, one, two in zip(("left", "right"), mine, other, strict=True):
        found = overlap(one, two)
        row |= dict(
            zip((f"{side}_overlap", f"{side}_expected", f"{side}_angle"), found, strict=True)
        )
    return row


def delta_of(pair: Pair, name: str, rows: Rows | None) -> LowRankDelta | FullDelta:
    """The delta of one weight of a pair, as factors if the adapter has them."""
    side = pair.delta_side(name, rows)
    if isinstance(side, LowRank):
        return LowRankDelta(side)
    if side is not None:
        return FullDelta(dense(side))
    return FullDelta(dense(pair.tuned_side(name, rows)) - dense(pair.base_side(name, rows)))


def directions(pairs: Mapping[str, Pair], rank: int = RANK) -> pd.DataFrame:
    """Compares every two pairs on one base, weight by weight.

    Args:
        pairs: name → pair; all on the same base.
        rank: number of leading singular directions; fewer if a delta has a smaller rank.

    Returns:
        `COLUMNS`, a row per (two pairs, layer, projection, expert) that both pairs adapted.

    Raises:
        InputError: bases that differ in tensors or shapes; deltas with NaN or infinity.
    """
    rows = []
    for first, second in combinations(pairs, 2):
        if _shapes(pairs[first]) != _shapes(pairs[second]):
            raise InputError(
                "pair.bases-differ",
                f"{first} and {second}: their bases differ in projections or shapes; expected "
                "pairs on one base",
                found=(first, second),
            )
    for location, (name, ranges) in _weights(pairs):
        held = {
            label: delta_of(pair, name, ranges)
            for label, pair in pairs.items()
            if pair.adapted(name)
        }
        for label, delta in held.items():
            if not math.isfinite(delta.l2):
                raise InputError(
                    "checkpoint.not-finite",
                    f"{pairs[label].tuned}: the delta of {name} holds NaN or infinity",
                    file=pairs[label].tuned,
                    tensor=name,
                )
        for first, second in combinations(held, 2):
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "layer": location.layer,
                    "projection": location.projection,
                    "expert": location.expert or "",
                }
                | compare_deltas(held[first], held[second], rank)
            )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values(["first", "second"], kind="stable", ignore_index=True)


def _shapes(pair: Pair) -> dict[Location, tuple[int, ...]]:
    return {
        location: tuple(pair.base_side(name, rows).shape)
        for location, (name, rows) in pair.projections.items()
    }


def _weights(pairs: Mapping[str, Pair]) -> Iterator[tuple[Location, tuple[str, Rows | None]]]:
    for pair in pairs.values():
        for location, place in pair.projections.items():
            if location.parameter == "weight":
                yield location, place
        return
