"""Reads the features of one medium of a task, as the step `encode` writes them.

Two files: MEDIUM.safetensors with one tensor, `features` (all tokens, width), and the index
MEDIUM.parquet with a row per sample (`INDEX`). Samples with the same file share their tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open

from affectlocus.core.errors import InputError
from affectlocus.core.step_tables import read_step_table

INDEX = ("split", "id", "file", "sha256", "reason", "start", "tokens")
"""Columns of the index: the sample, its file and the SHA-256 of the file; why it has no features
(empty if it has); the first row of its tokens in the tensor, and their number."""

TENSOR = "features"
RATE = "rate"
"""Key of the metadata of a file of sound: samples per second."""


@dataclass(frozen=True)
class Features:
    """The features of one medium of the samples of one split.

    Attributes:
        values: (all tokens, width), in the stored dtype.
        places: sample id → the first row of its tokens, and their number.
        source: the file, for messages.
        rate: of sound, samples per second.
    """

    values: torch.Tensor
    places: dict[str, tuple[int, int]]
    source: Path
    rate: int | None = None

    @classmethod
    def read(cls, path: Path, split: str = "test") -> Self:
        """The features in MEDIUM.safetensors; the index is the file next to it.

        Raises:
            InputError: a file is missing, damaged, or does not belong to the other one.
        """
        index = read_step_table(path.with_suffix(".parquet"), *INDEX)
        try:
            with safe_open(path, framework="pt") as stored:
                values = stored.get_tensor(TENSOR)
                rate = (stored.metadata() or {}).get(RATE)
        except (OSError, SafetensorError) as error:
            raise InputError(
                "features.unreadable",
                f"{path}: cannot be read as features ({error}); delete it: encode makes it again",
                file=path,
            ) from None
        ends = index["start"] + index["tokens"]
        if values.ndim != 2 or (len(index) and int(ends.max()) > len(values)):
            raise InputError(
                "features.other-index",
                f"{path}: has shape {tuple(values.shape)}, and its index names token "
                f"{int(ends.max())}; the two files are of different runs: run encode again",
                file=path,
                found=list(values.shape),
            )
        own = index[(index["split"] == split) & (index["reason"] == "")]
        rows = zip(own["id"], own["start"], own["tokens"], strict=True)
        places = {str(name): (int(at), int(count)) for name, at, count in rows}
        return cls(values, places, path, None if rate is None else int(rate))

    @property
    def width(self) -> int:
        """The width of the features."""
        return int(self.values.shape[1])

    @property
    def ids(self) -> list[str]:
        """The samples that have features, in the order of the index."""
        return list(self.places)

    def of(self, sample: str) -> torch.Tensor:
        """The features of a sample, by its id: (tokens, width), float32.

        Raises:
            InputError: the sample has none.
        """
        if sample not in self.places:
            raise InputError(
                "features.no-sample",
                f"{self.source}: has no features of sample {sample!r}; the task was prepared with "
                "other files: run encode and prepare again",
                file=self.source,
                found=sample,
            )
        start, count = self.places[sample]
        return self.values[start : start + count].float()
