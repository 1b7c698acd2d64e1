"""Kinds of unusable media files, each next to a good one, and the reason that is counted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit"))

from media_writer import (
    pictures,
    tone,
    write_array,
    write_image,
    write_long_header,
    write_sound,
    write_video,
)
from tiny_encoders import save_encoder

ENCODERS = {"audio": "hubert", "video": "clip", "frames": "clip", "image": "clip"}


@dataclass(frozen=True)
class Case:
    """One kind of unusable file.

    Attributes:
        kind: what is wrong.
        reason: as the data report counts it.
        medium: the kind of the medium.
        name: the file's name.
        make: writes the file.
    """

    kind: str
    reason: str
    medium: str
    name: str
    make: Callable[[Path], object]

    def write(self, folder: Path) -> None:
        """Writes the files, the samples and the encoder into an empty folder."""
        self.make(folder / self.name)
        good = {
            ".wav": lambda path: write_sound(path, tone(0.5)),
            ".mp4": lambda path: write_video(path, pictures(10), tone(0.5)),
            ".npy": lambda path: write_array(path, pictures(8)),
            ".png": lambda path: write_image(path, pictures(1)[0]),
        }[Path(self.name).suffix]
        good(folder / f"good{Path(self.name).suffix}")
        rows = ["text,mood,file", f"one,joy,good{Path(self.name).suffix}", f"two,fear,{self.name}"]
        (folder / "samples.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        save_encoder(ENCODERS[self.medium], folder / "encoder")

    @property
    def command(self) -> list[str]:
        task = {"columns": {"label": "mood"}, "labels": ["joy", "fear"], "media": {"it": "{file}"}}
        reading = {"kind": self.medium, "encoder": "encoder"}
        return [
            *("encode", "--name", "moods", "--medium", "it", "--test", "samples.csv"),
            *("--settings", json.dumps(task), "--reading", json.dumps(reading)),
            *("--encoder", "encoder", "--out", "it.safetensors"),
        ]


def _cut(path: Path) -> None:
    write_sound(path, tone(1.0))
    path.write_bytes(path.read_bytes()[:9000])


CASES = [
    Case(
        "A silent wav",
        "silent",
        "audio",
        "bad.wav",
        lambda path: write_sound(path, np.zeros(8000, np.float32)),
    ),
    Case("A truncated wav", "undecodable", "audio", "bad.wav", _cut),
    Case("No file", "missing", "audio", "bad.wav", lambda path: path),
    Case(
        "A video without pictures",
        "no-stream",
        "video",
        "bad.mp4",
        lambda path: write_video(path, None, tone(1.0)),
    ),
    Case(
        "A video without sound",
        "no-stream",
        "audio",
        "bad.mp4",
        lambda path: write_video(path, pictures(10)),
    ),
    Case(
        "Frames without a face",
        "no-face",
        "frames",
        "bad.npy",
        lambda path: write_array(path, np.empty((0, 112, 112, 3), np.uint8)),
    ),
    Case(
        "Black frames",
        "no-face",
        "frames",
        "bad.npy",
        lambda path: write_array(path, np.zeros((4, 8, 8, 3), np.uint8)),
    ),
    Case(
        "A pickled array",
        "pickled",
        "frames",
        "bad.npy",
        lambda path: write_array(path, np.array([{"frames": 1}], object)),
    ),
    Case("A header of 2 GB", "oversized", "frames", "bad.npy", write_long_header),
    Case(
        "Frames in floating-point numbers",
        "wrong-array",
        "frames",
        "bad.npy",
        lambda path: write_array(path, np.ones((4, 8, 8, 3))),
    ),
    Case(
        "A picture that is text",
        "undecodable",
        "image",
        "bad.png",
        lambda path: path.write_text("no picture"),
    ),
]
