"""Stored tensors as numpy arrays in the dtype of their file, without torch.

ml_dtypes adds bfloat16 and float8 to numpy. torch is imported only to convert from and to its own
tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    import torch

    from affectlocus.checkpoints.architectures import Rows


def numpy_dtype(name: str) -> np.dtype:
    """The numpy dtype of a torch dtype's name, such as `bfloat16`."""
    return np.dtype(getattr(ml_dtypes, name, name))


def rounded(values: np.ndarray, dtype: np.dtype | str) -> np.ndarray:
    """Values in another dtype, with the bits that torch's `.to(dtype)` gives; NaN stays NaN.

    Rounds to the nearest, ties to even. Like torch, it converts float64 to narrow dtypes through
    float32. Returns `values` itself if it has the dtype already.
    """
    target = numpy_dtype(dtype) if isinstance(dtype, str) else dtype
    if values.dtype == target:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        # For bfloat16, ml_dtypes converts through float32 itself.
        if values.dtype == np.float64 and target.itemsize < 4 and target.name != "bfloat16":
            values = values.astype(np.float32)
        return values.astype(target)


# Float dtype → the range of its numbers. A wider range overflows in a narrower one.
_RANGES = {"float16": 1, "bfloat16": 2, "float32": 2, "float64": 3}


def conversion(source: str, target: str) -> Literal["exact", "rounded", "none"]:
    """How values of one dtype are converted to another: exactly, with a rounding, or not at all.

    There is no conversion between floats and other dtypes, or to floats of a smaller range, in
    which large values would become infinite.
    """
    if source == target:
        return "exact"
    if source not in _RANGES or target not in _RANGES or _RANGES[source] > _RANGES[target]:
        return "none"
    return "exact" if np.can_cast(numpy_dtype(source), numpy_dtype(target)) else "rounded"


def same_bits(left: Any, right: Any) -> bool:
    """Whether two arrays, or torch tensors, are equal in dtype, shape and every bit."""
    left, right = as_array(left), as_array(right)
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    # Compared as bytes, because as numbers 0.0 equals -0.0 and NaN differs from itself.
    return np.array_equal(_bytes(left), _bytes(right))


def as_torch(array: np.ndarray) -> torch.Tensor:
    """The array as a torch tensor of the same bits, sharing its memory."""
    import torch

    dtype = getattr(torch, array.dtype.name)
    return torch.from_numpy(_bytes(array)).view(dtype).view(array.shape)


def as_array(tensor: Any) -> np.ndarray:
    """A torch tensor as an array of the same bits, on the CPU; an array is returned as it is."""
    if isinstance(tensor, np.ndarray):
        return tensor
    import torch

    flat = tensor.detach().cpu().contiguous().flatten()
    name = str(tensor.dtype).removeprefix("torch.")
    return flat.view(torch.uint8).numpy().view(numpy_dtype(name)).reshape(tuple(tensor.shape))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def select_rows(tensor: np.ndarray, rows: Rows | None) -> np.ndarray:
    """The given ranges of a tensor's first axis, concatenated; with None, the whole tensor."""
    return tensor if rows is None else np.concatenate([tensor[start:stop] for start, stop in rows])
