"""The variance components that experiments are drawn from, and the contrasts of the claims."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "workflow"))

from affectlocus.claims.claims import findings_of  # noqa: E402
from affectlocus.claims.evidence import GroupKey, ScoreEvidence, gather_scores  # noqa: E402
from affectlocus.claims.findings import Contrast  # noqa: E402
from affectlocus.claims.paper import module_sets  # noqa: E402
from affectlocus.claims.settings import ClaimsSettings  # noqa: E402
from affectlocus.claims.statistics import GroupDraws  # noqa: E402
from affectlocus.config.claims import PAPER, shipped  # noqa: E402
from affectlocus.core.cells import Cell  # noqa: E402
from affectlocus.core.projections import PROJECTIONS  # noqa: E402
from affectlocus.evaluation.predictions import Predictions  # noqa: E402

COMPONENTS = HERE / "components.csv"
MODULES = (*PROJECTIONS, *module_sets(), "o+gate", "all")
CELLS: tuple[tuple[str, str], ...] = (
    ("base", ""),
    *((kind, modules) for kind in ("load", "tune") for modules in MODULES),
)
"""Kind and module set of each simulated cell."""


@dataclass(frozen=True)
class Components:
    """The variance components of an experiment's mean scores, in points.

    Attributes:
        covariance: (cells, cells), between replicates, in the order of `CELLS`.
        samples: the variance by test samples of the difference of two cells.
    """

    covariance: np.ndarray
    samples: float


def measure(results: Path, pair: str) -> pd.DataFrame:
    """The mean scores of the cells of one pair, from the predictions of a folder of results.

    Returns:
        Columns replicate, kind, modules, score, samples; the last is the variance by test samples
        of the difference from `load gate`.
    """
    files = [*results.glob(f"cells/{pair}/**/predictions.parquet")]
    files += [*results.glob("cells/*/base/**/predictions.parquet")]
    read = [Predictions.read(path) for path in files]
    wanted = [one for one in read if one.cell.kind == "base" or _key(one.cell) in CELLS]
    if not wanted:
        raise SystemExit(f"{results}: no cells of {pair}; run snakemake first, or set --pair")
    scores = gather_scores(wanted, ClaimsSettings())[0]
    gate = (pair, "load", "gate", "")
    rows = []
    for kind, modules in CELLS:
        key: GroupKey = (pair, kind, modules, "")
        if not scores.has(key):
            continue
        values = scores.by_task([key, gate]).mean(axis=-1)  # (2, 1 + draws, replicates)
        samples = (values[0] - values[1])[1:].mean(axis=1).var(ddof=1)
        for replicate, score in zip(scores.common([key]), values[0, 0], strict=False):
            rows.append([replicate, kind, modules, round(float(score), 2), round(samples, 3)])
    return pd.DataFrame(rows, columns=["replicate", "kind", "modules", "score", "samples"])


def _key(cell: Cell) -> tuple[str, str]:
    return ("", "") if cell.mode else (cell.kind, cell.modules)


def components(table: pd.DataFrame) -> Components:
    """The components from the mean scores of replicates.

    A kind of cells that was not measured gets the covariance of the load cells, and is independent
    of them. With more cells than replicates the covariance has no full rank; a trace of independent
    noise is added.

    Args:
        table: as `measure` gives it. The replicates may come from several runs (column `run`),
            whose means are removed.
    """
    runs = table["run"] if "run" in table else pd.Series(0, index=table.index)
    wide = table.assign(run=runs).pivot(
        index=["run", "replicate"], columns=["kind", "modules"], values="score"
    )
    centred = wide - wide.groupby(level="run").transform("mean")
    df = len(wide) - wide.index.get_level_values("run").nunique()
    covariance = np.zeros((len(CELLS), len(CELLS)))
    measured = [cell for cell in CELLS if cell in wide.columns]
    blocks = [measured]
    if not any(kind == "tune" for kind, _ in measured):
        blocks.append([("tune", modules) for kind, modules in measured if kind == "load"])
    for block in blocks:
        source = [("load" if block is not measured else kind, modules) for kind, modules in block]
        values = centred[source].to_numpy()
        places = [CELLS.index(cell) for cell in block]
        covariance[np.ix_(places, places)] = values.T @ values / df
    covariance += 1e-6 * np.trace(covariance) * np.eye(len(CELLS))
    samples = table.loc[table["modules"] != "gate", "samples"].mean()
    return Components(covariance, float(samples))


@dataclass(frozen=True)
class SimulatedClaim:
    """A claim as weights of cells.

    Attributes:
        name: C5 to C12.
        weights: (contrasts, cells); the claim is true if all contrasts are above 0.
        moderate: (contrasts,) bool, whether their variances are moderated.
    """

    name: str
    weights: np.ndarray
    moderate: np.ndarray


def claims() -> list[SimulatedClaim]:
    """The claims on scores, from the rules themselves.

    Each rule is applied to as many replicates as there are cells; in replicate r, cell r has the
    score 1 and the others 0. The values of a contrast are then its weights. The second part of C5,
    on ranks, is not linear and is left out. So is what C12 requires besides, a gain over the base.
    """
    keys: list[GroupKey] = [("p", kind, modules, "") for kind, modules in CELLS]
    places = tuple(range(len(CELLS)))
    groups = {
        (key, place): row * len(CELLS) + place for row, key in enumerate(keys) for place in places
    }
    values = np.eye(len(CELLS)).reshape(1, -1, 1)
    evidence = ScoreEvidence(
        GroupDraws(groups, ("task",), values),
        dict.fromkeys(keys, places),
        by="score",
        cells={key: [" ".join(key)] for key in keys},
    )
    parts: dict[str, list[Contrast]] = {}
    for finding in findings_of(shipped(PAPER), [evidence], [], ClaimsSettings()):
        contrasts = [one for one in finding.contrasts if isinstance(one, Contrast)]
        if finding.stated and contrasts and contrasts[0].unit == "points":
            parts.setdefault(finding.claim, []).extend(contrasts)
    return [
        SimulatedClaim(
            name,
            np.array([one.values for one in contrasts]),
            np.array([one.moderate for one in contrasts]),
        )
        for name, contrasts in parts.items()
    ]


def stacked(claims: Sequence[SimulatedClaim]) -> tuple[np.ndarray, list[slice]]:
    """The weights of all claims, (contrasts, cells), and the place of each claim in them."""
    ends = np.cumsum([len(claim.weights) for claim in claims])
    places = [slice(end - len(claim.weights), end) for claim, end in zip(claims, ends, strict=True)]
    return np.concatenate([claim.weights for claim in claims]), places
