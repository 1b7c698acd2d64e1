"""A number out of the likelihoods of candidates, and how far it is from the true one.

Every whole number of a range is a candidate, with an ending, so that no candidate begins another
one ("1" would hold the likelihood of "10"). The candidates' likelihoods, made to sum to one, are
the model's distribution over the range; its mean is the readout with the least squared error under
that distribution, and may lie between whole numbers. `likeliest` takes the mode instead.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from affectlocus.config.tasks import NumberAnswer
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import metric_names

METRICS = metric_names("number")
"""Mean absolute error and root mean squared error, in the number's own unit."""


def read_out(task: str, rows: pd.DataFrame, number: NumberAnswer) -> pd.DataFrame:
    """The true number of each sample and the one that is read out.

    Args:
        task: its name, for messages.
        rows: `sample`, `label` (the true candidate), `candidate`, `loglik` (nats), a row for each
            sample and candidate.

    Returns:
        Columns `sample`, `true`, `read` (float64), in the order of the rows.

    Raises:
        InputError: the candidates are not those of `number`.
    """
    words = number.words
    found = list(dict.fromkeys(rows["candidate"]))
    if set(found) != set(words) or len(rows) % len(words):
        raise InputError(
            f"task {task}: the candidates are {found[0]!r} to {found[-1]!r} ({len(found)}), "
            f"expected {words[0]!r} to {words[-1]!r} ({len(words)}); evaluate it again"
        )
    values = np.array(number.values, dtype=float)
    order = list(dict.fromkeys(rows["sample"]))
    logs = rows.pivot(index="sample", columns="candidate", values="loglik").loc[order, words]
    nats = logs.to_numpy(dtype=float)
    weights = np.exp(nats - nats.max(axis=1, keepdims=True))
    if number.readout == "mean":
        read = weights @ values / weights.sum(axis=1)
    else:
        read = values[weights.argmax(axis=1)]
    labels = rows.drop_duplicates("sample").set_index("sample")["label"].loc[order]
    true = labels.map(dict(zip(words, values, strict=True))).to_numpy(dtype=float)
    return pd.DataFrame({"sample": order, "true": true, "read": read})


def classes(number: NumberAnswer) -> list[str]:
    """The names of the two sides of the cutoff, the positive one last."""
    return [f"below {number.cutoff}", f"{number.cutoff} and above"]


def classed(task: str, numbers: pd.DataFrame, number: NumberAnswer) -> pd.DataFrame:
    """The two sides of the cutoff as labels and answers, as `score.choose` gives those of others.

    A mean is rounded to no whole number first: 9.6 lies below 10.
    """
    assert number.cutoff is not None
    below, above = classes(number)
    columns = {
        name: np.where(numbers[column] >= number.cutoff, above, below)
        for name, column in (("label", "true"), ("answer", "read"))
    }
    return pd.DataFrame({"task": task, "sample": numbers["sample"], **columns})


def sums(numbers: pd.DataFrame) -> np.ndarray:
    """(samples, 3): absolute error, squared error, and 1, whose sums `errors` takes."""
    error = (numbers["read"] - numbers["true"]).to_numpy()
    return np.stack([np.abs(error), error**2, np.ones_like(error)], axis=1)


def errors(totals: np.ndarray) -> dict[str, np.ndarray]:
    """`mae` and `rmse` of shape (...) from sums over samples, (..., 3)."""
    absolute, squared, n = np.moveaxis(totals, -1, 0)
    return {"mae": absolute / n, "rmse": np.sqrt(squared / n)}
