"""The scores of a system's own answers on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from affectlocus.core.errors import printable
from affectlocus.core.metrics import CORRECTED_METRICS, METRICS


def _print(grid: Table, width: int) -> None:
    """Prints a table; in a file or a pipe it is at least as wide as its columns."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, width + 1))
    console.print(grid)


def print_outputs(answer: dict[str, Any]) -> None:
    """Prints the result of `outputs.score_outputs`: a row per checkpoint and baseline, in percent.

    Published columns (wheels and their mean, or WAF) come first, then the corrected ones. Before
    each group is the number of scored samples; if wheels differ, the lowest and the highest number.
    """
    main = "hit_rate" if answer["kind"] == "hit-rate" else "waf"
    # The true labels decide which samples are scored, so all rows have the same number.
    scored = {"n": _scored(answer["mer-unibench"]), "corrected n": _scored(answer["corrected"])}
    rows: dict[str, dict[str, str]] = {}
    for row in answer["mer-unibench"]:
        line = rows.setdefault(row["checkpoint"], {"n": scored["n"]})
        wheel = row.get("wheel")
        if wheel is None:
            line |= {"WAF": _defined(row[main]), "acc.": _defined(row["accuracy"])}
        else:
            line[wheel if wheel == "mean" else f"wheel {wheel}"] = _defined(row[main])
    for row in answer["corrected"]:
        if row.get("wheel", "mean") == "mean":
            rows[row["checkpoint"]] |= {"corrected n": scored["corrected n"]} | _corrected(row)
    for row in answer["baselines"]:
        answers = [row["answer"]] if isinstance(row["answer"], str) else row["answer"]
        name = row["baseline"] if len(answers) > 2 else f"{row['baseline']}: {', '.join(answers)}"
        published = {"mean" if main == "hit_rate" else "WAF": _defined(row["mer-unibench"][main])}
        if main == "waf":
            published["acc."] = _defined(row["mer-unibench"]["accuracy"])
        rows[name] = scored | published | _corrected(row["corrected"])
    columns = list(next(iter(rows.values())))
    grid = Table(title="mer-unibench | corrected, in percent", title_justify="left")
    grid.add_column("checkpoint or baseline", no_wrap=True)
    for column in columns:
        grid.add_column(column, justify="right", no_wrap=True)
    for name, line in rows.items():
        grid.add_row(escape(printable(name)), *(line.get(column, "") for column in columns))
    width = max(map(len, [*rows, "checkpoint or baseline"])) + sum(
        max(len(c), 6, len(scored.get(c, ""))) + 3 for c in columns
    )
    _print(grid, width + 4)
    for note in _notes(answer):
        print(printable(note))  # noqa: T201
    choice = answer["choice"]
    order = choice["order"]
    listed = printable(", ".join(order if len(order) < 10 else [*order[:3], "…", *order[-3:]]))
    print(f"checkpoints, {choice['ordered']}: {listed}")  # noqa: T201
    last, mean, best = (_defined(choice[key]) for key in ("last", "mean", "best_on_test"))
    if (wheels := answer.get("wheels")) and wheels["commit"] is None:
        print(f"wheels: {wheels['from']}, which differ from the released wheels of AffectGPT")  # noqa: T201
    chosen = printable(choice["checkpoint"] or "none, because no checkpoint has a score")
    print(  # noqa: T201
        f"chosen: {chosen}, {choice['meaning']}: {_defined(choice[main])} "
        f"(last {last}, mean {mean}, best on test {best})"
    )


def _scored(rows: list[dict[str, Any]]) -> str:
    """The number of scored samples; if wheels differ, the lowest and the highest number."""
    counts = [row["n_scored"] for row in rows if row["n_scored"] is not None]
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}-{high}"


def _notes(answer: dict[str, Any]) -> list[str]:
    """Notes on the numbers of scored, masked, unread, empty and repeated answers."""
    samples, rows = answer["samples"], answer["mer-unibench"]
    own = [row for row in rows if row["checkpoint"] == rows[0]["checkpoint"]]
    reasons = dict.fromkeys(row["reason"] for row in own if "reason" in row)
    undefined = [f"the mer-unibench score is not defined: {reason}" for reason in reasons]
    if answer["kind"] == "hit-rate":
        wheels = [
            f"wheel {one['wheel']} {one['n_scored']}" for one in own if one["wheel"] != "mean"
        ]
        honest = [
            f"wheel {one['wheel']} {one['n_scored']}"
            for one in answer["corrected"][: len(own)]
            if one["wheel"] != "mean"
        ]
        return [
            *undefined,
            f"n of {samples} samples: mer-unibench {', '.join(wheels)}; "
            f"corrected {', '.join(honest)}",
            f"empty answers: {_counts(answer['answers'], 'n_empty')}; "
            f"repeated labels, which count once: {_counts(answer['answers'], 'n_repeated')}",
        ]
    first = answer["corrected"][0]
    return [
        *undefined,
        f"n of {samples} samples: mer-unibench {own[0]['n_scored']}; corrected "
        f"{first['n_scored']} 3-way, {first['n_binary']} binary; masked (blank, NaN, -10 and the "
        f"like, which mer-unibench counts as negative): {first['n_masked']}",
        "unread answers (none of positive, negative, neutral; wrong for corrected): "
        + _counts(answer["corrected"], "n_unread"),
    ]


def _counts(rows: list[dict[str, Any]], key: str) -> str:
    """The counts that are not zero, with the names of their checkpoints."""
    found = [f"{row[key]} ({row['checkpoint']})" for row in rows if row[key]]
    return ", ".join(found) or "0"


def _defined(value: float | None) -> str:
    return _percent(value) or "-"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _corrected(row: dict[str, Any]) -> dict[str, str]:
    line = {
        metric.heading: _percent(row[name])
        for name, metric in CORRECTED_METRICS.items()
        if name in row
    }
    if "labels_per_sample" in row:
        labels = row["labels_per_sample"]
        line[METRICS["labels_per_sample"].heading] = "" if labels is None else f"{labels:.2f}"
    return line
