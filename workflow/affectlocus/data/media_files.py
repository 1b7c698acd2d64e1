"""Reads the media file of a sample as an array, as a medium's settings say."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from affectlocus.config.media import PICTURES, SUFFIXES, Medium
from affectlocus.core.extras import needed
from affectlocus.data.array_files import read_array
from affectlocus.data.pictures import read_pictures
from affectlocus.data.recordings import read_recording
from affectlocus.data.unusable import UnusableError


def read_media(path: Path, medium: Medium) -> np.ndarray:
    """What an encoder is given of a file.

    Returns:
        Pictures (N, H, W, 3), uint8, rgb; clips of a recording (clips, samples), float32; of kind
        features, (tokens, width), float32; of kind pixels (H * W, 3) from 0 to 255, of kind sound
        (samples, 1), float32.

    Raises:
        UnusableError: the file is missing or has no usable content.
        MissingExtraError: a decoder is not installed.
    """
    expected = SUFFIXES[medium.kind]
    if path.suffix.lower() not in expected:
        raise UnusableError("undecodable", f"expected a file {', '.join(expected)}")
    if not path.is_file():
        raise UnusableError("missing")
    try:
        if medium.kind in PICTURES:
            return read_pictures(path, medium)
        if medium.kind == "pixels":
            picture = read_pictures(path, medium.model_copy(update={"kind": "image"}))
            return picture.reshape(-1, 3).astype(np.float32)
        if medium.kind in ("audio", "sound"):
            sound = read_recording(path, medium)
            return sound.reshape(-1, 1) if medium.kind == "sound" else sound
        return _features(path)
    except OSError as error:
        raise UnusableError("undecodable", error.strerror or str(error)) from None


def _features(path: Path) -> np.ndarray:
    stored = read_array(path)
    if stored.ndim not in (1, 2) or not stored.size or stored.dtype.kind != "f":
        raise UnusableError(
            "wrong-array",
            f"shape {stored.shape} of {stored.dtype}, expected (width) or (tokens, width), floats",
        )
    found = np.atleast_2d(np.array(stored, np.float32))
    if not np.isfinite(found).all():
        raise UnusableError("wrong-array", "numbers that are not finite")
    return found


def decoders(medium: Medium) -> dict[str, str]:
    """Library → version, of those that decode a medium's files; they are part of a cache's keys.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    names = {
        "image": ["pillow"],
        "frames": ["numpy", "pillow"],
        "video": ["av", "pillow"],
        "audio": ["av", "soundfile", "scipy"],
        "features": ["numpy"],
        "pixels": ["pillow"],
        "sound": ["av", "soundfile", "scipy"],
    }[medium.kind]
    for name in names:
        if name in ("av", "soundfile"):
            needed(name, f"a medium of kind {medium.kind}")
    found = {name: version(name) for name in names}
    if "av" in found:
        import av

        found["ffmpeg"] = str(sorted(av.library_versions.items()))
    if "soundfile" in found:
        import soundfile

        found["libsndfile"] = soundfile.__libsndfile_version__
    return found
