"""The arm of lm-evaluation-harness, run by its own environment: `python harness.py MATERIAL OUT`.

Its own command line answers the material's task. OUT gets its files, with every log-likelihood, and
standard output one JSON object, `engine`: seconds inside its `loglikelihood`, from the samples'
texts to their scores.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

from arms import BATCH_TOKENS, MAX_LENGTH
from lm_eval.__main__ import cli_evaluate
from lm_eval.models.huggingface import HFLM

BATCH = BATCH_TOKENS // 102
"""Requests in a pass: a prompt of about 100 tokens, and a label of three whose last is not read."""


def main(material: Path, out: Path) -> float:
    """Seconds of the scoring itself."""
    taken = []
    scoring = HFLM.loglikelihood

    def timed(*given, **named):
        start = time.perf_counter()
        found = scoring(*given, **named)
        taken.append(time.perf_counter() - start)
        return found

    HFLM.loglikelihood = timed
    (task,) = (material / "harness").glob("*.yaml")
    model = f"pretrained={material / 'base'},dtype=float32,max_length={MAX_LENGTH}"
    sys.argv = ["lm-eval", "run", "--model", "hf", "--model_args", model, "--device", "cpu"]
    sys.argv += ["--tasks", task.stem, "--include_path", str(task.parent)]
    sys.argv += ["--batch_size", str(BATCH), "--output_path", str(out), "--log_samples"]
    with redirect_stdout(sys.stderr):
        cli_evaluate()
    return sum(taken)


if __name__ == "__main__":
    seconds = main(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps({"engine": seconds}))  # noqa: T201 (its answer)
