"""Small sets of blocks: gradients against differences, both searches on a planted locus, a null."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from refusal import refused
from test_places import CONFIG, plant, run

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.config.experiment import Parameters
from affectlocus.core.cells import Cell
from affectlocus.core.projections import parse_modules
from affectlocus.evaluation.evaluate import CellModel
from affectlocus.evaluation.smallest_sets import (
    BlockModel,
    Question,
    batched,
    choosing,
    frontier,
    greedy_order,
    pruned,
    sizes_of,
)
from affectlocus.orchestration.dag import Dag
from affectlocus.reporting.frontier_curves import frontier_curves

QUESTIONS = [
    Question(((3, 4, 5),), ((7,), (8, 9)), (0,)),
    Question(((6, 2),), ((7,), (8, 9)), (1,)),
    Question(((6, 2, 9),), ((7,), (11,), (12,)), (2,)),
]


@pytest.fixture(params=["llama", "phi3"])
def blocks(request, checkpoint, twin) -> tuple[BlockModel, CellModel, ModelPair]:
    base = checkpoint(request.param, tie_word_embeddings=False)
    tuned = twin(base, lambda name: "_proj" in name)
    live = CellModel(base)
    live.become(None, Cell("base", "b"))
    pair = ModelPair(base, tuned)
    return BlockModel(live.model, pair), live, pair


def test_blocks_are_the_projections_of_each_layer(blocks) -> None:
    model, _, _ = blocks
    assert len(model.blocks) == 14
    assert model.blocks[:2] == [(0, "q"), (0, "k")]
    assert model.text(np.ones(14, bool)) == "all@0-1"
    one = np.array([block == (1, "up") for block in model.blocks])
    assert model.text(one) == "up@1"


def test_a_set_has_the_bits_of_a_load_cell(blocks) -> None:
    model, live, pair = blocks
    wanted = parse_modules("gate@0+q@1")
    chosen = np.array([wanted.contains(*block) for block in model.blocks])
    model.load(chosen.astype(float))
    found = {name: one.clone() for name, one in live.model.state_dict().items()}
    other = CellModel(pair.base.path)
    other.become(pair.tuned, Cell("load", "b", "p", "gate@0+q@1"))
    for name, one in other.model.state_dict().items():
        assert torch.equal(one, found[name]), name


def test_the_gradient_is_that_of_finite_differences(blocks) -> None:
    model, _, _ = blocks
    factors = np.linspace(0.2, 0.8, 14)
    model.load(factors)
    _, slope = model.gradient(QUESTIONS)
    for number in (0, 5, 9, 13):
        ends = []
        for change in (-0.02, 0.02):
            moved = factors.copy()
            moved[number] += change
            model.load(moved)
            ends.append(model.gradient(QUESTIONS)[0])
        assert slope[number] == pytest.approx((ends[1] - ends[0]) / 0.04, rel=0.05, abs=2e-4)


def test_half_of_the_samples_of_each_label_choose() -> None:
    assert choosing(["joy", "fear", "joy", "fear", "joy", "joy"]) == [0, 1, 4]


def test_questions_are_joined_by_their_candidates() -> None:
    joined = list(batched(QUESTIONS))
    assert [len(one.prompts) for one in joined] == [2, 1]
    assert joined[0].right == (1, 0)  # the shorter prompt first


def test_a_frontier_has_sets_of_falling_size_that_contain_each_other(blocks) -> None:
    model, _, _ = blocks
    order = greedy_order(model, QUESTIONS)
    assert sorted(order) == list(range(14))
    found = list(frontier(model, order))
    shares = [model.share(one) for one in found]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == len(shares)
    assert found[-1].sum() == 1
    assert all((big | small == big).all() for big, small in pairwise(found))
    assert shares[0] <= sizes_of(model)[1] + 1e-9


def test_pruning_drops_what_a_set_does_not_need(blocks) -> None:
    model, _, _ = blocks
    whole = np.ones(14, bool)
    most = model.loss(QUESTIONS, whole) + 0.02
    assert most - 0.02 == pytest.approx(model.gradient(QUESTIONS)[0], rel=1e-5)
    least = pruned(model, QUESTIONS, [whole], most)
    assert least is not None
    assert 0 < least.sum() < 14
    assert model.loss(QUESTIONS, least) <= most
    asked: list[int] = []
    smaller = pruned(model, QUESTIONS, [whole, least], most, lambda: asked.append(1))
    assert len(asked) == 2
    assert smaller is not None
    assert (smaller <= least).all()
    assert pruned(model, QUESTIONS, [whole], -1.0) is None


# The whole way: a planted locus, and a null


@pytest.fixture(scope="module")
def planted(checkpoint, tmp_path_factory) -> Path:
    """The pairs of test_places, with noise that leaves the whole tuned model its skill."""
    base = checkpoint("llama", tie_word_embeddings=False)
    return plant(base, tmp_path_factory.mktemp("planted"), 0.01, 40)


def searched(folder: Path, name: str, **settings: Any) -> pd.DataFrame:
    out = folder / f"{name}.smallest.parquet"
    chosen = {"samples": 100, "steps": 30} | settings
    run(
        *("smallest", "--base", folder / "base.json", "--tuned", folder / f"{name}.json"),
        *("--data", folder / "moods.parquet", "--settings", json.dumps(chosen)),
        *("--named", "gate", "--named", "up@1", "--out", out),
    )
    csv = folder / f"{name}.smallest.csv"
    said = run("frontier", out, "--settings", '{"metric": "accuracy"}', "--out", csv)
    assert ("no set is claimed" in said) == (name == "null")
    return pd.read_csv(csv)


def test_both_searches_find_a_planted_locus(planted) -> None:
    found = searched(planted, "locus")
    smallest = found[found["smallest"] & (found["method"] != "named")]
    assert smallest["modules"].tolist() == ["up@1", "up@1", "up@1"]
    assert smallest["method"].tolist() == ["greedy", "learned", "pruned"]
    assert (smallest["gain_kept"] >= 0.95).all()
    assert (found["p_gain"] < 0.05).all()
    named = found[found["method"] == "named"].set_index("named")
    assert named.loc["up@1", "gain_kept"] >= 1
    assert named.loc["gate", "gain_kept"] < 0.5
    figure = frontier_curves(found.astype({"seed": str, "named": str}), "a pair")
    assert [line.get_label() for line in figure.axes[0].lines][:1] == ["greedy"]
    plt.close("all")


def test_of_noise_no_set_is_claimed(planted) -> None:
    found = searched(planted, "null")
    assert not found["smallest"].any()


# params.yaml and the jobs


def dag(**smallest: Any) -> Dag:
    matrix = {"pairs": ["felt"], "load": ["gate", "all"], "tune": [], "ablate": []}
    return Dag(Parameters.model_validate(CONFIG | {"matrix": matrix | {"smallest": smallest}}))


def test_without_samples_there_is_no_job() -> None:
    assert dag().smallest.files == dag().smallest.figures == []


def test_each_pair_has_a_frontier_and_a_figure() -> None:
    jobs = dag(samples=50)
    assert jobs.smallest.files == ["results/smallest.felt.csv"]
    assert jobs.smallest.figures[0] == "results/figures/frontier.felt.png"
    assert jobs.smallest.named == ["gate"]
    assert jobs.smallest.tuned == ["felt"]


def test_a_set_that_the_tuning_left_alone_is_refused(checkpoint, lora) -> None:
    from affectlocus.evaluation.set_search import _of_modules

    base = checkpoint()
    live = CellModel(base)
    model = BlockModel(live.model, ModelPair(base, lora(base, ["q_proj"])))
    with refused("smallest.nothing-in-set", modules="gate"):
        _of_modules(model, "gate")
