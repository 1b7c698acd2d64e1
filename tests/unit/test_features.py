"""The reader of features: what it gives of which split, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from refusal import refused
from safetensors.torch import save_file

from affectlocus.core.step_tables import write_step_table
from affectlocus.lm.features import INDEX, TENSOR, Features

ROWS: list[tuple[Any, ...]] = [
    ("train", "a", "a.wav", "1" * 64, "", 0, 2),
    ("test", "a", "b.wav", "2" * 64, "", 2, 1),
    ("test", "same", "b.wav", "2" * 64, "", 2, 1),
    ("test", "quiet", "q.wav", "3" * 64, "silent", 0, 0),
]
VALUES = torch.arange(6, dtype=torch.float16).reshape(3, 2)


def write(folder: Path, rows: list[tuple[Any, ...]] = ROWS) -> Path:
    path = folder / "voice.safetensors"
    save_file({TENSOR: VALUES}, path)
    write_step_table(path.with_suffix(".parquet"), pd.DataFrame(rows, columns=list(INDEX)))
    return path


def test_a_sample_has_the_features_of_its_split_in_float32(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert Features.read(path, "train").of("a").tolist() == [[0, 1], [2, 3]]
    features = Features.read(path)
    assert features.of("a").tolist() == features.of("same").tolist() == [[4, 5]]
    assert features.of("a").dtype == torch.float32
    assert (features.width, features.ids) == (2, ["a", "same"])


def test_a_sample_without_features_is_refused(tmp_path: Path) -> None:
    features = Features.read(write(tmp_path))
    for name in ("quiet", "other"):
        with refused("features.no-sample", found=name):
            features.of(name)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with refused("features.other-index"):
        Features.read(write(tmp_path, [*ROWS, ("test", "z", "z.wav", "4" * 64, "", 3, 1)]))


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_damaged_or_missing_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = write(tmp_path)
    path.unlink() if content is None else path.write_bytes(content)
    with refused("features.unreadable"):
        Features.read(path)
