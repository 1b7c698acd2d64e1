"""Tasks whose label only the media tell, with their features as `encode` writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from affectlocus.data.prepared_task import PreparedTask
from affectlocus.lm.features import Features

LABELS = ["sad", "happy"]
WIDTHS = {"face": 6, "voice": 4}
TOKENS = {"face": 1, "voice": 3}


def task(name: str = "moods", train: int = 48, test: int = 24, seed: int = 0) -> PreparedTask:
    """Two labels, in turn; the text is the same for all."""
    count = train + test
    frame = pd.DataFrame(
        {
            "id": [f"{seed}-{number}" for number in range(count)],
            "split": ["train"] * train + ["test"] * test,
            "text": "She came in.",
            "prompt": "<face> <voice> She came in. She was",
            "answer": [LABELS[number % 2] for number in range(count)],
        }
    )
    for medium in WIDTHS:
        frame[f"media.{medium}"] = [f"{medium}/{one}.bin" for one in frame["id"]]
    return PreparedTask(name, list(LABELS), frame)


def write_features(
    folder: Path, task: PreparedTask, told: tuple[str, ...] = ("face", "voice")
) -> dict[str, Path]:
    """Medium → its file below `folder/TASK`; the media `told` show the label, others are noise."""
    found = {}
    for medium, width in WIDTHS.items():
        random = np.random.default_rng(sum(map(ord, medium)))
        direction = random.normal(size=width)
        tokens = TOKENS[medium]
        sign = np.where(task.samples["answer"] == LABELS[1], 1.0, -1.0) * (medium in told)
        values = random.normal(size=(len(sign), tokens, width)) * 0.3
        values += sign[:, None, None] * direction
        file = folder / task.name / f"{medium}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        flat = torch.tensor(values.reshape(-1, width), dtype=torch.float32)
        save_file({"features": flat}, file)
        index = pd.DataFrame(
            {
                "split": task.samples["split"],
                "id": task.samples["id"],
                "file": task.samples[f"media.{medium}"],
                "sha256": "0" * 64,
                "reason": "",
                "start": np.arange(len(sign)) * tokens,
                "tokens": tokens,
            }
        )
        index.to_parquet(file.with_suffix(".parquet"))
        found[medium] = file
    return found


def features(files: dict[str, Path], split: str = "test") -> dict[str, Features]:
    """The features in these files, of one split."""
    return {medium: Features.read(file, split) for medium, file in files.items()}
