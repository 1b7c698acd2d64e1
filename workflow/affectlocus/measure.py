"""One pass over a pair of tensors: every sum that the scores of a delta are made of.

Both sides are read in chunks that stay in a core's cache, each once, and no operation works on more
than a chunk: the pass runs at about the speed of reading, and its memory is a few MB a thread.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as with_default
from functools import reduce
from operator import add
from typing import Any, Generic, Literal, TypeVar

import torch

from affectlocus.stored import Side, Stored
from affectlocus.threads import default_threads, one_thread_each

# Smaller chunks cost more calls, larger ones leave the cache. Half of it where little is done.
_CHUNK = 1 << 17
# Sums in float32 are over so many entries, then in float64: right to 5e-7 where all are the same,
# to 1e-8 where they are not.
_ROW = 1 << 10
# A thread's turn: long enough that handing it out costs nothing.
_TURN = 1 << 23
# Below this size, float64 costs nothing either.
_SMALL = 1 << 16
# Where a delta is parallel to its base, the angle between base and tuned is a difference of near
# equals, and float32 has too few digits for it: such a tensor is read again in float64.
_PARALLEL = 0.1
# Mean squares below which a float32 square loses digits, and the tensor is read again in float64.
_FAINT = 1e-30

BINS = 129
"""Bins of a histogram of relative change, centred at k/64 for k = -64 … 64; entries without a
change lie in the middle one, and a change right between two bins counts in the even one. These are
edges that float32 and float64 agree on."""
# And one more for entries with w = 0.
_KINDS = BINS + 1


Key = TypeVar("Key", bound=Hashable)


@dataclass
class Sums:
    """What one pass adds up; a the base, d the delta, b = a + d the tuned tensor.

    Attributes:
        numel: number of entries.
        aa, ad, dd: Σa², Σad, Σd².
        d, largest: Σd and max |d|; NaN where only the basic scores were asked for.
        floor: Σulp²/12 of the stored b, the square of what rounding alone gives; NaN likewise.
        nonfinite: entries where base, tuned or delta is NaN or infinite; the sums are then NaN or
            infinite too.
        first_nonfinite: the flat index of the first such entry.
        histogram: (BINS,) int64 counts of d / a, clipped to [-1, 1], where a is not zero; means
            nothing where entries are not finite.
        zeros: entries with a = 0, which the histogram leaves out.
        row_squares, column_squares: float64, Σd² of each row or column.
    """

    numel: int
    aa: float
    ad: float
    dd: float
    d: float = math.nan
    largest: float = math.nan
    floor: float = math.nan
    nonfinite: int = 0
    first_nonfinite: int | None = None
    histogram: torch.Tensor | None = with_default(default=None, repr=False)
    zeros: int = 0
    row_squares: torch.Tensor | None = with_default(default=None, repr=False)
    column_squares: torch.Tensor | None = with_default(default=None, repr=False)

    def __add__(self, other: Sums) -> Sums:
        """The sums of both together, as of one tensor with the other's rows below.

        So rows follow one another and columns add up; `first_nonfinite` is counted from the first
        entry of the first.
        """
        first = self.first_nonfinite
        if first is None and other.first_nonfinite is not None:
            first = self.numel + other.first_nonfinite
        return Sums(
            self.numel + other.numel,
            self.aa + other.aa,
            self.ad + other.ad,
            self.dd + other.dd,
            self.d + other.d,
            # Unlike max(), not blind to NaN.
            float(torch.tensor([self.largest, other.largest], dtype=torch.float64).max()),
            self.floor + other.floor,
            self.nonfinite + other.nonfinite,
            first,
            _together(self.histogram, other.histogram, torch.add),
            self.zeros + other.zeros,
            _together(self.row_squares, other.row_squares, lambda a, b: torch.cat([a, b])),
            _together(self.column_squares, other.column_squares, torch.add),
        )

    def scores(self) -> dict[str, float]:
        """The scores of a delta.

        Returns:
            `l2` (eq. 1: Frobenius norm of the delta), `base_l2`, `relative` (eq. 2: l2 / base_l2),
            `rms` (l2 / √numel), `cosine` and `cosine_distance` of the two tensors, `mean`, `std`
            and `max_abs` of the delta's entries, and `dtype_floor`: the l2 that rounding the tuned
            tensor to its stored dtype would give by itself, on average. NaN where it means nothing
            or was not asked for.
        """
        l2, base_l2 = _root(self.dd), _root(self.aa)
        mean = self.d / self.numel if self.numel else math.nan
        distance = _cosine_distance(self.aa, self.ad, self.dd)
        variance = self.dd / self.numel - mean**2 if self.numel else math.nan
        return {
            "l2": l2,
            "base_l2": base_l2,
            "relative": l2 / base_l2 if base_l2 else math.nan,
            "rms": l2 / math.sqrt(self.numel) if self.numel else math.nan,
            "cosine": 1 - distance,
            "cosine_distance": distance,
            "mean": mean,
            "std": variance if math.isnan(variance) else math.sqrt(max(0.0, variance)),
            "max_abs": self.largest,
            "dtype_floor": _root(self.floor),
        }


def _root(square: float) -> float:
    return math.sqrt(square) if square >= 0 else math.nan


def _together(
    one: torch.Tensor | None,
    other: torch.Tensor | None,
    how: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor | None:
    return None if one is None or other is None else how(one, other)


def _cosine_distance(aa: float, ad: float, dd: float) -> float:
    """1 − cos of a and a + d; from the sine, which keeps its digits where the cosine is near 1."""
    bb = aa + 2 * ad + dd
    if not (aa > 0 and bb > 0 and math.isfinite(aa * bb)):
        return math.nan
    sine2 = min(1.0, max(0.0, (aa * dd - ad * ad) / (aa * bb)))
    cosine = math.sqrt(1 - sine2)
    # Beyond a right angle (b·a < 0) the cosine is the negative root.
    return sine2 / (1 + cosine) if aa + ad >= 0 else 1 + cosine


@dataclass(frozen=True)
class Job(Generic[Key]):
    """One tensor to measure; `key` is the caller's own name for it.

    Attributes:
        base: None for an adapter alone: base_l2 and what follows from it are then NaN.
        tuned: may be None where `delta` is given: base + delta then, in the base's dtype. With
            neither, only base_l2 is measured.
        delta: where known better than by subtraction, as an adapter's before rounding.
        whole: all scores, or only l2, base_l2, relative, rms, cosine and cosine_distance.
        histogram: counts of the relative change of the entries.
        neurons: squares of the delta by rows or by columns; the shape must be (rows, columns).
    """

    key: Key
    base: Side | None
    tuned: Side | None
    delta: Side | None = None
    whole: bool = True
    histogram: bool = False
    neurons: Literal["rows", "columns"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._sides[0].shape

    @property
    def _sides(self) -> list[Side]:
        return [side for side in (self.base, self.tuned, self.delta) if side is not None]

    def check(self) -> None:
        """Raises ValueError where the sides do not fit each other."""
        if not self._sides or (self.base is None and self.delta is None):
            raise ValueError(f"{self.key}: needs a base or a delta")
        if len({tuple(side.shape) for side in self._sides}) > 1:
            raise ValueError(f"{self.key}: shapes {[tuple(side.shape) for side in self._sides]}")
        if self.neurons and len(self.shape) != 2:
            raise ValueError(f"{self.key}: neurons of shape {self.shape}")

    @property
    def stored(self) -> Side | None:
        """The side in whose dtype the tuned tensor is kept, or would be."""
        return self.base if self.tuned is None and self.delta is not None else self.tuned

    @property
    def wide(self) -> bool:
        """Whether all is done in float64 from the start."""
        stored = any(side.dtype == torch.float64 for side in self._sides)
        return stored or math.prod(self.shape) <= _SMALL


def measure(
    base: Side | None,
    tuned: Side | None,
    delta: Side | None = None,
    *,
    whole: bool = True,
    histogram: bool = False,
    neurons: Literal["rows", "columns"] | None = None,
) -> Sums:
    """The sums of one tensor's delta, on the calling thread; arguments as in `Job`.

    Every score is right to 1e-6 against float64: float32 within 1,024 entries and float64 beyond,
    and float64 throughout for small tensors, where a side is stored in float64, and where float32
    has too few digits (a delta parallel to its base, squares that overflow or vanish).
    """
    job = Job(None, base, tuned, delta, whole, histogram, neurons)
    job.check()
    with one_thread_each():
        for wide in (job.wide, True):
            sums = _total(job, [_span(job, start, stop, wide) for start, stop in _spans(job)])
            if wide or _trusted(sums):
                break
    return sums


def measure_all(
    jobs: Iterable[Job[Key]],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Key, Sums]]:
    """`measure` for many tensors, spread over threads; results in the jobs' order.

    Args:
        threads: default: `default_threads()`.
        progress: told the jobs done and their number after each.

    Yields:
        Each job's key and sums.
    """
    listed = list(jobs)
    for job in listed:
        job.check()
    threads = threads or default_threads()
    running: deque[tuple[Job[Key], bool, list[Future[Sums]]]] = deque()
    with one_thread_each(), ThreadPoolExecutor(threads) as pool:

        def begun(job: Job[Key], wide: bool) -> tuple[Job[Key], bool, list[Future[Sums]]]:
            return (
                job,
                wide,
                [pool.submit(_span, job, start, stop, wide) for start, stop in _spans(job)],
            )

        try:
            ahead = iter(listed)
            for done in range(1, len(listed) + 1):
                # Enough turns ahead that no thread waits, and no more: a stop is prompt.
                while sum(len(turns) for _, _, turns in running) < 4 * threads:
                    following = next(ahead, None)
                    if following is None:
                        break
                    running.append(begun(following, following.wide))
                job, wide, turns = running.popleft()
                sums = _total(job, [turn.result() for turn in turns])
                if not wide and not _trusted(sums):
                    sums = _total(job, [turn.result() for turn in begun(job, True)[2]])
                if progress is not None:
                    progress(done, len(listed))
                yield job.key, sums
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _total(job: Job, parts: list[Sums]) -> Sums:
    if parts:
        return reduce(add, parts)
    return _span(job, 0, 0, True)


def _trusted(sums: Sums) -> bool:
    """Whether float32 had digits enough for what came out."""
    if sums.nonfinite:
        return True
    if not all(math.isfinite(value) for value in (sums.aa, sums.dd, sums.ad) if value == value):
        return False
    if sums.aa < _FAINT * sums.numel:
        return False
    if sums.dd < _FAINT * sums.numel and (sums.dd > 0 or sums.largest > 0):
        return False
    if sums.aa > 0 and sums.dd > 0:
        return 1 - sums.ad**2 / (sums.aa * sums.dd) > _PARALLEL
    return True


# A thread's turn


def _step(job: Job) -> int:
    """Entries of a chunk; whole rows for neurons, and for sides that are computed by rows."""
    chunk = _CHUNK if job.whole else _CHUNK // 2
    width = math.prod(job.shape[1:])
    if len(job.shape) < 2 or width == 0 or (_plain(job) and not job.neurons):
        return chunk
    return max(1, chunk // width) * width if job.neurons or width <= chunk else chunk


def _spans(job: Job) -> Iterator[tuple[int, int]]:
    numel, step = math.prod(job.shape), _step(job)
    turn = max(1, _TURN // step) * step
    for start in range(0, numel, turn):
        yield start, min(numel, start + turn)


class _Room:
    """A thread's space for a chunk of n entries: the sides, their delta, and one row for work."""

    def __init__(self, space: torch.Tensor, n: int) -> None:
        self.rows = -(-n // _ROW)
        # In this order two sides can be converted at once, and base and delta lie together.
        self.tuned, self.base, self.delta, self.other = space[:, :n]
        self.sides, self.pair = space[0:2, :n], space[1:3, :n]
        self.padding = space[1:3, n : self.rows * _ROW] if n % _ROW else None
        integer = torch.int64 if space.dtype == torch.float64 else torch.int32
        self.tuned_bits, self.other_bits = self.tuned.view(integer), self.other.view(integer)
        # (rows, 2, _ROW): the Gram matrix of base and delta within each row.
        grid = space[1:3, : self.rows * _ROW].unflatten(1, (self.rows, _ROW)).permute(1, 0, 2)
        self.grid, self.turned = grid, grid.transpose(1, 2)
        self._raw: dict[torch.dtype, tuple[torch.Tensor, memoryview, memoryview]] = {}

    def raw(self, dtype: torch.dtype) -> tuple[torch.Tensor, memoryview, memoryview]:
        """(2, n) entries as stored, and the bytes of either row."""
        if dtype not in self._raw:
            raw = torch.empty(2, len(self.base), dtype=dtype)
            array: Any = raw.view(torch.uint8).numpy()
            self._raw[dtype] = (raw, memoryview(array[0]), memoryview(array[1]))
        return self._raw[dtype]


class _Rooms(threading.local):
    def __init__(self) -> None:
        self._spaces: dict[torch.dtype, torch.Tensor] = {}
        self._rooms: dict[tuple[torch.dtype, int], _Room] = {}

    def of(self, n: int, dtype: torch.dtype) -> _Room:
        space = self._spaces.get(dtype)
        if space is None or space.shape[1] < n:
            self._rooms.clear()
            space = torch.empty(4, -(-max(n, _CHUNK) // _ROW) * _ROW, dtype=dtype)
            self._spaces[dtype] = space
        if (dtype, n) not in self._rooms:
            if len(self._rooms) >= 8:
                self._rooms.clear()
            self._rooms[dtype, n] = _Room(space, n)
        return self._rooms[dtype, n]


_rooms = _Rooms()


def _span(job: Job, start: int, stop: int, wide: bool) -> Sums:
    """The sums of entries [start, stop)."""
    dtype = torch.float64 if wide else torch.float32
    step = _step(job)
    chunks = [(at, min(step, stop - at)) for at in range(start, stop, step)]
    rows = [-(-n // _ROW) for _, n in chunks]
    grams = torch.empty(sum(rows), 2, 2, dtype=dtype)
    more = _More(job, wide)
    plain, each = _plain(job), grams.split(rows)
    known = job.tuned is not None or job.delta is not None
    stored = job.stored if job.whole else None
    if plain and chunks and not (job.whole or job.histogram or job.neurons):
        _basic(*plain, chunks, each)
    else:
        for (at, n), gram in zip(chunks, each, strict=True):
            room = _rooms.of(n, dtype)
            if plain is None:
                _read(job, room, at, at + n)
            else:
                _read_plain(*plain, room, at)
            if room.padding is not None:
                room.padding.zero_()
            torch.bmm(room.grid, room.turned, out=gram)
            if known:
                more.take(room, stored)
    (aa, ad), (_, dd) = grams.sum(0, dtype=torch.float64).tolist()
    sums = Sums(
        stop - start,
        math.nan if job.base is None else aa,
        ad if known and job.base is not None else math.nan,
        dd if known else math.nan,
    )
    more.into(sums)
    if not math.isfinite(aa + ad + dd + (0 if stored is None else sums.floor)):
        _locate(job, chunks, start, sums)
    return sums


def _plain(job: Job) -> tuple[Stored, Stored] | None:
    """Both sides, where they lie plainly in their files in one dtype and are all there is."""
    base, tuned = job.base, job.tuned
    if job.delta is None and isinstance(base, Stored) and isinstance(tuned, Stored):
        return (base, tuned) if base.plain and tuned.plain and base.dtype == tuned.dtype else None
    return None


def _read_plain(base: Stored, tuned: Stored, room: _Room, start: int) -> None:
    """As `_read` for the whole contract, with fewer calls: both sides are converted at once."""
    raw, first, second = room.raw(base.dtype)
    tuned.fill(start, first)
    base.fill(start, second)
    room.sides.copy_(raw)
    torch.sub(room.tuned, room.base, out=room.delta)


def _basic(
    base: Stored, tuned: Stored, chunks: list[tuple[int, int]], grams: Sequence[torch.Tensor]
) -> None:
    """The Gram matrices of the chunks, and nothing else; the loop that decides the speed.

    Five calls a chunk, and as little as can be between them: Python's share is a fifth as it is.
    """
    dtype, last = grams[0].dtype, 0
    for (start, n), gram in zip(chunks, grams, strict=True):
        if n != last:
            room, last = _rooms.of(n, dtype), n
            raw, first, second = room.raw(base.dtype)
            convert, subtract = room.pair.copy_, room.delta.sub_
            before, grid, turned, padding = room.base, room.grid, room.turned, room.padding
        base.fill(start, first)
        tuned.fill(start, second)
        convert(raw)
        subtract(before)
        if padding is not None:
            padding.zero_()
        torch.bmm(grid, turned, out=gram)


def _read(job: Job, room: _Room, start: int, stop: int) -> None:
    """Base and delta, and the tuned tensor where the whole contract is asked for."""
    base, tuned, delta = job.base, job.tuned, job.delta
    if base is None:
        room.base.zero_()
    else:
        base.read(start, stop, room.base)
    if delta is not None:
        delta.read(start, stop, room.delta)
        if tuned is None:
            torch.add(room.base, room.delta, out=room.tuned)
    if tuned is not None and (job.whole or delta is None):
        tuned.read(start, stop, room.tuned)
        if delta is None:
            torch.sub(room.tuned, room.base, out=room.delta)
    elif delta is None:
        room.delta.zero_()


class _More:
    """All but the Gram matrix: what the whole contract adds, chunk by chunk."""

    def __init__(self, job: Job, wide: bool) -> None:
        self.job, self.wide = job, wide
        self.sums: list[torch.Tensor] = []
        self.extremes: list[torch.Tensor] = []
        self.floors: list[torch.Tensor] = []
        self.row_squares: list[torch.Tensor] = []
        self.pairs = torch.zeros(_KINDS**2 if job.histogram else 0, dtype=torch.int64)
        self.odd = self.zeros = 0
        self.eps = math.nan
        self.columns = None
        if job.neurons == "columns":
            self.columns = torch.zeros(job.shape[1], dtype=torch.float64)

    def take(self, room: _Room, stored: Side | None) -> None:
        job, d = self.job, room.delta
        if job.whole:
            self.sums.append(d.sum())
            self.extremes += torch.aminmax(d)
        if stored is not None:
            self.eps = torch.finfo(stored.dtype).eps
            self.floors.append(_ulps(room, stored.dtype, self.wide))
        if job.histogram:
            self._count(room)
        if job.neurons:
            torch.mul(d, d, out=room.other)
            squares = room.other.view(-1, job.shape[1])
            if self.columns is not None:
                self.columns += squares.sum(0)
            else:
                self.row_squares.append(squares.sum(1).double())

    def _count(self, room: _Room) -> None:
        a, d, place = room.base, room.delta, room.other
        torch.div(d, a, out=place)
        some = not math.isfinite(float(place.sum()))
        place.clamp_(-1, 1).mul_(BINS // 2).round_()
        if some:
            zero = a == 0
            place.masked_fill_(zero, _KINDS - 1 - BINS // 2).nan_to_num_(nan=0)
            self.zeros += int(torch.count_nonzero(zero))
        # Two entries make one number, which halves what is counted one by one.
        half = len(a) // 2
        pairs = torch.add(place[half : 2 * half], place[:half], alpha=_KINDS, out=place[:half])
        pairs.add_((_KINDS + 1) * (BINS // 2))
        whole = room.tuned_bits[:half].copy_(pairs)  # its floats are no longer needed
        self.pairs += torch.bincount(whole, minlength=len(self.pairs))
        if len(a) % 2:
            self.pairs[int(place[-1]) + BINS // 2] += 1
            self.odd += 1

    def _histogram(self) -> torch.Tensor:
        both = self.pairs.view(_KINDS, _KINDS)
        counts = both.sum(0) + both.sum(1)
        # An entry without a partner was counted with one of the first kind.
        counts[0] -= self.odd
        return counts[:BINS].clone()

    def into(self, sums: Sums) -> None:
        if self.job.whole:
            if self.sums:
                sums.d = float(torch.stack(self.sums).sum(dtype=torch.float64))
                sums.largest = float(torch.stack(self.extremes).abs().max())
            if self.floors:
                total = float(torch.stack(self.floors).sum(dtype=torch.float64))
                sums.floor = total * self.eps**2 / 12
        sums.zeros, sums.column_squares = self.zeros, self.columns
        if self.job.histogram:
            sums.histogram = self._histogram()
        if self.job.neurons == "rows":
            empty = torch.zeros(0, dtype=torch.float64)
            sums.row_squares = torch.cat([empty, *self.row_squares])


_EXPONENT = {torch.float32: 0x7F800000, torch.float64: 0x7FF0000000000000}


def _ulps(room: _Room, stored: torch.dtype, wide: bool) -> torch.Tensor:
    """Σ 4^e over the entries of the tuned tensor with |b| in [2^e, 2^(e+1)); 0 for b = 0.

    Rounding is off by at most half a unit in the last place, evenly: a variance of ulp²/12, where
    ulp = eps · 2^e and no smaller than that of the dtype's smallest normal number.
    """
    powers = room.other
    # All but the exponent's bits taken away, a float is the power of two below it.
    torch.bitwise_and(room.tuned_bits, _EXPONENT[powers.dtype], out=room.other_bits)
    if stored == torch.float16 or wide:
        powers.clamp_(min=torch.finfo(stored).tiny)
        powers.masked_fill_(room.tuned == 0, 0)
    return torch.dot(powers, powers)


def _locate(job: Job, chunks: list[tuple[int, int]], start: int, sums: Sums) -> None:
    """Counts the entries that are NaN or infinite on any side."""
    for at, n in chunks:
        read = torch.empty(n, dtype=torch.float64)
        bad = torch.zeros(n, dtype=torch.bool)
        for side in (job.base, job.tuned, job.delta):
            if side is not None:
                side.read(at, at + n, read)
                bad |= ~read.isfinite()
        count = int(bad.sum())
        if count and sums.first_nonfinite is None:
            sums.first_nonfinite = at - start + int(bad.int().argmax())
        sums.nonfinite += count
