"""Spectra of deltas: singular values from LoRA factors or from a Gram matrix."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affectlocus.checkpoints.tensor_files import TensorReader
from affectlocus.core.threads import default_threads, single_threaded_blas

# Entries of a block of a full delta: 32 MB in float64.
_BLOCK = 1 << 22
# Smallest ratio of the least to the largest eigenvalue of a Gram matrix for Cholesky.
_CONDITION = 1e-5


@dataclass(frozen=True)
class Spectrum:
    """Measures of the singular values σ₁ ≥ σ₂ ≥ … of a delta.

    Attributes:
        spectral_norm: σ₁.
        stable_rank: Σσ² / σ₁², at most the rank and stable under small changes.
        effective_rank: exp of the entropy of σ / Σσ (Roy & Vetterli, "The effective rank", 2007).
        values: (k,) float64 singular values, descending; if the rank is bounded, only those
            that can differ from zero.

    A delta of zero has a spectral norm of 0 and ranks of NaN, because it has no direction.
    """

    spectral_norm: float
    stable_rank: float
    effective_rank: float
    values: np.ndarray


def spectrum_of_values(values: np.ndarray) -> Spectrum:
    """The spectrum of given singular values, in any order; all NaN if one is not finite."""
    values = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    if not np.isfinite(values).all():
        return Spectrum(math.nan, math.nan, math.nan, values)
    largest = float(values[0]) if len(values) else 0.0
    if largest <= 0:
        return Spectrum(0.0, math.nan, math.nan, values)
    # Relative to the largest, so that squares of tiny values do not underflow.
    scaled = values / largest
    share = scaled / scaled.sum()
    some = share[share > 0]
    entropy = -float((some * np.log(some)).sum())
    return Spectrum(largest, float(scaled @ scaled), math.exp(entropy), values)


class LowRank:
    """The delta scaling · B·A of an adapter, kept as factors; also a `TensorReader`.

    Norms and spectra are exact up to the rounding of float64. They need only r×r matrices: the
    products Bᵀ·B and A·Aᵀ, or the R of each factor's QR and the singular values of an r×r core.

    Args:
        a: (r, d_in), any float dtype; kept in float64.
        b: (d_out, r).
        scaling: alpha / r, or alpha / √r with rsLoRA.

    Raises:
        ValueError: the factors do not fit each other.
    """

    dtype = "float64"

    def __init__(self, a: np.ndarray, b: np.ndarray, scaling: float) -> None:
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise ValueError(f"no LoRA factors: A {tuple(a.shape)}, B {tuple(b.shape)}")
        self.a, self.b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        self.scaling = float(scaling)
        self.shape = (b.shape[0], a.shape[1])

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """Entries [start, stop) of the delta; as `TensorReader.read`."""
        if start == stop:
            return
        width = self.shape[1]
        first, last = start // width, -(-stop // width)
        rows = (self.b[first:last] * self.scaling) @ self.a
        out[...] = rows.reshape(-1)[start - first * width : stop - first * width]

    def grams(self) -> tuple[np.ndarray, np.ndarray]:
        """A·Aᵀ and Bᵀ·B, (r, r) float64, without the scaling."""
        return self.a @ self.a.T, self.b.T @ self.b

    @property
    def l2(self) -> float:
        """The Frobenius norm: ‖BA‖² = Σ (A·Aᵀ) ∘ (Bᵀ·B), or from `core` if that is cached."""
        if "core" in self.__dict__:
            return float(np.linalg.norm(self.core))
        a, b = self.grams()
        return abs(self.scaling) * math.sqrt(np.maximum(0.0, (a * b).sum()))

    def scores(self) -> dict[str, float]:
        """`l2`, `rms` (l2 / √numel), and `mean` and `std` of the delta's entries."""
        l2, numel = self.l2, math.prod(self.shape)
        with np.errstate(invalid="ignore"):
            # Column sums of B times row sums of A.
            total = float((np.ones(len(self.b)) @ self.b) @ self.a.sum(axis=1))
        mean = self.scaling * total / numel
        variance = l2**2 / numel - mean**2
        std = variance if math.isnan(variance) else math.sqrt(max(0.0, variance))
        return {"l2": l2, "rms": l2 / math.sqrt(numel), "mean": mean, "std": std}

    @cached_property
    def core(self) -> np.ndarray:
        """(min(r, d_out), min(r, d_in)) float64: the delta up to rotations on both sides."""
        inner_a = _triangle(self.a.T)  # (min(r, d_in), r)
        inner_b = _triangle(self.b)  # (min(r, d_out), r)
        return self.scaling * (inner_b @ inner_a.T)

    def singular_values(self) -> np.ndarray:
        """The singular values that can differ from zero: (min(r, d_out, d_in),) float64.

        They are in descending order. All are NaN if an entry of the delta is not finite.
        """
        if not np.isfinite(self.core).all():
            return np.full(min(self.core.shape), math.nan)
        return np.linalg.svd(self.core, compute_uv=False)

    def spectrum(self) -> Spectrum:
        """The exact spectrum."""
        return spectrum_of_values(self.singular_values())


def _triangle(factor: np.ndarray) -> np.ndarray:
    """R of the QR decomposition of a (d, r) float64 factor, up to signs: (min(d, r), r).

    Uses the Cholesky factor of the Gram matrix, which is several times faster, if its error is
    below 1e-11. That error is 1e-16 times the square of the condition number.
    """
    gram = factor.T @ factor
    if not np.isfinite(gram).all():
        return np.full((min(factor.shape), factor.shape[1]), math.nan)
    squares = np.linalg.eigvalsh(gram)
    if squares[0] > _CONDITION * squares[-1]:
        return np.linalg.cholesky(gram).T
    return np.linalg.qr(factor).R


def low_rank_scores(
    deltas: Iterable[LowRank], threads: int | None = None
) -> Iterator[tuple[dict[str, float], Spectrum]]:
    """`LowRank.scores` and spectra of many deltas, computed in threads, in the given order.

    Each delta uses one thread, because these QR decompositions are too small to be parallel.
    """

    def one(delta: LowRank) -> tuple[dict[str, float], Spectrum]:
        spectrum = delta.spectrum()
        return delta.scores(), spectrum

    with single_threaded_blas(), ThreadPoolExecutor(threads or default_threads()) as pool:
        waiting: deque[Future[tuple[dict[str, float], Spectrum]]] = deque()
        for delta in deltas:
            waiting.append(pool.submit(one, delta))
            # A bounded queue, so that few factors are in memory at once.
            if len(waiting) > 16:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def full_spectrum(
    base: TensorReader, tuned: TensorReader | None, delta: TensorReader | None = None
) -> Spectrum:
    """The spectrum of a full delta (d_out, d_in), from the eigenvalues of its smaller Gram matrix.

    Method: the Gram matrix D·Dᵀ or Dᵀ·D, k×k with k = min(d_out, d_in), is summed in float64 from
    blocks of the delta; its eigenvalues are σ². Squaring halves the number of digits: the error of
    a singular value is about 1e-16 · σ₁² / σ. The spectral norm and the stable rank are exact to
    1e-12. Values below 1e-8 · σ₁ cannot be distinguished from zero and count as zero.

    Cost: 2 · d_out · d_in · k operations for the Gram matrix, about 1.3 · k³ for its eigenvalues,
    and 2 · 8 · k² bytes plus two blocks of 32 MB.

    Args:
        delta: used instead of tuned − base if given, because it is more exact.

    Raises:
        ValueError: not a matrix, or the shapes differ.
    """
    from scipy.linalg.blas import dsyrk

    sides = [base, tuned] if delta is None else [delta]
    shapes = {None if side is None else tuple(side.shape) for side in sides}
    shape = shapes.pop()
    if shapes or shape is None or len(shape) != 2:
        raise ValueError(f"no spectrum of a delta between shapes {[shape, *shapes]}")
    high = shape[0] >= shape[1]
    gram = np.zeros((min(shape), min(shape)), order="F")
    if delta is not None:
        blocks: Iterator[np.ndarray] = _blocks(delta, high)
    else:
        assert tuned is not None
        pairs = zip(_blocks(tuned, high), _blocks(base, high), strict=True)
        blocks = (np.subtract(after, before, out=after) for after, before in pairs)
    for block in blocks:
        # Only the lower half, since the matrix is symmetric. BLAS reads a block as its transpose.
        gram = dsyrk(1, block.T, 1, gram, trans=0 if high else 1, lower=1, overwrite_c=1)
    if not np.isfinite(gram).all():
        return spectrum_of_values(np.full(len(gram), math.nan))
    squares = np.linalg.eigvalsh(gram)
    least = len(gram) * np.finfo(np.float64).eps * np.abs(squares).max()
    return spectrum_of_values(np.sqrt(np.where(squares > least, squares, 0)))


def _blocks(side: TensorReader, by_rows: bool) -> Iterator[np.ndarray]:
    """Yields a matrix in float64 by blocks of rows or columns. All blocks use the same memory."""
    height, width = side.shape
    along, across = (height, width) if by_rows else (width, height)
    size = min(along, max(1, _BLOCK // max(1, across)))
    space = np.empty(size * across)
    for first in range(0, along, size):
        count = min(size, along - first)
        block = space[: count * across]
        if by_rows:
            side.read(first * width, (first + count) * width, block)
            yield block.reshape(count, width)
        else:
            block = block.reshape(height, count)
            for row, out in enumerate(block):
                side.read(row * width + first, row * width + first + count, out)
            yield block
