"""Tensors in safetensors and PyTorch files, read by byte ranges.

Opening a file reads only its list of tensors. Entries are read on access; large ranges are mapped
from the page cache without a copy. So memory does not depend on the size of the checkpoint. torch
is imported only to read a PyTorch file or to return a torch tensor.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from affectlocus.checkpoints.gguf_files import MAGIC, refusal
from affectlocus.checkpoints.pytorch_files import pytorch_entries
from affectlocus.checkpoints.safetensors_headers import safetensors_entries
from affectlocus.checkpoints.stored import as_torch, numpy_dtype
from affectlocus.checkpoints.tensor_entries import (
    Entry,
    ExpertView,
    OpenFile,
    StridedView,
    gathered,
    strided_view_of,
    view_of,
)
from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    import torch

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Float dtype → the distance from 1 to the next number."""
TINY = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}
"""Float dtype → the smallest number with all its digits."""


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
        self._entries: dict[str, Entry] = {}
        for path in self.files:
            file = OpenFile(path)
            _refuse_other_content(file)
            if path.suffix == ".safetensors":
                found = safetensors_entries(file)
            else:
                found, extra = pytorch_entries(file)
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
                self._entries[part] = view_of(whole, cut)
            self.expert_views[name] = (whole.shape, dict(cuts))

    def replace_by_strided_views(
        self, wholes: Sequence[str], parts: Mapping[str, tuple[str, StridedView]]
    ) -> None:
        """Replaces tensors by matrices inside them.

        Args:
            wholes: the tensors that are replaced.
            parts: the name of each matrix → its tensor, and its place there.
        """
        entries = {name: self._entries.pop(name) for name in wholes}
        for part, (whole, cut) in parts.items():
            self._entries[part] = strided_view_of(entries[whole], cut)

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
        self, name: str, entry: Entry, rows: Sequence[tuple[int, int]] | None = None
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
        if entry.data is not None:
            return entry.data[first : first + count]
        if entry.stride is not None:
            return gathered(entry)[first : first + count]
        size = entry.raw.itemsize
        return entry.file.window(entry.offset + first * size, count * size).view(entry.raw)


def _floats(raw: np.ndarray, dtype: str) -> np.ndarray:
    """The entries as numpy floats of the same values."""
    if dtype != "bfloat16":
        return raw
    # Its bits are the upper half of a float32's.
    return np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)


# Files that failed downloads leave instead of a checkpoint: first bytes, description, remedy.
_MISTAKEN = (
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", re.IGNORECASE),
        "an HTML page, perhaps an error or login page of the download",
        "fetch the file itself",
    ),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer", "run git lfs pull"),
)


def _refuse_other_content(file: OpenFile) -> None:
    kind = "safetensors" if file.path.suffix == ".safetensors" else "PyTorch"
    if not file.size:
        raise InputError(
            "checkpoint.empty-file",
            f"{file.path}: not a whole {kind} file (it is empty); fetch it again",
            file=file.path,
        )
    head = bytearray(min(512, file.size))
    file.read(memoryview(head), 0)
    if head.startswith(MAGIC):
        raise refusal(file.path)
    for begins, what, remedy in _MISTAKEN:
        if begins.match(head):
            raise InputError(
                "checkpoint.other-content",
                f"{file.path}: not a whole {kind} file (it is {what}); {remedy}",
                file=file.path,
                found=what,
            )
