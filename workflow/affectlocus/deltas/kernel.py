"""The compiled sums over the entries of a pair of tensors; each block is read once.

Entries of 16 and 32 bits are multiplied and added in float32 within a block of 1,024 entries, and
in float64 over blocks. A block is added in float64 throughout if float32 is not accurate enough,
if the tensor is small, or if the entries are float64. Vector instructions reorder the sums within a
block, so that the last digits depend on the processor; on one machine every run gives the same
digits.

The first use on a machine compiles (seconds). The result is cached per processor, next to this file
or, if that is read-only, in the user's cache folder (or $NUMBA_CACHE_DIR).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

# Entries of a block: both sides stay in the fastest cache between the loops. A float32 sum of this
# length, in a few dozen partial sums, has a relative error of 1e-6 for equal entries, and of 1e-8
# for different entries.
_BLOCK = np.uint64(1024)
# Up to this number of entries, float64 costs no measurable time.
_SMALL = 1 << 16
# Mean square below which float32 squares lose digits.
_FAINT = 1e-30
# If a delta is almost parallel to its base, the angle between base and tuned is a difference of
# almost equal numbers, for which float32 is not accurate enough. A sum of blocks is almost parallel
# only if a block is.
_PARALLEL = 0.1
# Only reordering of sums is allowed: NaN and infinity must be propagated.
_FAST = {"reassoc", "contract", "nsz"}

PLACES = 256
"""Length of a count table of `add_up`: a bin is a byte, so that every entry, even NaN, has one."""
TABLES = 4
"""Number of count tables. Neighbouring entries use different tables, because increments of the
same counter wait for each other."""

_MAGNITUDE = np.uint64(0x7FFFFFFFFFFFFFFF)
_EXPONENT = np.uint64(0x7FF0000000000000)
# Added to a small number, its lowest bits hold the nearest integer (ties to even).
_WHOLE32, _WHOLE64 = np.float32(1.5 * 2.0**23), 1.5 * 2.0**52


def _compiled(function: Callable[..., Any]) -> Any:
    options: dict[str, Any] = {"nogil": True, "fastmath": _FAST, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        # No writable cache folder: compiled again in every process.
        return njit(**options)(function)


def _same_bits(name: Any) -> Callable[..., Any]:
    """Code that reinterprets the bits of one type as another type."""

    def code(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], name)

    return code


@intrinsic
def _float32(_context, _bits32):
    return types.float32(types.uint32), _same_bits(ir.FloatType())


@intrinsic
def _float64(_context, _bits64):
    return types.float64(types.uint64), _same_bits(ir.DoubleType())


@intrinsic
def _bits32(_context, _value):
    return types.uint32(types.float32), _same_bits(ir.IntType(32))


@intrinsic
def _bits64(_context, _value):
    return types.uint64(types.float64), _same_bits(ir.IntType(64))


def _at(x: np.ndarray, i: int) -> float:
    """An entry as float64 or float32. Arrays hold bfloat16 as uint16, float16 as int16."""
    raise NotImplementedError


@overload(_at)
def _typed_at(x, i):  # noqa: ARG001
    if x.dtype == types.uint16:
        return lambda x, i: _float32(np.uint32(x[i]) << np.uint32(16))
    if x.dtype == types.int16:
        return _half_at
    return lambda x, i: x[i]


def _half_at(x, i):
    half = np.uint32(np.uint16(x[i]))
    # The exponent bias of float16 is 15, that of float32 is 127: the product corrects it, also for
    # subnormal numbers.
    value = _float32((half & np.uint32(0x7FFF)) << np.uint32(13)) * np.float32(2.0**112)
    if (half & np.uint32(0x7C00)) == np.uint32(0x7C00):
        value = _float32(np.uint32(0x7F800000) | ((half & np.uint32(0x3FF)) << np.uint32(13)))
    return -value if half & np.uint32(0x8000) else value


def _place(change: float, half: int) -> int:
    """The bin of a relative change, with edges as in `add_up`; for NaN any byte."""
    raise NotImplementedError


@overload(_place)
def _typed_place(change, half):  # noqa: ARG001
    if change == types.float32:

        def place(change, half):
            change = np.float32(1) if change > np.float32(1) else change
            change = np.float32(-1) if change < np.float32(-1) else change
            return np.uint8(_bits32(change * np.float32(half) + _WHOLE32) + np.uint32(half))
    else:

        def place(change, half):
            change = 1.0 if change > 1 else change
            change = -1.0 if change < -1 else change
            return np.uint8(_bits64(change * half + _WHOLE64) + np.uint64(half))

    return place


@_compiled
def _quick_gram(x, y, z, start, n):
    aa = ad = dd = np.float32(0)
    for i in range(n):
        a = _at(x, start + i)
        d = _at(y, start + i) - a if z is None else _at(z, start + i)
        aa += a * a
        ad += a * d
        dd += d * d
    return np.float64(aa), np.float64(ad), np.float64(dd)


@_compiled
def _exact_gram(x, y, z, start, n):
    aa, ad, dd = 0.0, 0.0, 0.0
    for i in range(n):
        a = np.float64(_at(x, start + i))
        d = np.float64(_at(y, start + i)) - a if z is None else np.float64(_at(z, start + i))
        aa += a * a
        ad += a * d
        dd += d * d
    return aa, ad, dd


@_compiled
def _gram(x, y, z, start, n):
    if x.size > _SMALL:
        aa, ad, dd = _quick_gram(x, y, z, start, n)
        least = _FAINT * n
        some = aa > least and dd > least and aa * dd < math.inf
        if some and ad * ad < (1 - _PARALLEL) * aa * dd:
            return aa, ad, dd
    return _exact_gram(x, y, z, start, n)


@_compiled
def _more(x, y, z, start, n, tiny):
    total, floor, largest = 0.0, 0.0, np.uint64(0)
    for i in range(n):
        b = np.float64(_at(y, start + i))
        d = b - np.float64(_at(x, start + i)) if z is None else np.float64(_at(z, start + i))
        total += d
        # Compared as integers, magnitudes keep their order, and NaN is the largest.
        largest = max(largest, _bits64(d) & _MAGNITUDE)
        # With only its exponent bits, a float is the power of two at or below it.
        power = _float64(_bits64(b) & _EXPONENT)
        power = tiny if power < tiny else power
        power = 0.0 if b == 0 else power
        floor += power * power
    return total, floor, largest


@_compiled
def _count(x, y, z, start, n, half, places, counts):
    for i in range(n):
        a = _at(x, start + i)
        d = _at(y, start + i) - a if z is None else _at(z, start + i)
        place = _place(d / a, half)
        places[i] = np.uint8(2 * half + 1) if a == 0 else place
    for i in range(n):
        counts[i & np.uint64(TABLES - 1), places[i]] += 1


@_compiled
def _columns(x, y, z, start, n, squares, first):
    for i in range(n):
        a = np.float64(_at(x, start + i))
        d = np.float64(_at(y, start + i)) - a if z is None else np.float64(_at(z, start + i))
        squares[first + i] += d * d


@_compiled
def add_up(x, y, z, tiny, half, counts, rows, columns, width, sums):
    """Adds the sums of a range of entries to `sums`, and to those arrays that are not empty.

    Args:
        x, y: base a and tuned b, (n,): float64, float32, or bits of float16 as int16 or of bfloat16
            as uint16.
        z: the delta d, (n,) float64; None for b − a.
        tiny: the smallest normal number of the tuned tensor's dtype; with 0, only the first three
            sums are computed.
        half: number of bins of d / a on either side of the middle bin, at most 127. The bins are
            centred at the multiples of 1 / half; values beyond ±1 count in the outermost bins, and
            a value on an edge in the even bin.
        counts: (`TABLES`, `PLACES`) int64, or empty; the caller adds the tables. The 2 · half + 1
            bins are followed by the count of entries with a = 0. The bin of entries that are not
            finite is undefined.
        rows, columns: float64 sums of d² by rows or by columns, or empty; the range starts with a
            row.
        width: entries of a row; 0 if neither is requested.
        sums: (6,) float64: Σa², Σad, Σd², Σd, Σ 4^e over the entries of b with |b| in
            [2^e, 2^(e+1)), max |d|.
    """
    n = np.uint64(x.size)
    span = np.uint64(width)
    places = np.empty(_BLOCK, np.uint8)
    at = np.uint64(0)
    while at < n:
        size = min(_BLOCK, n - at)
        if span:
            size = min(size, span - at % span)
        aa, ad, dd = _gram(x, y, z, at, size)
        sums[0] += aa
        sums[1] += ad
        sums[2] += dd
        if tiny:
            total, floor, largest = _more(x, y, z, at, size, tiny)
            sums[3] += total
            sums[4] += floor
            sums[5] = _float64(max(_bits64(sums[5]), largest))
        if counts.size:
            _count(x, y, z, at, size, half, places, counts)
        if rows.size:
            rows[at // span] += dd
        if columns.size:
            _columns(x, y, z, at, size, columns, at % span)
        at += size
