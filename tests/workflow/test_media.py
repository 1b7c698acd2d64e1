"""A whole very small experiment with media: from features to tables with the rows of the bridge."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from project import copied
from rerun_rows import MEDIA_ROWS, check, outputs
from small import Planner, Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("media")]

PARAMETERS = Path(__file__).with_name("media.yaml")
WIDTHS = {"face": (1, 6), "voice": (3, 4)}


def write_samples(folder: Path) -> None:
    """Two labels in turn, and arrays that show them; the text is the same for all."""
    random = np.random.default_rng(0)
    directions = {medium: random.normal(size=width) for medium, (_, width) in WIDTHS.items()}
    for split, count in (("train", 96), ("test", 40)):
        rows = []
        for number in range(count):
            name, sign = f"{split}{number}", 1 if number % 2 else -1
            rows.append({"id": name, "text": "She came in.", "label": ("sad", "happy")[number % 2]})
            for medium, (tokens, width) in WIDTHS.items():
                values = 0.3 * random.normal(size=(tokens, width)) + sign * directions[medium]
                file = folder / medium / f"{name}.npy"
                file.parent.mkdir(exist_ok=True)
                np.save(file, values.astype(np.float32))
        pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The experiment with all its results."""
    folder = copied(tmp_path_factory.mktemp("media") / "project", PARAMETERS)
    write_samples(folder)
    project = Project(folder, Planner(folder))
    project.snakemake(AFFECTLOCUS_CACHE=str(folder.with_name("cache")))
    return project


def table(project: Project, name: str) -> dict[tuple[str, str], float]:
    """(module set, mode) → the AUC in percent of a table's row; 50 is chance.

    So small a model gives most samples one answer, but ranks them rightly.
    """
    rows = pd.read_csv(project.folder / f"results/{name}.csv", keep_default_na=False)
    modes = rows["mode"] if "mode" in rows else [""] * len(rows)
    return dict(zip(zip(rows["modules"], modes, strict=True), rows["auc"], strict=True))


def test_only_the_media_tell_the_label_and_shuffled_media_are_at_chance(seen: Project) -> None:
    rows = table(seen, "table_media")
    assert list(rows) == [
        ("base", ""),
        ("bridge", ""),
        ("bridge", "initial bridge"),
        ("all", "shuffled media"),
        ("all", "zero face"),
        ("all", "zero voice"),
        ("all", "no media"),
        ("all", ""),
    ]
    assert rows["all", ""] > 95
    assert 25 < rows["all", "shuffled media"] < 75
    assert rows["all", "no media"] == rows["base", ""] == 50


def test_tables_begin_with_the_rows_of_the_bridge(seen: Project) -> None:
    assert list(table(seen, "table1"))[:3] == [
        ("base", ""),
        ("bridge", ""),
        ("bridge", "initial bridge"),
    ]
    assert ("gate", "initial bridge") in table(seen, "table1_initial")
    assert ("gate", "no media") in table(seen, "table1_none")
    assert list(table(seen, "table2"))[:2] == [("base", ""), ("bridge", "")]
    assert ("bridge", "revert") in table(seen, "table3")


def test_base_and_delta_and_tuned_bridge_are_the_tuned_model(seen: Project) -> None:
    cells = seen.folder / "results/cells/seen"
    read = [
        pd.read_parquet(cells / one / "seed0/predictions.parquet") for one in ("load/all", "tuned")
    ]
    assert read[0].equals(read[1])
    checked = json.loads((cells / "load/all/seed0/verification.json").read_text())
    # Mean and deviation of the features of each medium are not trained.
    assert (checked["bridge_tensors"], checked["bridge_changed"]) == (12, 8)


def test_random_places_have_the_tuned_bridge_and_are_compared_with_base_and_bridge(
    seen: Project,
) -> None:
    (row,) = pd.read_csv(seen.folder / "results/random_places.seen.csv").to_dict("records")
    assert row["draws"] == 19
    found = pd.read_parquet(seen.folder / "results/places/seen.seed0.parquet")
    for modules in ("bridge", "gate"):
        own = found[(found["modules"] == modules) & (found["mode"] == "")]
        cell = seen.folder / f"results/cells/seen/load/{modules}/seed0/predictions.parquet"
        wanted = pd.read_parquet(cell).dropna(subset="candidate").query("task == 'moods'")
        assert own["loglik"].tolist() == wanted["loglik"].tolist()
    assert found.query("kind == 'base'").empty


def test_a_checkpoint_has_its_bridges_and_the_ledger_counts_them(seen: Project) -> None:
    names = ("seen.seed0", "seen.tune.bridge.seed0", "seen.tune.gate.seed0")
    first = set()
    for name in names:
        folder = seen.folder / "checkpoints" / name
        assert (folder / "bridge.safetensors").is_file()
        first.add((folder / "bridge_initial.safetensors").read_bytes())
        listed = json.loads((seen.folder / f"results/checkpoints/{name}.json").read_text())
        assert {"bridge.safetensors", "bridge_initial.safetensors"} <= {
            one["file"] for one in listed["files"]
        }
    assert len(first) == 1
    ledger = pd.read_csv(seen.folder / "results/ledger.csv")
    size = sum(width * 32 + 32 + 32 * 32 + 32 for _, width in WIDTHS.values())
    assert set(ledger["bridge"]) == {size}
    manifest = json.loads((seen.folder / "results/checkpoints/seen.seed0.json").read_text())
    assert manifest["bridge"] == size


def test_claims_figures_and_report_know_the_rows(seen: Project) -> None:
    claims = pd.read_csv(seen.folder / "results/claims.csv", keep_default_na=False)
    (row,) = claims[(claims["claim"] == "locus") & (claims["pair"] == "seen")].to_dict("records")
    assert "load bridge" in row["why"]
    assert (seen.folder / "results/figures/media.seen.png").is_file()
    assert "initial bridge" in (seen.folder / "results/report.html").read_text(encoding="utf-8")


@contextmanager
def other_values(file: Path) -> Iterator[None]:
    """An array with another number in it, put back as old as it was."""
    before, stat = file.read_bytes(), file.stat()
    values = np.load(file)
    values[0, 0] += 1
    np.save(file, values)
    try:
        yield
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_nothing_is_left_to_do(seen: Project) -> None:
    assert "Nothing to be done" in seen.planner.said(seen.folder, "-n")


@pytest.mark.parametrize("name", MEDIA_ROWS)
def test_a_change_reruns_what_its_row_says_and_nothing_else(seen: Project, name: str) -> None:
    row = MEDIA_ROWS[name]
    file = seen.folder / row.file
    changed = other_values(file) if file.suffix == ".npy" else seen.changed(row.file, *row.changes)
    with changed:
        planned = outputs(seen.plan())
    check(outputs(seen.plan("--forceall")), planned, row.runs, row.spares)
