"""Step `report`: verdicts, exhibits and circumstances of an experiment on one page of HTML.

The page holds everything it shows: no script, no font, no picture is fetched, so it opens offline
and can be sent as it is. The same files give the same bytes.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from affectlocus.audit import brief
from affectlocus.circumstances import hardware, revision, spent, versions
from affectlocus.errors import InputError
from affectlocus.exhibits import CATEGORIES, EXHIBITS, Exhibit, Found, found, lacking
from affectlocus.files import read_json
from affectlocus.paper import CLAIMS, SOURCE
from affectlocus.parameters import Parameters
from affectlocus.score_tables import COLUMNS, ScoreTable, score_table

PAGES = Path(__file__).parent / "pages"
SYMBOLS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?", "untestable": "–"}
"""A sign for each verdict, beside its word and its colour."""
_DPI = 200
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Judged:
    """A claim: what it says, its verdict, and the rows of claims.csv behind it.

    Args:
        stated: the row that judges it as the paper states it.
        beside: rows by other measures. details: the rows that both rest on.
    """

    name: str
    says: str
    where: str
    stated: dict[str, Any]
    beside: list[dict[str, Any]]
    details: list[dict[str, Any]]


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI; `width` in inches at the size it was drawn for."""

    uri: str
    width: float


@dataclass(frozen=True)
class Panel:
    """An exhibit as the page shows it: a picture, a table of scores, or a plain table."""

    about: Found
    picture: Picture | None = None
    scores: ScoreTable | None = None
    frame: pd.DataFrame | None = None


@dataclass(frozen=True)
class Group:
    """The panels of one kind, which share title and caption."""

    exhibit: Exhibit
    panels: list[Panel]


@dataclass(frozen=True)
class Experiment:
    """What the page says of an experiment beside its results.

    Args:
        name: what it is called.
        text: its params.yaml. overrides: what was set on the command line instead.
        parameters: both, checked.
    """

    name: str
    text: str
    parameters: Parameters
    overrides: Mapping[str, Any] = field(default_factory=dict)


def report(experiment: Experiment, results: Path, files: Iterable[Path] | None = None) -> str:
    """The page.

    Args:
        results: the folder of an experiment's results.
        files: those of them that are shown; all by default. Another experiment's left-overs, in
            the same folder, are not then among them.

    Raises:
        InputError: a result that is missing or cannot be read.
    """
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; run snakemake first, or name the folder")
    given = results.rglob("*") if files is None else files
    below = [_below(path, results) for path in given if path.suffix in (".png", ".csv")]
    shown = found(below)
    claims = judged(results / "claims.csv") if "claims.csv" in below else []
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "figures": _figures,
        "probability": _probability,
        "count": _count,
        "clock": _clock,
        "cell": _cell,
        "sentence": _sentence,
    }
    page = environment.get_template("report.html")
    return page.render(
        experiment=experiment,
        claims=claims,
        symbols=SYMBOLS,
        source=SOURCE,
        chapters=_chapters(shown, experiment.parameters, results),
        others=_others(below, shown, results),
        lacking=lacking(shown),
        data=_data(experiment.parameters, results),
        versions=versions(),
        hardware=hardware(),
        revision=revision(),
        spent=spent(results / "benchmarks"),
    )


def _below(path: Path, results: Path) -> str:
    try:
        return path.resolve().relative_to(results.resolve()).as_posix()
    except ValueError:
        raise InputError(f"{path}: lies outside {results}; name the folder it is in") from None


def judged(path: Path) -> list[Judged]:
    """The claims of a claims.csv, in the paper's order.

    Raises:
        InputError: no such table.
    """
    frame = _csv(path, "claim", "level", "by", "stated", "verdict", "why", "effect", "basis")
    rows: list[dict[str, Any]] = [
        {str(name): _cell_or_none(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
    claims = []
    for name in dict.fromkeys(row["claim"] for row in rows):
        mine = [row for row in rows if row["claim"] == name]
        heads = [row for row in mine if row["level"] == "claim"]
        stated = next((row for row in heads if row["stated"]), heads[0])
        known = CLAIMS.get(name)
        claims.append(
            Judged(
                name=name,
                says=known.says if known else "",
                where=known.where if known else "",
                stated=stated,
                beside=[row for row in heads if row is not stated],
                details=[row for row in mine if row["level"] != "claim"],
            )
        )
    return claims


def _cell_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv(path: Path, *columns: str) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no csv table there ({error}); run snakemake again") from None
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}; expected another step's table")
    return frame


def _chapters(shown: list[Found], parameters: Parameters, results: Path) -> dict[str, list[Group]]:
    """Chapter → its kinds of exhibits in the list's order, each kind's in that of params.yaml."""
    names = [*parameters.pairs, *parameters.bases]

    def place(one: Found) -> int:
        ours = (at for at, name in enumerate(names) if f"{one.label}.".startswith(f"{name}."))
        return next(ours, len(names) if one.label else -1)

    groups = [
        Group(kind, [_panel(one, results) for one in sorted(mine, key=place)])
        for kind in EXHIBITS
        if (mine := [one for one in shown if one.exhibit is kind])
    ]
    return {
        name: [group for group in groups if group.exhibit.category == name] for name in CATEGORIES
    }


def _panel(one: Found, results: Path) -> Panel:
    path = results / one.file
    if path.suffix == ".png":
        return Panel(one, picture=picture(path))
    intervals = path.with_name(f"{path.stem}_intervals.csv")
    if one.exhibit.rule != "tables" or not intervals.is_file():
        return Panel(one, frame=_csv(path))
    beside = path.with_name(f"{path.stem}_baselines.csv")
    scores = results / "scores.parquet"
    laid_out = score_table(
        _csv(intervals, *COLUMNS),
        _csv(beside, "baseline", "task", "metric", "value", "low", "high")
        if beside.is_file()
        else None,
        pd.read_parquet(scores) if scores.is_file() else None,
    )
    return Panel(one, scores=laid_out)


def picture(path: Path) -> Picture:
    """A PNG as a data URI.

    Raises:
        InputError: it is no PNG.
    """
    content = path.read_bytes()
    if content[:8] != _PNG or len(content) < 24:
        raise InputError(f"{path}: not a PNG; delete it and run snakemake again")
    width, _ = struct.unpack(">II", content[16:24])
    coded = base64.b64encode(content).decode("ascii")
    return Picture(uri=f"data:image/png;base64,{coded}", width=width / _DPI)


def _others(files: list[str], shown: list[Found], results: Path) -> dict[str, Picture]:
    """Figures of no known kind: shown under their names rather than lost."""
    known = {one.file for one in shown}
    return {
        file: picture(results / file)
        for file in sorted(files)
        if file.startswith("figures/") and file.endswith(".png") and file not in known
    }


def _data(parameters: Parameters, results: Path) -> list[tuple[dict[str, Any], list[str]]]:
    """The data report of every task, in the order of params.yaml, and what it has to remark."""
    paths = [results / "data" / f"{task}.json" for task in parameters.tasks]
    reports = [read_json(path) for path in paths if path.is_file()]
    return [(one, [line.strip() for line in brief(one)[1:]]) for one in reports]


# How numbers are written. What is unknown is empty, minus is a minus.


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _percent(value: float | None) -> str:
    """Two digits behind the point, as the tables have them."""
    return f"{value:.2f}".replace("-", "−") if _known(value) else ""


def _figures(value: float | None) -> str:
    """Three significant figures."""
    if value is None or not _known(value):
        return ""
    text = f"{value:#.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.rstrip(".").replace("-", "−")


def _probability(value: float | None) -> str:
    if value is None or not _known(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.095 else f"{value:.2f}"


def _count(value: float | None) -> str:
    return f"{value:,.0f}" if _known(value) else ""


def _clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or with a digit where they are few."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _sentence(text: str) -> str:
    """With a capital, but for the name of a projection."""
    first = text.partition(" ")[0]
    return text if "_" in first else text[:1].upper() + text[1:]


def _cell(value: Any, column: str = "") -> str:
    """A value of any csv."""
    if not _known(value):
        return ""
    if column.endswith("_bytes"):
        return _bytes(float(value))
    if column == "p":
        return _probability(float(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 10 else _figures(value)
    return str(value)
