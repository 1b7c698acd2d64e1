"""Two folders of results compared: what they were made with, verdicts, mean scores and answers.

They may come from another machine, other seeds or another commit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affectlocus.config.experiment import read
from affectlocus.config.scoring import MEAN
from affectlocus.core.errors import InputError
from affectlocus.core.provenance import Difference, differences
from affectlocus.evaluation.predictions import Predictions

_CELL = ["kind", "base", "pair", "modules", "mode"]
_CIRCUMSTANCES = ("code", "versions", "hardware")


@dataclass(frozen=True)
class VerdictPair:
    """A claim's verdict in both results.

    Attributes:
        claim, by: the claim and its measure.
        first, second: the verdicts.
        first_effect, second_effect: the effects; None if a claim is untestable.
        within: whether each effect is inside the interval of the other; None without intervals.
    """

    claim: str
    by: str
    first: str
    second: str
    first_effect: float | None
    second_effect: float | None
    within: bool | None


@dataclass(frozen=True)
class MeanPair:
    """A cell's mean score over tasks in both results.

    Attributes:
        cell: kind, pair or base, modules and mode.
        within: whether each value is inside the interval of the other.
    """

    cell: str
    metric: str
    first: float
    second: float
    within: bool


@dataclass(frozen=True)
class AnswerPair:
    """The answers of a cell that both results have: one with the same seed.

    Attributes:
        samples: how many samples both have.
        differing: how many of them have another answer.
    """

    cell: str
    samples: int
    differing: int


@dataclass(frozen=True)
class Comparison:
    """All differences of two results.

    Attributes:
        parameters: the parameters that differ; None if a params.yaml is missing or unreadable.
        circumstances: code, versions and hardware that differ, from the logs of the jobs.
        verdicts, means, answers: everything that both have.
        only: what only one of them has, by kind: counts in the first and in the second.
    """

    parameters: list[Difference] | None
    circumstances: list[Difference]
    verdicts: list[VerdictPair]
    means: list[MeanPair]
    answers: list[AnswerPair]
    only: dict[str, tuple[int, int]]

    @property
    def conclusion(self) -> str:
        """Whether the results agree, in one sentence."""
        changed = [one for one in self.verdicts if one.first != one.second]
        outside = [one for one in self.means if not one.within]
        parts = [
            f"{len(changed)} of {len(self.verdicts)} verdicts differ" if self.verdicts else "",
            f"{len(outside)} of {len(self.means)} mean scores are outside the interval of the other"
            if self.means
            else "",
        ]
        samples = sum(one.samples for one in self.answers)
        differing = sum(one.differing for one in self.answers)
        if samples:
            parts.append(f"{differing} of {samples} answers of the common cells differ")
        said = ", ".join(part for part in parts if part)
        if not said:
            return "The results have nothing in common."
        if not changed and not outside and not differing:
            same = "are the same" if self._same_numbers else "agree"
        else:
            # A few means are outside by chance: each interval misses one in twenty.
            few = len(outside) <= max(1, 0.05 * len(self.means))
            same = "agree" if not changed and few else "differ"
        return f"The results {same}: {said}."

    @property
    def _same_numbers(self) -> bool:
        return all(one.first == one.second for one in self.means) and all(
            one.first_effect == one.second_effect for one in self.verdicts
        )

    def as_json(self) -> dict[str, Any]:
        """The comparison as one object."""

        def plain(items: list[Any] | None) -> list[dict[str, Any]] | None:
            return None if items is None else [asdict(one) for one in items]

        return {
            "conclusion": self.conclusion,
            "parameters": plain(self.parameters),
            "circumstances": plain(self.circumstances),
            "verdicts": plain(self.verdicts),
            "means": plain(self.means),
            "answers": plain(self.answers),
            "only": {kind: {"first": one, "second": two} for kind, (one, two) in self.only.items()},
        }


def compare_results(first: Path, second: Path) -> Comparison:
    """Compares two folders of results.

    Raises:
        InputError: a folder does not exist or has no results.
    """
    for folder in (first, second):
        if not folder.is_dir():
            raise InputError(
                "result.no-folder",
                f"{folder}: no such folder; expected an experiment's folder of results",
                file=folder,
            )
        if not any((folder / name).exists() for name in ("scores.parquet", "claims.csv", "cells")):
            inside = folder / "results"
            advice = f"give {inside}" if inside.is_dir() else "run snakemake first"
            raise InputError(
                "result.no-results",
                f"{folder}: no scores.parquet, claims.csv or cells; expected the folder of results "
                f"of an experiment: {advice}",
                file=folder,
            )
    verdicts, lone_verdicts = _verdicts(_claims(first), _claims(second))
    means, lone_means = _means(_scores(first), _scores(second))
    answers, lone_cells = _answers(first / "cells", second / "cells")
    return Comparison(
        _parameters(first, second),
        differences(_made_with(first), _made_with(second)),
        verdicts,
        means,
        answers,
        {"verdicts": lone_verdicts, "means": lone_means, "cells": lone_cells},
    )


def _parameters(first: Path, second: Path) -> list[Difference] | None:
    try:
        one, two = (read(folder.resolve().parent / "params.yaml") for folder in (first, second))
    except InputError:
        return None
    return differences(one, two)


def _made_with(folder: Path) -> dict[str, str]:
    """The code, versions and hardware in the log of the last step that has one."""
    logs = sorted((folder / "logs").rglob("*.log"), key=lambda path: path.stat().st_mtime)
    for log in reversed(logs):
        with log.open(encoding="utf-8", errors="replace") as lines:
            head = [line for _, line in zip(range(8), lines, strict=False)]
        found = dict(re.findall(r"^# (\w+): (.*)$", "".join(head), re.MULTILINE))
        if "code" in found:
            return {name: found[name] for name in _CIRCUMSTANCES if name in found}
    return {}


def _claims(folder: Path) -> pd.DataFrame:
    path = folder / "claims.csv"
    if not path.is_file():
        return pd.DataFrame(columns=["claim", "level", "by", "verdict", "effect", "low", "high"])
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def _verdicts(
    first: pd.DataFrame, second: pd.DataFrame
) -> tuple[list[VerdictPair], tuple[int, int]]:
    rows = [
        {(str(row["claim"]), str(row["by"])): row for row in frame.to_dict("records")}
        for frame in (one[one["level"] == "claim"] for one in (first, second))
    ]
    common = [key for key in rows[0] if key in rows[1]]
    found = []
    for claim, by in common:
        one, two = rows[0][claim, by], rows[1][claim, by]
        found.append(
            VerdictPair(
                claim,
                by,
                str(one["verdict"]),
                str(two["verdict"]),
                _known(one["effect"]),
                _known(two["effect"]),
                _both_within(*((row["effect"], row["low"], row["high"]) for row in (one, two))),
            )
        )
    return found, (len(rows[0]) - len(common), len(rows[1]) - len(common))


def _both_within(one: tuple[Any, Any, Any], two: tuple[Any, Any, Any]) -> bool | None:
    """Whether each value is inside the other's interval; (value, low, high)."""
    if any(pd.isna(number) for number in (*one, *two)):
        return None
    return bool(one[1] <= two[0] <= one[2] and two[1] <= one[0] <= two[2])


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _scores(folder: Path) -> pd.DataFrame:
    """The mean scores over tasks of each cell: over replicates if there are several."""
    path = folder / "scores.parquet"
    if not path.is_file():
        return pd.DataFrame(columns=[*_CELL, "metric", "value", "low", "high"])
    rows = pd.read_parquet(path)
    rows = rows[rows["task"] == MEAN]
    # The row over all replicates and draws has neither; with one replicate, its row is the mean.
    rows = rows.assign(single=rows["seed"].notna() | rows["draw"].notna())
    rows = rows.sort_values(["single", "seed"], kind="stable")
    return rows.drop_duplicates([*_CELL, "metric"])


def _means(first: pd.DataFrame, second: pd.DataFrame) -> tuple[list[MeanPair], tuple[int, int]]:
    keys = [*_CELL, "metric"]
    both = first.merge(second, on=keys, suffixes=("_first", "_second"))
    found = []
    for row in both.to_dict("records"):
        sides = [
            tuple(row[f"{name}_{side}"] for name in ("value", "low", "high"))
            for side in ("first", "second")
        ]
        one, two = sides
        within = _both_within(one, two)
        found.append(
            MeanPair(
                _named(row),
                str(row["metric"]),
                float(one[0]),
                float(two[0]),
                bool(one[0] == two[0]) if within is None else within,
            )
        )
    return found, (len(first) - len(both), len(second) - len(both))


def _named(row: Mapping[Any, Any]) -> str:
    of = row["pair"] or row["base"]
    modules = row["modules"] if row["modules"] not in (row["kind"], "") else ""
    return "/".join(str(part) for part in (of, row["kind"], modules, row["mode"]) if part)


def _answers(first: Path, second: Path) -> tuple[list[AnswerPair], tuple[int, int]]:
    """The answers of cells with the same id; files with the same bytes are not read."""
    files = [
        {
            path.parent.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("predictions.parquet"))
        }
        for folder in (first, second)
    ]
    common = [cell for cell in files[0] if cell in files[1]]
    found = []
    for cell in common:
        one, two = files[0][cell], files[1][cell]
        same = one.stat().st_size == two.stat().st_size and one.read_bytes() == two.read_bytes()
        answers = _chosen(one)
        if same:
            found.append(AnswerPair(cell, len(answers), 0))
            continue
        both = pd.concat([answers, _chosen(two)], axis=1, join="inner", keys=["one", "two"])
        differing = (both["one"] != both["two"]) & ~(both["one"].isna() & both["two"].isna())
        found.append(AnswerPair(cell, len(both), int(np.count_nonzero(differing))))
    return found, (len(files[0]) - len(common), len(files[1]) - len(common))


def _chosen(path: Path) -> pd.Series:
    """(task, sample) → the candidate with the highest log-likelihood, or the text."""
    rows = Predictions.read(path).rows
    said = rows["candidate"] if "candidate" in rows else pd.Series(pd.NA, index=rows.index)
    if "text" in rows:
        said = said.where(said.notna(), rows["text"])
    # A stable sort keeps the first of several candidates with the same log-likelihood.
    order = rows["loglik"].sort_values(ascending=False, kind="stable", na_position="last").index
    best = rows.loc[order, ["task", "sample"]].astype(str).assign(said=said)
    return best.drop_duplicates(["task", "sample"]).set_index(["task", "sample"])["said"]
