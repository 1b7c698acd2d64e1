"""Matrices that are computed while they are read: a base plus a change, and the delta of DoRA.

Each is a `TensorReader`: `read` fills a buffer with some of the entries, so memory holds one chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from affectlocus.checkpoints.spectra import LowRank
from affectlocus.checkpoints.tensor_files import TensorReader


@dataclass(frozen=True)
class _OnBase:
    """A matrix with the shape and dtype of the base; the result would be stored in this dtype."""

    base: TensorReader

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def dtype(self) -> str:
        return self.base.dtype


@dataclass(frozen=True)
class Sum(_OnBase):
    """The sum of a stored matrix and its change, without rounding."""

    change: TensorReader

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """Fills `out` with the flat entries [start, stop) of the sum."""
        self.base.read(start, stop, out)
        change = np.empty_like(out)
        self.change.read(start, stop, change)
        out += change


@dataclass(frozen=True)
class DoraDelta(_OnBase):
    """The delta of DoRA: m / ‖W + s·BA‖ · (W + s·BA) − W, norms by rows (Liu et al. 2024, eq. 5).

    Attributes:
        base: W, (d_out, d_in).
        low_rank: s·BA of the same shape.
        magnitude: m, (d_out,), float64.
    """

    low_rank: LowRank
    magnitude: np.ndarray

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """Fills `out` with the flat entries [start, stop), computed in float64 by whole rows."""
        width = self.shape[1]
        first, last = start // width, -(-stop // width)
        base = np.empty((last - first) * width)
        self.base.read(first * width, last * width, base)
        change = np.empty_like(base)
        self.low_rank.read(first * width, last * width, change)
        tuned = (base + change).reshape(-1, width)
        tuned *= (self.magnitude[first:last] / np.linalg.norm(tuned, axis=1))[:, None]
        delta = tuned.reshape(-1) - base
        out[...] = delta[start - first * width : stop - first * width]


def dense(reader: TensorReader) -> np.ndarray:
    """All entries of a reader, float64, in its shape."""
    out = np.empty(math.prod(reader.shape))
    reader.read(0, len(out), out)
    return out.reshape(reader.shape)
