"""Step `report`: verdicts, tables, figures and provenance of an experiment on one HTML page.

The page loads nothing from elsewhere, neither scripts nor fonts nor pictures, so it opens offline
and can be sent as a single file. The same results give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from affectlocus.claims.verdict import COLUMNS as CLAIM_COLUMNS
from affectlocus.config.experiment import Parameters
from affectlocus.core.cells import replicate_name
from affectlocus.core.errors import InputError
from affectlocus.core.files import check_whole, read_json
from affectlocus.core.provenance import Difference, hardware, resource_usage, revision, versions
from affectlocus.data.audit import report_lines
from affectlocus.reporting.brief import Brief, brief, kinds_of
from affectlocus.reporting.drawings import Picture, picture
from affectlocus.reporting.exhibits import (
    CATEGORIES,
    EXHIBITS,
    Exhibit,
    ExhibitFile,
    match_exhibits,
    missing_exhibits,
)
from affectlocus.reporting.number_format import FILTERS, known
from affectlocus.reporting.outside_changes import outside_changes
from affectlocus.reporting.sample_answers import sample_answers
from affectlocus.scoring.score_tables import ScoreTable, Spans, score_table, with_intervals
from affectlocus.scoring.tables import INTERVAL_COLUMNS

PAGES = Path(__file__).parent / "pages"
SYMBOLS = {
    "supported": "✓",
    "contradicted": "✗",
    "equal": "=",
    "undecided": "?",
    "untestable": "–",
}
"""A sign for each verdict, shown together with its word and its colour."""
_SEED = re.compile(r"(.*\bseed)(\d+)(.*)")


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim with its verdicts: rows of claims.csv.

    Args:
        says: the text of the claim. where: its source. digest: its SHA-256.
        stated: the row of the measure that the claim states.
        other_measures: the rows of other measures.
        details: the rows of single pairs and parts.
    """

    name: str
    says: str
    where: str
    digest: str
    stated: dict[str, Any]
    other_measures: list[dict[str, Any]]
    details: list[dict[str, Any]]


@dataclass(frozen=True)
class Panel:
    """One exhibit on the page: a picture, a table of scores, or a plain table.

    Args:
        spans: the intervals of the numbers in a plain table.
    """

    about: ExhibitFile
    picture: Picture | None = None
    scores: ScoreTable | None = None
    frame: pd.DataFrame | None = None
    spans: Spans = field(default_factory=dict)

    @property
    def short(self) -> bool:
        """Whether the panel fits on a printed page together with its title and caption."""
        if self.scores is not None:
            # A page is turned, and a row has two lines.
            return len(self.scores.rows) + len(self.scores.baselines) <= 12
        lines = 2 if self.spans else 1
        return self.frame is None or lines * len(self.frame) <= 40

    @property
    def long(self) -> bool:
        """Whether the table is folded: it is longer than a reader looks through."""
        return self.frame is not None and len(self.frame) > 60


@dataclass(frozen=True)
class ExhibitGroup:
    """The panels of one kind of exhibit, with a common title and caption."""

    exhibit: Exhibit
    panels: list[Panel]


@dataclass(frozen=True)
class ReportedExperiment:
    """The parameters of an experiment, and which files in its folder of results are its own.

    Args:
        name: the experiment's name.
        text: the parameters that the results were made with, as YAML.
        overrides: the parameters that were set on the command line.
        parameters: both, validated.
        changed: parameters that are now different in params.yaml.
        unreadable: why params.yaml cannot be read now; empty if it can.
        otherwise: parameters that differ in the manifest of a tuned checkpoint.
        benchmarks: the benchmark files of the experiment's jobs; all by default.
        tasks: the tasks whose data are shown; all by default.
        cells: the ids of the experiment's cells; all by default.
        folder: the folder of results as the reader's commands name it; by default as it is given.
    """

    name: str
    text: str
    parameters: Parameters
    overrides: Mapping[str, Any] = field(default_factory=dict)
    changed: Sequence[Difference] = ()
    unreadable: str = ""
    otherwise: Sequence[Difference] = ()
    benchmarks: Container[str] | None = None
    tasks: Container[str] | None = None
    cells: Collection[str] | None = None
    folder: str = ""


def report(
    experiment: ReportedExperiment, results: Path, files: Iterable[Path] | None = None
) -> str:
    """The text of the HTML page.

    Args:
        results: the folder of an experiment's results.
        files: the tables and figures to show; all by default. With this list, files of earlier
            experiments in the same folder are left out.

    Raises:
        InputError: a result is missing or cannot be read.
    """
    if not results.is_dir():
        raise InputError(
            "result.no-folder",
            f"{results}: no such folder; run snakemake first, or set --results",
            file=results,
        )
    candidates = results.rglob("*") if files is None else files
    below = [_below(path, results) for path in candidates if path.suffix in (".png", ".csv")]
    shown = match_exhibits(below)
    claims = claim_verdicts(results / "claims.csv") if "claims.csv" in below else {}
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS | {"basis": short_basis}
    page = environment.get_template("report.html")
    spent = resource_usage(results / "benchmarks", experiment.benchmarks)
    chapters = _chapters(shown, experiment.parameters, results)
    folder = experiment.folder or results.as_posix()
    script = (PAGES / "report.js").read_text(encoding="utf-8")
    return page.render(
        experiment=experiment,
        folder=shlex.quote(folder),
        parameters_file=shlex.quote((Path(folder).parent / "params.yaml").as_posix()),
        script=script,
        # The policy of the page allows this script and no other, whatever a result contains.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        packed=_packed_samples(chapters, experiment, results),
        claims=claims,
        briefs=_briefs(experiment.parameters, results),
        symbols=SYMBOLS,
        chapters=chapters,
        others=_others(below, shown, results),
        lacking=missing_exhibits(shown),
        bases=_base_labels(experiment.parameters, results),
        outside=outside_changes(results, list(experiment.parameters.pairs), experiment.cells),
        data=_data(experiment, results),
        versions=versions(),
        hardware=hardware(),
        revision=revision(),
        spent=spent,
        # Jobs that all replicates share are counted too, so this is rather too long.
        replicate_seconds=sum(step.seconds for step in spent) / len(experiment.parameters.seeds),
    )


def _briefs(parameters: Parameters, results: Path) -> list[Brief]:
    """The pairs of the matrix in brief."""
    found = [brief(results, pair, kinds_of(parameters)) for pair in parameters.matrix.pairs]
    return [one for one in found if one.text]


def _below(path: Path, results: Path) -> str:
    try:
        return path.resolve().relative_to(results.resolve()).as_posix()
    except ValueError:
        raise InputError(
            "result.outside-folder",
            f"{path}: is outside {results}; set --results to the folder that contains it",
            file=path,
            folder=results,
        ) from None


def claim_verdicts(path: Path) -> dict[str, list[ClaimVerdict]]:
    """Set → its claims in a claims.csv, in the order of the file.

    Raises:
        InputError: the file is missing or has other columns.
    """
    frame = _csv(path, *CLAIM_COLUMNS)
    rows: list[dict[str, Any]] = [
        {str(name): value if known(value) else None for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
    claims: dict[str, list[ClaimVerdict]] = {}
    for name in dict.fromkeys(row["claim"] for row in rows):
        mine = [row for row in rows if row["claim"] == name]
        heads = [row for row in mine if row["level"] == "claim"]
        stated = next((row for row in heads if row["stated"]), heads[0])
        claims.setdefault(stated["claim_set"] or "", []).append(
            ClaimVerdict(
                name=name,
                says=stated["text"] or "",
                where=stated["source"] or "",
                digest=stated["claim_sha256"] or "",
                stated=stated,
                other_measures=[row for row in heads if row is not stated],
                details=[row for row in mine if row["level"] != "claim"],
            )
        )
    return claims


def short_basis(text: str) -> str:
    """What a verdict is based on, with the files or replicates of consecutive seeds as one."""
    shown: list[str] = []
    for part in text.split(", "):
        found, last = _SEED.fullmatch(part), _SEED.fullmatch(shown[-1]) if shown else None
        first = re.fullmatch(r"(.*\bseed)\{(\d+)\.\.(\d+)\}(.*)", shown[-1]) if shown else None
        if found and first and _follows(first[1], first[4], int(first[3]), found):
            shown[-1] = f"{first[1]}{{{first[2]}..{found[2]}}}{found[3]}"
        elif found and last and _follows(last[1], last[3], int(last[2]), found):
            shown[-1] = f"{last[1]}{{{last[2]}..{found[2]}}}{found[3]}"
        else:
            shown.append(part)
    return ", ".join(shown)


def _follows(before: str, after: str, number: int, found: re.Match[str]) -> bool:
    """Whether a name is the previous one with the next seed."""
    return before.endswith(found[1]) and after == found[3] and int(found[2]) == number + 1


def _packed_samples(
    chapters: Mapping[str, list[ExhibitGroup]], experiment: ReportedExperiment, results: Path
) -> str:
    """The samples behind the tables of scores; empty if there are none."""
    panels = [panel for groups in chapters.values() for group in groups for panel in group.panels]
    shown = {row.cell for panel in panels if panel.scores for row in panel.scores.rows}
    cells = experiment.cells
    if cells is None:
        folder = results / "cells"
        files = sorted(folder.rglob("predictions.parquet"))
        cells = [path.parent.relative_to(folder).as_posix() for path in files]
    found = sample_answers(results, shown, cells, experiment.parameters.scorings.root)
    return found.packed() if found.samples else ""


def _csv(path: Path, *columns: str) -> pd.DataFrame:
    check_whole(path)
    try:
        # Only an empty field is a missing value, because a pair may have the name null.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise InputError(
            "result.not-csv",
            f"{path}: not a csv table ({error}); delete it and run snakemake again",
            file=path,
        ) from None
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            "result.no-column",
            f"{path}: no column {missing[0]!r}; delete it and run snakemake again",
            file=path,
            column=missing[0],
        )
    return frame


def _chapters(
    shown: list[ExhibitFile], parameters: Parameters, results: Path
) -> dict[str, list[ExhibitGroup]]:
    """Chapter → its kinds of exhibits in the order of EXHIBITS; panels in that of params.yaml."""
    names = [*parameters.pairs, *parameters.bases]

    def place(one: ExhibitFile) -> int:
        ours = (at for at, name in enumerate(names) if f"{one.label}.".startswith(f"{name}."))
        return next(ours, len(names) if one.label else -1)

    groups = [
        ExhibitGroup(kind, [_panel(one, results) for one in sorted(mine, key=place)])
        for kind in EXHIBITS
        if (mine := [one for one in shown if one.exhibit is kind])
    ]
    return {
        name: [group for group in groups if group.exhibit.category == name] for name in CATEGORIES
    }


def _panel(one: ExhibitFile, results: Path) -> Panel:
    path = results / one.file
    if path.suffix == ".png":
        return Panel(one, picture=picture(path))
    intervals = path.with_name(f"{path.stem}_intervals.csv")
    if not intervals.is_file():
        return Panel(one, frame=_csv(path))
    if one.exhibit.rule != "tables":
        companion = _csv(intervals, "task", "cell", "metric", "n", "seeds", "draws", "low", "high")
        frame, spans = with_intervals(_csv(path, "task", "cell"), companion)
        return Panel(one, frame=frame, spans=spans)
    baselines = path.with_name(f"{path.stem}_baselines.csv")
    scores = results / "scores.parquet"
    laid_out = score_table(
        _csv(intervals, *INTERVAL_COLUMNS),
        _csv(baselines, "baseline", "task", "metric", "value", "low", "high")
        if baselines.is_file()
        else None,
        pd.read_parquet(scores) if scores.is_file() else None,
    )
    return Panel(one, scores=laid_out)


def _others(files: list[str], shown: list[ExhibitFile], results: Path) -> dict[str, Picture]:
    """Figures that are not in EXHIBITS, by their file names."""
    kinds = {one.file for one in shown}
    return {
        file: picture(results / file)
        for file in sorted(files)
        if file.startswith("figures/") and file.endswith(".png") and file not in kinds
    }


def _base_labels(parameters: Parameters, results: Path) -> dict[str, str]:
    """Base → how it was made, such as `dequantised from Q4_1`, if its manifest says so.

    Of a base with replicates, the manifest of the first one is read.
    """
    found = {}
    for name in parameters.bases:
        seeds = parameters.base_seeds(name)
        path = results / "checkpoints" / f"{replicate_name(name, seeds[0])}.json"
        record = read_json(path) if path.is_file() else None
        if isinstance(record, dict) and "label" in record:
            found[name] = str(record["label"])
    return found


def _data(experiment: ReportedExperiment, results: Path) -> list[tuple[dict[str, Any], list[str]]]:
    """The data report of every task, in the order of params.yaml, and what it has to remark."""
    shown = experiment.tasks
    tasks = [task for task in experiment.parameters.tasks if shown is None or task in shown]
    paths = [results / "data" / f"{task}.json" for task in tasks]
    reports = [read_json(path) for path in paths if path.is_file()]
    return [(one, [line.strip() for line in report_lines(one)[1:]]) for one in reports]
