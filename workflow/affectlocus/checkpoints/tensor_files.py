"""Tensors in safetensors and PyTorch files, read by byte ranges.

Opening a file reads only its list of tensors. Entries are read on access; large ranges are mapped
from the page cache without a copy. So memory does not depend on the size of the checkpoint. torch
is imported only to read a PyTorch file or to return a torch tensor.
"""

from __future__ import annotations

import bisect
import json
import mmap
import os
import pickle
import re
import struct
import threading
import warnings
import weakref
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from affectlocus.checkpoints.stored import as_torch, numpy_dtype
from affectlocus.core.errors import InputError
from affectlocus.core.extras import needed

if TYPE_CHECKING:
    import torch

# safetensors' names of dtypes → torch's, which are used throughout.
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Float dtype → the distance from 1 to the next number."""
TINY = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}
"""Float dtype → the smallest number with all its digits."""
# Ranges of at least this many bytes are mapped, which is then faster than a copy.
_MAPPED = 1 << 20
# Bytes of a safetensors header at most: about 150 per tensor, and the largest models have 100,000
# tensors. In Python, each byte takes about twenty.
_HEADER = 25_000_000
_DIMENSIONS = 64  # numpy has no more
_PACKED = 20  # times the size of a PyTorch file, unpacked; torch.save does not compress
_WRAPPED = ("model", "state_dict", "module")


class _File:
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
                    f"{self.path}: ends at {offset} bytes though its header promised more; "
                    "it was cut while it was read: fetch it again",
                    file=self.path,
                )
            into, offset = into[done:], offset + done

    def window(self, offset: int, size: int) -> np.ndarray:
        """Bytes of the file as a read-only array, (size,) uint8; a large range is mapped.

        Mapped bytes count as memory of the process as long as the array exists. The file's size is
        checked when the range is mapped. If the file is truncated after that, an access ends the
        process.
        """
        if size >= _MAPPED:
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
class _Entry:
    """The place of a tensor: in a file at byte `offset`, or in memory (`held`)."""

    file: _File
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None  # None: row after row without gaps
    offset: int
    held: np.ndarray | None = None  # flat, as `_raw` has them

    @property
    def raw(self) -> np.dtype:
        """The numpy dtype of its entries; an integer dtype of the same size if numpy lacks it."""
        return np.dtype(_raw(self.dtype))


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


def _steps(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor, in entries."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _raw(dtype: str) -> str:
    if dtype.startswith("float8"):
        return "uint8"
    return "uint16" if dtype == "bfloat16" else dtype


class _Thread(threading.local):
    """Per thread: the last tensor that was read and is not contiguous in its file."""

    def __init__(self) -> None:
        self.last: tuple[_Entry, np.ndarray] | None = None


_thread = _Thread()


class Tensors:
    """The tensors of safetensors or PyTorch files, by name, without loading them.

    PyTorch files (`.bin`, `.pth`) are read with `weights_only=True`: a dict of tensors, or a dict
    with one under `model`, `state_dict` or `module` (DeepSpeed). The other content of such a file
    (epoch, config, optimizer) is in `extra`, without its tensors.

    Files stay open as long as this object or a reader from it exists. Reads are thread-safe.

    Raises:
        InputError: a file is missing, truncated, not a checkpoint, or needs code to be read; or two
            files have a tensor of the same name.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [Path(file) for file in files]
        self.extra: dict[str, Any] = {}
        self.expert_views: dict[str, tuple[tuple[int, ...], dict[str, ExpertView]]] = {}
        self._entries: dict[str, _Entry] = {}
        for path in self.files:
            file = _File(path)
            _refuse_other_content(file)
            if path.suffix == ".safetensors":
                found = _safetensors(file)
            else:
                found, extra = _pytorch(file)
                self.extra |= extra
            for name in found:
                if name in self._entries:
                    raise InputError(
                        "checkpoint.tensor-in-two-files",
                        f"{path}: {name!r} is also in {self._entries[name].file.path}; expected "
                        "each tensor in one file: remove the files of another checkpoint",
                        file=path,
                        tensor=name,
                        other=self._entries[name].file.path,
                    )
            self._entries |= found

    def replace_by_views(self, parts: Mapping[str, Mapping[str, ExpertView]]) -> None:
        """Replaces tensors by views of them.

        Args:
            parts: tensor → the name and place of each view.

        Raises:
            InputError: a view's name is another tensor's.
        """
        for name, cuts in parts.items():
            whole = self._entries.pop(name)
            for part, cut in cuts.items():
                if part in self._entries:
                    raise InputError(
                        "checkpoint.expert-in-two-tensors",
                        f"{whole.file.path}: {name!r} holds {part!r}, which is also a tensor of "
                        "its own; expected one of them",
                        file=whole.file.path,
                        tensor=part,
                        whole=name,
                    )
                self._entries[part] = _view(whole, cut)
            self.expert_views[name] = (whole.shape, dict(cuts))

    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._entries[name].shape

    def dtype(self, name: str) -> str:
        """The stored dtype by torch's name, such as `bfloat16`; also integers and quantised."""
        return self._entries[name].dtype

    def file(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self._entries[name].file.path

    def stored(self, name: str) -> np.ndarray:
        """The whole tensor in its stored dtype (`stored.numpy_dtype`), in memory of its own."""
        return self.part(name).stored()

    def tensor(self, name: str) -> torch.Tensor:
        """`stored` as a torch tensor on the CPU."""
        return self.part(name).tensor()

    def array(self, name: str) -> np.ndarray:
        """The whole tensor in float64, in memory of its own."""
        part = self.part(name)
        out = np.empty(part.numel)
        part.read(0, part.numel, out)
        return out.reshape(part.shape)

    def part(self, name: str, rows: Sequence[tuple[int, int]] | None = None) -> FileReader:
        """The tensor, or the given (start, stop) rows of its first axis, in the given order."""
        return FileReader(name, self._entries[name], rows)


class TensorReader(Protocol):
    """A tensor that can be read in parts, from a file or computed on access."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """The dtype in which the tensor is stored, or would be."""

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """Entries [start, stop) of the flattened tensor into `out`, (stop − start,) float64."""


class ArrayReader:
    """A `TensorReader` of an array in memory.

    Args:
        tensor: an array of any shape; it need not be contiguous.
        dtype: the stored dtype to report, if it is not the array's.
    """

    def __init__(self, tensor: np.ndarray, dtype: str | None = None) -> None:
        self.shape = tuple(tensor.shape)
        self.dtype = str(tensor.dtype) if dtype is None else dtype
        self._flat = tensor.reshape(-1)

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As `TensorReader.read`."""
        out[...] = self._flat[start:stop]


class FileReader:
    """A `TensorReader` of some rows of a tensor in a file.

    Attributes:
        shape: shape of the rows.
        dtype: the stored dtype.
        numel: number of entries.
    """

    def __init__(
        self, name: str, entry: _Entry, rows: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self._name, self._entry = name, entry
        self.dtype = entry.dtype
        if rows is None:
            self.shape = entry.shape
            runs = [(0, prod(entry.shape))]
        else:
            if len(entry.shape) not in (1, 2):
                raise InputError(
                    "tensor.not-matrix",
                    f"{entry.file.path}: {name} has {len(entry.shape)} dimensions "
                    f"{entry.shape}; expected the rows of a matrix, or a bias",
                    file=entry.file.path,
                    tensor=name,
                    found=entry.shape,
                )
            width = prod(entry.shape[1:])
            runs = []
            for start, stop in rows:
                if not 0 <= start < stop <= entry.shape[0]:
                    raise ValueError(f"{name}: no rows {start} to {stop} in shape {entry.shape}")
                if runs and runs[-1][1] == start * width:
                    runs[-1] = (runs[-1][0], stop * width)
                else:
                    runs.append((start * width, stop * width))
            self.shape = (sum(stop - start for start, stop in rows), *entry.shape[1:])
        self.numel = prod(self.shape)
        self._runs = runs
        self._begins = [0]
        for start, stop in runs:
            self._begins.append(self._begins[-1] + stop - start)

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """Entries [start, stop) of the flattened part, converted into `out`.

        Args:
            out: (stop − start,), float32 or float64.

        Raises:
            InputError: the tensor is not stored as float64, float32, float16 or bfloat16.
        """
        self._check()
        run = bisect.bisect_right(self._begins, start) - 1
        at = start
        while at < stop:
            until = min(stop, self._begins[run + 1])
            first = self._runs[run][0] + at - self._begins[run]
            out[at - start : until - start] = _floats(self._entries(first, until - at), self.dtype)
            at, run = until, run + 1

    def window(self, start: int, stop: int) -> np.ndarray | None:
        """Entries [start, stop) as `kernel.add_up` takes them; None if they are not contiguous.

        Raises:
            InputError: as `read`.
        """
        self._check()
        if len(self._runs) != 1:
            return None
        found = self._entries(self._runs[0][0] + start, stop - start)
        found = found.view(np.int16 if self.dtype == "float16" else found.dtype)
        found.flags.writeable = False
        return found

    def stored(self) -> np.ndarray:
        """The whole part in its stored dtype (`stored.numpy_dtype`), in memory of its own."""
        made = np.empty(self.numel, self._entry.raw)
        for (start, stop), begin in zip(self._runs, self._begins, strict=False):
            made[begin : begin + stop - start] = self._entries(start, stop - start)
        return made.view(numpy_dtype(self.dtype)).reshape(self.shape)

    def tensor(self) -> torch.Tensor:
        """`stored` as a torch tensor on the CPU."""
        return as_torch(self.stored())

    def _check(self) -> None:
        if self.dtype not in EPS:
            raise InputError(
                "tensor.not-float",
                f"{self._entry.file.path}: {self._name} is stored as {self.dtype}; expected float "
                "weights (float64, float32, float16 or bfloat16): quantised ones must be converted "
                "first",
                file=self._entry.file.path,
                tensor=self._name,
                found=self.dtype,
            )

    def _entries(self, first: int, count: int) -> np.ndarray:
        """Flat entries of the whole tensor, as stored; read-only."""
        entry = self._entry
        if entry.held is not None:
            return entry.held[first : first + count]
        if entry.stride is not None:
            return _gathered(entry)[first : first + count]
        size = entry.raw.itemsize
        return entry.file.window(entry.offset + first * size, count * size).view(entry.raw)


def _floats(raw: np.ndarray, dtype: str) -> np.ndarray:
    """The entries as numpy floats of the same values."""
    if dtype != "bfloat16":
        return raw
    # Its bits are the upper half of a float32's.
    return np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)


def _view(whole: _Entry, cut: ExpertView) -> _Entry:
    strides = whole.stride or _steps(whole.shape)
    begin, *rest = cut.within(whole.shape, strides)
    shape, steps = tuple(rest[: len(rest) // 2]), tuple(rest[len(rest) // 2 :])
    if whole.held is not None:
        # Strides in bytes. A tensor in memory is always contiguous.
        size = whole.held.itemsize
        lying = np.lib.stride_tricks.as_strided(
            whole.held[begin:], shape, [step * size for step in steps]
        )
        return _Entry(whole.file, whole.dtype, shape, None, 0, lying.flatten())
    offset = whole.offset + begin * whole.raw.itemsize
    stride = None if steps == _steps(shape) else steps
    return _Entry(whole.file, whole.dtype, shape, stride, offset)


def _gathered(entry: _Entry) -> np.ndarray:
    """Flat entries of a non-contiguous tensor, kept until the thread reads another one."""
    if _thread.last is None or _thread.last[0] is not entry:
        assert entry.stride is not None
        size, steps = entry.raw.itemsize, entry.stride
        last = sum((n - 1) * step for n, step in zip(entry.shape, steps, strict=True))
        span = entry.file.window(entry.offset, (1 + last) * size if prod(entry.shape) else 0)
        lying = np.lib.stride_tricks.as_strided(
            span.view(entry.raw), entry.shape, [step * size for step in steps]
        )
        _thread.last = (entry, lying.flatten())
    return _thread.last[1]


# Files that failed downloads leave instead of a checkpoint: first bytes, description, remedy.
_MISTAKEN = (
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", re.IGNORECASE),
        "an HTML page, perhaps an error or login page of the download",
        "fetch the file itself",
    ),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer", "run git lfs pull"),
    (
        re.compile(rb"GGUF"),
        "a GGUF file, which is not read",
        "give the safetensors files of the model or adapter",
    ),
)


def _refuse_other_content(file: _File) -> None:
    kind = "safetensors" if file.path.suffix == ".safetensors" else "PyTorch"
    if not file.size:
        raise InputError(
            "checkpoint.empty-file",
            f"{file.path}: not a whole {kind} file (it is empty); fetch it again",
            file=file.path,
        )
    head = bytearray(min(512, file.size))
    file.read(memoryview(head), 0)
    for begins, what, remedy in _MISTAKEN:
        if begins.match(head):
            raise InputError(
                "checkpoint.other-content",
                f"{file.path}: not a whole {kind} file (it is {what}); {remedy}",
                file=file.path,
                found=what,
            )


# safetensors: eight bytes with the header's length, the header in JSON, the tensors' bytes


def _safetensors(file: _File) -> dict[str, _Entry]:
    length = _header_length(file)
    text = bytearray(length)
    file.read(memoryview(text), 8)
    try:
        pairs = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
        pairs.pop("__metadata__", None)
        room = file.size - 8 - length
        entries, spans = {}, []
        for name, value in pairs.items():
            begin, end = value["data_offsets"]
            shape = tuple(value["shape"])
            if len(shape) > _DIMENSIONS:
                raise ValueError(f"{name!r} has {len(shape)} dimensions")
            if value["dtype"] not in _DTYPES:
                raise InputError(
                    "tensor.unknown-dtype",
                    f"{file.path}: {name} is stored as {value['dtype']}, which is not read; "
                    f"expected one of {', '.join(_DTYPES)}",
                    file=file.path,
                    tensor=name,
                    found=value["dtype"],
                )
            dtype = _DTYPES[value["dtype"]]
            if not all(type(side) is int and side >= 0 for side in (*shape, begin, end)):
                raise ValueError(f"{name!r}: shape and offsets must be counts")
            if end - begin != prod(shape) * np.dtype(_raw(dtype)).itemsize:
                raise ValueError(
                    f"{name!r}: {end - begin} bytes for shape {shape} of {value['dtype']}"
                )
            if end > room:
                raise ValueError(f"{name!r} ends {end - room} bytes behind the end of the file")
            spans.append((begin, end, name))
            entries[name] = _Entry(file, dtype, shape, None, 8 + length + begin)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _broken(file, str(error)) from None
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise _broken(file, f"{name!r} begins at {begin} where {at} was expected")
        at = end
    if at != room:
        raise _broken(file, f"{room - at} bytes behind its last tensor")
    return entries


def _header_length(file: _File) -> int:
    head = bytearray(min(8, file.size))
    file.read(memoryview(head), 0)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if _HEADER < length <= file.size - 8:
        raise InputError(
            "checkpoint.header-too-long",
            f"{file.path}: its header has {length} bytes; expected {_HEADER} at most, some 150 for "
            "each tensor: save the model in several files",
            file=file.path,
            found=length,
            expected=_HEADER,
        )
    if not 2 <= length <= file.size - 8:
        raise _broken(file, f"{file.size} bytes, which is no header and its tensors")
    return int(length)


def check_header(path: Path) -> None:
    """Refuses a safetensors file by the length of its header, without reading the header.

    Raises:
        InputError: the file is missing, or its header is longer than the file or the limit.
    """
    _header_length(_File(path))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice in the header")
    return found


def _broken(file: _File, reason: str) -> InputError:
    return InputError(
        "checkpoint.broken-safetensors",
        f"{file.path}: not a whole safetensors file ({reason}); fetch it again",
        file=file.path,
        reason=reason,
    )


# PyTorch: a zip of a pickle and of the storages' bytes; before 1.6, all in one pickle


def _pytorch(file: _File) -> tuple[dict[str, _Entry], dict[str, Any]]:
    storages = _storages(file)
    needed("torch", f"{file.path}: to read a PyTorch file, affectlocus")
    import torch

    # On the meta device only the pickle is read, and each storage has the offset of its bytes.
    loaded = _unpickled(file.path, "cpu" if storages is None else "meta")
    tensors, extra = _state(file.path, loaded)
    entries = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise InputError(
                "tensor.not-plain",
                f"{file.path}: {name} is sparse or quantised; expected a plain tensor of floats",
                file=file.path,
                tensor=name,
            )
        tensor = tensor.detach()
        _refuse_spread(file, name, tensor)
        shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        if storages is None:
            flat = tensor.contiguous().view(-1).view(torch.uint8)
            entry = _Entry(file, dtype, shape, None, 0, flat.numpy().view(_raw(dtype)))
            entries[name] = entry
            continue
        storage = tensor.untyped_storage()
        start = getattr(storage, "_checkpoint_offset", None)
        if tensor.numel() and storages.get(start, -1) < storage.nbytes():
            raise InputError(
                "checkpoint.broken-pytorch",
                f"{file.path}: not a whole PyTorch file ({name} has no storage)",
                file=file.path,
                tensor=name,
            )
        offset = (start or 0) + int(tensor.storage_offset()) * tensor.itemsize
        stride = None if tensor.is_contiguous() else tensor.stride()
        entries[name] = _Entry(file, dtype, shape, stride, offset)
    return entries, extra


def _refuse_spread(file: _File, name: str, tensor: torch.Tensor) -> None:
    """Refuses a tensor that ends after its storage, or that is far larger than its storage.

    A stride of 0 repeats entries: a file of some bytes may describe a tensor of any size.
    """
    size, stored = tensor.itemsize, tensor.untyped_storage().nbytes()
    if not tensor.numel():
        return
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    if (int(tensor.storage_offset()) + last + 1) * size > stored:
        raise InputError(
            "checkpoint.broken-pytorch",
            f"{file.path}: not a whole PyTorch file ({name} ends behind its storage)",
            file=file.path,
            tensor=name,
        )
    if tensor.numel() * size > max(stored, _MAPPED):
        raise InputError(
            "tensor.repeats-entries",
            f"{file.path}: {name} stands for {tensor.numel() * size} bytes and stores {stored}; "
            "expected a plain tensor: save it with .contiguous()",
            file=file.path,
            tensor=name,
            found=tensor.numel() * size,
            expected=stored,
        )


def _storages(file: _File) -> dict[int | None, int] | None:
    """Offset → size of each record; None if records are compressed or not little-endian."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            records = archive.infolist()
            unpacked = sum(record.file_size for record in records)
            if unpacked > _PACKED * file.size:
                raise InputError(
                    "checkpoint.packed",
                    f"{file.path}: {file.size} bytes that unpack to {unpacked}; expected a file as "
                    "torch.save writes it, which packs nothing",
                    file=file.path,
                    found=unpacked,
                    expected=file.size,
                )
            order = next((r for r in records if r.filename.endswith("/byteorder")), None)
            if order is not None and archive.read(order) != b"little":
                return None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError):
        return None
    found: dict[int | None, int] = {}
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED:
            return None
        header = bytearray(30)
        file.read(memoryview(header), record.header_offset)
        name, more = struct.unpack("<HH", header[26:30])
        found[record.header_offset + 30 + name + more] = record.file_size
    return found


def _unpickled(path: Path, device: str) -> Any:
    import torch

    with path.open("rb") as stream:
        start = stream.read(2)
    if b"PK".startswith(start) and not zipfile.is_zipfile(path):
        raise InputError(
            "checkpoint.broken-pytorch",
            f"{path}: not a whole PyTorch file (its end is missing); fetch it again",
            file=path,
        )
    # A PyTorch file is a zip file or begins with a pickle's protocol.
    if start != b"PK" and start[:1] != b"\x80":
        raise InputError(
            "checkpoint.not-pytorch",
            f"{path}: not a PyTorch file; give a model's or an adapter's, or fetch it again",
            file=path,
        )
    try:
        with warnings.catch_warnings():
            # torch warns about a plain pickle named .pth; the errors below are clearer.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        # torch advises to run the code anyway. Only the name of the object is useful.
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise InputError(
            "checkpoint.needs-code",
            f"{path}: holds more than plain tensors{f' ({wanted[1]})' if wanted else ''}, and no "
            "code out of a file is ever run; where you trust it, load it yourself and save its "
            "state_dict() with torch.save, or as safetensors",
            file=path,
            found=wanted[1] if wanted else None,
        ) from None
    except Exception as error:  # a hostile pickle can make torch raise anything
        reason = str(error).split("\n", maxsplit=1)[0][:200]
        raise InputError(
            "checkpoint.broken-pytorch",
            f"{path}: not a whole PyTorch file ({reason}); fetch it again",
            file=path,
        ) from None


def _state(path: Path, loaded: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a loaded file by name, and its other content."""
    if not isinstance(loaded, Mapping):
        raise InputError(
            "checkpoint.no-tensors",
            f"{path}: holds a {type(loaded).__name__}; expected a dict of tensors, or one under "
            "'model', 'state_dict' or 'module'",
            file=path,
            found=type(loaded).__name__,
        )
    for key in _WRAPPED:
        inner = loaded.get(key)
        if isinstance(inner, Mapping) and (found := _tensors(inner)):
            rest = {other: value for other, value in loaded.items() if other != key}
            left = {name: value for name, value in inner.items() if name not in found}
            return found, _plain(rest) | ({key: _plain(left)} if left else {})
    found = _tensors(loaded)
    if not found:
        keys = [key for key in loaded if isinstance(key, str)][:8]
        raise InputError(
            "checkpoint.no-tensors",
            f"{path}: no tensor among {', '.join(map(repr, keys)) or 'no keys'}; "
            "expected a dict of tensors, or one under 'model', 'state_dict' or 'module'",
            file=path,
            found=keys,
        )
    return found, _plain({name: value for name, value in loaded.items() if name not in found})


def _tensors(values: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    import torch

    return {
        name: value
        for name, value in values.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def _plain(value: Any, made: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """The value without tensors. Content that is nested too deep, or in itself, is omitted.

    Args:
        made: the result for each object, since one may occur in many places.
    """
    import torch

    if not isinstance(value, Mapping | list | tuple):
        return value
    made = {} if made is None else made
    if id(value) not in made:
        made[id(value)] = None
        if depth > _DEEPEST:
            return None
        if isinstance(value, Mapping):
            made[id(value)] = {
                key: _plain(inner, made, depth + 1)
                for key, inner in value.items()
                if not isinstance(inner, torch.Tensor)
            }
        else:
            made[id(value)] = [
                _plain(inner, made, depth + 1)
                for inner in value
                if not isinstance(inner, torch.Tensor)
            ]
    return made[id(value)]


_DEEPEST = 100
