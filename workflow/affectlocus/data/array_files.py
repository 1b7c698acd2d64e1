"""Reads arrays from .npy files whose header is checked first; nothing is unpickled."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from affectlocus.data.unusable import UnusableError, brief

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # bytes; numpy.load has the same limit, but reads the header before
_LARGEST = 16 << 30  # bytes of an array; only the chosen frames are read


def read_array(path: Path) -> np.ndarray:
    """The array in a .npy file, mapped into memory.

    Raises:
        UnusableError: not such a file, truncated, of Python objects, or with too large a header.
    """
    with path.open("rb") as stream:
        start = stream.read(12)
    if not start.startswith(_MAGIC) or len(start) < 12:
        raise UnusableError("undecodable", "not a .npy file")
    # Format 1 has two bytes for the length of the header, the later ones four.
    wide = 2 if start[6] == 1 else 4
    length = int.from_bytes(start[8 : 8 + wide], "little")
    if length > _LONGEST_HEADER:
        raise UnusableError("oversized", f"a header of {length} bytes, expected {_LONGEST_HEADER}")
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read is None:
                raise UnusableError("undecodable", f"version {version} of the format")
            shape, _, dtype = read(stream)
            stored = path.stat().st_size - stream.tell()
    except (ValueError, OSError, SyntaxError, TypeError) as error:
        raise UnusableError("undecodable", brief(error, path)) from None
    if dtype.hasobject:
        raise UnusableError("pickled")
    expected = math.prod(shape) * dtype.itemsize
    if expected > _LARGEST:
        raise UnusableError("oversized", f"shape {shape}, {expected} bytes")
    if stored < expected:
        raise UnusableError("undecodable", f"truncated: {stored} of {expected} bytes")
    if not expected:
        return np.empty(shape, dtype)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise UnusableError("undecodable", brief(error, path)) from None
