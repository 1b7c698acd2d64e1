"""Reads pictures of a sample: an image, frames in an array, or frames of a video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from affectlocus.config.media import Medium
from affectlocus.data.array_files import read_array
from affectlocus.data.clips import frame_indices
from affectlocus.data.ffmpeg import first_stream
from affectlocus.data.unusable import UnusableError, brief

_MOST_PIXELS = 100_000_000  # of one picture


def read_pictures(path: Path, medium: Medium) -> np.ndarray:
    """The chosen pictures of a file: (N, H, W, 3), uint8, red, green, blue.

    Raises:
        UnusableError: the file has no usable picture.
    """
    if medium.kind == "image":
        found, without = _image(path)[None], "blank"
    elif medium.kind == "frames":
        found, without = _frames(path, medium), "no-face"
    else:
        found, without = _video(path, medium), "blank"
    if all(picture.min() == picture.max() for picture in found):
        raise UnusableError(without, "every pixel is the same")
    return found if medium.size is None else np.stack([_scaled(one, medium.size) for one in found])


def _image(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            _check_pixels(*image.size)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnusableError("undecodable", brief(error, path)) from None


def _frames(path: Path, medium: Medium) -> np.ndarray:
    stored = read_array(path)
    if stored.ndim == 3 and stored.shape[-1] == 3:
        stored = stored[None]
    if not stored.size:
        raise UnusableError("no-face", f"shape {stored.shape}")
    if stored.ndim != 4 or stored.shape[-1] != 3 or stored.dtype != np.uint8:
        raise UnusableError(
            "wrong-array",
            f"shape {stored.shape} of {stored.dtype}, expected (frames, height, width, 3) of uint8",
        )
    _check_pixels(*stored.shape[1:3])
    found = np.asarray(stored[frame_indices(len(stored), medium)])
    return found[..., ::-1] if medium.array_channels == "bgr" else found


def _video(path: Path, medium: Medium) -> np.ndarray:
    """The chosen frames. The video is decoded twice: to count its frames, and to take some."""
    count = sum(1 for _ in _decoded(path))
    if not count:
        raise UnusableError("undecodable", "no frame can be decoded")
    wanted = frame_indices(count, medium)
    taken: dict[int, np.ndarray] = {}
    for index, frame in enumerate(_decoded(path)):
        if index in wanted:
            picture = frame.to_ndarray(format="rgb24")
            taken[index] = np.rot90(picture, round(frame.rotation / 90))
        if index == wanted[-1]:
            break
    if len({one.shape for one in taken.values()}) > 1:
        raise UnusableError("undecodable", "its frames have different sizes")
    return np.stack([taken[index] for index in wanted])


def _decoded(path: Path) -> Iterator:
    """The frames of a video, one after another."""
    with first_stream(path, "video") as (container, stream):
        _check_pixels(stream.width, stream.height)
        stream.thread_type = "AUTO"
        count = 0
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise UnusableError("undecodable", f"frame {count + 1} is damaged")
            count += 1
            yield frame
        if count < stream.frames:
            raise UnusableError("undecodable", f"truncated: {count} of {stream.frames} frames")


def _check_pixels(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise UnusableError(
            "oversized", f"{width} x {height} pixels, expected {_MOST_PIXELS} at most"
        )


def _scaled(picture: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    if picture.shape[:2] == (size, size):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
