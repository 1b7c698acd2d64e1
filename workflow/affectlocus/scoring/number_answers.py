"""A number from the likelihoods of candidates, and its distance from the true number.

Every whole number of a range is a candidate. Each candidate has an ending, so that no candidate is
the beginning of another one (the likelihood of "1" would include that of "10"). The likelihoods,
normalised to sum to one, are the model's distribution over the range. The readout `mean` is the
mean of this distribution, which minimises the expected squared error and may lie between whole
numbers. The readout `likeliest` is its mode.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from affectlocus.config.task_answers import NumberAnswer
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import metric_names

METRICS = metric_names("number")
"""Mean absolute error and root mean squared error, in the number's unit."""


def predicted_numbers(task: str, rows: pd.DataFrame, number: NumberAnswer) -> pd.DataFrame:
    """The true and the predicted number of each sample.

    Args:
        task: its name, for messages.
        rows: columns `sample`, `label` (the true candidate), `candidate`, `loglik` (nats); a row
            for each sample and candidate.

    Returns:
        Columns `sample`, `true`, `predicted` (float64), in the order of the rows.

    Raises:
        InputError: the candidates are not those of `number`.
    """
    words = number.words
    found = list(dict.fromkeys(rows["candidate"]))
    if set(found) != set(words) or len(rows) % len(words):
        raise InputError(
            "prediction.other-candidates",
            f"task {task}: found {len(found)} candidates, {found[0]!r} to {found[-1]!r}; expected "
            f"{len(words)}, {words[0]!r} to {words[-1]!r}; evaluate the task again",
            task=task,
            found=found,
            expected=words,
        )
    values = np.array(number.values, dtype=float)
    order = list(dict.fromkeys(rows["sample"]))
    logs = rows.pivot(index="sample", columns="candidate", values="loglik").loc[order, words]
    nats = logs.to_numpy(dtype=float)
    weights = np.exp(nats - nats.max(axis=1, keepdims=True))
    if number.readout == "mean":
        predicted = weights @ values / weights.sum(axis=1)
    else:
        predicted = values[weights.argmax(axis=1)]
    labels = rows.drop_duplicates("sample").set_index("sample")["label"].loc[order]
    true = labels.map(dict(zip(words, values, strict=True))).to_numpy(dtype=float)
    return pd.DataFrame({"sample": order, "true": true, "predicted": predicted})


def class_names(number: NumberAnswer) -> list[str]:
    """The names of the two classes below and above the cutoff; the positive class is the last."""
    return [f"below {number.cutoff}", f"{number.cutoff} and above"]


def class_answers(task: str, numbers: pd.DataFrame, number: NumberAnswer) -> pd.DataFrame:
    """The classes below and above the cutoff as labels and answers, as `cell_answers.choose` does.

    The predicted mean is not rounded: 9.6 is below 10.

    Args:
        numbers: columns `sample`, `true`, `predicted`, from `predicted_numbers`.
    """
    assert number.cutoff is not None
    below, above = class_names(number)
    columns = {
        name: np.where(numbers[column] >= number.cutoff, above, below)
        for name, column in (("label", "true"), ("answer", "predicted"))
    }
    return pd.DataFrame({"task": task, "sample": numbers["sample"], **columns})


def error_sums(numbers: pd.DataFrame) -> np.ndarray:
    """(samples, 3): absolute error, squared error, and 1. `error_metrics` takes their sums."""
    error = (numbers["predicted"] - numbers["true"]).to_numpy()
    return np.stack([np.abs(error), error**2, np.ones_like(error)], axis=1)


def error_metrics(totals: np.ndarray) -> dict[str, np.ndarray]:
    """`mae` and `rmse` of shape (...) from sums over samples, (..., 3)."""
    absolute, squared, n = np.moveaxis(totals, -1, 0)
    return {"mae": absolute / n, "rmse": np.sqrt(squared / n)}
