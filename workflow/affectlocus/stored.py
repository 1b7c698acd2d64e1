"""Tensors in safetensors and PyTorch files, read by byte ranges.

A file is opened for its list of tensors alone. Entries are read with `pread` when they are asked
for, so memory stays at what a caller holds, whatever the checkpoint's size, and page cache that
was only passed through is not counted as the process's own, as mapped files are.
"""

from __future__ import annotations

import bisect
import json
import os
import pickle
import re
import struct
import threading
import weakref
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch

from affectlocus.errors import InputError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
_WEIGHTS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_HEADER = 100_000_000
_WRAPPED = ("model", "state_dict", "module")


class _File:
    """An open file, closed when the last that reads from it is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; the checkpoint is incomplete") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        self.close = weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size

    def read(self, into: memoryview, offset: int) -> None:
        """Fills `into` with the bytes from `offset` on."""
        while True:
            try:
                done = os.preadv(self.descriptor, [into], offset)
            except OSError as error:
                raise InputError(f"{self.path}: cannot be read ({error.strerror})") from None
            if done == len(into):
                return
            if not done:
                raise InputError(
                    f"{self.path}: ends at {offset} bytes though its header promised more; "
                    "it was cut while it was read: fetch it again"
                )
            into, offset = into[done:], offset + done


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies: in a file from `offset` bytes on, or in memory (`held`)."""

    file: _File
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None  # None: row after row without gaps
    offset: int
    held: torch.Tensor | None = None


class _Thread(threading.local):
    """What a thread keeps between reads: a buffer, and the last tensor that lies transposed."""

    def __init__(self) -> None:
        self._raw = torch.empty(0, dtype=torch.uint8)
        self._views: dict[tuple[torch.dtype, int], tuple[torch.Tensor, memoryview]] = {}
        self.last: tuple[_Entry, torch.Tensor] | None = None

    def room(self, dtype: torch.dtype, count: int) -> tuple[torch.Tensor, memoryview]:
        """Space for so many entries, and its bytes."""
        try:
            return self._views[dtype, count]
        except KeyError:
            size = count * dtype.itemsize
            if len(self._raw) < size or len(self._views) > 64:
                self._views.clear()
                self._raw = torch.empty(max(size, len(self._raw)), dtype=torch.uint8)
            raw = self._raw[:size]
            return self._views.setdefault((dtype, count), (raw.view(dtype), _bytes(raw)))


_thread = _Thread()


class Tensors:
    """The tensors of safetensors or PyTorch files, by name, without loading them.

    PyTorch files (`.bin`, `.pth`) are read with `weights_only=True`: a dict of tensors, or a dict
    with one under `model`, `state_dict` or `module` (DeepSpeed). What else such a file holds
    (epoch, config, optimizer) is in `extra`, without its tensors.

    Files stay open as long as this object, or a part taken from it, lives; all reads are safe from
    several threads.

    Raises:
        InputError: a file is missing, cut, no checkpoint, or needs code to be read; two files have
            a tensor of the same name.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [Path(file) for file in files]
        self.extra: dict[str, Any] = {}
        self._entries: dict[str, _Entry] = {}
        for path in self.files:
            file = _File(path)
            _refuse_what_is_no_checkpoint(file)
            if path.suffix == ".safetensors":
                found = _safetensors(file)
            else:
                found, extra = _pytorch(file)
                self.extra |= extra
            for name in found:
                if name in self._entries:
                    raise InputError(
                        f"{path}: {name!r} is also in {self._entries[name].file.path}; expected "
                        "each tensor in one file: remove the files of another checkpoint"
                    )
            self._entries |= found

    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """The stored dtype, which may be an integer's or a quantised one."""
        return self._entries[name].dtype

    def file(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self._entries[name].file.path

    def tensor(self, name: str) -> torch.Tensor:
        """The whole tensor, in its stored dtype, on the CPU, in memory of its own."""
        return _whole(self._entries[name])

    def part(self, name: str, rows: Sequence[tuple[int, int]] | None = None) -> Stored:
        """The tensor, or the given (start, stop) rows of its first axis, in the given order."""
        return Stored(name, self._entries[name], rows)


class Side(Protocol):
    """A tensor that can be read piece by piece, from a file or computed on the fly."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype:
        """As stored, or as it would be."""

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Entries [start, stop) of the flattened tensor into `out` (float32 or float64)."""


class Held:
    """A tensor in memory as a side; it need not be contiguous.

    Args:
        dtype: where the tensor counts as stored in another dtype than its own.
    """

    def __init__(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        self.shape = tuple(tensor.shape)
        self.dtype = tensor.dtype if dtype is None else dtype
        self._flat = tensor.detach().reshape(-1)

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """As `Side.read`."""
        out.copy_(self._flat[start:stop])


class Stored:
    """Rows of a tensor in a file, as entries in one line: a side of `measure`.

    Attributes:
        shape: of the part.
        dtype: as stored.
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
                    f"{entry.file.path}: {name} has {len(entry.shape)} dimensions "
                    f"{entry.shape}; expected the rows of a matrix, or a bias"
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
        self._descriptor, self._size = entry.file.descriptor, entry.dtype.itemsize
        self._first = entry.offset + runs[0][0] * self._size if runs else 0
        self._begins = [0]
        for start, stop in runs:
            self._begins.append(self._begins[-1] + stop - start)

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Entries [start, stop) of the flattened part, converted into `out`.

        Args:
            out: (stop − start,), contiguous, float32 or float64.

        Raises:
            InputError: the tensor is not stored as float64, float32, float16 or bfloat16.
        """
        if self.dtype not in _WEIGHTS:
            raise InputError(
                f"{self._entry.file.path}: {self._name} is stored as "
                f"{str(self.dtype).removeprefix('torch.')}; expected float weights (float64, "
                "float32, float16 or bfloat16): quantised ones must be converted first"
            )
        if len(self._runs) == 1:
            self._read(self._runs[0][0] + start, stop - start, out)
            return
        run = bisect.bisect_right(self._begins, start) - 1
        at = start
        while at < stop:
            until = min(stop, self._begins[run + 1])
            first = self._runs[run][0] + at - self._begins[run]
            self._read(first, until - at, out[at - start : until - start])
            at, run = until, run + 1

    @property
    def plain(self) -> bool:
        """Whether its entries are floats that lie in the file one after another."""
        entry = self._entry
        lies = entry.stride is None and entry.held is None
        return lies and len(self._runs) == 1 and self.dtype in _WEIGHTS

    def fill(self, start: int, into: memoryview) -> None:
        """The bytes of the entries from `start` on, as stored; only where the part is `plain`."""
        at = self._first + start * self._size
        # One call for nearly every chunk of a checkpoint: the loop below it is for what it left.
        if os.preadv(self._descriptor, (into,), at) != len(into):
            self._entry.file.read(into, at)

    def tensor(self) -> torch.Tensor:
        """The whole part in its stored dtype, on the CPU, in memory of its own."""
        entry = self._entry
        if entry.stride is not None or entry.held is not None:
            flat = _whole(entry).flatten()
            pieces = [flat[start:stop] for start, stop in self._runs]
            return torch.cat(pieces).view(self.shape) if pieces else flat[:0].view(self.shape)
        made = torch.empty(self.numel, dtype=self.dtype)
        raw, size = _bytes(made), self.dtype.itemsize
        for (start, stop), begin in zip(self._runs, self._begins, strict=False):
            entry.file.read(
                raw[begin * size : (begin + stop - start) * size], entry.offset + start * size
            )
        return made.view(self.shape)

    def _read(self, first: int, count: int, out: torch.Tensor) -> None:
        entry = self._entry
        if not count:
            return
        if entry.stride is not None or entry.held is not None:
            out.copy_(_gathered(entry)[first : first + count])
        elif out.dtype == self.dtype:
            entry.file.read(_bytes(out), entry.offset + first * self.dtype.itemsize)
        else:
            stored, raw = _thread.room(self.dtype, count)
            entry.file.read(raw, entry.offset + first * self.dtype.itemsize)
            out.copy_(stored)


def _bytes(tensor: torch.Tensor) -> memoryview:
    """A contiguous tensor's own memory."""
    array: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(array)


def _whole(entry: _Entry) -> torch.Tensor:
    if entry.held is not None:
        return entry.held.clone()
    if entry.stride is None:
        made = torch.empty(entry.shape, dtype=entry.dtype)
        if made.numel():
            entry.file.read(_bytes(made), entry.offset)
        return made
    if not prod(entry.shape):
        return torch.empty(entry.shape, dtype=entry.dtype)
    steps = zip(entry.shape, entry.stride, strict=True)
    span = torch.empty(1 + sum((n - 1) * step for n, step in steps), dtype=entry.dtype)
    entry.file.read(_bytes(span), entry.offset)
    return span.as_strided(entry.shape, entry.stride).clone(memory_format=torch.contiguous_format)


def _gathered(entry: _Entry) -> torch.Tensor:
    """Flat entries of a tensor that does not lie row after row, kept until the next such."""
    if entry.held is not None and entry.held.is_contiguous():
        return entry.held.view(-1)
    if _thread.last is None or _thread.last[0] is not entry:
        _thread.last = (entry, _whole(entry).flatten())
    return _thread.last[1]


# What lies under a checkpoint's name when a download went wrong: how it begins, and what to do.
_MISTAKEN = (
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", re.IGNORECASE),
        "an HTML page, perhaps an error or login page of the download",
        "fetch the file itself",
    ),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer", "run git lfs pull"),
    (
        re.compile(rb"GGUF"),
        "a GGUF file, which holds quantised weights",
        "fetch the model as safetensors",
    ),
)


def _refuse_what_is_no_checkpoint(file: _File) -> None:
    kind = "safetensors" if file.path.suffix == ".safetensors" else "PyTorch"
    if not file.size:
        raise InputError(f"{file.path}: not a whole {kind} file (it is empty); fetch it again")
    head = bytearray(min(512, file.size))
    file.read(memoryview(head), 0)
    for begins, what, remedy in _MISTAKEN:
        if begins.match(head):
            raise InputError(f"{file.path}: not a whole {kind} file (it is {what}); {remedy}")


# safetensors: eight bytes with the header's length, the header in JSON, the tensors' bytes


def _safetensors(file: _File) -> dict[str, _Entry]:
    head = bytearray(min(8, file.size))
    file.read(memoryview(head), 0)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if not 2 <= length <= min(_HEADER, file.size - 8):
        raise _broken(file, f"{file.size} bytes, which is no header and its tensors")
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
            if value["dtype"] not in _DTYPES:
                raise InputError(
                    f"{file.path}: {name} is stored as {value['dtype']}, which is not read; "
                    f"expected one of {', '.join(_DTYPES)}"
                )
            dtype = _DTYPES[value["dtype"]]
            if not all(isinstance(side, int) and side >= 0 for side in (*shape, begin, end)):
                raise ValueError(f"{name!r}: shape and offsets must be counts")
            if end - begin != prod(shape) * dtype.itemsize:
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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice in the header")
    return found


def _broken(file: _File, reason: str) -> InputError:
    return InputError(f"{file.path}: not a whole safetensors file ({reason}); fetch it again")


# PyTorch: a zip of a pickle and of the storages' bytes; before 1.6, all in one pickle


def _pytorch(file: _File) -> tuple[dict[str, _Entry], dict[str, Any]]:
    storages = _storages(file)
    # On the meta device the pickle alone is read, and each storage says where its bytes lie.
    loaded = _unpickled(file.path, "cpu" if storages is None else "meta")
    tensors, extra = _state(file.path, loaded)
    entries = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise InputError(
                f"{file.path}: {name} is sparse or quantised; expected a plain tensor of floats"
            )
        tensor = tensor.detach()
        shape, dtype = tuple(tensor.shape), tensor.dtype
        if storages is None:
            entries[name] = _Entry(file, dtype, shape, None, 0, held=tensor)
            continue
        storage = tensor.untyped_storage()
        start = getattr(storage, "_checkpoint_offset", None)
        if tensor.numel() and storages.get(start, -1) < storage.nbytes():
            raise InputError(f"{file.path}: not a whole PyTorch file ({name} has no storage)")
        offset = (start or 0) + int(tensor.storage_offset()) * dtype.itemsize
        stride = None if tensor.is_contiguous() else tensor.stride()
        entries[name] = _Entry(file, dtype, shape, stride, offset)
    return entries, extra


def _storages(file: _File) -> dict[int | None, int] | None:
    """Offset → size of each record; None where the bytes do not lie plainly in the file."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            records = archive.infolist()
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
    with path.open("rb") as stream:
        start = stream.read(2)
    # A zip file, or a pickle's protocol: anything else is garbage, or another kind of file.
    if start != b"PK" and start[:1] != b"\x80":
        raise InputError(
            f"{path}: not a PyTorch file; give a model's or an adapter's, or fetch it again"
        )
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own advice is to run the code all the same; only what it stumbled over is of use.
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise InputError(
            f"{path}: holds more than plain tensors{f' ({wanted[1]})' if wanted else ''}, and no "
            "code out of a file is ever run; where you trust it, load it yourself and save its "
            "state_dict() with torch.save, or as safetensors"
        ) from None
    except (
        RuntimeError,
        OSError,
        struct.error,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as error:
        reason = str(error).split("\n", maxsplit=1)[0][:200]
        raise InputError(f"{path}: not a whole PyTorch file ({reason}); fetch it again") from None


def _state(path: Path, loaded: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a loaded file by name, and all else in it."""
    if not isinstance(loaded, Mapping):
        raise InputError(
            f"{path}: holds a {type(loaded).__name__}; expected a dict of tensors, or one under "
            "'model', 'state_dict' or 'module'"
        )
    for key in _WRAPPED:
        inner = loaded.get(key)
        if isinstance(inner, Mapping) and (found := _tensors(inner)):
            rest = {other: value for other, value in loaded.items() if other != key}
            left = {name: value for name, value in inner.items() if name not in found}
            return found, _plain(rest) | ({key: _plain(left)} if left else {})
    found = _tensors(loaded)
    if not found:
        raise InputError(
            f"{path}: no tensor among {', '.join(map(repr, list(loaded)[:8])) or 'no keys'}; "
            "expected a dict of tensors, or one under 'model', 'state_dict' or 'module'"
        )
    return found, _plain({name: value for name, value in loaded.items() if name not in found})


def _tensors(values: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {
        name: value
        for name, value in values.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def _plain(value: Any) -> Any:
    """The same without tensors."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if not isinstance(v, torch.Tensor)}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value if not isinstance(v, torch.Tensor)]
    return value
