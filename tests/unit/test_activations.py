"""Activations of the gate, against the model's own forward pass text by text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from refusal import refused

from affectlocus.config.evaluation import Evaluate
from affectlocus.config.measures import Neurons
from affectlocus.evaluation.activations import (
    effect_sizes,
    gate_shifts,
    mean_activations,
    moved_against_rest,
    shifts,
)

PROMPTS = [[5, 9, 11, 30], [7], [40, 41, 42, 43, 44, 45], [8, 9]]


@pytest.mark.parametrize("architecture", ["qwen2", "phi3", "gemma2"])
def test_means_are_those_of_each_text_alone_padding_or_not(
    random_model: Callable, architecture: str
) -> None:
    window = {"sliding_window": 64} if architecture == "gemma2" else {}
    model = random_model(architecture, **window)
    layers, means = mean_activations(model, PROMPTS, batch_tokens=12)
    assert layers == [0, 1]
    for number, layer in enumerate(layers):
        mlp = model.model.layers[layer].mlp
        seen: list[torch.Tensor] = []
        handle = mlp.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        for prompt, mean in zip(PROMPTS, means[number], strict=True):
            with torch.inference_mode():
                model(torch.tensor([prompt]))
                (inputs,) = seen.pop()
                if architecture == "phi3":
                    gate = mlp.gate_up_proj(inputs)[:, :48]
                    act = mlp.activation_fn
                else:
                    gate, act = mlp.gate_proj(inputs), mlp.act_fn
                expected = act(gate).mean(0).numpy()
            assert mean.shape == (48,)
            assert np.allclose(mean, expected, atol=1e-5)
        handle.remove()


def test_no_hook_stays_on_the_model(random_model: Callable) -> None:
    model = random_model()
    mean_activations(model, PROMPTS, batch_tokens=8)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_mixture_without_gate_modules_is_refused(random_model: Callable) -> None:
    model = random_model("mixtral", num_local_experts=2)
    with refused("model.no-gate", found="mixtral"):
        mean_activations(model, PROMPTS, batch_tokens=8)


def test_the_effect_is_hedges_g_and_sees_no_scale() -> None:
    random = np.random.default_rng(0)
    one, two = random.normal(1, 2, (30, 3)), random.normal(0, 2, (20, 3))
    found = effect_sizes(one, two)
    pooled = np.sqrt((29 * one[:, 0].var(ddof=1) + 19 * two[:, 0].var(ddof=1)) / 48)
    expected = (one[:, 0].mean() - two[:, 0].mean()) / pooled * (1 - 3 / 191)
    assert found[0] == pytest.approx(expected)
    assert effect_sizes(1e-3 * one, 1e-3 * two) == pytest.approx(found)
    assert effect_sizes(two, one) == pytest.approx(-found)


def test_a_neuron_that_never_varies_has_no_effect_and_one_text_is_too_few() -> None:
    one, two = np.array([[1.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 3.0], [1.0, 5.0]])
    found = effect_sizes(one, two)
    assert np.isnan(found[0])
    assert found[1] < 0
    with refused("task.too-few-neutral", found=(1, 2)):
        effect_sizes(one[:1], two)


def test_a_shift_is_that_of_the_emotional_texts_over_the_neutral(random_model: Callable) -> None:
    model = random_model()
    neutral = [True, False, False, True]
    frame = shifts(model, {"mood": (PROMPTS, neutral)}, batch_tokens=99)
    assert len(frame) == 2 * 48
    _, means = mean_activations(model, PROMPTS, batch_tokens=99)
    row = frame[(frame["layer"] == 1) & (frame["neuron"] == 7)].iloc[0]
    assert row["emotional"] == pytest.approx(means[1][[1, 2], 7].mean(), rel=1e-5)
    assert row["neutral"] == pytest.approx(means[1][[0, 3], 7].mean(), rel=1e-5)
    assert np.sign(row["effect"]) == np.sign(row["emotional"] - row["neutral"])


def planted(size: float) -> pd.DataFrame:
    """Two layers of 200 neurons, twenty of each moved, with shifts this much larger."""
    random = np.random.default_rng(1)
    layers = []
    for layer in range(2):
        moved = np.arange(200) < 20
        effect = random.normal(0, 1, 200) * np.where(moved, size, 1)
        layers.append(
            pd.DataFrame({"task": "mood", "layer": layer, "effect": effect, "moved": moved})
        )
    return pd.concat(layers)


def test_moved_neurons_that_shift_more_are_found() -> None:
    frame = moved_against_rest(planted(5.0))
    assert frame["layer"].isna().tolist() == [True, False, False]
    whole = frame.iloc[0]
    assert (whole["moved"], whole["rest"]) == (40, 360)
    assert whole["effect_moved"] > 3 * whole["effect_rest"]
    assert whole["probability"] > 0.8
    assert whole["p"] < 1e-6


def test_moved_neurons_that_shift_like_the_rest_are_not() -> None:
    whole = moved_against_rest(planted(1.0)).iloc[0]
    assert whole["p"] > 0.05
    assert whole["probability"] == pytest.approx(0.5, abs=0.1)


def test_without_moved_neurons_there_is_nothing_to_compare() -> None:
    frame = moved_against_rest(planted(1.0).assign(moved=False))
    assert frame["p"].isna().all()
    assert frame["moved"].eq(0).all()


def task(answers: list[str]) -> pd.DataFrame:
    """Prepared samples, as many as answers, and a training sample that no test may read."""
    words = ["Anna was happy", "Ben was sad", "all was well", "Cleo was angry"]
    rows = [
        {"split": "test", "prompt": f"{words[number % 4]} {number}", "answer": answer}
        for number, answer in enumerate(answers)
    ]
    return pd.DataFrame([*rows, {"split": "train", "prompt": "x", "answer": "neutral"}])


def test_a_pairs_base_and_tuned_model_are_set_side_by_side(
    checkpoint: Callable, lora: Callable
) -> None:
    base = checkpoint()
    adapter = lora(base, ["gate_proj"])
    layers = [
        pd.DataFrame({"layer": layer, "projection": "gate", "neuron": range(48), "l2": range(48)})
        for layer in range(2)
    ]
    again = pd.DataFrame(
        {"layer": [0, 1], "projection": ["gate", "up"], "neuron": [3, 4], "again": [True, True]}
    )
    answers = ["joy", "neutral", "fear", "neutral", "joy", "neutral"]
    rows, summary = gate_shifts(
        [base],
        adapter,
        {"mood": task(answers)},
        pd.concat(layers),
        again,
        Neurons(share=0.05),
        Evaluate(),
        {},
    )
    assert rows.groupby("model").size().to_dict() == {"base": 96, "tuned": 96}
    first = rows[rows["model"] == "base"]
    assert first.loc[first["moved"], ["layer", "neuron"]].to_numpy().tolist() == [
        [0, 46],
        [0, 47],
        [1, 46],
        [1, 47],
    ]
    assert first.loc[first["again"], ["layer", "neuron"]].to_numpy().tolist() == [[0, 3]]
    # The adapter changes the second layer's input too.
    effects = rows.pivot_table(index=["layer", "neuron"], columns="model", values="effect")
    assert (effects["base"] != effects["tuned"]).mean() > 0.9
    whole = summary[summary["layer"].isna()].set_index(["model", "set"])
    assert whole["moved"].to_dict() == {
        ("base", "moved"): 4,
        ("base", "again"): 1,
        ("tuned", "moved"): 4,
        ("tuned", "again"): 1,
    }


def test_a_task_without_neutral_samples_is_refused(checkpoint: Callable, lora: Callable) -> None:
    base = checkpoint()
    adapter = lora(base, ["gate_proj"])
    with refused("task.too-few-neutral", task="mood", found=(2, 1)):
        gate_shifts(
            [base],
            adapter,
            {"mood": task(["joy", "neutral", "fear"])},
            pd.DataFrame({"layer": [0], "projection": ["gate"], "neuron": [0], "l2": [1.0]}),
            None,
            Neurons(),
            Evaluate(),
            {},
        )
