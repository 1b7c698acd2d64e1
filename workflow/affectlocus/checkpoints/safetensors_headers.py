"""The headers of safetensors files.

A file is eight bytes with the length of the header, the header in JSON, and the tensors' bytes.
"""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.tensor_entries import Entry, OpenFile, raw_dtype
from affectlocus.core.errors import InputError

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
# Bytes of a header at most: about 150 per tensor, and the largest models have 100,000 tensors. In
# Python, each byte takes about twenty.
_HEADER = 25_000_000
_DIMENSIONS = 64  # numpy has no more


def safetensors_entries(file: OpenFile) -> dict[str, Entry]:
    length = _header_length(file)
    text = bytearray(length)
    file.read(memoryview(text), 8)
    try:
        pairs = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
        pairs.pop("__metadata__", None)
        available = file.size - 8 - length
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
            if end - begin != prod(shape) * np.dtype(raw_dtype(dtype)).itemsize:
                raise ValueError(
                    f"{name!r}: {end - begin} bytes for shape {shape} of {value['dtype']}"
                )
            if end > available:
                raise ValueError(f"{name!r} ends {end - available} bytes after the end of the file")
            spans.append((begin, end, name))
            entries[name] = Entry(file, dtype, shape, None, 8 + length + begin)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _broken(file, str(error)) from None
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise _broken(file, f"{name!r} begins at {begin} where {at} was expected")
        at = end
    if at != available:
        raise _broken(file, f"{available - at} bytes after its last tensor")
    return entries


def _header_length(file: OpenFile) -> int:
    head = bytearray(min(8, file.size))
    file.read(memoryview(head), 0)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if _HEADER < length <= file.size - 8:
        raise InputError(
            "checkpoint.header-too-long",
            f"{file.path}: its header has {length} bytes; expected {_HEADER} at most, about 150 "
            "for each tensor: save the model in several files",
            file=file.path,
            found=length,
            expected=_HEADER,
        )
    if not 2 <= length <= file.size - 8:
        raise _broken(file, f"{file.size} bytes, too few for a header and its tensors")
    return int(length)


def check_header(path: Path) -> None:
    """Refuses a safetensors file by the length of its header, without reading the header.

    Raises:
        InputError: the file is missing, or its header is longer than the file or the limit.
    """
    _header_length(OpenFile(path))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the header lists a name twice")
    return found


def _broken(file: OpenFile, reason: str) -> InputError:
    return InputError(
        "checkpoint.broken-safetensors",
        f"{file.path}: not a whole safetensors file ({reason}); fetch it again",
        file=file.path,
        reason=reason,
    )
