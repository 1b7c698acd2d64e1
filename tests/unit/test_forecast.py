"""Measures of a base before tuning: against plain autograd, and as evidence of a claim."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from refusal import refused
from typer.testing import CliRunner

from affectlocus.checkpoints.checkpoint_manifests import manifest
from affectlocus.claims.loci import gather_loci
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.cli import app
from affectlocus.config.claims import shipped
from affectlocus.config.experiment import Parameters
from affectlocus.core.files import write_json
from affectlocus.core.projections import PROJECTIONS
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.orchestration.dag import Dag
from affectlocus.training.batches import Example
from affectlocus.training.forecast import MEASURES, forecast

EXAMPLES = [
    Example([5, 6, 7, 8, 9], 3),
    Example([9, 4, 3, 2, 1, 7, 7, 6], 5),
    Example([11, 12, 13], 2),
]


def weights(model: torch.nn.Module, architecture: str) -> dict[tuple[int, str], Any]:
    """(layer, projection) → module and its rows, by plain names."""
    found: dict[tuple[int, str], Any] = {}
    for number, layer in enumerate(model.model.layers):
        own = {name.split(".")[-1]: module for name, module in layer.named_modules()}
        for name in PROJECTIONS:
            if f"{name}_proj" in own:
                found[number, name] = own[f"{name}_proj"], slice(None)
        if architecture == "phi3":
            half = own["gate_up_proj"].weight.shape[0] // 2
            found[number, "gate"] = own["gate_up_proj"], slice(0, half)
            found[number, "up"] = own["gate_up_proj"], slice(half, None)
    return found


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "phi3"])
def test_measures_are_those_of_plain_autograd(random_model, architecture) -> None:
    model = random_model(architecture, tie_word_embeddings=False)
    rows = forecast(model, EXAMPLES, 2).set_index(["layer", "projection"])
    assert list(rows.columns) == list(MEASURES)
    assert len(rows) == 7 * len(model.model.layers)
    assert not any(one.requires_grad or one.grad is not None for one in model.parameters())

    places = weights(model, architecture)
    seen: dict[Any, list[tuple[np.ndarray, np.ndarray]]] = {}
    for module in {module for module, _ in places.values()}:
        module.weight.requires_grad_(True)
        module.register_forward_hook(
            lambda m, inputs, output: seen.setdefault(m, []).append(
                (inputs[0][0].detach().numpy(), output[0].detach().numpy())
            )
        )
    total, learned = torch.zeros(()), 0
    for example in EXAMPLES:  # one at a time: no padding
        logs = model(torch.tensor([example.ids])).logits[0].log_softmax(-1)
        for at in range(example.prompt_length, len(example.ids)):
            total, learned = total - logs[at - 1, example.ids[at]], learned + 1
    (total / learned).backward()
    for key, (module, part) in places.items():
        weight = module.weight.detach().numpy()[part].astype(np.float64)
        gradient = np.linalg.norm(module.weight.grad.numpy()[part].astype(np.float64))
        assert rows.loc[key, "gradient_norm"] == pytest.approx(gradient, rel=1e-4), key
        width = weight.shape[1]
        assert rows.loc[key, "adapter_gradient"] == pytest.approx(
            gradient / np.sqrt(3 * width), rel=1e-4
        )
        x = np.concatenate([pair[0] for pair in seen[module]])
        random = np.linalg.norm(weight) * np.linalg.norm(x, axis=1) / np.sqrt(width)
        ratio = np.linalg.norm(x @ weight.T, axis=1) / random
        assert rows.loc[key, "feature_norm"] == pytest.approx(ratio.mean(), rel=1e-4)
        values = np.linalg.svd(weight, compute_uv=False)
        rank = (values**2).sum() / values[0] ** 2
        assert rows.loc[key, "base_stable_rank"] == pytest.approx(rank, rel=1e-4)


def test_the_gradient_of_an_adapter_is_that_of_its_b_on_average() -> None:
    """‖G·Aᵀ‖ over draws of A as peft draws it."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(24, 50, generator=generator)
    bound = 1 / 50**0.5  # kaiming_uniform with a = √5: variance 1 / (3 · 50)
    squares = [
        (gradient @ ((2 * torch.rand(50, generator=generator) - 1) * bound)).square().sum()
        for _ in range(4000)
    ]
    expected = float(gradient.norm()) / (3 * 50) ** 0.5
    assert float(torch.stack(squares).mean().sqrt()) == pytest.approx(expected, rel=0.03)


def test_samples_without_an_answer_and_broken_weights_are_refused(random_model) -> None:
    with refused("forecast.no-samples"):
        forecast(random_model(), [Example([1, 2, 3], 3)], 2)
    model = random_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with refused("forecast.gradient-not-finite", layer=0):
        forecast(model, EXAMPLES, 2)


def test_the_command_writes_a_row_for_each_projection(checkpoint, tmp_path) -> None:
    base = checkpoint("llama")
    rows = [(str(n), "train", f"Anna was {'sad' * (n % 2)}", "grief") for n in range(9)]
    frame = pd.DataFrame(rows, columns=["id", "split", "prompt", "answer"]).assign(text="")
    PreparedTask("moods", ["joy", "grief"], frame).write(tmp_path / "moods.parquet")
    write_json(tmp_path / "base.json", {"folder": str(base), "files": manifest(base)})
    out = tmp_path / "found.parquet"
    words = ["forecast", "--base", tmp_path / "base.json", "--data", tmp_path / "moods.parquet"]
    settings = json.dumps({"batch_size": 4, "seed": 3})
    words += ["--samples", 6, "--settings", settings, "--out", out]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    found = pd.read_parquet(out)
    assert list(found.columns) == ["layer", "projection", *MEASURES]
    assert list(found["projection"][:7]) == list(PROJECTIONS)
    assert (found[list(MEASURES)] > 0).all().all()


# As evidence, and in the workflow


def test_measures_become_columns_of_the_deltas() -> None:
    places = [(layer, name) for layer in range(2) for name in PROJECTIONS]
    deltas = pd.DataFrame(places, columns=["layer", "projection"])
    deltas = deltas.assign(parameter="weight", adapted=True, l2=1.0)
    taken = pd.DataFrame(places[::-1], columns=["layer", "projection"])
    taken["gradient_norm"] = [layer + PROJECTIONS.index(name) for layer, name in places[::-1]]
    (locus,) = gather_loci({"felt": deltas}, {}, ClaimsSettings(), None, {"felt": taken})
    assert locus.sizes("gradient_norm").tolist() == [
        [[float(layer + place) for place in range(7)] for layer in range(2)]
    ]


def test_every_measure_has_claims() -> None:
    said = {one.like for one in shipped("forecasts").claims.values()}
    assert said | {shipped("rivals").claims["R6"].like} == set(MEASURES)


CONFIG: dict[str, Any] = {
    "bases": {"small": {"folder": "b"}},
    "pairs": {
        name: {"base": "small", "domain": domain, "tuning": {"data": ["moods"]}}
        for name, domain in (("felt", "affective"), ("sums", "control"))
    },
    "tune": {"data": ["moods"], "rank": 4},
    "tasks": {
        "moods": {
            "files": {"train": "a.csv", "test": "a.csv"},
            "columns": {"label": "l"},
            "labels": ["joy", "fear"],
        }
    },
    "seeds": [1, 2],
}


def dag(**more: Any) -> Dag:
    matrix = {"pairs": ["felt"], "beside": ["sums"], "load": [], "tune": ["q"], "ablate": []}
    return Dag(Parameters.model_validate(CONFIG | {"matrix": matrix | more}))


def test_measures_are_taken_before_the_pair_and_its_tune_cells_are_tuned() -> None:
    jobs = dag(forecast=8)
    files = [f"results/forecasts/felt.seed{seed}.parquet" for seed in (1, 2)]
    assert jobs.forecast.files == files
    assert jobs.claims.forecasts == files
    waits = {name: jobs.tune.together([name]).forecast for name in jobs.tuned}
    own = {name for name in waits if waits[name] == files[:1]}
    assert own == {name for name in waits if "felt" in name and name.endswith("seed1")}
    assert len(own) == 2  # the pair's checkpoint, and its tune cell
    assert waits["sums.seed1"] == []
    assert jobs.tune.together(["felt.seed1", "felt.seed2"]).forecast == files


def test_without_samples_nothing_is_measured() -> None:
    jobs = dag()
    assert jobs.forecast.files == jobs.claims.forecasts == []
    assert all(jobs.tune.together([name]).forecast == [] for name in jobs.tuned)
