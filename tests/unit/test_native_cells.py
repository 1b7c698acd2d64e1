"""Cells of multimodal models of transformers: their tensors, and their answers to text."""

from __future__ import annotations

import shutil
from pathlib import Path

import native
import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForMultimodalLM

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.native_models import NATIVE_MODELS
from affectlocus.core.cells import Cell
from affectlocus.deltas.deltas import deltas
from affectlocus.evaluation.evaluate import CellModel
from affectlocus.lm.candidates import log_likelihoods

TYPES = sorted(NATIVE_MODELS)
GATE = "mlp.gate_proj."


@pytest.fixture(scope="module", params=TYPES)
def pair(request, tmp_path_factory) -> tuple[str, Path, Path]:
    """A model type, a base, and a model whose every tensor differs from it."""
    folder = tmp_path_factory.mktemp(request.param)
    for seed, name in enumerate(("base", "tuned")):
        native.native_model(request.param, seed).save_pretrained(folder / name)
    return request.param, folder / "base", folder / "tuned"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a model by the names of their modules."""
    return AutoModelForMultimodalLM.from_pretrained(folder).state_dict()


def is_gate(model_type: str, name: str) -> bool:
    return name.startswith(NATIVE_MODELS[model_type].layers) and GATE in name


def test_a_load_cell_changes_the_language_model_and_leaves_bridge_and_encoder(pair) -> None:
    model_type, base, tuned = pair
    model = CellModel(base)
    counts = model.become(tuned, Cell("load", "b", "p", "gate"))
    before, after, held = tensors(base), tensors(tuned), model.model.state_dict()
    assert set(held) == set(before)
    for name, value in held.items():
        wanted = after if is_gate(model_type, name) else before
        assert torch.equal(value, wanted[name]), name
    assert (counts["inside"], counts["changed"]) == (2, 2)
    assert counts["outside"] == counts["untouched"]
    assert {"bridge", "encoder", "embed_tokens"} <= set(model.outside["outside_tuned"])
    assert not {"q_proj", "gate_proj", "fc1"} & set(model.outside["outside_tuned"])


def test_tuned_and_ablated_cells_have_bridge_and_encoder_as_tuned(pair) -> None:
    model_type, base, tuned = pair
    model = CellModel(base)
    before, after = tensors(base), tensors(tuned)
    model.become(tuned, Cell("ablate", "b", "p", "gate", "revert"))
    for name, value in model.model.state_dict().items():
        wanted = before if is_gate(model_type, name) else after
        assert torch.equal(value, wanted[name]), name
    model.become(tuned, Cell("tuned", "b", "p"))
    assert all(torch.equal(one, after[name]) for name, one in model.model.state_dict().items())
    model.become(None, Cell("base", "b"))
    assert all(torch.equal(one, before[name]) for name, one in model.model.state_dict().items())


def test_a_tuned_model_may_spell_its_tensors_as_transformers_5_does(pair, tmp_path) -> None:
    _, base, tuned = pair
    shutil.copytree(tuned, tmp_path / "other")
    after = tensors(tuned)
    tied = not any(name.endswith("lm_head.weight") for name in ModelPair(base, tuned).names)
    held = {name: one for name, one in after.items() if not (tied and name == "lm_head.weight")}
    save_file(held, tmp_path / "other/model.safetensors")
    model = CellModel(base)
    model.become(tmp_path / "other", Cell("tuned", "b", "p"))
    assert all(torch.equal(one, after[name]) for name, one in model.model.state_dict().items())


def test_deltas_are_those_of_the_language_model_alone(pair) -> None:
    model_type, base, tuned = pair
    rows = pd.DataFrame(deltas(ModelPair(base, tuned)).rows)
    before, after = tensors(base), tensors(tuned)
    start = NATIVE_MODELS[model_type].layers
    weights = rows[rows["parameter"] == "weight"]
    assert len(weights) == 2 * 7
    for row in weights[weights["projection"] == "gate"].to_dict("records"):
        name = f"{start}layers.{row['layer']}.{GATE}weight"
        change = after[name].double() - before[name].double()
        assert row["l2"] == pytest.approx(float(change.norm()), rel=1e-6)


def test_answers_to_text_are_those_of_one_forward_pass_for_each_candidate(pair) -> None:
    _, base, _ = pair
    model = CellModel(base).model
    random = np.random.default_rng(0)
    prompts = [random.integers(1, 300, size=length).tolist() for length in (5, 9, 7)]
    candidates = [[11], [12, 13, 14], [15, 16]]
    found = log_likelihoods(model, prompts, candidates, 200)
    for row, prompt in enumerate(prompts):
        for column, candidate in enumerate(candidates):
            ids = torch.tensor([[*prompt, *candidate]])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            logs = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
            wanted = logs[torch.arange(len(candidate)), torch.tensor(candidate)].sum()
            assert found[row, column].item() == pytest.approx(wanted.item(), abs=1e-4)


PROJECTORS = {"qwen2_5_vl": "merger", "smolvlm": "connector"}


def adapted(base: Path, folder: Path, **settings: object) -> Path:
    """A LoRA of a base whose factors are random."""
    model = get_peft_model(
        AutoModelForMultimodalLM.from_pretrained(base), LoraConfig(r=2, lora_alpha=4, **settings)
    )
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, one in sorted(model.named_parameters()):
            if "lora_" in name or "modules_to_save" in name:
                one.copy_(0.1 * torch.randn(one.shape, generator=random))
    model.save_pretrained(folder)
    return folder


def merged(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(AutoModelForMultimodalLM.from_pretrained(base), adapter)
    return model.merge_and_unload().state_dict()


@pytest.mark.parametrize("where", ["language", "everywhere", "projector"])
def test_an_adapter_gives_the_model_that_peft_merges(pair, tmp_path, where: str) -> None:
    """`q_proj` and `gate_proj` fit modules of the encoder too, where it has them."""
    model_type, base, _ = pair
    start = NATIVE_MODELS[model_type].layers
    settings: dict[str, object] = {"target_modules": ["q_proj", "gate_proj"]}
    if where != "everywhere":
        settings["target_modules"] = rf"{start}layers\.\d+\..*(q_proj|gate_proj)"
    if where == "projector":
        settings["modules_to_save"] = [PROJECTORS.get(model_type, "multi_modal_projector")]
    adapter = adapted(base, tmp_path / "adapter", **settings)
    before, after = tensors(base), merged(base, adapter)
    model = CellModel(base)
    model.become(adapter, Cell("tuned", "b", "p"))
    for name, value in model.model.state_dict().items():
        assert torch.allclose(value, after[name], atol=1e-6), name
    outside = set(model.outside["outside_tuned"])
    changed = {
        NATIVE_MODELS[model_type].region(name)
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert outside == changed - {"language"}
    notes = " ".join(ModelPair(base, adapter).notes_on_cells())
    assert ("except for the bridge" in notes) == bool(outside)
    model.become(adapter, Cell("load", "b", "p", "gate"))
    for name, value in model.model.state_dict().items():
        wanted = after if is_gate(model_type, name) else before
        assert torch.allclose(value, wanted[name], atol=1e-6), name
    rows = pd.DataFrame(deltas(ModelPair(base, adapter)).rows)
    seen = rows[rows["adapted"] & (rows["parameter"] == "weight")]
    assert set(seen["projection"]) == {"q", "gate"}
    assert len(seen) == 4
