"""Another system's answers from csv files: scored by both protocols, beside the baselines.

The files are the caller's; every sample that one has and another lacks is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from affectlocus.core.errors import InputError
from affectlocus.core.valences import is_rated
from affectlocus.data.table_reader import read_rows, separated
from affectlocus.scoring import baselines, mer_unibench
from affectlocus.scoring import corrected_protocol as corrected
from affectlocus.scoring.wheels import Wheels, words

KINDS = ("hit-rate", "waf")

CHOICES = {
    "last": "the last checkpoint by name",
    "validation": "the best on validation",
    "test": "the best on test (how it is published; it flatters)",
}

ORDER = "by name, numbers as numbers"
"""How checkpoints are ordered (`natural`), as told to a reader."""

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Outputs:
    """Gold labels, and answers to the same samples in the same order.

    Attributes:
        gold: an emotion (hit-rate) or a valence (waf) per sample.
        answers: checkpoint, in the order of `natural` → an open set (hit-rate) or a word (waf)
            per sample.
    """

    gold: list[Any]
    answers: dict[str, list[Any]]


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts names of checkpoints as people count: epoch 5, 30, 100."""
    # Python reads no number of more than 4,300 digits.
    pieces = re.findall(r"\d{1,999}|\D+", name)
    return [(0, int(one), "") if one.isdecimal() else (1, 0, one) for one in pieces]


def read_outputs(kind: str, gold: Path, predictions: Path) -> Outputs:
    """The two files, checked against each other.

    Args:
        kind: one of `KINDS`.
        gold: columns sample and emotion (hit-rate) or value (waf).
        predictions: columns checkpoint, sample and openset (labels joined by |, or a list as the
            released system writes it, ['happy', 'sad']; hit-rate) or prediction (waf).

    Raises:
        InputError: a missing column, no rows, a row without sample or checkpoint, a sample twice,
            a sample that only one of the files has, an emotion that is blank, a value that is
            neither blank nor a number, or infinite.
    """
    known, column = ("emotion", "openset") if kind == "hit-rate" else ("value", "prediction")
    truth = _table(gold, ["sample", known], ["sample"])
    given = _table(predictions, ["checkpoint", "sample", column], ["checkpoint", "sample"])
    extra = given[~given["sample"].isin(truth["sample"])]
    if len(extra):
        raise InputError(
            f"{predictions}: sample {extra['sample'].iloc[0]!r} is not in {gold} "
            f"({extra['sample'].nunique()} such samples); score answers to these gold samples only"
        )
    answers: dict[str, list[Any]] = {}
    for checkpoint in sorted(given["checkpoint"].unique(), key=natural):
        rows = given[given["checkpoint"] == checkpoint].set_index("sample")[column]
        without = truth[~truth["sample"].isin(rows.index)]["sample"]
        if len(without):
            raise InputError(
                f"{predictions}: checkpoint {checkpoint} has no answer to sample "
                f"{without.iloc[0]!r} ({len(without)} such samples); an answer may be empty, but "
                "must be there"
            )
        ordered = rows.loc[truth["sample"]].tolist()
        answers[checkpoint] = (
            [_labels(predictions, *one) for one in zip(truth["sample"], ordered, strict=True)]
            if kind == "hit-rate"
            else ordered
        )
    values = [
        (_emotion if kind == "hit-rate" else _number)(gold, sample, text)
        for sample, text in truth[["sample", known]].itertuples(index=False)
    ]
    return Outputs(values, answers)


def _table(path: Path, columns: list[str], key: list[str]) -> pd.DataFrame:
    frame = read_rows(path)
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r}; expected {', '.join(columns)}, found "
            f"{', '.join(map(str, frame.columns))}"
            + (separated(str(frame.columns[0])) if len(frame.columns) == 1 else "")
        )
    if frame.empty:
        raise InputError(f"{path}: no rows; expected a sample in each")
    for name in key:
        blank = (frame[name].str.strip() == "").to_numpy()
        if blank.any():
            raise InputError(
                f"{path}: row {int(blank.argmax()) + 1} has no {name} ({blank.sum()} such rows); "
                "every row needs one"
            )
    twice = frame[frame.duplicated(key)]
    if len(twice):
        row = ", ".join(f"{name} {twice[name].iloc[0]!r}" for name in key)
        raise InputError(f"{path}: {row} is there twice ({len(twice)} such rows); keep one of them")
    return frame


def _labels(path: Path, sample: str, text: str) -> list[str]:
    """The labels of an open set in either notation."""
    if "|" in text or not (text.startswith("[") or "," in text):
        return words(text, "|")
    try:
        return mer_unibench.open_set(text)
    except InputError as error:
        raise InputError(f"{path}: sample {sample!r}: {error}") from None


def _emotion(path: Path, sample: str, text: str) -> str:
    emotion = text.strip().lower()
    if not emotion:
        raise InputError(f"{path}: sample {sample!r} has no emotion; expected a word")
    return emotion


def _number(path: Path, sample: str, text: str) -> float:
    """A valence; NaN where nobody rated, as the released scorer's reader has it."""
    expected = "a number"
    try:
        if "_" in text:  # which Python reads over
            raise ValueError
        value = float(text) if text.strip() else math.nan
        if math.isinf(value):
            expected = "a finite number"
            raise ValueError
        return value
    except ValueError:
        raise InputError(
            f"{path}: sample {sample!r} has the value {text!r}; expected {expected}, such as -1.5"
        ) from None


@dataclass(frozen=True)
class Scorer:
    """Both protocols for one kind of answer.

    Attributes:
        main: the published measure, by which a checkpoint is chosen.
        published, honest: rows of one list of answers under each protocol; the last row sums up.
            A published score that is not defined is None, with the `reason` beside it.
        fixed: the answers of baselines: what each is called, and what it says to every sample.
    """

    main: str
    published: Callable[[Sequence[Any], Sequence[Any]], list[Answer]]
    honest: Callable[[Sequence[Any], Sequence[Any]], list[Answer]]
    fixed: Callable[[Sequence[Any]], list[tuple[str, Any]]]


def scorer(kind: str, wheels: Wheels | None = None) -> Scorer:
    """The scorer of a kind; hit-rate needs wheels.

    Raises:
        InputError: an unknown kind.
    """
    if kind == "waf":
        return Scorer("waf", _waf, _valence, _fixed_words)
    if kind != "hit-rate" or wheels is None:
        raise InputError(f"found the kind {kind!r}; expected {' or '.join(KINDS)}")

    def published(gold: Sequence[str], answers: Sequence[Sequence[str]]) -> list[Answer]:
        rows: list[Answer] = []
        rates: dict[int, mer_unibench.HitRate] = {}
        undefined: dict[int, str] = {}
        for wheel, clusters in wheels.published.items():
            try:
                rates |= mer_unibench.hit_rates(gold, answers, {wheel: clusters})
            except mer_unibench.UndefinedError as error:
                undefined[wheel] = str(error)
                rows.append(_undefined(error, {"wheel": str(wheel), "n_scored": 0}, "hit_rate"))
            else:
                one = rates[wheel]
                row = {"wheel": str(wheel), "n_scored": one.n_scored, "hit_rate": one.hit_rate}
                rows.append(row)
        mean: Answer = {"wheel": "mean", "n_scored": None}
        if undefined:
            # The released scorer stops at the first of them.
            return [*rows, _undefined(next(iter(undefined.values())), mean, "hit_rate")]
        return [*rows, mean | {"hit_rate": mer_unibench.mean_rate(rates)}]

    def honest(gold: Sequence[str], answers: Sequence[Sequence[str]]) -> list[Answer]:
        scores = corrected.open_sets(gold, answers, wheels.corrected)
        rows = [{"wheel": str(wheel), **asdict(one)} for wheel, one in scores.items()]
        return [*rows, {"wheel": "mean", **asdict(corrected.mean_over_wheels(scores))}]

    def fixed(gold: Sequence[str]) -> list[tuple[str, list[str]]]:
        most = [baselines.majority(gold)]
        labels = sorted(set(gold))
        found = [("majority", most)]
        if published(gold, [most] * len(gold))[-1]["hit_rate"] is not None:
            found.append(("best pair", baselines.best_pair(gold, wheels.published)))
        constants = [("constant", [label]) for label in labels]
        return [*found, ("every label", labels), *constants]

    return Scorer("hit_rate", published, honest, fixed)


def _waf(gold: Sequence[float], answers: Sequence[str]) -> list[Answer]:
    try:
        return [asdict(mer_unibench.waf(gold, answers))]
    except mer_unibench.UndefinedError as error:
        return [_undefined(error, {"n_scored": 0}, "waf", "accuracy")]


def _undefined(why: object, row: Answer, *scores: str) -> Answer:
    """The row with these scores as None, and why they are."""
    return row | dict.fromkeys(scores) | {"reason": str(why)}


def _valence(gold: Sequence[float], answers: Sequence[str]) -> list[Answer]:
    return [asdict(corrected.valence(gold, answers))]


def _fixed_words(gold: Sequence[float]) -> list[tuple[str, str]]:
    rated = [value for value in gold if is_rated(value) and value != 0]
    if not rated:
        # Neutral, or not rated: which the published protocol takes as negative.
        rated = [0.0] if all(value == 0 for value in gold) else [-1.0]
    most = baselines.majority([baselines.valence_label(value) for value in rated])
    return [
        ("majority", most),
        *(("constant", word) for word in ("negative", "neutral", "positive")),
    ]


def score_outputs(
    outputs: Outputs, by: Scorer, choose: str, validation: Outputs | None = None
) -> Answer:
    """Everything about a system's answers in one object, ready for JSON; scores are fractions.

    Args:
        choose: one of `CHOICES`: which checkpoint stands for the system.
        validation: answers to validation samples, by which `validation` chooses.

    Returns:
        `samples`, how many; `answers`, of open sets: of each checkpoint `n_empty`, answers without
        a label, and `n_repeated`, labels that their answer had already; `mer-unibench` and
        `corrected`: rows of each checkpoint (and wheel, and the mean over wheels), where a
        published score that is not defined is None and has a `reason`;
        `baselines`: rows of the same scores of answers that look at no sample; `choice`: the rule,
        the checkpoint it takes (None where it would take one by a score that is not defined), its
        main score, the last, mean and best on test, and the checkpoints in the order in which one
        is last, with what orders them.

    Raises:
        InputError: neither protocol can score any sample.
    """
    rows: dict[str, list[Answer]] = {"mer-unibench": [], "corrected": []}
    main: dict[str, float | None] = {}
    for checkpoint, answers in outputs.answers.items():
        published = by.published(outputs.gold, answers)
        honest = by.honest(outputs.gold, answers)
        main[checkpoint] = published[-1][by.main]
        rows["mer-unibench"] += [{"checkpoint": checkpoint, **row} for row in published]
        rows["corrected"] += [{"checkpoint": checkpoint, **row} for row in honest]
    if not any(row["n_scored"] for each in rows.values() for row in each):
        raise InputError(rows["mer-unibench"][0]["reason"])
    chosen = _chosen(choose, main, by, validation)
    known = [score for score in main.values() if score is not None]
    return {
        "samples": len(outputs.gold),
        **({"answers": _counted(outputs)} if by.main == "hit_rate" else {}),
        **rows,
        "baselines": [
            _baseline(name, said, outputs.gold, by) for name, said in by.fixed(outputs.gold)
        ],
        "choice": {
            "choose": choose,
            "meaning": CHOICES[choose],
            "checkpoint": chosen,
            by.main: None if chosen is None else main[chosen],
            "last": list(main.values())[-1],
            "mean": sum(known) / len(known) if known else None,
            "best_on_test": max(known, default=None),
            "ordered": ORDER,
            "order": list(main),
        },
    }


def _counted(outputs: Outputs) -> list[Answer]:
    """Of open sets: answers without a label, and labels that their answer had already."""
    return [
        {
            "checkpoint": checkpoint,
            "n_empty": sum(not labels for labels in answers),
            "n_repeated": sum(len(labels) - len(set(labels)) for labels in answers),
        }
        for checkpoint, answers in outputs.answers.items()
    ]


def _baseline(name: str, said: Any, gold: Sequence[Any], by: Scorer) -> Answer:
    answers = [said] * len(gold)
    return {
        "baseline": name,
        "answer": said,
        "mer-unibench": by.published(gold, answers)[-1],
        "corrected": by.honest(gold, answers)[-1],
    }


def _chosen(
    choose: str, test: dict[str, float | None], by: Scorer, validation: Outputs | None
) -> str | None:
    """The checkpoint that a rule takes; of equally good ones the first; None without scores."""
    if choose == "last":
        return list(test)[-1]
    if choose == "test":
        return _best(test)
    if choose != "validation" or validation is None:
        raise InputError(f"found the choice {choose!r}; expected {', '.join(CHOICES)}")
    if set(validation.answers) != set(test):
        odd = sorted(set(validation.answers) ^ set(test), key=natural)[0]
        raise InputError(
            f"checkpoint {odd!r} has answers on only one of test and validation; give both"
        )
    return _best(
        {
            checkpoint: by.published(validation.gold, answers)[-1][by.main]
            for checkpoint, answers in validation.answers.items()
        }
    )


def _best(scores: dict[str, float | None]) -> str | None:
    known = {name: score for name, score in scores.items() if score is not None}
    return max(known, key=known.__getitem__, default=None)
