"""A bridge and an adapter tuned together, alone, in company and after a stop; and their cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from media_sets import features, task, write_features
from refusal import refused
from safetensors.torch import load_file

from affectlocus.config.bridges import BridgeConfig
from affectlocus.config.evaluation import Evaluate
from affectlocus.config.hardware import Hardware
from affectlocus.config.tuning import Tuning
from affectlocus.core.cells import Cell
from affectlocus.core.stop_signals import Stopped
from affectlocus.evaluation.cell_bridge import cell_bridge
from affectlocus.evaluation.evaluate import NO_CACHE
from affectlocus.evaluation.session import Session
from affectlocus.lm.bridges import described, drawn
from affectlocus.lm.sample_media import SampleMedia, batch_soft_tokens
from affectlocus.training.tune import Tuner, TuningJob

FILES = ("bridge.safetensors", "bridge_initial.safetensors")
FIXED = [f"standardise.{name}.{part}" for name in ("face", "voice") for part in ("mean", "inverse")]
"""What is not trained."""
BRIDGE: dict[str, Any] = {"kind": "linear", "tokens": {"face": 1, "voice": 2}}
RECIPE: dict[str, Any] = {"data": ["moods"], "steps": 24, "batch_size": 8, "rank": 2, "alpha": 4}
RECIPE |= {"learning_rate": 0.01, "bridge": BRIDGE}
SETTINGS = Evaluate(max_length=64)


def recipe(modules: str = "all", **others: object) -> Tuning:
    return Tuning.model_validate(RECIPE | {"modules": modules} | others)


def tuned(base: Path, recipes: list[Tuning], folder: Path, at_once: int = 1, states=None):
    """What each tuning measured, in folders 0, 1, … of a folder."""
    moods = task()
    media = features(write_features(folder / "features", moods), "train")
    tuner = Tuner(base, Hardware(adapters_at_once=at_once))
    measured = {}
    for stack in tuner.stacks(recipes):
        jobs = [
            TuningJob(recipes[one], [moods.samples], folder / str(one), states, [media])
            for one in stack
        ]
        measured |= dict(zip(stack, tuner.tune(jobs), strict=True))
    return [measured[number] for number in range(len(recipes))]


def changed(after: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(after[name], before[name])}


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_an_adapter_and_its_bridge_have_the_same_bits_alone_and_in_a_group(checkpoint, tmp_path):
    recipes = [recipe("q+k"), recipe("gate", trajectory=2), recipe("bridge"), recipe("all")]
    alone = tuned(checkpoint(), recipes, tmp_path / "alone")
    group = tuned(checkpoint(), recipes, tmp_path / "group", 4)
    assert alone == group
    for number in range(4):
        one = everything(tmp_path / "alone" / str(number))
        assert one == everything(tmp_path / "group" / str(number))
        assert set(FILES) <= set(one)
        assert ("adapter_model.safetensors" in one) == (number != 2)
    assert "trajectory/step-000012/bridge.safetensors" in everything(tmp_path / "alone/1")


def test_all_arms_of_a_seed_start_from_the_same_bridge_and_tune_it(checkpoint, tmp_path):
    recipes = [recipe("q"), recipe("bridge"), recipe("gate", method="sft"), recipe("q", seed=1)]
    measured = tuned(checkpoint(), recipes, tmp_path)
    first, second, third, other = (
        (tmp_path / str(number) / FILES[1]).read_bytes() for number in range(4)
    )
    assert first == second == third != other
    for number in range(4):
        after, before = (load_file(tmp_path / str(number) / name) for name in FILES)
        assert changed(after, before) == set(before) - set(FIXED)
    size = 6 * 32 + 32 + 4 * 32 + 32
    assert [one["bridge"] for one in measured] == [size] * 4
    assert measured[1]["trainable"] == size
    assert measured[0]["trainable"] == size + 2 * 2 * (32 + 32)


def test_the_bridge_has_a_learning_rate_of_its_own(checkpoint, tmp_path):
    slow = BRIDGE | {"learning_rate": 1e-12}
    tuned(checkpoint(), [recipe("all", bridge=slow, warmup=0.0)], tmp_path)
    after, before = (load_file(tmp_path / "0" / name) for name in FILES)
    assert all(torch.allclose(after[name], before[name], atol=1e-9) for name in before)
    factors = load_file(tmp_path / "0/adapter_model.safetensors")
    assert all(one.abs().max() > 1e-3 for name, one in factors.items() if "lora_B" in name)


@pytest.mark.parametrize("modules", ["q", "bridge"])
def test_a_stopped_tuning_ends_with_the_same_bridge(checkpoint, tmp_path, stopping, modules):
    tuned(checkpoint(), [recipe(modules)], tmp_path / "whole")
    with pytest.raises(Stopped):
        tuned(checkpoint(), [recipe(modules)], tmp_path / "cut", states=stopping(7))
    tuned(checkpoint(), [recipe(modules)], tmp_path / "cut", states=stopping())
    assert everything(tmp_path / "whole/0") == everything(tmp_path / "cut/0")


def test_a_recipe_without_a_bridge_reads_the_text_alone(checkpoint, tmp_path):
    """The same files whether the task has media or never had any."""
    plain = task()
    plain = replace(
        plain,
        samples=plain.samples.drop(columns=["media.face", "media.voice"]).assign(
            prompt="She came in. She was"
        ),
    )
    tuner = Tuner(checkpoint())
    for name, moods in (("media", task()), ("text", plain)):
        job = TuningJob(recipe("q", bridge=None), [moods.samples], tmp_path / name)
        (measured,) = Tuner(checkpoint()).tune([job])
        assert "bridge" not in measured
    assert everything(tmp_path / "media") == everything(tmp_path / "text")
    assert not (tmp_path / "media/bridge.safetensors").exists()
    with refused("tuning.no-media"):
        tuner.tune([TuningJob(recipe("q"), [plain.samples], tmp_path / "none", None, [{}])])


# Cells


@pytest.fixture(scope="module")
def pair(checkpoint, tmp_path_factory):
    """A base, a tuned checkpoint with its bridge, and the features."""
    folder = tmp_path_factory.mktemp("pair")
    base = checkpoint()
    tuned(base, [recipe("all"), recipe("bridge")], folder)
    return base, folder


def session(pair, told=("face", "voice")) -> Session:
    base, folder = pair
    moods = task()
    media = {"moods": features(write_features(folder / "-".join(("told", *told)), moods, told))}
    return Session([base], [moods], SETTINGS, Hardware(), media)


def cell(kind: str, modules: str = "", mode: str = "", bridge: str = "tuned", media: str = ""):
    return Cell(kind, "b", "p", modules, mode, 0, bridge=bridge, media=media)  # type: ignore[arg-type]


def answers(pair, session, cell, tuned="0"):
    found, verified = session.answer(
        cell, pair[1] / tuned if cell.pair else None, {}, NO_CACHE, lambda _: None
    )
    return found.rows, verified


def accuracy(rows) -> float:
    best = rows.loc[rows.groupby("sample")["loglik"].idxmax()]
    return float((best["candidate"] == best["label"]).mean())


def test_the_media_tell_the_label_and_controls_of_them_do_not(pair):
    asked = session(pair)
    found = {
        name: accuracy(answers(pair, asked, one)[0])
        for name, one in {
            "tuned": cell("tuned"),
            "alone": cell("load", "bridge"),
            "initial": cell("load", "bridge", bridge="initial"),
            "shuffled": cell("tuned", media="shuffled"),
            "none": cell("tuned", bridge="none"),
            "base": Cell("base", "b"),
        }.items()
    }
    assert found["tuned"] > 0.9
    assert found["shuffled"] < 0.75
    # Without media all samples have one prompt, so that one label is given to all.
    assert found["none"] == found["base"] == 0.5


def test_base_and_all_and_tuned_bridge_are_the_tuned_model(pair):
    asked = session(pair)
    load, counts = answers(pair, asked, cell("load", "all"))
    whole, _ = answers(pair, asked, cell("tuned"))
    assert load.equals(whole)
    assert (counts["bridge_tensors"], counts["bridge_changed"]) == (8, 4)
    assert counts["outside"] == counts["untouched"]


def test_a_zero_dose_with_the_initial_bridge_is_the_base_with_it(pair):
    asked = session(pair)
    zero, counts = answers(pair, asked, cell("load", "all", "x0", bridge="initial"))
    alone, _ = answers(pair, asked, cell("load", "bridge", bridge="initial"))
    assert zero.equals(alone)
    assert counts["bridge_changed"] == 0
    tuned_alone, _ = answers(pair, asked, cell("load", "bridge"))
    assert not zero.equals(tuned_alone)


def test_a_bridge_tuned_alone_has_the_language_model_of_the_base(pair):
    asked = session(pair)
    rows, counts = answers(pair, asked, cell("tune", "bridge"), "1")
    assert counts == {
        "bridge_tensors": 8,
        "bridge_changed": 4,
        "outside_is": "base",
        "outside_tuned": [],
    }
    again, _ = answers(pair, asked, cell("load", "bridge"), "1")
    assert rows.equals(again)


@pytest.mark.parametrize("mode", ["revert", "zero", "shuffle", "noise"])
def test_an_ablated_bridge_is_the_tuned_model_with_another_bridge(pair, mode):
    asked = session(pair)
    rows, counts = answers(pair, asked, cell("ablate", "bridge", mode))
    whole, _ = answers(pair, asked, cell("tuned"))
    assert not rows.equals(whole)
    assert counts["bridge_changed"] == (0 if mode == "revert" else 4)
    if mode == "revert":
        reverted, _ = answers(pair, asked, cell("tuned", bridge="initial"))
        assert rows.equals(reverted)


def test_cells_in_any_order_have_the_same_answers(pair):
    asked = session(pair)
    cells = [
        cell("tuned"),
        cell("load", "gate"),
        cell("load", "bridge", bridge="initial"),
        cell("tuned", media="zero-face"),
        cell("ablate", "gate", "revert"),
        Cell("base", "b"),
        cell("load", "gate", bridge="none"),
    ]
    first = [answers(pair, asked, one)[0] for one in cells]
    for one, rows in reversed(list(zip(cells, first, strict=True))):
        assert answers(pair, session(pair), one)[0].equals(rows)
        assert answers(pair, asked, one)[0].equals(rows)


def test_a_cell_without_media_answers_as_if_the_task_had_none(pair):
    moods = task()
    plain = replace(
        moods,
        samples=moods.samples.drop(columns=["media.face", "media.voice"]).assign(
            prompt="She came in. She was"
        ),
    )
    text = Session([pair[0]], [plain], SETTINGS, Hardware())
    for one in (Cell("base", "b"), cell("load", "gate", bridge="none")):
        assert answers(pair, session(pair), one)[0].equals(answers(pair, text, one)[0])


def test_batches_and_the_order_of_samples_change_no_soft_token(pair):
    moods = task()
    media = features(write_features(pair[1] / "again", moods))
    bridge = cell_bridge(cell("tuned"), pair[1] / "0")
    assert bridge is not None
    ids = moods.test["id"].tolist()
    soft = SampleMedia(media, ids).soft(bridge.module, list(media), "cpu")
    back = SampleMedia(media, ids[::-1]).soft(bridge.module, list(media), "cpu")
    whole = soft(range(len(ids)))
    assert torch.equal(whole, torch.cat([soft([row]) for row in range(len(ids))]))
    assert torch.equal(whole, back(range(len(ids))).flip(0))


def test_shuffled_media_are_those_of_another_sample_for_every_sample():
    media = SampleMedia({}, [str(number) for number in range(9)])
    for seed in range(5):
        donors = media.controlled(replace(cell("tuned", media="shuffled"), seed=seed), "t").donors
        assert sorted(donors) == sorted(media.samples)
        assert all(a != b for a, b in zip(donors, media.samples, strict=True))
    other = media.controlled(cell("tuned", media="shuffled"), "u").donors
    assert other != media.controlled(cell("tuned", media="shuffled"), "t").donors
    with refused("media.too-few-to-shuffle", found=1):
        SampleMedia({}, ["a"]).controlled(cell("tuned", media="shuffled"), "t")


def test_features_that_do_not_fit_the_bridge_are_refused(pair):
    asked = session(pair)
    asked._media = {"moods": {}}
    with refused("bridge.no-medium", expected="face"):
        answers(pair, asked, cell("tuned"))


def test_tasks_with_and_without_media_are_tuned_together(checkpoint, tmp_path):
    """A batch holds samples of both; those of text are no input of the bridge."""
    moods, plain = task(), task("plain", seed=1)
    plain = replace(
        plain,
        samples=plain.samples.drop(columns=["media.face", "media.voice"]).assign(
            prompt="She came in. She was"
        ),
    )
    media = features(write_features(tmp_path / "features", moods), "train")
    frames = [moods.samples, plain.samples]
    mixed = recipe("q", data=["moods", "plain"])
    (measured,) = Tuner(checkpoint()).tune(
        [TuningJob(mixed, frames, tmp_path / "mixed", None, [media, {}])]
    )
    assert measured["samples"] == 96
    after, before = (load_file(tmp_path / "mixed" / name) for name in FILES)
    assert changed(after, before) == set(before) - set(FIXED)
    assert any(before[name].abs().sum() for name in FIXED)


def test_the_soft_tokens_of_a_sample_do_not_depend_on_samples_of_text_in_its_batch():
    description = described(BridgeConfig.model_validate(BRIDGE), {"face": 6, "voice": 4}, 8)
    bridge = drawn(description, 0)
    samples = [{"face": torch.randn(1, 6), "voice": torch.randn(3, 4)} for _ in range(2)]
    alone = batch_soft_tokens(bridge, samples)
    mixed = batch_soft_tokens(bridge, [{}, samples[0], {}, samples[1]])
    assert torch.equal(mixed[[1, 3]], alone)
    assert not mixed[[0, 2]].any()
