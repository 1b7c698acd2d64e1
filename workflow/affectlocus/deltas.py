"""Step `deltas`: what the tuning changed, per layer and projection, weight and bias apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from affectlocus.checkpoints import Pair
from affectlocus.errors import InputError

# Entries of one pass: float64 copies of a chunk stay within a few tens of MB.
_CHUNK = 1 << 20


def measure(
    base: torch.Tensor, tuned: torch.Tensor, delta: torch.Tensor | None = None
) -> dict[str, float]:
    """Norms and moments of one tensor's delta; every sum in float64.

    Args:
        base, tuned: the same shape, any float dtype.
        delta: where known better than by subtraction, as an adapter's before rounding.

    Returns:
        `l2` (eq. 1: Frobenius norm of the delta), `base_l2`, `relative` (eq. 2: l2 / base_l2),
        `rms` (l2 / √numel), `cosine` and `cosine_distance` of the two tensors, `mean`, `std` and
        `max_abs` of the delta's entries, and `dtype_floor`: the l2 that rounding the tuned tensor
        to its stored dtype would give by itself, on average.
    """
    sums = dict.fromkeys(("aa", "ad", "dd", "d", "floor"), 0.0)
    largest = 0.0
    flat_base, flat_tuned = base.flatten(), tuned.flatten()
    flat_delta = None if delta is None else delta.flatten()
    for start in range(0, base.numel(), _CHUNK):
        a = flat_base[start : start + _CHUNK].double()
        b = flat_tuned[start : start + _CHUNK].double()
        d = b - a if flat_delta is None else flat_delta[start : start + _CHUNK].double()
        sums["aa"] += float(a @ a)
        sums["ad"] += float(a @ d)
        sums["dd"] += float(d @ d)
        sums["d"] += float(d.sum())
        largest = max(largest, float(d.abs().max()))
        # Rounding is off by at most half a unit in the last place, evenly: a variance of ulp²/12.
        _, exponent = torch.frexp(b)
        kind = torch.finfo(tuned.dtype)
        ulp = (kind.eps * torch.exp2(exponent.double() - 1)).clamp(min=kind.eps * kind.tiny)
        sums["floor"] += float(torch.where(b == 0, 0.0, ulp.square()).sum()) / 12
    numel = base.numel()
    l2, base_l2 = math.sqrt(sums["dd"]), math.sqrt(sums["aa"])
    mean = sums["d"] / numel
    distance = _cosine_distance(sums["aa"], sums["ad"], sums["dd"])
    return {
        "l2": l2,
        "base_l2": base_l2,
        "relative": l2 / base_l2 if base_l2 else math.nan,
        "rms": l2 / math.sqrt(numel),
        "cosine": 1 - distance,
        "cosine_distance": distance,
        "mean": mean,
        "std": math.sqrt(max(0.0, sums["dd"] / numel - mean**2)),
        "max_abs": largest,
        "dtype_floor": math.sqrt(sums["floor"]),
    }


def _cosine_distance(aa: float, ad: float, dd: float) -> float:
    """1 − cos of a and a + d; from the sine, which keeps its digits where the cosine is near 1."""
    bb = aa + 2 * ad + dd
    if aa == 0 or bb <= 0:
        return math.nan
    sine2 = min(1.0, max(0.0, (aa * dd - ad * ad) / (aa * bb)))
    cosine = math.sqrt(1 - sine2)
    # Beyond a right angle (b·a < 0) the cosine is the negative root.
    return sine2 / (1 + cosine) if aa + ad >= 0 else 1 + cosine


def deltas(
    base: Path, tuned: Path, progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """The deltas of a pair, a row per (layer, projection, parameter).

    Returns:
        `layer`, `projection`, `parameter` (weight or bias), `numel`, `shape`, `dtype`, `adapted`,
        and the columns of `measure`, all but `base_l2` NaN where the adapter could not touch it.
    """
    pair = Pair(base, tuned)
    named = pair.base.projections()
    if not named:
        raise InputError(
            f"{base}: none of its tensors is a q, k, v, o, gate, up or down_proj of a layer; "
            "expected the names of Qwen2, LLaMA or Mistral"
        )
    rows: list[dict[str, Any]] = []
    for done, (location, name) in enumerate(named.items(), start=1):
        before, after = pair.sides(name)
        adapted = pair.adapted(name)
        row: dict[str, Any] = {
            "layer": location.layer,
            "projection": location.projection,
            "parameter": location.parameter,
            "numel": before.numel(),
            "shape": "x".join(map(str, before.shape)),
            "dtype": str(after.dtype).removeprefix("torch."),
            "adapted": adapted,
        }
        values = measure(before, after, pair.delta(name) if pair.adapter and adapted else None)
        if not math.isfinite(values["l2"]) or not math.isfinite(values["base_l2"]):
            raise InputError(f"{tuned}: {name} holds NaN or infinity; its delta means nothing")
        if not adapted:
            values = dict.fromkeys(values, math.nan) | {"base_l2": values["base_l2"]}
        rows.append(row | values)
        if progress is not None:
            progress(done, len(named))
    return pd.DataFrame(rows)
