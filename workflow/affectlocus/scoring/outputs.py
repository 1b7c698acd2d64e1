"""Answers of other systems in csv files: scored under both protocols, and compared with baselines.

The files must contain the same samples; the first sample that is missing in a file is named.
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
from affectlocus.data.columns import check_columns, naming
from affectlocus.data.table_reader import read_table
from affectlocus.scoring import baselines, corrected_protocol, mer_unibench
from affectlocus.scoring.wheels import Wheels, words

KINDS = ("hit-rate", "waf")

# choose → its meaning, as it is printed.
CHOICES = {
    "last": "the last checkpoint by name",
    "validation": "the best on validation",
    "test": "the best on test (as in published results; optimistic)",
}

ORDER = "by name, numbers as numbers"
"""The order of checkpoints (`natural_key`), as it is printed."""

ScoreRow: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Outputs:
    """Gold labels, and answers to the same samples in the same order.

    Attributes:
        gold: an emotion (hit-rate) or a valence (waf) per sample.
        answers: checkpoint → an open set (hit-rate) or a word (waf) per sample; checkpoints are
            sorted by `natural_key`.
    """

    gold: list[Any]
    answers: dict[str, list[Any]]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sort key for checkpoint names in which numbers compare as numbers: epoch 5, 30, 100."""
    # Python refuses to convert numbers of more than 4,300 digits.
    pieces = re.findall(r"\d{1,999}|\D+", name)
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def read_outputs(kind: str, gold: Path, predictions: Path) -> Outputs:
    """Reads the two files and verifies that they contain the same samples.

    Args:
        kind: one of `KINDS`.
        gold: columns sample and emotion (hit-rate) or value (waf).
        predictions: columns checkpoint, sample and openset (hit-rate: labels joined by |, or a list
            as the released system writes it, ['happy', 'sad']) or prediction (waf).

    Raises:
        InputError: a missing column, no rows, a row without sample or checkpoint, a duplicate
            sample, a sample that only one of the files has, a blank emotion, or a value that is
            infinite or not a number.
    """
    gold_column, column = ("emotion", "openset") if kind == "hit-rate" else ("value", "prediction")
    truth = _table(gold, ["sample", gold_column], ["sample"])
    table = _table(predictions, ["checkpoint", "sample", column], ["checkpoint", "sample"])
    extra = table[~table["sample"].isin(truth["sample"])]
    if len(extra):
        sample = extra["sample"].iloc[0]
        raise InputError(
            "prediction.sample-not-in-gold",
            f"{predictions}: sample {sample!r} is not in {gold} ({extra['sample'].nunique()} such "
            "samples); remove these answers, or add the samples to the gold file",
            file=predictions,
            sample=sample,
            rows=extra["sample"].nunique(),
        )
    answers: dict[str, list[Any]] = {}
    for checkpoint in sorted(table["checkpoint"].unique(), key=natural_key):
        rows = table[table["checkpoint"] == checkpoint].set_index("sample")[column]
        missing = truth[~truth["sample"].isin(rows.index)]["sample"]
        if len(missing):
            raise InputError(
                "prediction.no-answer",
                f"{predictions}: checkpoint {checkpoint} has no answer to sample "
                f"{missing.iloc[0]!r} ({len(missing)} such samples); every sample needs a row, "
                "whose answer may be empty",
                file=predictions,
                checkpoint=checkpoint,
                sample=missing.iloc[0],
                rows=len(missing),
            )
        ordered = rows.loc[truth["sample"]].tolist()
        answers[checkpoint] = (
            [
                _labels(predictions, sample, text)
                for sample, text in zip(truth["sample"], ordered, strict=True)
            ]
            if kind == "hit-rate"
            else ordered
        )
    values = [
        (_emotion if kind == "hit-rate" else _number)(gold, sample, text)
        for sample, text in truth[["sample", gold_column]].itertuples(index=False)
    ]
    return Outputs(values, answers)


def _table(path: Path, columns: list[str], key: list[str]) -> pd.DataFrame:
    """The rows of a csv file, in which the key columns are not blank and unique."""
    frame = read_table(path).rows
    with naming(path):
        _check_table(frame, columns, key)
    return frame


def _check_table(frame: pd.DataFrame, columns: list[str], key: list[str]) -> None:
    check_columns(frame, columns)
    if frame.empty:
        raise InputError("table.no-rows", "no rows below the header; expected a row per sample")
    for name in key:
        blank = (frame[name].str.strip() == "").to_numpy()
        if blank.any():
            row = int(blank.argmax()) + 1
            raise InputError(
                "table.empty-field",
                f"row {row} has no {name} ({blank.sum()} such rows); every row needs one",
                column=name,
                row=row,
                rows=int(blank.sum()),
            )
    duplicates = frame[frame.duplicated(key)]
    if len(duplicates):
        values = {name: duplicates[name].iloc[0] for name in key}
        named = ", ".join(f"{name} {value!r}" for name, value in values.items())
        raise InputError(
            "table.duplicate-row",
            f"{named} occurs twice ({len(duplicates)} duplicate rows); keep one of them",
            rows=len(duplicates),
            **values,
        )


def _labels(path: Path, sample: str, text: str) -> list[str]:
    """The labels of an open set: joined by |, or written as a list."""
    if "|" in text or not (text.startswith("[") or "," in text):
        return words(text, "|")
    try:
        return mer_unibench.parse_open_set(text)
    except InputError as error:
        place = f"{path}: sample {sample!r}"
        raise error.within(place, file=path, sample=sample) from None


def _emotion(path: Path, sample: str, text: str) -> str:
    emotion = text.strip().lower()
    if not emotion:
        raise InputError(
            "table.empty-field",
            f"{path}: sample {sample!r} has no emotion; expected a word",
            file=path,
            column="emotion",
            sample=sample,
        )
    return emotion


def _number(path: Path, sample: str, text: str) -> float:
    """A valence. A blank one (not rated) is NaN, as the released scorer reads it."""
    expected = "a number"
    try:
        if "_" in text:  # Python accepts 1_000 as a number
            raise ValueError
        value = float(text) if text.strip() else math.nan
        if math.isinf(value):
            expected = "a finite number"
            raise ValueError
        return value
    except ValueError:
        raise InputError(
            "table.not-a-number",
            f"{path}: sample {sample!r} has the value {text!r}; expected {expected}, such as -1.5",
            file=path,
            column="value",
            sample=sample,
            found=text,
            expected=expected,
        ) from None


@dataclass(frozen=True)
class Scorer:
    """Both protocols for one kind of answer.

    Attributes:
        main: the published score, which selects a checkpoint.
        published, corrected: (gold, answers) → rows of scores under each protocol. The last row is
            the summary. An undefined published score is None, and the row has a `reason`.
        baselines: gold → (name, constant answer) of each baseline.
    """

    main: str
    published: Callable[[Sequence[Any], Sequence[Any]], list[ScoreRow]]
    corrected: Callable[[Sequence[Any], Sequence[Any]], list[ScoreRow]]
    baselines: Callable[[Sequence[Any]], list[tuple[str, Any]]]


def scorer(kind: str, wheels: Wheels | None = None) -> Scorer:
    """The scorer of a kind.

    Args:
        kind: one of `KINDS`.
        wheels: needed by hit-rate.
    """
    if kind == "waf":
        return Scorer("waf", _published_valence, _corrected_valence, _constant_words)
    assert wheels is not None

    def published(gold: Sequence[str], answers: Sequence[Sequence[str]]) -> list[ScoreRow]:
        rows: list[ScoreRow] = []
        rates: dict[int, mer_unibench.HitRate] = {}
        undefined: dict[int, str] = {}
        for wheel, clusters in wheels.published.items():
            try:
                rates |= mer_unibench.hit_rates(gold, answers, {wheel: clusters})
            except mer_unibench.UndefinedError as error:
                undefined[wheel] = str(error)
                rows.append(_undefined(error, {"wheel": str(wheel), "n_scored": 0}, "hit_rate"))
            else:
                rate = rates[wheel]
                row = {"wheel": str(wheel), "n_scored": rate.n_scored, "hit_rate": rate.hit_rate}
                rows.append(row)
        mean: ScoreRow = {"wheel": "mean", "n_scored": None}
        if undefined:
            # The released scorer stops at the first undefined wheel.
            return [*rows, _undefined(next(iter(undefined.values())), mean, "hit_rate")]
        return [*rows, mean | {"hit_rate": mer_unibench.mean_rate(rates)}]

    def corrected(gold: Sequence[str], answers: Sequence[Sequence[str]]) -> list[ScoreRow]:
        scores = corrected_protocol.open_set_scores(gold, answers, wheels.corrected)
        rows = [{"wheel": str(wheel), **asdict(own)} for wheel, own in scores.items()]
        return [*rows, {"wheel": "mean", **asdict(corrected_protocol.mean_over_wheels(scores))}]

    def constants(gold: Sequence[str]) -> list[tuple[str, list[str]]]:
        most = [baselines.majority(gold)]
        labels = sorted(set(gold))
        found = [("majority", most)]
        if published(gold, [most] * len(gold))[-1]["hit_rate"] is not None:
            found.append(("best pair", baselines.best_pair(gold, wheels.published)))
        single = [("constant", [label]) for label in labels]
        return [*found, ("every label", labels), *single]

    return Scorer("hit_rate", published, corrected, constants)


def _published_valence(gold: Sequence[float], answers: Sequence[str]) -> list[ScoreRow]:
    try:
        return [asdict(mer_unibench.waf(gold, answers))]
    except mer_unibench.UndefinedError as error:
        return [_undefined(error, {"n_scored": 0}, "waf", "accuracy")]


def _undefined(reason: object, row: ScoreRow, *scores: str) -> ScoreRow:
    """The row with None for these scores, and the reason."""
    return row | dict.fromkeys(scores) | {"reason": str(reason)}


def _corrected_valence(gold: Sequence[float], answers: Sequence[str]) -> list[ScoreRow]:
    return [asdict(corrected_protocol.valence_scores(gold, answers))]


def _constant_words(gold: Sequence[float]) -> list[tuple[str, str]]:
    rated = [value for value in gold if is_rated(value) and value != 0]
    if not rated:
        # All samples are neutral, or some are not rated; the published protocol counts samples that
        # are not rated as negative.
        rated = [0.0] if all(value == 0 for value in gold) else [-1.0]
    most = baselines.majority([baselines.valence_label(value) for value in rated])
    return [
        ("majority", most),
        *(("constant", word) for word in ("negative", "neutral", "positive")),
    ]


def score_outputs(
    outputs: Outputs, by: Scorer, choose: str, validation: Outputs | None = None
) -> dict[str, Any]:
    """All scores of a system in one object that can be written as JSON; scores are fractions.

    Args:
        choose: one of `CHOICES`, the rule that selects the checkpoint of the system.
        validation: answers to validation samples; needed by the rule `validation`.

    Returns:
        - `samples`: their number.
        - `answers` (open sets only), per checkpoint: `n_empty`, answers without a label;
          `n_repeated`, labels that repeat another label of the same answer.
        - `mer-unibench` and `corrected`: rows of scores per checkpoint (and wheel, and the mean
          over wheels). An undefined published score is None, and the row has a `reason`.
        - `baselines`: the same scores of constant answers.
        - `choice`: the rule and its meaning; the selected checkpoint (None if the score that
          selects it is undefined) and its main score; the last, mean and best score on test; the
          checkpoints in order, and the name of this order.

    Raises:
        InputError: neither protocol can score any sample.
    """
    rows: dict[str, list[ScoreRow]] = {"mer-unibench": [], "corrected": []}
    main: dict[str, float | None] = {}
    for checkpoint, answers in outputs.answers.items():
        published = by.published(outputs.gold, answers)
        corrected = by.corrected(outputs.gold, answers)
        main[checkpoint] = published[-1][by.main]
        rows["mer-unibench"] += [{"checkpoint": checkpoint, **row} for row in published]
        rows["corrected"] += [{"checkpoint": checkpoint, **row} for row in corrected]
    if not any(row["n_scored"] for protocol_rows in rows.values() for row in protocol_rows):
        raise InputError("score.undefined", rows["mer-unibench"][0]["reason"])
    chosen = _chosen(choose, main, by, validation)
    known = [score for score in main.values() if score is not None]
    return {
        "samples": len(outputs.gold),
        **({"answers": _label_counts(outputs)} if by.main == "hit_rate" else {}),
        **rows,
        "baselines": [
            _baseline(name, answer, outputs.gold, by) for name, answer in by.baselines(outputs.gold)
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


def _label_counts(outputs: Outputs) -> list[dict[str, Any]]:
    """Per checkpoint with open sets: the numbers of empty answers and of repeated labels."""
    return [
        {
            "checkpoint": checkpoint,
            "n_empty": sum(not labels for labels in answers),
            "n_repeated": sum(len(labels) - len(set(labels)) for labels in answers),
        }
        for checkpoint, answers in outputs.answers.items()
    ]


def _baseline(name: str, answer: Any, gold: Sequence[Any], by: Scorer) -> dict[str, Any]:
    answers = [answer] * len(gold)
    return {
        "baseline": name,
        "answer": answer,
        "mer-unibench": by.published(gold, answers)[-1],
        "corrected": by.corrected(gold, answers)[-1],
    }


def _chosen(
    choose: str, test: dict[str, float | None], by: Scorer, validation: Outputs | None
) -> str | None:
    """The checkpoint that a rule selects; the first of equally good ones; None without scores."""
    if choose == "last":
        return list(test)[-1]
    if choose == "test":
        return _best(test)
    assert validation is not None
    if set(validation.answers) != set(test):
        name = sorted(set(validation.answers) ^ set(test), key=natural_key)[0]
        present = "test" if name in test else "validation"
        absent = "validation" if name in test else "test"
        raise InputError(
            "prediction.checkpoint-of-one-split",
            f"checkpoint {name!r} has answers to {present} samples and none to {absent} samples; "
            "give both for every checkpoint",
            checkpoint=name,
            found=present,
            expected=absent,
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
