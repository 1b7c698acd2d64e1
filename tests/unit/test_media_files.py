"""What is read of audio, video, image and array files, and which files are unusable, and why."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_writer import (
    RATE,
    pictures,
    tone,
    write_array,
    write_image,
    write_long_header,
    write_mp3,
    write_sound,
    write_video,
)

from affectlocus.config.media import Medium
from affectlocus.core.extras import MissingExtraError
from affectlocus.data.clips import clip_starts, clips_of, frame_indices
from affectlocus.data.media_files import decoders, read_media
from affectlocus.data.unusable import REASONS, UnusableError


def medium(kind: str, **keys: Any) -> Medium:
    encoder = {} if kind == "features" else {"encoder": "encoder"}
    return Medium.model_validate({"kind": kind, **encoder, **keys})


def reason(path: Path, one: Medium) -> str:
    with pytest.raises(UnusableError) as caught:
        read_media(path, one)
    assert REASONS[caught.value.reason] in str(caught.value)
    assert str(path) not in str(caught.value)
    return caught.value.reason


# Frames and clips


@pytest.mark.parametrize(
    ("frames", "pick", "expected"),
    [
        (8, "start", [0, 2, 4, 6]),
        (9, "start", [0, 2, 4, 6]),
        (8, "middle", [1, 3, 5, 7]),
        (8, "ends", [0, 2, 5, 7]),
        (3, "start", [0, 1, 2, 2]),
    ],
)
def test_frames_are_taken_as_the_setting_says(frames: int, pick: str, expected: list[int]) -> None:
    assert frame_indices(frames, medium("video", frames=4, pick=pick)) == expected


@given(frames=st.integers(1, 400), count=st.integers(1, 40))
def test_frames_are_in_order_and_in_the_video(frames: int, count: int) -> None:
    for pick in ("start", "middle", "ends"):
        found = frame_indices(frames, medium("video", frames=count, pick=pick))
        assert len(found) == count
        assert found == sorted(found)
        assert found[0] >= 0 and found[-1] < frames


@given(frames=st.integers(1, 4000))
def test_affectgpts_preset_takes_the_frames_of_its_formula(frames: int) -> None:
    preset = Medium.model_validate({"preset": "affectgpt-face", "encoder": "x"})
    few = min(8, frames)
    expected = np.arange(0, frames, frames / few).astype(int).tolist()
    expected += [expected[-1]] * (8 - few)
    assert frame_indices(frames, preset) == expected


def test_too_few_frames_are_filled_kept_or_refused() -> None:
    assert frame_indices(2, medium("video", frames=4, short="keep")) == [0, 1]
    with pytest.raises(UnusableError) as caught:
        frame_indices(2, medium("video", frames=4, short="absent"))
    assert caught.value.reason == "short"


@given(samples=st.integers(2 * RATE, 40 * RATE))
def test_clips_start_evenly_spaced_and_end_with_the_recording(samples: int) -> None:
    exact = medium("audio", clips=8, seconds=2)
    starts = clip_starts(samples, 2 * RATE, exact)
    assert starts[0] == 0
    assert starts[-1] == samples - 2 * RATE
    assert max(np.diff(starts)) - min(np.diff(starts)) <= 1
    released = Medium.model_validate({"preset": "affectgpt-audio", "encoder": "x"})
    theirs = clip_starts(samples, 2 * RATE, released)
    assert max(abs(a - b) for a, b in zip(starts, theirs, strict=True)) <= 1


def test_a_short_recording_is_filled_with_zeros_kept_or_refused() -> None:
    sound = tone(1.0)
    filled = clips_of(sound, medium("audio", clips=3, seconds=2))
    assert filled.shape == (3, 2 * RATE)
    assert (filled[:, RATE:] == 0).all()
    assert clips_of(sound, medium("audio", clips=3, seconds=2, short="keep")).shape == (3, RATE)
    with pytest.raises(UnusableError, match="1 s of sound"):
        clips_of(sound, medium("audio", clips=3, seconds=2, short="absent"))


def test_a_recording_that_is_heard_as_a_whole_is_cut_at_the_limit() -> None:
    assert clips_of(tone(3.0), medium("audio")).shape == (1, 3 * RATE)
    assert clips_of(tone(3.0), medium("audio", seconds=2)).shape == (1, 2 * RATE)
    assert clips_of(tone(1.0), medium("audio", seconds=2)).shape == (1, RATE)


def test_the_mean_of_each_clip_is_removed() -> None:
    sound = tone(3.0) + np.float32(0.2)
    kept = sound.copy()
    one = medium("audio", clips=3, seconds=2)
    centred = clips_of(sound, one.model_copy(update={"centre": True}))
    plain = clips_of(sound, one)
    assert np.abs(centred - (plain - plain.mean(axis=1, keepdims=True))).max() == 0
    assert (sound == kept).all()


# What is read


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_is_one_picture(tmp_path: Path, suffix: str) -> None:
    picture = pictures(1)[0]
    found = read_media(write_image(tmp_path / f"a.{suffix}", picture), medium("image"))
    assert found.shape == (1, 48, 64, 3)
    assert np.abs(found[0].astype(int) - picture).mean() < (0.01 if suffix == "png" else 4)


def test_pictures_are_scaled_whatever_their_shape(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", pictures(1)[0])
    assert read_media(path, medium("image", size=32)).shape == (1, 32, 32, 3)


def test_frames_of_an_array_are_taken_in_the_order_of_colours_that_is_set(tmp_path: Path) -> None:
    made = pictures(16)
    path = write_array(tmp_path / "a.npy", made)
    rgb = read_media(path, medium("frames", frames=4, pick="start"))
    assert (rgb == made[::4]).all()
    bgr = read_media(path, medium("frames", frames=4, pick="start", array_channels="bgr"))
    assert (bgr == made[::4, :, :, ::-1]).all()


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_frames_of_a_video_are_the_chosen_ones(tmp_path: Path, suffix: str) -> None:
    made = pictures(20)
    path = write_video(tmp_path / f"a.{suffix}", made)
    found = read_media(path, medium("video", frames=5, pick="start"))
    assert found.shape == (5, 48, 64, 3)
    brightness = found[:, 30:, 30:60].mean(axis=(1, 2, 3))
    assert brightness == pytest.approx(made[::4, 30:, 30:60].mean(axis=(1, 2, 3)), abs=6)
    # Red is red.
    assert (found[:, 2:8, 2:10, 0] > found[:, 2:8, 2:10, 2] + 100).all()


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_recording_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    sound = tone(0.5)
    found = read_media(write_sound(tmp_path / f"a.{suffix}", sound), medium("audio"))
    assert found.shape == (1, len(sound))
    assert np.abs(found[0] - sound).max() < 1e-4


@pytest.mark.parametrize("suffix", ["mp3", "mp4", "avi"])
def test_compressed_sound_is_read(tmp_path: Path, suffix: str) -> None:
    path, sound = tmp_path / f"a.{suffix}", tone(1.0)
    if suffix == "mp3":
        write_mp3(path, sound)
    else:
        write_video(path, pictures(25), sound)
    found = read_media(path, medium("audio"))[0]
    assert len(found) == pytest.approx(len(sound), abs=3000)
    spectrum = np.abs(np.fft.rfft(found))
    assert np.argmax(spectrum) * RATE / len(found) == pytest.approx(220, abs=3)


def test_channels_are_averaged_and_other_rates_are_resampled(tmp_path: Path) -> None:
    rate = 44_100
    both = np.stack([tone(1.0, rate=rate), np.zeros(rate, np.float32)], axis=1)
    found = read_media(write_sound(tmp_path / "a.wav", both, rate), medium("audio"))[0]
    assert len(found) == RATE
    assert np.abs(found[1000:-1000] - 0.5 * tone(1.0)[1000:-1000]).max() < 2e-3


def test_features_are_used_as_they_are(tmp_path: Path) -> None:
    made = np.arange(6, dtype=np.float64).reshape(2, 3)
    found = read_media(write_array(tmp_path / "a.npy", made), medium("features"))
    assert found.dtype == np.float32
    assert (found == made).all()
    assert read_media(write_array(tmp_path / "b.npy", made[0]), medium("features")).shape == (1, 3)


# What is unusable


def truncated(path: Path, share: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def text(path: Path) -> Path:
    path.write_text("not what its name says", encoding="utf-8")
    return path


UNUSABLE: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "no file": ("audio", "missing", lambda at: at / "a.wav"),
    "another suffix": ("audio", "undecodable", lambda at: text(at / "a.txt")),
    "a folder": ("image", "missing", lambda at: (at / "a.png").mkdir() or at / "a.png"),
    "text as wav": ("audio", "undecodable", lambda at: text(at / "a.wav")),
    "text as mp3": ("audio", "undecodable", lambda at: text(at / "a.mp3")),
    "text as mp4": ("video", "undecodable", lambda at: text(at / "a.mp4")),
    "text as png": ("image", "undecodable", lambda at: text(at / "a.png")),
    "text as npy": ("frames", "undecodable", lambda at: text(at / "a.npy")),
    "an empty wav": ("audio", "silent", lambda at: write_sound(at / "a.wav", tone(0.0))),
    "a silent wav": (
        "audio",
        "silent",
        lambda at: write_sound(at / "a.wav", np.zeros(RATE, np.float32)),
    ),
    "a truncated wav": (
        "audio",
        "undecodable",
        lambda at: truncated(write_sound(at / "a.wav", tone(1.0))),
    ),
    "a truncated flac": (
        "audio",
        "undecodable",
        lambda at: truncated(write_sound(at / "a.flac", tone(1.0))),
    ),
    "a truncated mp4": (
        "video",
        "undecodable",
        lambda at: truncated(write_video(at / "a.mp4", pictures(30))),
    ),
    "a truncated avi": (
        "video",
        "undecodable",
        lambda at: truncated(write_video(at / "a.avi", pictures(30))),
    ),
    "a truncated png": (
        "image",
        "undecodable",
        lambda at: truncated(write_image(at / "a.png", pictures(1)[0])),
    ),
    "a truncated jpg": (
        "image",
        "undecodable",
        lambda at: truncated(write_image(at / "a.jpg", pictures(1)[0])),
    ),
    "a truncated npy": (
        "frames",
        "undecodable",
        lambda at: truncated(write_array(at / "a.npy", pictures(4))),
    ),
    "a video of sound alone": (
        "video",
        "no-stream",
        lambda at: write_video(at / "a.mp4", None, tone(1.0)),
    ),
    "sound of a silent film": (
        "audio",
        "no-stream",
        lambda at: write_video(at / "a.mp4", pictures(10)),
    ),
    "a picture of one colour": (
        "image",
        "blank",
        lambda at: write_image(at / "a.png", np.zeros((8, 8, 3), np.uint8)),
    ),
    "no frames": (
        "frames",
        "no-face",
        lambda at: write_array(at / "a.npy", np.empty((0, 8, 8, 3), np.uint8)),
    ),
    "an empty array": ("frames", "no-face", lambda at: write_array(at / "a.npy", np.empty(0))),
    "black frames": (
        "frames",
        "no-face",
        lambda at: write_array(at / "a.npy", np.zeros((4, 8, 8, 3), np.uint8)),
    ),
    "a pickled array": (
        "frames",
        "pickled",
        lambda at: write_array(at / "a.npy", np.array([{"a": 1}], object)),
    ),
    "pickled features": (
        "features",
        "pickled",
        lambda at: write_array(at / "a.npy", np.array([{"a": 1}], object)),
    ),
    "a header of 2 GB": ("frames", "oversized", lambda at: write_long_header(at / "a.npy")),
    "frames in floats": (
        "frames",
        "wrong-array",
        lambda at: write_array(at / "a.npy", np.ones((2, 8, 8, 3))),
    ),
    "features of three axes": (
        "features",
        "wrong-array",
        lambda at: write_array(at / "a.npy", np.ones((2, 3, 4))),
    ),
    "features that are not numbers": (
        "features",
        "wrong-array",
        lambda at: write_array(at / "a.npy", np.array([np.nan])),
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_file_is_reported_with_its_reason(tmp_path: Path, name: str) -> None:
    kind, expected, make = UNUSABLE[name]
    assert reason(make(tmp_path), medium(kind)) == expected


def test_an_array_with_a_huge_shape_is_refused_without_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 224, 224, 3), }\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    tracemalloc.start()
    assert reason(path, medium("frames")) == "oversized"
    long = write_long_header(tmp_path / "b.npy")
    assert reason(long, medium("frames")) == "oversized"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_wav_with_an_open_end_is_read(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(0.5))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert read_media(path, medium("audio")).shape == (1, RATE // 2)


def test_a_missing_decoder_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", pictures(10))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    for call in (lambda: read_media(path, medium("video")), lambda: decoders(medium("video"))):
        with pytest.raises(MissingExtraError, match=r"pip install '\.\[media\]'"):
            call()


def test_the_versions_of_decoders_are_those_of_the_kind() -> None:
    assert set(decoders(medium("frames"))) == {"numpy", "pillow"}
    assert {"av", "ffmpeg", "soundfile", "libsndfile", "scipy"} == set(decoders(medium("audio")))
