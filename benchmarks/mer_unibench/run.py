"""Scores the seven released MELD checkpoints under both protocols.

Writes results.csv and the tables of README.md in this folder. They contain numbers only, no texts
of the data set.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from timing import put_tables, write_results  # noqa: E402

from affectlocus.scoring.baselines import best_pair, majority  # noqa: E402
from affectlocus.scoring.outputs import Outputs, Scorer, read_outputs, scorer  # noqa: E402
from affectlocus.scoring.wheels import read  # noqa: E402

MATERIAL = HERE.parents[2] / "shared" / "real" / "mer_unibench"
TOLERANCE = 1e-12
CORRECTED = {
    "coverage": "scored",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "mapped_labels": "labels with a cluster",
}
COLUMNS = ["answers", "wheel", "n_scored", "expected", "hit_rate", *CORRECTED, "labels_per_sample"]

Row = dict[str, Any]


def figures(material: Path) -> list[Row]:
    """A row for every checkpoint or constant answer and every wheel or their mean.

    Args:
        material: a folder with meld_gold.csv, meld_openset.csv, expected.csv (the hit rates of the
            released scorer) and emotion_wheel.

    Raises:
        SystemExit: a hit rate that differs from the released scorer's by more than 1e-12, or
            another number of scored samples.
    """
    wheels = read(material / "emotion_wheel")
    by = scorer("hit-rate", wheels)
    outputs = read_outputs("hit-rate", material / "meld_gold.csv", material / "meld_openset.csv")
    with (material / "expected.csv").open(encoding="utf-8", newline="") as stream:
        expected = {(one["checkpoint"], one["wheel"]): one for one in csv.DictReader(stream)}
    rows = []
    for name, answers in outputs.answers.items():
        for row in _scored(name, outputs, answers, by):
            known = expected.pop((name, row["wheel"]))
            row["expected"] = float(known["hit_rate"])
            if str(row["n_scored"] or "") != known["n_scored"]:
                raise SystemExit(
                    f"{name}, wheel {row['wheel']}: scored {row['n_scored']} samples; expected "
                    f"{known['n_scored']}"
                )
            if abs(row["expected"] - row["hit_rate"]) > TOLERANCE:
                raise SystemExit(
                    f"{name}, wheel {row['wheel']}: hit rate {row['hit_rate']}; expected "
                    f"{row['expected']}"
                )
            rows.append(row)
    if expected:
        raise SystemExit(
            f"meld_openset.csv: no answers of {', '.join(map(str, expected))}, which expected.csv "
            "has"
        )
    for name, constant in constants(outputs.gold, wheels.published).items():
        rows += _scored(name, outputs, [constant] * len(outputs.gold), by)
    return rows


def constants(gold: Sequence[str], published: Any) -> dict[str, list[str]]:
    """The name of each constant answer in the tables → its labels."""
    labels = sorted(set(gold))
    pair = best_pair(gold, published)
    return {
        f'"{majority(gold)}" (the majority)': [majority(gold)],
        '"happy, angry"': ["happy", "angry"],
        f'"{", ".join(pair)}" (the best pair)': pair,
        f"all {len(labels)} labels": labels,
        **{f'"{label}"': [label] for label in labels if label != majority(gold)},
    }


def _scored(name: str, outputs: Outputs, answers: Sequence[Any], by: Scorer) -> list[Row]:
    published = by.published(outputs.gold, answers)
    corrected = by.corrected(outputs.gold, answers)
    return [
        {"answers": name, "expected": None, **own, **{k: v for k, v in one.items() if k not in own}}
        for own, one in zip(published, corrected, strict=True)
    ]


def tables(rows: Sequence[Row]) -> str:
    """The tables of the README, in percent."""
    wheels = list(dict.fromkeys(row["wheel"] for row in rows))
    by = {(row["answers"], row["wheel"]): row for row in rows}
    names = list(dict.fromkeys(row["answers"] for row in rows))
    systems = [name for name in names if by[name, "mean"]["expected"] is not None]
    fixed = [name for name in names if name not in systems]
    titles = [wheel if wheel == "mean" else f"wheel {wheel}" for wheel in wheels]

    def over(name: str, key: str) -> list[str]:
        return [_percent(by[name, wheel][key]) for wheel in wheels]

    scored = [str(by[names[0], wheel]["n_scored"] or "") for wheel in wheels]
    parts = ["### Published protocol: hit rate"]
    lines = [("samples scored", *scored)]
    for name in systems:
        lines += [(f"{name}, released scorer", *over(name, "expected"))]
        lines += [(f"{name}, **affectlocus**", *over(name, "hit_rate"))]
    parts.append(_table(["checkpoint", *titles], lines))
    parts.append(
        f"The two scorers differ by less than {TOLERANCE:g} in each of the "
        f"{len(systems) * len(wheels)} numbers, and they score the same samples."
    )
    parts.append("### Constant answers: hit rate")
    parts.append(
        _table(["to every sample", *titles], [(name, *over(name, "hit_rate")) for name in fixed])
    )
    parts.append("### Corrected protocol, mean over wheels")
    shown = ["precision", "recall", "f1", "macro_precision", "macro_recall", "macro_f1"]
    lines = [
        (
            name,
            *(_percent(by[name, "mean"][key]) for key in shown),
            f"{by[name, 'mean']['labels_per_sample']:.2f}",
            _percent(by[name, "mean"]["hit_rate"]),
        )
        for name in names
    ]
    header = ["checkpoint or constant", *(CORRECTED[key] for key in shown), "labels", "published"]
    parts.append(_table(header, lines))
    parts.append("### Corrected protocol, wheel by wheel")
    lines = [
        (name, row["wheel"], *(_percent(row[key]) for key in CORRECTED))
        for name in systems
        for row in (by[name, wheel] for wheel in wheels)
    ]
    parts.append(_table(["checkpoint", "wheel", *CORRECTED.values()], lines))
    parts.append("### The checkpoint that represents the system")
    parts.append(_choices(systems, by))
    return "\n\n".join(parts) + "\n"


def _choices(systems: Sequence[str], by: dict[tuple[str, str], Row]) -> str:
    def of(name: str) -> list[str]:
        row = by[name, "mean"]
        return [_percent(row[key]) for key in ("hit_rate", "f1", "macro_f1")]

    def best(key: str) -> str:
        return max(systems, key=lambda name: by[name, "mean"][key])

    means = [
        _percent(sum(by[name, "mean"][key] for name in systems) / len(systems))
        for key in ("hit_rate", "f1", "macro_f1")
    ]
    lines = [
        ("last", systems[-1], *of(systems[-1])),
        ("best on test by hit rate (as published)", best("hit_rate"), *of(best("hit_rate"))),
        ("best on test by corrected F1", best("f1"), *of(best("f1"))),
        ("best on test by corrected macro F1", best("macro_f1"), *of(best("macro_f1"))),
        ("mean of all", "", *means),
    ]
    header = ["choice", "checkpoint", "hit rate", "corrected F1", "corrected macro F1"]
    return _table(header, lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruler = ["---", *["--:"] * (len(header) - 1)]
    lines = [header, ruler, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("|  |", "| |")


def cells(rows: Iterable[Row]) -> list[list[str]]:
    """The rows of results.csv: fractions with twelve digits."""
    return [
        [
            f"{row[key]:.12g}" if isinstance(row[key], float) else str(row[key] or "")
            for key in COLUMNS
        ]
        for row in rows
    ]


def main(
    material: Annotated[Path, typer.Option(help="folder of the released answers")] = MATERIAL,
) -> None:
    """Score the released answers, compare them with the released scores, and write the results."""
    rows = figures(material)
    write_results(HERE / "results.csv", COLUMNS, cells(rows))
    put_tables(HERE / "README.md", tables(rows))


if __name__ == "__main__":
    typer.run(main)
