"""One pass over a pair of tensors: every sum that the scores of a delta are made of.

Both sides are taken straight from the page cache, window by window, by compiled loops: the pass
runs at about the speed of reading, and its memory is a few MB a thread.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as with_default
from functools import reduce
from operator import add
from typing import Generic, Literal, TypeVar

import numpy as np

from affectlocus.checkpoints.tensor_files import EPS, TINY, FileReader, TensorReader
from affectlocus.core.threads import default_threads

# A thread's turn: long enough that handing it out costs nothing, short enough that what it maps of
# the files is little memory. It does not depend on the number of threads, nor does any number.
_TURN = 1 << 22
# Of sides that are worked out, so much at a time.
_CHUNK = 1 << 17

BINS = 129
"""Bins of a histogram of relative change, centred at k/64 for k = -64 … 64; entries without a
change lie in the middle one, and a change right between two bins counts in the even one."""


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
    histogram: np.ndarray | None = with_default(default=None, repr=False)
    zeros: int = 0
    row_squares: np.ndarray | None = with_default(default=None, repr=False)
    column_squares: np.ndarray | None = with_default(default=None, repr=False)

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
            float(np.maximum(self.largest, other.largest)),
            self.floor + other.floor,
            self.nonfinite + other.nonfinite,
            first,
            _together(self.histogram, other.histogram, np.add),
            self.zeros + other.zeros,
            _together(self.row_squares, other.row_squares, lambda a, b: np.concatenate([a, b])),
            _together(self.column_squares, other.column_squares, np.add),
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
    one: np.ndarray | None,
    other: np.ndarray | None,
    how: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray | None:
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
    base: TensorReader | None
    tuned: TensorReader | None
    delta: TensorReader | None = None
    whole: bool = True
    histogram: bool = False
    neurons: Literal["rows", "columns"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._sides[0].shape

    @property
    def _sides(self) -> list[TensorReader]:
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
    def changes(self) -> bool:
        """Whether there is a delta at all."""
        return self.tuned is not None or self.delta is not None

    @property
    def stored(self) -> TensorReader | None:
        """The side in whose dtype the tuned tensor is kept, or would be."""
        return self.base if self.tuned is None and self.delta is not None else self.tuned


def measure(
    base: TensorReader | None,
    tuned: TensorReader | None,
    delta: TensorReader | None = None,
    *,
    whole: bool = True,
    histogram: bool = False,
    neurons: Literal["rows", "columns"] | None = None,
) -> Sums:
    """The sums of one tensor's delta, on the calling thread; arguments as in `Job`.

    All is added up in float64, whatever the stored dtype.
    """
    job = Job(None, base, tuned, delta, whole, histogram, neurons)
    job.check()
    return reduce(add, [_span(job, start, stop) for start, stop in _spans(job)])


def measure_all(
    jobs: Iterable[Job[Key]],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Key, Sums]]:
    """`measure` for many tensors, spread over threads; results in the jobs' order.

    Args:
        threads: default: `default_threads()`. The sums are the same for any number.
        progress: told the jobs done and their number after each.

    Yields:
        Each job's key and sums.
    """
    listed = list(jobs)
    for job in listed:
        job.check()
    threads = threads or default_threads()
    running: deque[tuple[Job[Key], list[Future[Sums]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            ahead = iter(listed)
            for done in range(1, len(listed) + 1):
                # Enough turns ahead that no thread waits, and no more: a stop is prompt.
                while sum(len(turns) for _, turns in running) < 4 * threads:
                    following = next(ahead, None)
                    if following is None:
                        break
                    turns = [pool.submit(_span, following, *span) for span in _spans(following)]
                    running.append((following, turns))
                job, turns = running.popleft()
                sums = reduce(add, [turn.result() for turn in turns])
                if progress is not None:
                    progress(done, len(listed))
                yield job.key, sums
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# A thread's turn


def _spans(job: Job) -> Iterator[tuple[int, int]]:
    """The turns of a tensor, whole rows where rows count; one of no entries for an empty tensor."""
    numel, step = math.prod(job.shape), _whole_rows(job, _TURN)
    for start in range(0, max(1, numel), step):
        yield start, min(numel, start + step)


def _whole_rows(job: Job, entries: int) -> int:
    """About so many entries: whole rows for neurons, and where sides are worked out by rows."""
    width = math.prod(job.shape[1:])
    if len(job.shape) < 2 or width == 0 or (width > entries and not job.neurons):
        return entries
    return max(1, entries // width) * width


def _span(job: Job, start: int, stop: int) -> Sums:
    """The sums of entries [start, stop)."""
    # Its import takes longer than an adapter alone, which needs none of it.
    from affectlocus.deltas.kernel import PLACES, TABLES, add_up

    width = math.prod(job.shape[1:]) if job.neurons else 0
    count = (stop - start) // width if width else 0
    sums = np.zeros(6)
    counts = np.zeros((TABLES, PLACES) if job.histogram else (0, 0), dtype=np.int64)
    rows = np.zeros(count if job.neurons == "rows" else 0)
    columns = np.zeros(width if job.neurons == "columns" else 0)
    stored = None if job.stored is None else job.stored.dtype
    # What is no float has none, and is refused when it is read.
    tiny = TINY.get(stored or "float64", 1.0) if job.whole else 0.0
    for at, x, y, z in _pieces(job, start, stop):
        first = (at - start) // width if width else 0
        here = rows[first : first + len(x) // width] if len(rows) else rows
        add_up(x, y, z, tiny, BINS // 2, counts, here, columns, width, sums)
    aa, ad, dd, d, floor, largest = sums.tolist()
    found = Sums(
        stop - start,
        math.nan if job.base is None else aa,
        math.nan if job.base is None or not job.changes else ad,
        dd if job.changes else math.nan,
        row_squares=rows if job.neurons == "rows" else None,
        column_squares=columns if job.neurons == "columns" else None,
    )
    if job.whole and job.changes:
        found.d, found.largest = d, largest
        if stored is not None:
            found.floor = floor * EPS[stored] ** 2 / 12
    if job.histogram:
        kinds = counts.sum(axis=0)
        found.histogram, found.zeros = kinds[:BINS], int(kinds[BINS])
    if not math.isfinite(aa + ad + dd + floor):
        _locate(job, start, stop, found)
    return found


def _pieces(
    job: Job, start: int, stop: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Base, tuned and delta, as `kernel.add_up` takes them, with where each piece begins."""
    # Without a change, the base stands for both sides.
    base, tuned = job.base, job.tuned if job.changes else job.base
    if job.delta is None and isinstance(base, FileReader) and isinstance(tuned, FileReader):
        first, second = base.window(start, stop), tuned.window(start, stop)
        if first is not None and second is not None:
            yield start, first, second, None
            return
    step = _whole_rows(job, _CHUNK)
    for at in range(start, stop, step):
        yield at, *_read(job, at, min(stop, at + step))


def _read(job: Job, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    base, tuned, delta = np.zeros((3, stop - start))
    if job.base is not None:
        job.base.read(start, stop, base)
    if job.tuned is not None:
        job.tuned.read(start, stop, tuned)
    with np.errstate(invalid="ignore"):  # infinity is found later, and located
        if job.delta is not None:
            job.delta.read(start, stop, delta)
            if job.tuned is None:
                np.add(base, delta, out=tuned)
        elif job.tuned is not None:
            np.subtract(tuned, base, out=delta)
    return base, tuned, delta


def _locate(job: Job, start: int, stop: int, sums: Sums) -> None:
    """Counts the entries that are NaN or infinite on any side."""
    for at in range(start, stop, _CHUNK):
        read = np.empty(min(_CHUNK, stop - at))
        bad = np.zeros(len(read), dtype=bool)
        for side in (job.base, job.tuned, job.delta):
            if side is not None:
                side.read(at, at + len(read), read)
                bad |= ~np.isfinite(read)
        count = int(bad.sum())
        if count and sums.first_nonfinite is None:
            sums.first_nonfinite = at - start + int(bad.argmax())
        sums.nonfinite += count
