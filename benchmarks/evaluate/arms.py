"""The arms of the benchmark, each a process of its own: `python arms.py ARM MATERIAL OUT`.

Writes what it found into the folder OUT and prints one JSON object, `engine`: seconds from the
samples' texts to their log-likelihoods, model and imports loaded. The harness's arm is in
`harness.py`, which its own environment runs; `agreement.py` compares what all have found.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BATCH_TOKENS = 8192
MAX_LENGTH = 512
SETTINGS = json.dumps({"batch_tokens": BATCH_TOKENS, "max_length": MAX_LENGTH})


def _loaded(material: Path) -> tuple[Any, Any, list[str], list[str]]:
    """Model, prompter, texts of the prompts and labels."""
    from affectlocus.core.cells import Cell
    from affectlocus.data.prepared_task import PreparedTask
    from affectlocus.evaluation.evaluate import CellModel
    from affectlocus.lm.prompts import Prompter

    task = PreparedTask.read(material / "task.parquet")
    shared = CellModel(material / "base")
    shared.become(None, Cell("base", "base"))
    return shared.model, Prompter(material / "base"), task.samples["prompt"].tolist(), task.labels


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
    scores = way(model, prompts, [prompter.answer(label) for label in labels], BATCH_TOKENS)
    seconds = time.perf_counter() - start
    np.save(out / "scores.npy", scores.numpy())
    return seconds


def one_pass(material: Path, out: Path) -> float:
    """affectlocus: all labels of a sample in one forward pass."""
    from affectlocus.lm.candidates import log_likelihoods

    return _timed(material, out, log_likelihoods)


def per_candidate(material: Path, out: Path) -> float:
    """The plain way: every prompt once again for each label."""
    return _timed(material, out, each_candidate)


def each_candidate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[int]],
    batch_tokens: int,
) -> torch.Tensor:
    """Log-likelihoods as `affectlocus.lm.candidates` gives them, from a pass for each candidate.

    As good as the plain way gets: prompts of like length together up to the same number of tokens,
    a candidate's last token not read, and logits only where a candidate is predicted.
    """
    import torch

    result = torch.empty(len(prompts), len(candidates))
    with torch.inference_mode():
        for column, candidate in enumerate(candidates):
            whole = [[*prompt, *candidate[:-1]] for prompt in prompts]
            for rows in grouped([len(ids) for ids in whole], batch_tokens):
                width = max(len(whole[row]) for row in rows)
                ids = torch.zeros((len(rows), width), dtype=torch.long)
                real = torch.zeros((len(rows), width), dtype=torch.long)
                for place, row in enumerate(rows):
                    ids[place, width - len(whole[row]) :] = torch.tensor(whole[row])
                    real[place, width - len(whole[row]) :] = 1
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


def grouped(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Rows of like length, as many at once as stay within a budget of padded tokens."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[row] > budget:
            yield group
            group = []
        group.append(row)
    yield group


def evaluate(material: Path, out: Path) -> float:
    """affectlocus's own command line on the base's cell; it writes a table of predictions."""
    import affectlocus.evaluation.evaluate as step
    from affectlocus.cli import app
    from affectlocus.lm import readouts

    taken: list[float] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            found = function(*given, **named)
            taken.append(time.perf_counter() - start)
            return found

        return timed

    command = ["evaluate", str(out / "base" / "base" / "predictions.parquet")]
    command += ["--cells", '{"kind": "base"}']
    command += ["--base", str(material / "base.json"), "--data", str(material / "task.parquet")]
    with (
        # From texts to tokens, and from tokens to scores.
        patch.object(readouts.CandidateReadout, "of", counted(readouts.CandidateReadout.of)),
        patch.object(step, "evaluate", counted(step.evaluate)),
        redirect_stdout(sys.stderr),
    ):
        app([*command, "--settings", SETTINGS], standalone_mode=False)
    return sum(taken)


ARMS: dict[str, Callable[[Path, Path], float]] = {
    arm.__name__: arm for arm in (one_pass, per_candidate, evaluate)
}

if __name__ == "__main__":
    seconds = ARMS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"engine": seconds}))  # noqa: T201 (its answer)
