"""Open files of tensors, and the places of tensors in them."""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from affectlocus.core.errors import InputError

MAPPED = 1 << 20
"""Ranges of at least this many bytes are mapped, which is then faster than a copy."""


class OpenFile:
    """An open file, closed with the last object that reads from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise InputError(
                "checkpoint.missing-file",
                f"{path}: no such file; the checkpoint is incomplete",
                file=path,
            ) from None
        except OSError as error:
            raise InputError(
                "checkpoint.unreadable",
                f"{path}: cannot be read ({error.strerror})",
                file=path,
                reason=error.strerror,
            ) from None
        self.close = weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size

    def read(self, into: memoryview, offset: int) -> None:
        """Fills `into` with the bytes from `offset` on."""
        while True:
            try:
                done = os.preadv(self.descriptor, [into], offset)
            except OSError as error:
                raise InputError(
                    "checkpoint.unreadable",
                    f"{self.path}: cannot be read ({error.strerror})",
                    file=self.path,
                    reason=error.strerror,
                ) from None
            if done == len(into):
                return
            if not done:
                raise InputError(
                    "checkpoint.cut-while-read",
                    f"{self.path}: ends at byte {offset}, before the end of a tensor in its "
                    "header; it was truncated while it was read: fetch it again",
                    file=self.path,
                )
            into, offset = into[done:], offset + done

    def window(self, offset: int, size: int) -> np.ndarray:
        """Bytes of the file as a read-only array, (size,) uint8; a large range is mapped.

        Mapped bytes count as memory of the process as long as the array exists. The file's size is
        checked when the range is mapped. If the file is truncated after that, an access ends the
        process.
        """
        if size >= MAPPED:
            first = offset - offset % mmap.ALLOCATIONGRANULARITY
            try:
                mapped = mmap.mmap(
                    self.descriptor, offset - first + size, prot=mmap.PROT_READ, offset=first
                )
                return np.frombuffer(mapped, np.uint8, size, offset - first)
            except (ValueError, OSError):
                pass  # the file was truncated (then `read` fails), or its file system has no mmap
        read = np.empty(size, np.uint8)
        if size:
            self.read(read.data, offset)
        # As for mapped bytes, because compiled code distinguishes read-only arrays.
        read.flags.writeable = False
        return read


@dataclass(frozen=True)
class Entry:
    """The place of a tensor: in a file at byte `offset`, or in memory (`data`)."""

    file: OpenFile
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None  # None: row after row without gaps
    offset: int
    data: np.ndarray | None = None  # flat, of dtype `raw`

    @property
    def raw(self) -> np.dtype:
        """The numpy dtype of its entries; an integer dtype of the same size if numpy lacks it."""
        return np.dtype(raw_dtype(self.dtype))


@dataclass(frozen=True)
class ExpertView:
    """A matrix (or vector) inside a tensor of one more dimension, as a view of it.

    Attributes:
        index: along the first axis.
        axis: the axis of the tensor that becomes the matrix's rows; the other one its columns.
        start, step, rows: which entries of that axis, and their number.
    """

    index: int
    axis: int
    start: int
    step: int
    rows: int

    def of(self, tensor: np.ndarray) -> np.ndarray:
        """The view of a tensor in memory."""
        moved = np.moveaxis(tensor[self.index], self.axis - 1, 0)
        return moved[self.start :: self.step][: self.rows]

    def within(self, shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
        """Its first entry, shape and strides (flat) in a tensor of this shape and these strides."""
        begin = self.index * strides[0] + self.start * strides[self.axis]
        others = [axis for axis in range(1, len(shape)) if axis != self.axis]
        sizes = [self.rows, *(shape[axis] for axis in others)]
        steps = [self.step * strides[self.axis], *(strides[axis] for axis in others)]
        return begin, *sizes, *steps


@dataclass(frozen=True)
class StridedView:
    """A matrix inside a contiguous tensor: its first entry, its shape, and its steps in entries."""

    first: int
    shape: tuple[int, int]
    steps: tuple[int, int]


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor, in entries."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def raw_dtype(dtype: str) -> str:
    """A numpy dtype of the same size: the dtype itself, or an integer one if numpy lacks it."""
    if dtype.startswith("float8"):
        return "uint8"
    return "uint16" if dtype == "bfloat16" else dtype


def view_of(whole: Entry, cut: ExpertView) -> Entry:
    """The place of a view of a tensor."""
    strides = whole.stride or contiguous_strides(whole.shape)
    begin, *rest = cut.within(whole.shape, strides)
    return _strided(whole, begin, tuple(rest[: len(rest) // 2]), tuple(rest[len(rest) // 2 :]))


def strided_view_of(whole: Entry, cut: StridedView) -> Entry:
    """The place of a matrix in a tensor.

    Raises:
        InputError: the tensor is not contiguous.
    """
    if whole.stride is not None:
        raise InputError(
            "adapter.not-contiguous",
            f"{whole.file.path}: LoRA on fused experts is not stored row after row; save the "
            "adapter with peft, as safetensors",
            file=whole.file.path,
        )
    return _strided(whole, cut.first, cut.shape, cut.steps)


def _strided(whole: Entry, begin: int, shape: tuple[int, ...], steps: tuple[int, ...]) -> Entry:
    if whole.data is not None:
        # Strides in bytes. A tensor in memory is always contiguous.
        size = whole.data.itemsize
        view = np.lib.stride_tricks.as_strided(
            whole.data[begin:], shape, [step * size for step in steps]
        )
        return Entry(whole.file, whole.dtype, shape, None, 0, view.flatten())
    offset = whole.offset + begin * whole.raw.itemsize
    stride = None if steps == contiguous_strides(shape) else steps
    return Entry(whole.file, whole.dtype, shape, stride, offset)


class _Thread(threading.local):
    """Per thread: the last tensor that was read and is not contiguous in its file."""

    def __init__(self) -> None:
        self.last: tuple[Entry, np.ndarray] | None = None


_thread = _Thread()


def gathered(entry: Entry) -> np.ndarray:
    """Flat entries of a non-contiguous tensor, kept until the thread reads another one."""
    if _thread.last is None or _thread.last[0] is not entry:
        assert entry.stride is not None
        size, steps = entry.raw.itemsize, entry.stride
        last = sum((n - 1) * step for n, step in zip(entry.shape, steps, strict=True))
        span = entry.file.window(entry.offset, (1 + last) * size if prod(entry.shape) else 0)
        view = np.lib.stride_tricks.as_strided(
            span.view(entry.raw), entry.shape, [step * size for step in steps]
        )
        _thread.last = (entry, view.flatten())
    return _thread.last[1]
