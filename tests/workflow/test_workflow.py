"""A whole very small experiment, run once for real, and what it must have made.

What a change reruns, and what it spares, is in test_reruns.py, which shares the run.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from programs import heavy
from project import environment
from small import Project

from affectlocus.config.experiment import load
from affectlocus.core.cells import Cell
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.rule_values import settings
from affectlocus.reporting.exhibits import captions

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


def test_it_ends_with_tables_whose_first_row_is_the_base_and_last_the_whole(
    project: Project,
) -> None:
    tasks = ["mini-IEMOCAP", "mini-MOSI", "mini-SIMS"]
    for number in (1, 2, 3):
        table = pd.read_csv(project.folder / f"results/table{number}.csv")
        assert list(table.columns) == [
            "num",
            "modules",
            *(["mode"] if number == 3 else []),
            *tasks,
            "mean",
            "top_answer",
            "one_answer",
        ]
        assert table["modules"].iloc[0] == "base"
        assert table["modules"].iloc[-1] == "all"
        assert (table["mean"] - table[tasks].mean(axis=1)).abs().max() < 0.011


def test_every_number_has_n_and_an_interval_around_it(project: Project) -> None:
    scores = pd.read_parquet(project.folder / "results/scores.parquet")
    assert set(scores["kind"]) == {"base", "tuned", "load", "tune", "ablate"}
    assert (scores["low"] <= scores["high"]).all()
    assert set(scores.loc[scores["task"] != "mean", "n"]) == {20}
    companion = pd.read_csv(project.folder / "results/table1_intervals.csv")
    assert set(companion["task"]) == {"mini-IEMOCAP", "mini-MOSI", "mini-SIMS", "mean"}


def test_a_task_in_free_text_has_its_text_its_labels_and_both_protocols(project: Project) -> None:
    cells = project.folder / "results/cells"
    texts = []
    for cell in ("tiny/base", "tiny-affective/tuned/seed0", "tiny-affective/load/all/seed0"):
        read = pd.read_parquet(cells / cell / "openset.parquet")
        spoken = read[read["task"] == "mini-SIMS"]
        assert len(spoken) == 20
        assert spoken[["text", "openset", "valence", "answer"]].notna().all(axis=None)
        general = read[read["task"] == "mini-text"]
        assert general["text"].notna().all()
        assert general[["openset", "valence", "answer"]].isna().all(axis=None)
        assert read.loc[~read["task"].isin(["mini-SIMS", "mini-text"]), "text"].isna().all()
        texts.append(spoken["text"].tolist())
    assert texts[0] != texts[1] == texts[2]
    scores = pd.read_parquet(project.folder / "results/scores.parquet")
    metrics = scores.groupby("task")["metric"].unique()
    more = {"coverage", "mer_unibench", "corrected_f1", "corrected_macro_f1", "distinct_2"}
    assert more <= set(metrics["mini-SIMS"])
    assert not more & (set(metrics["mini-MOSI"]) | set(metrics["mean"]))
    worth = pd.read_csv(project.folder / "results/table1_baselines.csv")
    own = worth[(worth["task"] == "mini-SIMS") & (worth["baseline"] == "majority")]
    assert more - {"distinct_2"} <= set(own["metric"])


def test_every_cell_has_its_perplexity_and_distinct_n_of_general_text(project: Project) -> None:
    table = pd.read_csv(project.folder / "results/fluency.csv")
    assert {"tiny/base", "tiny-affective/load/gate/seed0"} <= set(table["cell"])
    assert table[["perplexity", "distinct_1", "distinct_2"]].notna().all(axis=None)
    for arm in ("load", "tune", "ablate"):
        figure = project.folder / f"results/figures/fluency.{arm}.tiny-affective.svg"
        assert figure.stat().st_size > 5000


def test_a_model_that_reads_is_asked_without_new_inference(project: Project) -> None:
    with project.changed(
        "params.yaml", ("matrix:", "extraction: {model: checkpoints/tiny}\nmatrix:")
    ):
        rules = project.planned()
    assert {"retrieve", "extract", "openset", "score"} <= rules
    assert "evaluate" not in rules


def test_loading_all_of_a_lora_pair_answers_as_the_tuned_model(project: Project) -> None:
    cells = project.folder / "results/cells/tiny-affective"
    loaded = pd.read_parquet(cells / "load/all/seed0/predictions.parquet")
    tuned = pd.read_parquet(cells / "tuned/seed0/predictions.parquet")
    pd.testing.assert_frame_equal(loaded, tuned)


def test_a_pair_with_the_recipe_of_a_tune_cell_is_tuned_once(project: Project) -> None:
    # The pair and the tune cell of all seven projections share base, data, budget and seed.
    assert not (project.folder / "checkpoints/tiny-affective.tune.all.seed0").exists()
    cells = project.folder / "results/cells/tiny-affective"
    pair = pd.read_parquet(cells / "tuned/seed0/predictions.parquet")
    cell = pd.read_parquet(cells / "tune/all/seed0/predictions.parquet")
    pd.testing.assert_frame_equal(pair, cell)


def test_tune_cells_that_share_a_job_have_the_weights_of_a_tuning_alone(
    project: Project, tmp_path: Path
) -> None:
    results = project.folder / "results"
    assert (results / "benchmarks/tune/tiny-affective.tune.gate.seed0.tsv").is_file()
    assert not (results / "benchmarks/tune/tiny-affective.tune.up.seed0.tsv").exists()
    record = json.loads((results / "checkpoints/tiny-affective.tune.up.seed0.json").read_text())
    base, data = results / "checkpoints/tiny.json", results / "data/mini-caption.parquet"
    subprocess.run(
        [
            *(heavy() / "affectlocus", "tune", "--base", base, "--data", data),
            *("--settings", json.dumps(record["recipe"])),
            *("--folder", tmp_path / "up", "--out", tmp_path / "up.json"),
        ],
        cwd=project.folder,
        env=environment(project.folder),
        check=True,
        capture_output=True,
    )
    alone = json.loads((tmp_path / "up.json").read_text())
    assert alone["log"] == record["log"]
    name = "adapter_model.safetensors"
    weights = [{one["file"]: one for one in made["files"]}[name] for made in (alone, record)]
    assert weights[0] == weights[1]


def test_every_cell_was_verified_bit_for_bit(project: Project) -> None:
    for kind in ("load/gate", "tune/gate", "ablate/gate/revert", "ablate/gate/noise"):
        file = project.folder / f"results/cells/tiny-affective/{kind}/seed0/verification.json"
        counts = pd.read_json(file, typ="series")
        assert counts["inside"] == counts["changed"] == 2
        assert counts["outside"] == counts["untouched"] > 0


def test_a_cell_that_shared_a_job_is_byte_for_byte_the_cell_alone(
    project: Project, tmp_path: Path
) -> None:
    results = project.folder / "results"
    log = (results / "logs/evaluate/tiny-affective/tuned/seed0.log").read_text()
    assert "tiny-affective/load/gate/seed0" in log
    out = tmp_path / "tiny-affective/load/gate/seed0/predictions.parquet"
    parameters = load(project.folder)
    data = [f"--data={path}" for path in Dag(parameters).evaluate.data(Cell("base", "tiny"))]
    manifests = results / "checkpoints"
    command = [str(heavy() / "affectlocus"), "evaluate", str(out), *data]
    cell = {"kind": "load", "pair": "tiny-affective", "modules": "gate", "seed": 0}
    command += ["--cells", json.dumps(cell), "--settings", settings(parameters.evaluate)]
    command += [
        "--base",
        f"{manifests}/tiny.json",
        "--tuned",
        f"{manifests}/tiny-affective.seed0.json",
    ]
    subprocess.run(command, cwd=project.folder, check=True, capture_output=True)
    together = results / "cells/tiny-affective/load/gate/seed0"
    for name in ("predictions.parquet", "verification.json"):
        assert out.with_name(name).read_bytes() == (together / name).read_bytes()


def test_figures_and_deltas_are_there(project: Project) -> None:
    figures = project.folder / "results/figures"
    pair = [f"{name}.tiny-affective" for name in ("deltas", "ablate", "trajectory")]
    paper = ("fig7_load", "fig8_tune", "fig9_get", "fig10_relative")
    for name in (*pair, *paper, "neurons.tiny"):
        for suffix in ("png", "svg"):
            assert (figures / f"{name}.{suffix}").stat().st_size > 5000
    deltas = pd.read_parquet(project.folder / "results/deltas/tiny-affective.seed0.parquet")
    assert set(deltas["projection"]) == {"q", "k", "v", "o", "gate", "up", "down"}
    assert (deltas.loc[deltas["parameter"] == "weight", "l2"] > 0).all()


def test_the_ledger_counts_what_each_tune_cell_trained(project: Project) -> None:
    results = project.folder / "results"
    ledger = pd.read_csv(results / "ledger.csv", keep_default_na=False)
    rows = ledger[ledger["budget"] == "equal rank"].set_index("modules")
    # The pair has the recipe of the tune cell `all`.
    for modules, name in (
        ("gate", "tiny-affective.tune.gate.seed0"),
        ("up", "tiny-affective.tune.up.seed0"),
        ("all", "tiny-affective.seed0"),
    ):
        record = pd.read_json(results / f"checkpoints/{name}.json", typ="series")
        assert rows.loc[modules, "parameters"] == record["trainable"]
        saved = project.folder / f"checkpoints/{name}/adapter_model.safetensors"
        assert rows.loc[modules, "adapter_bytes"] == saved.stat().st_size
    times = pd.read_csv(results / "step_times.csv")
    assert times["modules"].tolist() == ["all", "gate", "up"]


def test_the_report_has_every_exhibit_and_is_the_same_page_again(project: Project) -> None:
    path = project.folder / "results/report.html"
    again = ("--forcerun", "report", "--", "results/report.html")
    project.snakemake(*again)
    page = path.read_text()
    for name in ("verdicts", "table1", "table3", "fig7", "dose", "deltas", "ledger", "data"):
        assert f'id="{name}"' in page
    assert "Other figures" not in page
    project.snakemake(*again)
    assert path.read_text() == page


def test_snakemake_s_own_report_shows_the_results_with_their_captions(project: Project) -> None:
    project.snakemake("--report", "own.html")
    page = (project.folder / "own.html").read_text()
    # One pair has no directions to compare and no panels beside its own; no set names layers, and
    # neither random places, smallest sets nor media are asked for.
    lacking = {"draw_bands", "draw_directions", "draw_panels", "draw_places", "percentiles"}
    lacking |= {"frontier", "draw_frontier", "probes"}
    texts_of = {rule: text for rule, text in captions().items() if rule not in lacking}
    for caption in texts_of.values():
        # Of a rule that makes several exhibits one, as its wildcards choose; without quotes, which
        # the page writes in its own way.
        texts = re.findall(r"%}(.+?)(?={%)", caption) or [caption]
        words = [max(re.findall(r"[\w ,.;]+", text), key=len).strip() for text in texts]
        assert any(one in page for one in words), words
    for name in ("results/report.html", "results/claims.csv", "results/table3.csv"):
        assert name in page


def test_a_second_run_has_nothing_to_do(project: Project) -> None:
    assert "Nothing to be done" in project.snakemake()


def test_weights_gone_behind_a_manifest_are_named_with_the_way_out(project: Project) -> None:
    folder = project.folder / "checkpoints/tiny-affective.seed0"
    away = folder.with_name("away")
    folder.rename(away)
    try:
        run = subprocess.run(
            [
                str(heavy() / "affectlocus"),
                "deltas",
                *("--base", "results/checkpoints/tiny.json"),
                *("--tuned", "results/checkpoints/tiny-affective.seed0.json"),
                *("--out", "deltas.parquet"),
            ],
            cwd=project.folder,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        away.rename(folder)
    assert run.returncode == 1
    assert re.fullmatch(r"affectlocus: .*missing, though .*; affectlocus doctor .*\n", run.stderr)
    assert not (project.folder / "deltas.parquet").exists()
