"""The report: what stands in it, that data stays text, and how it looks in a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from browser import Page, browsing, chromium
from refusal import refused
from typer.testing import CliRunner

from affectlocus.claims.verdict import COLUMNS
from affectlocus.cli import app
from affectlocus.config.experiment import Parameters
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS
from affectlocus.core.provenance import packed
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.predictions import Predictions
from affectlocus.reporting.figure_style import save
from affectlocus.reporting.heat_map import heat_map
from affectlocus.reporting.number_format import clock
from affectlocus.reporting.relative_changes import relative_changes
from affectlocus.reporting.report import PAGES, SYMBOLS, ReportedExperiment, report, short_basis
from affectlocus.reporting.sample_answers import MOST_SAMPLES, sample_answers

SCRIPT = "<script>alert('a label')</script>"
FORMULA = '=HYPERLINK("http://somewhere.example/","click")'
TEXT = """
corpus: {seed: 0}
bases: {b: {pretrain: {architecture: qwen2}}}
pairs: {p: {base: b, tuning: {data: [tales], steps: 7}}}
tasks:
  tales: {corpus: true, columns: {target: t}}
  mini-MOSI: {corpus: true, columns: {label: label}, labels: [positive, "<b>negative</b>"]}
matrix: {pairs: [p], load: [gate], tune: [], ablate: []}
"""


def png(width: int = 2200, height: int = 500) -> bytes:
    """A white picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = zlib.compress(b"".join(b"\0" + b"\xf0" * width for _ in range(height)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def claim(name: str, verdict: str, **other: Any) -> dict[str, Any]:
    """A row of claims.csv."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    return row | {"claim": name, "level": "claim", "stated": True, "verdict": verdict} | other


TASKS = [f"a-task-with-a-rather-long-name-{number}" for number in range(12)]


def table(folder: Path, name: str, modules: list[str]) -> pd.DataFrame:
    """A table, its intervals and its baselines, and the rows of its scores."""
    cells = ["b/base", *(f"p/load/{one}" for one in modules)]
    rows = [
        {
            "num": num,
            "modules": cell.rpartition("/")[2],
            "mode": "",
            "kind": cell.split("/")[-2] if num else "base",
            "seeds": 3 if num else 1,
            "draws": 1,
            "task": task,
            "metric": "weighted_f1",
            "value": 10.25 * num + place / 7,
            "n": 200,
            "low": 10.25 * num - 1,
            "high": 10.25 * num + 3,
            "gain": 10.25 * num,
            "gain_low": 10.25 * num - 4,
            "gain_high": 10.25 * num + 4,
            "confidence": 0.95,
            "reference": "b/base",
            "cell": cell,
        }
        for num, cell in enumerate(cells)
        for place, task in enumerate([*TASKS, "mean"])
    ]
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / f"{name}_intervals.csv", index=False)
    frame.pivot_table(index="num", columns="task", values="value").to_csv(folder / f"{name}.csv")
    guess = frame.assign(baseline="majority", answer=SCRIPT)
    guess[guess["num"] == 0].to_csv(folder / f"{name}_baselines.csv", index=False)
    return frame


def verified(folder: Path, cell: str, side: str, modules: list[str]) -> None:
    """Writes a cell's verification.json."""
    path = folder / "cells" / cell / "verification.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cell": cell, "outside_is": side, "outside_tuned": modules}))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A small finished experiment, whose data try to be markup."""
    folder = tmp_path / "results"
    for name in ("figures", "data", "benchmarks/tune"):
        (folder / name).mkdir(parents=True)
    scores = table(folder, "table1", ["gate", "q+k+v+o+gate+up+down"])
    scores.assign(seed=pd.array([pd.NA] * len(scores), dtype="Int64")).to_parquet(
        folder / "scores.parquet"
    )
    (folder / "figures/deltas.p.png").write_bytes(png())
    (folder / "figures/of_nobody_s_making.png").write_bytes(png(300, 200))
    numbers = {"effect": -0.5, "low": -1.25, "high": 0.25, "unit": "points", "n": 1600}
    numbers |= {"p": 0.2, "p_bh": 0.2, "replicates": 3}
    basis = "results/cells/*/predictions.parquet, cells " + ", ".join(
        f"p/load/{name}" for name in ("gate", "q+k+v+o+gate+up+down", "q", "k", "v", "o")
    )
    rows = [
        claim("C1", "supported", by="l2", why=SCRIPT, **numbers),
        claim("C1", "supported", by="rms", stated=False, why=SCRIPT, **numbers),
        claim("C1", "supported", by="l2", level="detail", pair="p", basis=basis, **numbers),
        claim("C5", "contradicted", by="weighted_f1", why=FORMULA, basis=basis, **numbers),
        claim("C9", "undecided", by="weighted_f1", why="too few", needed=9, **numbers),
        claim("C10", "undecided", by="weighted_f1", why="tied", needed=float("inf"), **numbers),
        claim("C14", "untestable", by="perplexity", why="no task with fluency"),
    ]
    pd.DataFrame(rows).to_csv(folder / "claims.csv", index=False)
    pd.DataFrame({"model": ["b"], "modules": ["gate"], "parameters": [40370176]}).to_csv(
        folder / "ledger.csv", index=False
    )
    about = {
        "file": "mini.csv",
        "read": 20,
        "kept": 18,
        "duplicate_id": 2,
        "characters": {"min": 3, "median": 7.5, "max": 90},
        "labels": {SCRIPT: 11, FORMULA: 7},
    }
    record = {"task": "mini-MOSI", "splits": {"test": about}, "overlap": {}}
    (folder / "data/mini-MOSI.json").write_text(json.dumps(record))
    verified(folder, "p/load/gate/seed0", "base", ["lm_head", SCRIPT])
    verified(folder, "p/tuned/seed0", "tuned", ["lm_head", SCRIPT])
    (folder / "benchmarks/tune/p.tsv").write_text("s\tmax_rss\tcpu_time\n75.0\t300\t60\n")
    (tmp_path / "params.yaml").write_text(TEXT)
    return folder


def experiment(**other: Any) -> ReportedExperiment:
    parameters = Parameters.model_validate(yaml.safe_load(TEXT))
    return ReportedExperiment(**({"name": "mine", "text": TEXT, "parameters": parameters} | other))


def words(page: str) -> str:
    """What a reader sees, white space folded."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


class Elements(HTMLParser):
    """Every element of a page with its attributes, and whether all are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_verdicts_come_first_each_with_word_sign_effect_interval_and_reason(
    results: Path,
) -> None:
    page = report(experiment(), results)
    assert page.index('id="verdicts"') < page.index('id="reading"') < page.index('id="table1"')
    for name, sign in SYMBOLS.items():
        shown = rf'class="verdict {name}"><span class="sign"[^>]*>{re.escape(sign)}<'
        assert re.search(shown, page)
    said = words(page)
    assert "−0.500 [−1.25, 0.250] points 1,600" in said
    assert "no task with fluency" in said
    assert "Based on results/cells/*/predictions.parquet, cells p/load/gate," in said
    assert "All 3 rows of C1" in said


def test_what_data_hold_is_text_and_never_markup(results: Path) -> None:
    text = f"# {SCRIPT}\n{TEXT}"
    page = report(
        experiment(name=f"mine {SCRIPT}", text=text, overrides={SCRIPT: FORMULA}), results
    )
    elements = Elements(page)
    assert elements.open == []
    tags = {tag for tag, _ in elements.found}
    # The page's own script is the only one that its policy allows.
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert scripts == [(PAGES / "report.js").read_text(encoding="utf-8")]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert len([tag for tag, _ in elements.found if tag == "script"]) == 1
    assert not tags & {"b", "iframe", "object", "embed", "base", "form"}
    said = words(page.replace("&lt;", "‹").replace("&gt;", "›"))
    # Name twice (title, heading), two reasons, a label, a comment, a key.
    assert said.count("‹script›alert('a label')‹/script›") >= 7
    assert said.count(FORMULA) == 3


def test_the_page_holds_all_it_shows_and_allows_no_request(results: Path) -> None:
    elements = Elements(report(experiment(), results)).found
    addresses = [
        value
        for _, attributes in elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert all(str(one).startswith(("#", "data:")) for one in addresses)
    assert len([one for one in addresses if str(one).startswith("data:image/png")]) == 2
    (policy,) = (a["content"] for _, a in elements if a.get("http-equiv"))
    assert str(policy).startswith("default-src 'none';")
    assert "url(" not in report(experiment(), results)


def test_every_link_of_the_contents_leads_somewhere(results: Path) -> None:
    elements = Elements(report(experiment(), results)).found
    names = [str(attributes["id"]) for _, attributes in elements if "id" in attributes]
    assert len(set(names)) == len(names)
    links = [str(a["href"]) for tag, a in elements if tag == "a"]
    assert links and {one.removeprefix("#") for one in links} <= set(names)


def test_every_picture_has_words_for_those_who_cannot_see_it(results: Path) -> None:
    pictures = [a for tag, a in Elements(report(experiment(), results)).found if tag == "img"]
    assert [one["alt"] for one in pictures] == [
        "Three heat maps of p, layers as rows, the seven projections as columns.",
        "figures/of_nobody_s_making.png",
    ]


def test_the_same_files_give_the_same_bytes(results: Path) -> None:
    first = report(experiment(), results)
    # What the report itself took is known only after it.
    (results / "benchmarks/report.tsv").write_text("s\tmax_rss\tcpu_time\n9.0\t9\t9\n")
    assert report(experiment(), results) == first


def test_a_number_s_command_prints_its_row(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = words(report(experiment(), results))
    command = re.search(r"affectlocus (show \S+/scores\.parquet( --where \S+){3})", said)
    assert command
    monkeypatch.chdir(results.parent)
    done = CliRunner().invoke(app, shlex.split(command[1]))
    # The mean of row 2: 2 x 10.25 + 12 / 7.
    (row,) = (line for line in done.output.splitlines() if "22.21" in line)
    assert "p/load/q+k+v+o+gate+up+down" in row
    assert "22.21" in said


def test_commands_name_the_folder_from_which_the_reader_sees_the_results(results: Path) -> None:
    said = words(report(experiment(folder="experiments/my own/results"), results))
    assert "affectlocus show 'experiments/my own/results'/scores.parquet --where" in said
    assert "affectlocus claims --list 'experiments/my own/params.yaml'" in said
    assert str(results) not in said


def test_files_of_consecutive_seeds_are_one_name() -> None:
    files = ", ".join(f"results/deltas/a.seed{seed}.parquet" for seed in (1, 2, 3, 7))
    others = "results/deltas/b.seed8.parquet, weights of all layers"
    assert short_basis(f"{files}, {others}") == (
        "results/deltas/a.seed{1..3}.parquet, results/deltas/a.seed7.parquet, "
        "results/deltas/b.seed8.parquet, weights of all layers"
    )
    assert short_basis("cells p/load/q, each of seed9, seed10") == (
        "cells p/load/q, each of seed{9..10}"
    )
    assert short_basis("") == ""


def answered(results: Path, count: int = 60, prompt: str = "How is it? {}") -> None:
    """Answers of two replicates of a cell: seed 0 is right everywhere, seed 1 says joy always."""
    labels = ["joy", "anger"]
    rows = [
        {"id": f"s{one}", "split": split, "text": "", "prompt": prompt.format(one)}
        | {"answer": labels[one % 2]}
        for split in ("train", "test")
        for one in range(count)
    ]
    PreparedTask(TASKS[0], labels, pd.DataFrame(rows)).write(results / f"data/{TASKS[0]}.parquet")
    for seed in (0, 1):
        predictions = pd.DataFrame(
            [
                {"task": TASKS[0], "sample": f"s{one}", "label": labels[one % 2]}
                | {"candidate": word, "loglik": -1.0 - (word != (labels[one % 2], "joy")[seed])}
                for one in range(count)
                for word in labels
            ]
        )
        cell = Cell("load", "b", "p", "gate", seed=seed)
        Predictions(cell, {TASKS[0]: labels}, predictions).write(
            results / f"cells/p/load/gate/seed{seed}/predictions.parquet"
        )


def samples_of(page: str) -> dict[str, Any]:
    """The samples that a page contains."""
    (text,) = re.findall(r'id="samples-packed">([^<]*)<', page)
    return dict(json.loads(zlib.decompress(base64.b64decode(text))))


def test_the_samples_behind_the_numbers_are_in_the_page_and_their_number_is_bounded(
    results: Path,
) -> None:
    assert "samples-packed" not in report(experiment(), results).partition("<script>")[0]
    answered(results)
    page = report(experiment(), results)
    content = samples_of(page)
    task = content["tasks"][TASKS[0]]
    assert (task["of"], task["labelled"], task["answers"]) == (60, True, ["anger", "joy"])
    assert task["samples"][:2] == [["s0", "How is it? 0", "joy"], ["s1", "How is it? 1", "anger"]]
    assert len(task["samples"]) == MOST_SAMPLES
    given = content["cells"]["p/load/gate"][TASKS[0]]
    assert given == {"seed0": [1, 0] * 25, "seed1": [1] * 50}
    assert report(experiment(), results) == page


def test_a_task_without_its_data_has_no_samples(results: Path) -> None:
    answered(results)
    (results / f"data/{TASKS[0]}.parquet").unlink()
    found = sample_answers(results, {"p/load/gate"}, ["p/load/gate/seed0"], {})
    assert (found.samples, found.answers) == ({}, {})
    assert "samples-packed" not in report(experiment(), results).partition("<script>")[0]


def test_a_short_table_is_printed_in_one_piece_and_a_long_one_from_the_top_of_a_page(
    results: Path,
) -> None:
    def first(page: str) -> str:
        return page.partition('<section id="table1"')[2].partition("<h3>")[0]

    assert 'class="together"' in first(report(experiment(), results))
    table(results, "table1", [*PROJECTIONS, *(f"q+{name}" for name in "kvo"), "all"])
    assert 'class="from-top"' in first(report(experiment(), results))


@pytest.mark.parametrize(("rows", "folded"), [(60, False), (61, True)])
def test_a_long_table_is_folded_and_says_how_long_it_is(
    results: Path, rows: int, folded: bool
) -> None:
    losses = {"pair": "p", "null": "", "seed": 0, "step": range(rows), "loss": 0.5, "passes": 1.0}
    pd.DataFrame(losses).to_csv(results / "training.csv", index=False)
    section = report(experiment(), results).partition('<section id="training_losses"')[2]
    summary = f"<details><summary>All {rows} rows</summary>"
    assert (summary in section.partition("</section>")[0]) == folded


def test_samples_that_are_too_large_are_fewer(results: Path) -> None:
    answered(results)
    cells = [f"p/load/gate/seed{seed}" for seed in (0, 1)]
    found = sample_answers(results, {"p/load/gate"}, cells, {})
    everything = found.packed()
    fewer = found.packed(len(everything) - 1)
    assert len(fewer) < len(everything)
    content = json.loads(zlib.decompress(base64.b64decode(fewer)))
    assert len(content["tasks"][TASKS[0]]["samples"]) == MOST_SAMPLES // 2
    assert len(content["cells"]["p/load/gate"][TASKS[0]]["seed0"]) == MOST_SAMPLES // 2


def test_a_page_with_as_many_figures_as_the_default_is_small(results: Path) -> None:
    """The limit for the default is 3 MB; its tables, claims and samples take 1 MB of it."""
    frame = pd.DataFrame(
        {"layer": layer, "projection": name, "parameter": "weight", "adapted": True}
        | dict.fromkeys(("l2", "relative", "rms"), (layer * 7 + at) ** 1.5 + 0.01)
        for layer in range(4)
        for at, name in enumerate(PROJECTIONS)
    )
    save(heat_map(frame, "a pair"), results / "figures/deltas.p")
    bins = pd.DataFrame(
        {"projection": name, "from": at / 64 - 1, "to": (at + 1) / 64 - 1, "tuned": f"s{seed}"}
        | {"count": 1 + (at * 7919 * (seed + 2)) % 101}
        for name in PROJECTIONS
        for seed in (0, 1)
        for at in range(128)
    )
    save(relative_changes(bins, "a pair"), results / "figures/fig10_relative")
    for number in range(26):
        for name in ("deltas.p", "fig10_relative"):
            for suffix in ("png", "svg"):
                file = results / f"figures/{name}.{suffix}"
                shutil.copy(file, file.with_name(f"{name.split('.')[0]}.q{number}.{suffix}"))
    page = report(experiment(), results)
    assert page.count("data:image/svg+xml,") == 2 * 27
    assert len(page.encode()) < 2_000_000


def test_rules_of_accessibility_that_a_program_can_check(results: Path) -> None:
    answered(results)
    elements = Elements(report(experiment(), results)).found
    assert ("html", {"lang": "en"}) in elements
    assert len([tag for tag, _ in elements if tag == "h1"]) == 1
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels)), "no level is left out"
    assert all(a.get("scope") for tag, a in elements if tag == "th")
    assert all(a.get("alt") for tag, a in elements if tag == "img")
    # What scrolls can be reached by keyboard, and has a name of its own.
    regions = [a["aria-label"] for _, a in elements if a.get("role") == "region"]
    assert all(name and not str(name).endswith((" ", ",")) for name in regions)
    for _, attributes in elements:
        if "scroll" in str(attributes.get("class", "")).split():
            assert attributes["tabindex"] == "0"
            assert attributes["role"] == "region"
            assert attributes["aria-label"]
    style = (PAGES / "report.css").read_text(encoding="utf-8")
    inks = {*re.findall(r"(?<![-\w])color: (#[0-9a-f]{3,6})\b", style), "#1a1a1a", "#5a5a5a"}
    assert len(inks) > 5
    for ink in inks - {"#fff"}:
        assert contrast(ink, "#ffffff") >= 4.5, ink
    for ground in re.findall(r"background: (#[0-9a-f]{6}); color: #fff", style):
        assert contrast(ground, "#ffffff") >= 4.5, ground


def contrast(one: str, two: str) -> float:
    """The contrast ratio of two colours, as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        weights = (0.2126, 0.7152, 0.0722)
        return sum(weight * part for weight, part in zip(weights, linear, strict=True))

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_only_the_files_that_are_named_are_shown(results: Path) -> None:
    (results / "figures/deltas.left-over.png").write_bytes(png(10, 10))
    given = [results / "claims.csv", results / "figures/deltas.p.png"]
    page = report(experiment(), results, given)
    assert "deltas.p.png" in page
    for other in ("left-over", "of_nobody", 'id="table1"', 'id="ledger"'):
        assert other not in page


def test_what_the_paper_shows_and_the_experiment_lacks_is_said_in_a_line(results: Path) -> None:
    said = words(report(experiment(), results))
    assert "Table 2: matrix.tune is empty." in said
    assert "Table 1: matrix.load is empty." not in said


def test_an_experiment_without_verdicts_has_a_page_without_them(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/deltas.p.png").write_bytes(png(400, 100))
    page = report(experiment(), tmp_path)
    assert 'id="verdicts"' not in page and "deltas.p.png" in page
    assert Elements(page).open == []


def test_data_parameters_and_time_are_there_as_they_were(results: Path) -> None:
    page = report(experiment(overrides={"data_root": "/elsewhere"}), results)
    assert html.escape(TEXT.strip(), quote=False).splitlines()[0] in page
    said = words(page)
    assert "data_root : /elsewhere" in said
    assert "left out: with a duplicate id: test 2" in said
    assert "tune 1 1:15 min 1:00 min 1:15 min 300 MB" in said
    assert "40,370,176" in said


def test_changes_outside_the_projections_are_shown_with_what_each_kind_of_cell_has(
    results: Path,
) -> None:
    said = words(report(experiment(), results).replace("&lt;", "‹").replace("&gt;", "›"))
    shown = "p ‹script›alert('a label')‹/script›, lm_head the base’s the tuned model’s no cells"
    assert shown in said
    assert "load/all is not the tuned model of such a pair" in said


def test_a_pair_without_changes_outside_the_projections_is_said_to_have_none(
    results: Path,
) -> None:
    verified(results, "p/load/gate/seed0", "base", [])
    verified(results, "p/tuned/seed0", "tuned", [])
    page = report(experiment(), results)
    assert "the tuned model equals its base outside the seven projections" in words(page)
    assert "Modules that differ" not in page


def test_cells_of_an_older_version_are_named_in_the_report(results: Path) -> None:
    (results / "cells/p/load/gate/seed0/verification.json").write_text("{}")
    said = words(report(experiment(), results))
    assert "Not recorded for cells of p, which an older version of affectlocus evaluated." in said


def test_a_base_that_was_dequantised_is_called_so(results: Path) -> None:
    assert "dequantised" not in words(report(experiment(), results))
    (results / "checkpoints").mkdir(exist_ok=True)
    (results / "checkpoints/b.json").write_text('{"label": "dequantised from Q4_1"}')
    assert "b, dequantised from Q4_1" in words(report(experiment(), results))


def test_an_undecided_claim_has_a_price_in_hours(results: Path) -> None:
    said = words(report(experiment(), results))
    seconds = 75.0 / len(experiment().parameters.seeds)  # all jobs of the fixture
    price = f"{clock(6 * seconds)} of jobs, at {clock(seconds)} per replicate as measured"
    assert f"too few: {price}" in said
    assert "tied:" not in said


@pytest.mark.parametrize(
    ("broken", "code", "fields"),
    [
        ("figures/deltas.p.png", "result.not-png", {}),
        ("claims.csv", "result.no-column", {"column": "claim"}),
        ("table1_intervals.csv", "result.no-column", {"column": "num"}),
    ],
)
def test_a_broken_result_is_named(
    results: Path, broken: str, code: str, fields: dict[str, str]
) -> None:
    (results / broken).write_text("nothing of the kind\n")
    with refused(code, file=results / broken, **fields):
        report(experiment(), results)


def test_results_that_are_not_there_or_lie_elsewhere_are_refused(
    results: Path, tmp_path: Path
) -> None:
    with refused("result.no-folder", file=tmp_path / "nowhere"):
        report(experiment(), tmp_path / "nowhere")
    elsewhere = tmp_path / "elsewhere.png"
    with refused("result.outside-folder", file=elsewhere, folder=results):
        report(experiment(), results, [elsewhere])


def test_the_command_writes_the_page_of_the_folder_it_runs_in(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results.parent)
    done = CliRunner().invoke(app, ["report", "--overrides", '{"score": {"confidence": 0.9}}'])
    assert done.exit_code == 0, done.output
    said = words((results / "report.html").read_text())
    assert f"Experiment: {results.parent.name}" in said
    assert "an interval of 90 %" in said


def test_the_step_loads_no_model_library(results: Path) -> None:
    heavy = {"torch", "transformers", "peft", "matplotlib", "scipy"}
    code = (
        "import sys; from affectlocus.cli import app\n"
        "app(['report'], standalone_mode=False)\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=results.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def told(results: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`told("--made-with", text)`: what the command's page says, run in the experiment's folder."""
    monkeypatch.chdir(results.parent)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["report", *arguments])
        assert done.exit_code == 0, done.output
        return words((results / "report.html").read_text(encoding="utf-8"))

    return run


def used(text: str = TEXT) -> str:
    """The parameters of a params.yaml as a run's start passes them on."""
    return packed(yaml.safe_load(text))


def test_the_parameters_are_those_that_the_run_read_and_an_edit_is_named(
    told: Callable[..., str],
) -> None:
    Path("params.yaml").write_text(TEXT.replace("steps: 7", "steps: 300"))
    said = told("--made-with", used())
    assert "params.yaml was edited after the run had read it." in said
    assert "Key Made with params.yaml now pairs.p.tuning.steps 7 300" in said
    shown = said.partition("The parameters that the results were made with")[2]
    assert "steps: 7" in shown and "300" not in shown.partition("Versions")[0]


@pytest.mark.parametrize("text", [TEXT, f"# why\n{TEXT}", TEXT.replace("seed: 0", "seed:   0")])
def test_an_edit_that_changes_no_value_is_none(told: Callable[..., str], text: str) -> None:
    Path("params.yaml").write_text(text)
    said = told("--made-with", used())
    assert "was edited" not in said
    assert " ".join(text.split()) in said


def test_what_the_command_line_set_is_no_edit(told: Callable[..., str]) -> None:
    config = yaml.safe_load(TEXT) | {"score": {"confidence": 0.9}}
    beside = '{"score": {"confidence": 0.9}}'
    said = told("--made-with", packed(config), "--overrides", beside)
    assert "was edited" not in said
    assert "an interval of 90 %" in said


@pytest.mark.parametrize("text", ["pairs: [", "steps: 7\n", None])
def test_a_file_that_cannot_be_read_any_more_costs_no_page(
    told: Callable[..., str], text: str | None
) -> None:
    Path("params.yaml").unlink()
    if text is not None:
        Path("params.yaml").write_text(text)
    said = told("--made-with", used())
    assert "params.yaml cannot be compared: params.yaml: " in said
    assert "steps: 7" in said


def test_parameters_that_are_none_are_refused(results: Path, monkeypatch) -> None:
    monkeypatch.chdir(results.parent)
    done = CliRunner().invoke(app, ["report", "--made-with", "zlib:?"])
    assert isinstance(done.exception, InputError)
    assert (done.exception.code, done.exception.fields) == (
        "option.not-json",
        {"option": "--made-with"},
    )


def test_a_checkpoint_that_was_tuned_otherwise_is_named(
    results: Path, told: Callable[..., str]
) -> None:
    recipe = Parameters.model_validate(yaml.safe_load(TEXT)).pairs["p"].tuning
    assert recipe is not None
    (results / "checkpoints").mkdir()
    for seed, steps in ((0, 300), (1, 5)):  # of seed 1 nothing is wanted
        record = {"recipe": recipe.model_dump(mode="json") | {"steps": steps, "seed": seed}}
        (results / f"checkpoints/p.seed{seed}.json").write_text(json.dumps(record))
    said = told("--made-with", used())
    assert "These checkpoints were not tuned as the parameters say" in said
    assert "p.seed0: steps 300 7" in said
    assert "p.seed1" not in said


def test_times_and_data_are_those_of_the_experiment_alone(
    results: Path, told: Callable[..., str]
) -> None:
    (results / "benchmarks/tune/p.tsv").unlink()
    verified(results, "p/load/gate/seed1", "base", ["embed_tokens"])
    for seed in (0, 1):  # of an earlier list of seeds
        (results / f"benchmarks/tune/p.seed{seed}.tsv").write_text(
            "s\tmax_rss\tcpu_time\n75.0\t300\t60\n"
        )
    text = TEXT.replace("matrix:", "  unused: {corpus: true, columns: {target: t}}\nmatrix:")
    record = json.loads((results / "data/mini-MOSI.json").read_text())
    for task in ("tales", "unused"):
        (results / f"data/{task}.json").write_text(json.dumps(record | {"task": task}))
    said = told("--made-with", used(text))
    data = said.partition("Samples by task")[2] or said
    assert "tales" in data and "unused test" not in data
    assert "tune 1 1:15 min" in said
    assert "lm_head" in said and "embed_tokens" not in said


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a browser."""
    program = chromium()
    if program is None:
        pytest.skip("no chromium; Debian: apt-get install --no-install-recommends chromium")
    with browsing(program, tmp_path / "profile") as opened:
        yield opened


@pytest.mark.full
def test_a_browser_shows_the_page_offline_at_phone_and_desk_width(
    results: Path, page: Page, tmp_path: Path
) -> None:
    """No request, no complaint, nothing wider than the window; tables scroll in their boxes."""
    file = tmp_path / "report.html"
    file.write_text(report(experiment(), results))
    for width in (390, 1280):
        page.open(file, width)
        page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("document.body.scrollWidth") <= width
        # Wider than its box, and so to be scrolled in it: the table of twelve tasks.
        box = "document.querySelector('#table1 .scroll')"
        assert page.value(f"{box}.scrollWidth > {box}.clientWidth")
        # Eight of a picture's pixels and more make a letter of nine points: it stays that large.
        assert page.value("document.querySelector('#deltas img').clientWidth") >= 11 * 60
        # What a finger or a pointer must hit is large enough (WCAG 2.2, 2.5.8).
        small = "[...document.querySelectorAll('main button')]"
        small += ".filter(one => one.offsetHeight > 0 && one.offsetHeight < 24).length"
        assert page.value(small) == 0
        shot = tmp_path / f"{width}.png"
        page.screenshot(shot)
        assert struct.unpack(">II", shot.read_bytes()[16:24]) == (width, 900)
        # An empty window would be a few kilobytes.
        assert shot.stat().st_size > 15_000
    assert page.complaints == []
    assert {one for one in page.requests if not one.startswith("data:image/png;")} == {
        file.as_uri()
    }
    images = "[...document.images].every(one => one.complete && one.naturalWidth > 0)"
    assert page.value(images)


@pytest.mark.full
def test_tables_are_sorted_and_filtered_and_a_number_leads_to_its_samples(
    results: Path, page: Page, tmp_path: Path
) -> None:
    answered(results)
    table(results, "table1", ["gate", "q", "k", "v", "o", "up", "down"])
    file = tmp_path / "report.html"
    file.write_text(report(experiment(), results))
    page.open(file, 1280)

    def rows() -> list[str]:
        shown = "[...document.querySelectorAll('#table1 tbody:first-of-type tr:not([hidden]) th')]"
        return list(page.value(f"{shown}.map(one => one.textContent.trim())"))

    original = ["base", "gate", "q", "k", "v", "o", "up", "down"]
    assert rows() == original
    heading = "document.querySelector('#table1 thead th.mean')"
    for order, expected in (
        ("descending", original[::-1]),
        ("ascending", original),
        (None, original),
    ):
        page.value(f"{heading}.querySelector('button').click()")
        assert page.value(f"{heading}.getAttribute('aria-sort')") == order
        assert rows() == expected
    field = "document.querySelector('#table1 .filter input')"
    page.value(f"{field}.value = 'GATE'; {field}.dispatchEvent(new Event('input'))")
    assert rows() == ["gate"]
    found = page.value("document.querySelector('#table1 .filter output').textContent")
    assert found == "1 of 8 rows"
    page.value(f"{field}.value = ''; {field}.dispatchEvent(new Event('input'))")
    # The verdicts are filtered by their kind.
    kinds = "[...document.querySelectorAll('.tally button')]"
    page.value(f"{kinds}.find(one => one.textContent.includes('contradicted')).click()")
    tested = ".tally ~ .claims > tbody:not([hidden])"
    assert page.value(f"[...document.querySelectorAll('{tested}')].map(one => one.id)") == ["C5"]
    # Those that could not be tested are folded.
    folded = "document.querySelector('details.untested')"
    assert page.value(f"{folded}.open") is False
    assert "C14" in page.value(f"{folded}.querySelector('summary').textContent")
    page.value(f"{kinds}.find(one => one.textContent.includes('untestable')).click()")
    assert page.value(f"{folded}.open") is True
    # On focus, a number says what it is; arrows lead to the next one.
    numbers = "document.querySelectorAll('#table1 button.one')"
    page.value(f"{numbers}[0].focus({{preventScroll: true}})")
    tip = "document.getElementById('tip')"
    assert "n = 200 samples, 1 replicate" in page.value(f"{tip}.textContent")
    assert page.value(f"{numbers}[0].getAttribute('aria-describedby')") == "tip"

    def press(key: str) -> None:
        event = f"new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}})"
        page.value(f"document.activeElement.dispatchEvent({event})")

    press("ArrowDown")
    assert page.value("document.activeElement.closest('tr').dataset.cell") == "p/load/gate"
    press("Escape")
    assert page.value(f"{tip}.hidden")
    # One click leads to the samples.
    page.value("document.activeElement.click()")
    lines = "[...document.querySelectorAll('dialog tbody tr')].map(one => one.innerText)"
    deadline = time.monotonic() + 20
    while not page.value(lines) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(page.value(lines)) == MOST_SAMPLES
    second = ["s1", "How is it? 1", "anger", "anger ×1, joy ×1", "1 of 2"]
    assert page.value(lines)[1].split("\t") == second
    said = page.value("document.querySelector('dialog').innerText")
    assert f"The first {MOST_SAMPLES} of 60 samples" in said
    choice = "document.querySelectorAll('dialog select')[1]"
    page.value(f"{choice}.value = 'right'; {choice}.dispatchEvent(new Event('change'))")
    assert len(page.value(lines)) == MOST_SAMPLES / 2
    page.value("document.querySelector('dialog .close').click()")
    assert not page.value("document.querySelector('dialog').open")
    # So does the name of a cell below a verdict.
    page.value("document.querySelector('#C5 .basis button').click()")
    assert page.value("document.querySelector('dialog').open")
    assert page.complaints == []
    assert {one for one in page.requests if not one.startswith("data:image/")} == {file.as_uri()}


@pytest.mark.full
def test_the_page_is_legible_without_scripts(results: Path, page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(experiment(), results))
    page.command("Emulation.setScriptExecutionDisabled", value=True)
    page.open(file, 1280)
    root = page.command("DOM.getDocument")["root"]["nodeId"]
    found = page.command("DOM.querySelectorAll", nodeId=root, selector="button, dialog, .filter")
    assert found["nodeIds"] == []
    page.screenshot(tmp_path / "plain.png")
    assert (tmp_path / "plain.png").stat().st_size > 15_000


@pytest.mark.full
def test_the_page_prints_no_wider_than_its_paper(results: Path, page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(experiment(), results))
    # What A4 leaves between its margins, upright and turned, in CSS pixels.
    for width, which in ((702, "!one.closest('.turned')"), (1032, "one.closest('.turned')")):
        page.open(file, width)
        page.command("Emulation.setEmulatedMedia", media="print")
        wide = page.value(
            f"[...document.querySelectorAll('main *')].filter(one => {which})"
            f".filter(one => one.getBoundingClientRect().right > {width + 1})"
            ".map(one => one.outerHTML.slice(0, 80))"
        )
        assert wide == []
    page.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
