"""The tensors of PyTorch files.

A file is a zip archive of a pickle and of the storages' bytes; before PyTorch 1.6, one pickle of
everything. Only `torch.load(weights_only=True)` opens a pickle.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectlocus.checkpoints.tensor_entries import MAPPED, Entry, OpenFile, raw_dtype
from affectlocus.core.errors import InputError
from affectlocus.core.extras import needed

if TYPE_CHECKING:
    import torch

_PACKED = 20  # times the size of a PyTorch file, unpacked; torch.save does not compress
_WRAPPED = ("model", "state_dict", "module")


def pytorch_entries(file: OpenFile) -> tuple[dict[str, Entry], dict[str, Any]]:
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
            entry = Entry(file, dtype, shape, None, 0, flat.numpy().view(raw_dtype(dtype)))
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
        entries[name] = Entry(file, dtype, shape, stride, offset)
    return entries, extra


def _refuse_spread(file: OpenFile, name: str, tensor: torch.Tensor) -> None:
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
            f"{file.path}: not a whole PyTorch file ({name} ends after its storage)",
            file=file.path,
            tensor=name,
        )
    if tensor.numel() * size > max(stored, MAPPED):
        raise InputError(
            "tensor.repeats-entries",
            f"{file.path}: {name} describes {tensor.numel() * size} bytes but stores {stored}; "
            "expected a plain tensor: save it with .contiguous()",
            file=file.path,
            tensor=name,
            found=tensor.numel() * size,
            expected=stored,
        )


def _storages(file: OpenFile) -> dict[int | None, int] | None:
    """Offset → size of each record; None if records are compressed or not little-endian."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            records = archive.infolist()
            unpacked = sum(record.file_size for record in records)
            if unpacked > _PACKED * file.size:
                raise InputError(
                    "checkpoint.packed",
                    f"{file.path}: {file.size} bytes that unpack to {unpacked}; expected a file as "
                    "torch.save writes it, without compression",
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
            f"{path}: contains more than plain tensors{f' ({wanted[1]})' if wanted else ''}, and "
            "code from a file is never run; if you trust the file, load it yourself and save its "
            "state_dict() with torch.save or as safetensors",
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
