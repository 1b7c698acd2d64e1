"""Writes small audio, video, image and array files, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

RATE = 16_000


def tone(seconds: float, pitch: float = 220.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def write_sound(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    """Writes wav or flac; sound is (samples,) or (samples, channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate)
    return path


def write_mp3(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    with av.open(str(path), "w") as container:
        _encode_sound(container, _sound_stream(container, "libmp3lame", rate), sound)
    return path


def pictures(count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """Pictures (N, H, W, 3): each has a brightness of its own, and a red corner."""
    made = np.empty((count, *size, 3), np.uint8)
    for index in range(count):
        made[index] = 20 + 200 * index // max(count - 1, 1)
        made[index, : size[0] // 4, : size[1] // 4] = (250, 10, 10)
    made[:, -1, -1] = seed
    return made


def write_video(
    path: Path, frames: np.ndarray | None, sound: np.ndarray | None = None, rate: int = RATE
) -> Path:
    """Writes mp4 or avi, with frames (N, H, W, 3), or sound, or both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        # All streams are added before the first packet, because the header names them.
        if frames is not None:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = 4_000_000
        if sound is not None:
            codec = "aac" if path.suffix == ".mp4" else "mp2"
            heard = _sound_stream(container, codec, rate)
        for picture in frames if frames is not None else ():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if frames is not None:
            container.mux(stream.encode())
        if sound is not None:
            _encode_sound(container, heard, sound)
    return path


def _sound_stream(container: av.container.OutputContainer, codec: str, rate: int) -> av.AudioStream:
    return container.add_stream(codec, rate=rate, layout="mono")


def _encode_sound(
    container: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray
) -> None:
    size = 1024 if stream.codec_context.name == "aac" else 1152
    for at, start in enumerate(range(0, len(sound) - size, size)):
        part = np.ascontiguousarray(sound[None, start : start + size])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate = stream.codec_context.sample_rate
        frame.pts = at * size
        to_format = av.AudioResampler(format=stream.codec_context.format, layout="mono")
        for converted in to_format.resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode())


def write_image(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def write_array(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def write_long_header(path: Path, length: int = 2 << 30) -> Path:
    """A .npy file whose header says that it is `length` bytes long, as a sparse file."""
    with path.open("wb") as stream:
        stream.write(b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + b"{'descr': '|u1', ")
        stream.truncate(12 + length)
    return path
