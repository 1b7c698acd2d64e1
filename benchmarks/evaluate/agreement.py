"""Whether the arms found the same: `python agreement.py FOLDER`, with a folder of each arm in it.

Prints one JSON object. `scores`: for each way of scoring but the first, the largest difference of a
log-likelihood from the first's, and the number of samples where another label is chosen. `cells`:
how many cells there are, and how many of them differ in a bit between shared and single.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

WAYS = ["one_pass", "per_candidate", "evaluate", "harness"]


def scores(out: Path) -> np.ndarray:
    """An arm's log-likelihoods (samples, labels), from whichever file it writes."""
    if (out / "scores.npy").is_file():
        return np.load(out / "scores.npy").astype(float)
    predictions = out / "base" / "base" / "predictions.parquet"
    if predictions.is_file():
        frame = pd.read_parquet(predictions)
        labels = frame["candidate"].nunique()
        return frame["loglik"].to_numpy(dtype=float).reshape(-1, labels)
    (logged,) = out.rglob("samples_*.jsonl")
    with logged.open(encoding="utf-8") as file:
        rows = sorted((json.loads(line) for line in file), key=lambda row: row["doc_id"])
    return np.array([[float(value) for value, _ in row["filtered_resps"]] for row in rows])


def compared(folder: Path) -> dict[str, dict[str, Any]]:
    """Each way that was run against the first of them."""
    ran = [way for way in WAYS if (folder / way).is_dir()]
    found: dict[str, dict[str, Any]] = {}
    for way in ran[1:]:
        expected, values = scores(folder / ran[0]), scores(folder / way)
        found[way] = {
            "largest": float(np.abs(values - expected).max()),
            "chosen_otherwise": int((values.argmax(1) != expected.argmax(1)).sum()),
            "samples": len(values),
        }
    return found


def differing(shared: Path, single: Path) -> dict[str, int]:
    """Cells, and those of them whose predictions are not the same bit for bit."""
    names = sorted(path.relative_to(single) for path in single.rglob("predictions.parquet"))
    different = 0
    for name in names:
        one, other = (pd.read_parquet(side / name) for side in (shared, single))
        bits, others = (frame["loglik"].to_numpy().tobytes() for frame in (one, other))
        different += bits != others or not one.equals(other)
    return {"cells": len(names), "different": different}


def main(folder: Path) -> dict[str, Any]:
    """Both comparisons, as far as their arms have run."""
    found: dict[str, Any] = {"scores": compared(folder)}
    if (folder / "shared").is_dir() and (folder / "single").is_dir():
        found["cells"] = differing(folder / "shared", folder / "single")
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))  # noqa: T201 (its answer)
