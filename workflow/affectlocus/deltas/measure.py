"""One pass over a pair of tensors, which computes all sums for the scores of a delta.

Compiled loops read both tensors from the page cache, window by window. The pass takes about as long
as reading the files, and a few MB of memory per thread.
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

# Entries of a task of a thread: large enough that scheduling costs little, small enough that the
# mapped part of the files needs little memory. It is independent of the number of threads, and so
# are the results.
_TURN = 1 << 22
# Entries of a chunk of a side that is computed (not stored).
_CHUNK = 1 << 17

BINS = 129
"""Bins of the histogram of relative change, centred at k/64 for k = -64 … 64. Entries without a
change are in the middle bin; a change on the edge of two bins counts in the even bin."""


Key = TypeVar("Key", bound=Hashable)


@dataclass
class Sums:
    """The sums of one pass; a is the base, d the delta, b = a + d the tuned tensor.

    Attributes:
        numel: number of entries.
        aa, ad, dd: Σa², Σad, Σd².
        d, largest: Σd and max |d|; NaN unless all scores are requested.
        floor: Σulp²/12 of the stored b, the expected squared error of rounding; NaN unless all
            scores are requested.
        nonfinite: number of entries where base, tuned or delta is NaN or infinite; the sums are
            then NaN or infinite too.
        first_nonfinite: the flat index of the first such entry.
        histogram: (BINS,) int64 counts of d / a, clipped to [-1, 1], for a ≠ 0; undefined if
            entries are not finite.
        zeros: number of entries with a = 0, which are not in the histogram.
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
        """The sums of two tensors stacked on top of each other.

        Sums of rows are concatenated and sums of columns are added; `first_nonfinite` is an index
        into the stacked tensor.
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
            # np.maximum propagates NaN; max() does not.
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
            and `max_abs` of the delta's entries, and `dtype_floor` (the expected l2 of rounding the
            tuned tensor to its stored dtype). A score that is undefined or not requested is NaN.
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
    """1 − cos(a, a + d), computed from the sine, which is accurate where the cosine is near 1."""
    bb = aa + 2 * ad + dd
    if not (aa > 0 and bb > 0 and math.isfinite(aa * bb)):
        return math.nan
    sine2 = min(1.0, max(0.0, (aa * dd - ad * ad) / (aa * bb)))
    cosine = math.sqrt(1 - sine2)
    # For an angle above 90° (b·a < 0) the cosine is the negative root.
    return sine2 / (1 + cosine) if aa + ad >= 0 else 1 + cosine


@dataclass(frozen=True)
class DeltaJob(Generic[Key]):
    """One tensor to measure; `key` is the caller's name for it.

    Attributes:
        base: None for an adapter alone; scores that need the base are then NaN.
        tuned: None if `delta` is given: the tuned tensor is then base + delta, in the base's dtype.
            With neither, only base_l2 is measured.
        delta: the delta, if it is known more exactly than by subtraction (as for an adapter).
        whole: whether to compute all scores, or only l2, base_l2, relative, rms, cosine and
            cosine_distance.
        histogram: whether to count the relative changes of the entries.
        neurons: whether to sum the squared delta by rows or by columns; needs two dimensions.
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
        """Raises ValueError if tensors are missing or differ in shape."""
        if not self._sides or (self.base is None and self.delta is None):
            raise ValueError(f"{self.key}: needs a base or a delta")
        if len({tuple(side.shape) for side in self._sides}) > 1:
            raise ValueError(f"{self.key}: shapes {[tuple(side.shape) for side in self._sides]}")
        if self.neurons and len(self.shape) != 2:
            raise ValueError(f"{self.key}: neurons of shape {self.shape}")

    @property
    def changes(self) -> bool:
        """Whether the job has a delta."""
        return self.tuned is not None or self.delta is not None

    @property
    def stored(self) -> TensorReader | None:
        """The side that has the dtype of the tuned tensor."""
        return self.base if self.tuned is None and self.delta is not None else self.tuned


def measure_all(
    jobs: Iterable[DeltaJob[Key]],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Key, Sums]]:
    """The sums of many tensors' deltas on several threads, in the order of the jobs.

    All is added up in float64, whatever the stored dtype.

    Args:
        threads: `default_threads()` by default. The sums do not depend on it.
        progress: called with the number of jobs done and the number of all jobs.

    Yields:
        The key and the sums of each job.
    """
    listed = list(jobs)
    for job in listed:
        job.check()
    threads = threads or default_threads()
    running: deque[tuple[DeltaJob[Key], list[Future[Sums]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            ahead = iter(listed)
            for done in range(1, len(listed) + 1):
                # Enough turns are queued that no thread waits; few, so that a stop is prompt.
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


def _spans(job: DeltaJob) -> Iterator[tuple[int, int]]:
    """The ranges of entries of a tensor's turns; for an empty tensor one empty range."""
    numel, step = math.prod(job.shape), _whole_rows(job, _TURN)
    for start in range(0, max(1, numel), step):
        yield start, min(numel, start + step)


def _whole_rows(job: DeltaJob, entries: int) -> int:
    """About this number of entries, as whole rows: sums of neurons and computed sides need them."""
    width = math.prod(job.shape[1:])
    if len(job.shape) < 2 or width == 0 or (width > entries and not job.neurons):
        return entries
    return max(1, entries // width) * width


def _span(job: DeltaJob, start: int, stop: int) -> Sums:
    """The sums of entries [start, stop)."""
    # Imported here: the import takes longer than measuring an adapter alone, which does not use it.
    from affectlocus.deltas.kernel import PLACES, TABLES, add_up

    width = math.prod(job.shape[1:]) if job.neurons else 0
    count = (stop - start) // width if width else 0
    sums = np.zeros(6)
    counts = np.zeros((TABLES, PLACES) if job.histogram else (0, 0), dtype=np.int64)
    rows = np.zeros(count if job.neurons == "rows" else 0)
    columns = np.zeros(width if job.neurons == "columns" else 0)
    stored = None if job.stored is None else job.stored.dtype
    # Integer dtypes have no such number; they are refused when they are read.
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
    job: DeltaJob, start: int, stop: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Pieces of a turn: start, and base, tuned and delta in the form that `kernel.add_up` takes."""
    # Without a delta, the base is used for both sides.
    base, tuned = job.base, job.tuned if job.changes else job.base
    if job.delta is None and isinstance(base, FileReader) and isinstance(tuned, FileReader):
        first, second = base.window(start, stop), tuned.window(start, stop)
        if first is not None and second is not None:
            yield start, first, second, None
            return
    step = _whole_rows(job, _CHUNK)
    for at in range(start, stop, step):
        yield at, *_read(job, at, min(stop, at + step))


def _read(job: DeltaJob, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    base, tuned, delta = np.zeros((3, stop - start))
    if job.base is not None:
        job.base.read(start, stop, base)
    if job.tuned is not None:
        job.tuned.read(start, stop, tuned)
    with np.errstate(invalid="ignore"):  # infinity is located later
        if job.delta is not None:
            job.delta.read(start, stop, delta)
            if job.tuned is None:
                np.add(base, delta, out=tuned)
        elif job.tuned is not None:
            np.subtract(tuned, base, out=delta)
    return base, tuned, delta


def _locate(job: DeltaJob, start: int, stop: int, sums: Sums) -> None:
    """Counts the entries that are NaN or infinite on any side, and finds the first one."""
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
