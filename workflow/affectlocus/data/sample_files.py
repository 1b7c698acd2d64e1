"""The media files of samples: their paths, and which samples have a usable file of each medium."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.core.errors import InputError
from affectlocus.core.step_tables import read_step_table
from affectlocus.data.unusable import REASONS

COLUMN = "media."
"""Start of the columns of a prepared task that name the files of its media."""


def media_files(samples: pd.DataFrame, medium: str) -> pd.DataFrame:
    """The samples of a task with the files of one medium: `split`, `id`, `file`."""
    return samples[["split", "id"]].assign(file=samples[COLUMN + medium])


def read_indexes(paths: list[Path]) -> dict[str, pd.DataFrame]:
    """Medium → the index of its features (MEDIUM.parquet), as the step `encode` writes it."""
    columns = ("split", "id", "file", "reason")
    return {path.stem: read_step_table(path, *columns) for path in paths}


def with_features(
    samples: pd.DataFrame, indexes: Mapping[str, pd.DataFrame], counts: dict[str, Any]
) -> pd.DataFrame:
    """The samples of a split that have features of every medium.

    Args:
        counts: of the split; the numbers of samples that are left out are added, by medium and
            reason, and in total. A sample may lack several media.

    Raises:
        InputError: an index is of other samples.
    """
    usable = pd.Series(True, index=samples.index)
    lost: dict[str, dict[str, int]] = {}
    for medium, index in indexes.items():
        known = {
            (split, name, file): reason
            for split, name, file, reason in index[["split", "id", "file", "reason"]].itertuples(
                index=False
            )
        }
        keys = zip(samples["split"], samples["id"], samples[COLUMN + medium], strict=True)
        reasons = [known.get(key) for key in keys]
        if None in reasons:
            name = samples["id"].iloc[reasons.index(None)]
            raise InputError(
                "encode.other-samples",
                f"{medium}: its features lack sample {name!r}; the index is of another version of "
                "the task: run encode again",
                medium=medium,
                found=name,
            )
        found = pd.Series(reasons, index=samples.index)
        usable &= found == ""
        lost[medium] = {r: int((found == r).sum()) for r in REASONS if (found == r).any()}
    counts["without_media"] = int((~usable).sum())
    counts["media"] = lost
    return samples[usable]
