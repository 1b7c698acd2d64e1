"""Whole runs on multimodal models that read recordings themselves, without any code of a user."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from programs import heavy
from project import ROOT, environment

sys.path.insert(0, str(ROOT / "tests/unit"))

import native
from media_writer import tone, write_sound

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

PARAMETERS = """
bases: {mine: {folder: base}}
bridges: {own: {kind: native, tokens: {voice: 1}}}
pairs:
  felt: {base: mine, tuned: tuned, bridge: own}
  taught:
    base: mine
    bridge: own
    tuning: &recipe
      {data: [moods], rank: 2, steps: 4, batch_size: 3, learning_rate: 1.0e-2, max_length: 128}
tune: *recipe
media:
  voice: {kind: sound}
tasks:
  moods:
    files: {train: train.csv, test: clips.csv}
    columns: {label: emotion, id: id}
    labels: [joy, fear]
    media: {voice: "voices/{id}.wav"}
    prompt: "Voice: <voice> {text} She feels"
    overlap_limit: 1
matrix:
  pairs: [felt, taught]
  load: [gate, all]
  tune: [gate]
  ablate: [gate]
  modes: [revert]
  media_controls: [shuffled, text]
  random_places: {modules: [gate], draws: 19, kinds: [entries]}
score: {resamples: 200}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    for seed, name in enumerate(("base", "tuned")):
        native.native_model("qwen2_audio", seed).save_pretrained(folder / name)
        native.audio_processor().save_pretrained(folder / name)
    for file, start, text in (("train", 6, "The sun shines."), ("clips", 0, "It rains.")):
        rows = ["id,text,emotion"]
        for index in range(start, start + 6):
            write_sound(folder / f"voices/s{index}.wav", tone(0.4, 150 + 40 * index))
            rows.append(f"s{index},{text},{('joy', 'fear')[index % 2]}")
        (folder / f"{file}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "params.yaml").write_text(PARAMETERS, encoding="utf-8")
    done = subprocess.run(
        [heavy() / "snakemake", "--cores", "2", "--directory", folder],
        cwd=ROOT,
        env=environment(ROOT, heavy()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return folder / "results"


def test_tables_have_the_rows_of_the_bridge_and_of_the_controls(results: Path) -> None:
    table = pd.read_csv(results / "table1.csv", keep_default_na=False)
    assert table["modules"].tolist() == ["base", "bridge", "bridge", "gate", "all"]
    media = pd.read_csv(results / "table_media.csv", keep_default_na=False)
    assert {"shuffled media", "no media"} <= set(media["mode"])
    assert (results / "report.html").is_file()


def test_cells_say_which_bridge_they_had(results: Path) -> None:
    def verified(cell: str) -> dict[str, object]:
        return json.loads((results / f"cells/felt/{cell}/verification.json").read_text())

    load = verified("load/gate")
    assert load["bridge_tensors"] == load["bridge_changed"] == 2
    assert load["outside"] == load["untouched"]
    assert {"bridge", "encoder"} <= set(load["outside_tuned"])
    assert verified("load/bridge/bridge-initial")["bridge_changed"] == 0


def test_the_deltas_are_those_of_the_language_model(results: Path) -> None:
    rows = pd.read_parquet(results / "deltas/felt.parquet")
    assert set(rows["layer"]) == {0, 1}
    assert len(rows[rows["parameter"] == "weight"]) == 14


def test_a_tuning_changes_its_set_and_the_bridge_and_its_arms_are_answered(results: Path) -> None:
    manifest = json.loads((results / "checkpoints/taught.seed0.json").read_text())
    assert manifest["kind"] == "adapter"
    assert 0 < manifest["bridge"] < manifest["trainable"]
    table = pd.read_csv(results / "table2.taught.csv", keep_default_na=False)
    assert table["modules"].tolist() == ["base", "bridge", "gate", "all"]
    record = results / "cells/taught/tune/gate/seed0/verification.json"
    verified = json.loads(record.read_text())
    assert verified["bridge_changed"] == 2
    assert verified["outside"] == verified["untouched"]
    ledger = pd.read_csv(results / "ledger.csv")
    assert set(ledger["bridge"]) == {manifest["bridge"]}
