"""Matrices that are worked out as they are read: a base with an adapter merged, DoRA's change.

Each is a `Side` of `measure`: `read` fills a buffer with some of its entries, so that no more than
a chunk is ever in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from affectlocus.spectra import LowRank
from affectlocus.stored import Side


@dataclass(frozen=True)
class _OnBase:
    """Of the base's shape, and of its dtype: the one that the result would be stored in."""

    base: Side

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.base.dtype


@dataclass(frozen=True)
class Sum(_OnBase):
    """A stored matrix and a change of it, unrounded."""

    change: Side

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Fills `out` with the flat entries [start, stop) of the sum."""
        self.base.read(start, stop, out)
        change = torch.empty_like(out)
        self.change.read(start, stop, change)
        out += change


@dataclass(frozen=True)
class DoraDelta(_OnBase):
    """What DoRA changes: m / ‖W + s·BA‖ · (W + s·BA) − W, norms by rows (Liu et al. 2024, eq. 5).

    Attributes:
        base: W, (d_out, d_in).
        low_rank: s·BA of the same shape.
        magnitude: m, (d_out,), float64.
    """

    low_rank: LowRank
    magnitude: torch.Tensor

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Fills `out` with the flat entries [start, stop), worked out in float64 by whole rows."""
        width = self.shape[1]
        first, last = start // width, -(-stop // width)
        base = torch.empty((last - first) * width, dtype=torch.float64)
        self.base.read(first * width, last * width, base)
        change = torch.empty_like(base)
        self.low_rank.read(first * width, last * width, change)
        tuned = (base + change).view(-1, width)
        tuned *= (self.magnitude[first:last] / tuned.norm(dim=1))[:, None]
        delta = tuned.flatten() - base
        out.copy_(delta[start - first * width : stop - first * width])


def dense(side: Side) -> torch.Tensor:
    """All of a side, float64, in its shape."""
    out = torch.empty(torch.Size(side.shape).numel(), dtype=torch.float64)
    side.read(0, out.numel(), out)
    return out.view(side.shape)
