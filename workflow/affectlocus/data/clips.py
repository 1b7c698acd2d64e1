"""Which frames of a video, and which clips of a recording, an encoder is given."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from affectlocus.config.media import Medium
from affectlocus.data.unusable import UnusableError


def frame_indices(frames: int, medium: Medium) -> list[int]:
    """The indices of the frames that are taken of a video or an array.

    Args:
        frames: how many there are, at least one.

    Raises:
        UnusableError: there are fewer than wanted, and `medium.short` is absent.
    """
    count = medium.frames
    if frames < count:
        if medium.short == "absent":
            raise UnusableError("short", f"{frames} frames, expected {count} or more")
        repeated = count - frames if medium.short == "fill" else 0
        return [*range(frames), *([frames - 1] * repeated)]
    if medium.pick == "start":
        return [part * frames // count for part in range(count)]
    if medium.pick == "middle":
        return [(2 * part + 1) * frames // (2 * count) for part in range(count)]
    if count == 1:
        return [0]
    # Half a step is added, so that the division rounds to the nearest frame.
    return [(2 * part * (frames - 1) + count - 1) // (2 * (count - 1)) for part in range(count)]


def clip_starts(samples: int, length: int, medium: Medium) -> list[int]:
    """The first sample of each clip.

    Args:
        samples: of the recording, at least `length`.
        length: samples of a clip.
    """
    assert medium.clips is not None
    gaps = max(medium.clips - 1, 1)
    if medium.starts == "exact":
        return [clip * (samples - length) // gaps for clip in range(medium.clips)]
    assert medium.seconds is not None
    # As pytorchvideo 0.1.5: the duration is a float, and fractions of it are exact.
    step = Fraction(max(samples / medium.rate - medium.seconds, 0)) / gaps
    return [int(step * clip * medium.rate) for clip in range(medium.clips)]


def clips_of(sound: np.ndarray, medium: Medium) -> np.ndarray:
    """The clips of a recording (clips, samples), float32; one clip if it is heard as a whole.

    Args:
        sound: (samples,), float32, at `medium.rate` samples per second.

    Raises:
        UnusableError: it is shorter than a clip, and `medium.short` is absent.
    """
    if medium.seconds is None:
        return sound[None]
    length = round(medium.seconds * medium.rate)
    if len(sound) < length:
        if medium.short == "absent":
            heard = len(sound) / medium.rate
            raise UnusableError("short", f"{heard:.3g} s of sound, expected {medium.seconds:g} s")
        if medium.short == "keep":
            length = len(sound)
        elif medium.clips is not None:
            sound = np.pad(sound, (0, length - len(sound)))
    if medium.clips is None:
        return sound[None, :length]
    starts = clip_starts(len(sound), length, medium)
    clips = np.stack([sound[start : start + length] for start in starts])  # (clips, length)
    if medium.centre:
        clips -= clips.mean(axis=1, keepdims=True)
    return clips
