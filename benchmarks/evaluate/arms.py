"""The arms of the benchmark, each a process of its own: `python arms.py ARM MATERIAL OUT`.

Writes what it found into the folder OUT and prints one JSON object, `engine`: seconds from the
samples' texts to their log-likelihoods, model and imports loaded. The harness's arm is in
`harness.py`, which its own environment runs; `agreement.py` compares what all have found.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BATCH = 64
MAX_LENGTH = 512


def _loaded(material: Path) -> tuple[Any, Any, list[str], list[str]]:
    """Model, prompter, texts of the prompts and labels."""
    import pandas as pd

    from affectlocus.cells import Cell
    from affectlocus.evaluate import build
    from affectlocus.prompts import Prompter

    frame = pd.read_parquet(material / "task.parquet")
    model, _ = build(material / "base", None, Cell("base", "base"))
    return model, Prompter(material / "base"), frame["prompt"].tolist(), frame.attrs["labels"]


def _timed(
    material: Path,
    out: Path,
    way: Callable[[Any, list[list[int]], list[list[int]], int], torch.Tensor],
) -> float:
    """Seconds of a way, whose scores become `scores.npy`: float32 (samples, labels)."""
    import numpy as np

    model, prompter, texts, labels = _loaded(material)
    start = time.perf_counter()
    prompts = prompter.prompts(texts, MAX_LENGTH)
    scores = way(model, prompts, [prompter.answer(label) for label in labels], BATCH)
    seconds = time.perf_counter() - start
    np.save(out / "scores.npy", scores.numpy())
    return seconds


def one_pass(material: Path, out: Path) -> float:
    """affectlocus: all labels of a sample in one forward pass."""
    from affectlocus.candidates import log_likelihoods

    return _timed(material, out, log_likelihoods)


def per_candidate(material: Path, out: Path) -> float:
    """The plain way: every prompt once again for each label."""
    return _timed(material, out, each_candidate)


def each_candidate(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    candidates: Sequence[list[int]],
    batch_size: int,
) -> torch.Tensor:
    """Log-likelihoods as `affectlocus.candidates` gives them, from a pass for each candidate.

    As good as the plain way gets: prompts of like length together, a candidate's last token not
    read, and logits only where a candidate is predicted.
    """
    import torch

    result = torch.empty(len(prompts), len(candidates))
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            for column, candidate in enumerate(candidates):
                sequences = [[*prompts[row], *candidate[:-1]] for row in rows]
                width = max(len(ids) for ids in sequences)
                ids = torch.zeros((len(rows), width), dtype=torch.long)
                real = torch.zeros((len(rows), width), dtype=torch.long)
                for place, sequence in enumerate(sequences):
                    ids[place, width - len(sequence) :] = torch.tensor(sequence)
                    real[place, width - len(sequence) :] = 1
                logits = model(
                    input_ids=ids,
                    attention_mask=real,
                    position_ids=(real.cumsum(-1) - 1).clamp(min=0),
                    logits_to_keep=len(candidate),
                    use_cache=False,
                ).logits  # (rows, candidate, vocabulary)
                logs = logits.float().log_softmax(-1)
                each = logs[:, torch.arange(len(candidate)), torch.tensor(candidate)]
                result[rows, column] = each.sum(-1)
    return result


def evaluate(material: Path, out: Path) -> float:
    """affectlocus's own command line on the base's cell; it writes `predictions.parquet`."""
    import affectlocus.evaluate as step
    from affectlocus.cli import main

    scoring, taken = step.evaluate, []

    def timed(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        found = scoring(*given, **named)
        taken.append(time.perf_counter() - start)
        return found

    step.evaluate = timed
    cell = {"kind": "base", "base": "base"}
    sys.argv = ["affectlocus", "evaluate", "--cell", json.dumps(cell)]
    sys.argv += ["--base", str(material / "base.json"), "--data", str(material / "task.parquet")]
    sys.argv += ["--settings", json.dumps({"batch_size": BATCH, "max_length": MAX_LENGTH})]
    sys.argv += ["--out", str(out / "predictions.parquet")]
    sys.argv += ["--verification", str(out / "verification.json")]
    with redirect_stdout(sys.stderr):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
    return sum(taken)


ARMS: dict[str, Callable[[Path, Path], float]] = {
    arm.__name__: arm for arm in (one_pass, per_candidate, evaluate)
}

if __name__ == "__main__":
    seconds = ARMS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"engine": seconds}))  # noqa: T201 (its answer)
