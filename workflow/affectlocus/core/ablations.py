"""The registry of ablations: one entry holds what an ablation does, its label and its colour.

To add an ablation, add one entry. The choices of params.yaml, cells, claims and figures read this
registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class RandomChanges(Protocol):
    """Random changes of one matrix, always the same for a seed and a tensor's name."""

    def shuffled(self, delta: np.ndarray) -> np.ndarray:
        """The delta's entries in a random order, float64: norm and histogram stay the same."""
        ...

    def noise_like(self, delta: np.ndarray) -> np.ndarray:
        """Gaussian noise with the Frobenius norm of the delta, float64."""
        ...


Apply = Callable[
    [np.ndarray, np.ndarray, Callable[[], np.ndarray], Callable[[], RandomChanges]], np.ndarray
]
"""(base, tuned, delta, random) → the ablated matrix, (d_out, d_in).

`base` and `tuned` are in their stored dtypes. `delta` gives tuned minus base in float64, and
`random` the random changes of the cell's seed and the tensor's name. A result in float64 is
rounded to the tuned dtype.
"""


@dataclass(frozen=True)
class Ablation:
    """One way to destroy a module set of the tuned model.

    Attributes:
        name: the cell's mode, as in params.yaml and in the column `mode` of results.
        label: what takes the delta's place, in words.
        apply: the function.
        random: whether it draws random numbers, so that one cell is one draw.
        colour, hatch: how figures draw it: in greys, because the colours are those of projections.
    """

    name: str
    label: str
    apply: Apply
    random: bool
    colour: str
    hatch: str


_ALL = (
    Ablation("revert", "the base's values", lambda base, *_: base, False, "#8C8C8C", ""),
    Ablation("zero", "zeros", lambda _, tuned, *__: np.zeros_like(tuned), False, "#FFFFFF", "////"),
    Ablation(
        "shuffle",
        "the delta's entries in random order",
        lambda base, _, delta, random: base.astype(np.float64) + random().shuffled(delta()),
        True,
        "#D0D0D0",
        "",
    ),
    Ablation(
        "noise",
        "noise of the delta's norm",
        lambda base, _, delta, random: base.astype(np.float64) + random().noise_like(delta()),
        True,
        "#E6E6E6",
        "\\\\\\\\",
    ),
)

ABLATIONS: dict[str, Ablation] = {ablation.name: ablation for ablation in _ALL}
"""Name → ablation, in the order of tables and figures."""
