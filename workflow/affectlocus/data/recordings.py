"""Reads a recording: wav and flac by libsndfile, compressed sound and that of videos by FFmpeg."""

from __future__ import annotations

from math import gcd
from pathlib import Path

import numpy as np

from affectlocus.config.media import Medium
from affectlocus.core.extras import missing_extra
from affectlocus.data.clips import clips_of
from affectlocus.data.ffmpeg import first_stream
from affectlocus.data.unusable import UnusableError, brief

_BY_SNDFILE = (".wav", ".flac")
_LONGEST = 6 * 3600  # seconds
# Sizes of a wav's data that programs write which do not know it yet.
_OPEN_ENDED = (0, 0x7FFFFFFF, 0xFFFFFFFF)


def read_recording(path: Path, medium: Medium) -> np.ndarray:
    """The clips of a recording: (clips, samples), float32, at `medium.rate`; channels are averaged.

    Raises:
        UnusableError: the file has no usable sound.
    """
    sound, rate = _by_sndfile(path) if path.suffix.lower() in _BY_SNDFILE else _by_ffmpeg(path)
    if not np.isfinite(sound).all():
        raise UnusableError("undecodable", "samples that are not finite numbers")
    mono = sound.mean(axis=0, dtype=np.float64)  # (samples,)
    if not len(mono) or np.abs(mono).max() <= medium.silence:
        raise UnusableError("silent", "no samples" if not len(mono) else "")
    return clips_of(_resampled(mono, rate, medium.rate), medium)


def _resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate != wanted:
        from scipy.signal import resample_poly

        common = gcd(rate, wanted)
        sound = resample_poly(sound, wanted // common, rate // common)
    return sound.astype(np.float32)


def _by_sndfile(path: Path) -> tuple[np.ndarray, int]:
    """(channels, samples) in float32, and the samples per second."""
    try:
        import soundfile
    except ModuleNotFoundError:
        raise missing_extra("a medium of kind audio", "soundfile") from None

    if path.suffix.lower() == ".wav":
        _check_whole_wav(path)
    try:
        with soundfile.SoundFile(path) as file:
            _check_length(file.frames / file.samplerate)
            expected = file.frames
            sound = file.read(dtype="float32", always_2d=True).T  # (channels, samples)
            rate = file.samplerate
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise UnusableError("undecodable", brief(error, path)) from None
    if sound.shape[1] < expected:
        raise UnusableError("undecodable", f"truncated: {sound.shape[1]} of {expected} samples")
    return sound, rate


def _check_whole_wav(path: Path) -> None:
    """Refuses a wav whose header names more data than the file holds: libsndfile reads the rest."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(4) != b"RIFF":
            return
        stream.seek(12)
        while len(head := stream.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                here = size - stream.tell()
                if length > here and length not in _OPEN_ENDED:
                    raise UnusableError(
                        "undecodable", f"truncated: {here} of {length} bytes of sound"
                    )
                return
            stream.seek(length + length % 2, 1)


def _by_ffmpeg(path: Path) -> tuple[np.ndarray, int]:
    """(channels, samples) in float32, and the samples per second."""
    with first_stream(path, "audio") as (container, stream):
        import av

        rate = stream.rate
        _check_length(float((stream.duration or 0) * (stream.time_base or 0)))
        to_float = av.AudioResampler(format="fltp")
        parts = [
            part.to_ndarray()
            for frame in [*container.decode(stream), None]
            for part in to_float.resample(frame)
        ]
    return (np.concatenate(parts, axis=1) if parts else np.empty((1, 0), np.float32)), rate


def _check_length(seconds: float) -> None:
    if seconds > _LONGEST:
        raise UnusableError("oversized", f"{seconds:.0f} s of sound, expected {_LONGEST} s at most")
