"""The benchmark of deltas, on material of a few hundred KB."""

from __future__ import annotations

import csv
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import scripts
from scripts import BENCHMARKS

FOLDER = BENCHMARKS / "deltas"

loaded = partial(scripts.loaded, FOLDER)


@pytest.fixture(scope="module")
def arms() -> ModuleType:
    return loaded("arms")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    material = loaded("material")
    folder = tmp_path_factory.mktemp("pair")
    material.pair(material.MODELS["tiny"], folder)
    return folder


@pytest.fixture(scope="module")
def matrices(tmp_path_factory) -> Path:
    material = loaded("material")
    folder = tmp_path_factory.mktemp("matrices")
    material.matrices(material.MODELS["tiny"], folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    material = loaded("material")
    folder = tmp_path_factory.mktemp("adapter")
    material.adapter(material.MODELS["tiny"], folder, rank=4)
    return folder


def test_the_material_is_a_model_that_transformers_loads(arms, pair) -> None:
    # The embeddings are tied, so that none of the model's tensors is left to chance.
    assert arms.from_pretrained(pair)["engine"] > 0
    assert arms.lazy(pair)["engine"] > 0


@pytest.mark.parametrize("contract", ["basic", "scores", "whole"])
def test_every_tensor_is_measured_in_each_contract(arms, pair, contract) -> None:
    assert getattr(arms, contract)(pair)["tensors"] == 2 * 12 + 2


def test_the_reference_agrees_to_a_millionth(arms, pair) -> None:
    found = arms.accuracy(pair)
    assert max(found["ours"].values()) < 1e-6
    assert set(found["ours"]) >= {"l2", "relative", "cosine_distance", "dtype_floor"}
    assert found["torch_norm"][700 * 128] < 1e-4


def test_the_factors_give_the_norms_of_the_product(arms, adapter) -> None:
    product = arms.lora_product(adapter)["norms"]
    assert len(product) == 14
    for arm in (arms.lora_norms, arms.lora_spectra):
        assert arm(adapter)["norms"] == pytest.approx(product, rel=1e-5)


def test_both_ways_to_a_spectrum_agree(arms, matrices) -> None:
    ours, exact = (arm(matrices)["spectra"] for arm in (arms.spectrum, arms.svdvals))
    assert [one["shape"] for one in ours.values()] == [(352, 128), (128, 128)]
    for name, one in exact.items():
        for key in ("spectral_norm", "stable_rank", "effective_rank"):
            assert ours[name][key] == pytest.approx(one[key], rel=1e-9)


@pytest.mark.full
def test_a_quick_run_writes_a_row_for_each_arm_and_prints_its_tables(tmp_path) -> None:
    command = [sys.executable, FOLDER / "run.py", "--quick", "--arm", "cat", "--arm", "basic"]
    command += ["--arm", "spectrum", "--arm", "svdvals"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out", "--scratch", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == ["cat", "basic", "spectrum", "svdvals"]
    assert float(rows[1]["process_s"]) > float(rows[1]["engine_s"]) > 0
    assert 50 < float(rows[1]["peak_mb"]) < 400
    assert "cores" in rows[0]["machine"]
    assert "| **affectlocus**, basic scores" in done.stdout
    assert "| mlp.gate_proj.weight | 352×128 |" in done.stdout
    # The material is gone.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_arm_that_there_is_not_is_refused(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--arm", "dog", "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "'dog' is no arm" in done.stderr
