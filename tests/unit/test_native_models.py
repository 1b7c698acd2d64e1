"""The regions of multimodal models: every parameter is in exactly one, by both of its names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import native
import pytest
import torch
from refusal import refused
from safetensors import safe_open

from affectlocus.checkpoints.native_models import (
    NATIVE_MODELS,
    REGIONS,
    check_native,
    native_model,
)


def test_every_listed_type_is_tested() -> None:
    assert set(NATIVE_MODELS) == set(native.CONFIGS)


@pytest.mark.parametrize("model_type", NATIVE_MODELS)
def test_every_parameter_has_one_region(model_type: str, tmp_path: Path) -> None:
    names = NATIVE_MODELS[model_type]
    model = native.native_model(model_type)
    parameters = dict(model.named_parameters())
    found = Counter(names.region(name) for name in parameters)
    assert set(found) == set(REGIONS)
    for region, starts in names.starts.items():
        for start in starts:
            assert any(name.startswith(start) for name in model.state_dict()), (region, start)
    # The language model that transformers knows, and the head, are the region `language`.
    inner = {id(one) for one in model.get_decoder().parameters()}
    inner |= {id(model.get_output_embeddings().weight)}
    for name, one in parameters.items():
        assert (names.region(name) == "language") == (id(one) in inner), name
        assert names.module_name(name) == name
    layers = [name for name in parameters if name.startswith(f"{names.layers}layers.")]
    assert {name[len(names.layers) :].split(".")[1] for name in layers} == {"0", "1"}

    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as stored:
        on_disk = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    assert Counter(names.region(name) for name in on_disk) == found
    assert {names.module_name(name) for name in on_disk} == set(parameters)
    for name, value in on_disk.items():
        assert torch.equal(parameters[names.module_name(name)], value), name


def test_a_merger_is_the_bridge_and_the_rest_of_the_tower_the_encoder() -> None:
    names = NATIVE_MODELS["qwen2_5_vl"]
    assert names.region("visual.merger.mlp.0.weight") == "bridge"
    assert names.region("visual.blocks.0.mlp.up_proj.weight") == "encoder"
    assert names.module_name("model.layers.1.mlp.up_proj.weight") == (
        "model.language_model.layers.1.mlp.up_proj.weight"
    )
    assert names.region("speech_generator.weight") is None


def test_other_models_have_no_regions() -> None:
    assert native_model({"model_type": "qwen2"}) is None
    assert native_model(None) is None
    assert native_model({"model_type": "gemma3"}) is NATIVE_MODELS["gemma3"]


def test_a_bridge_of_its_own_needs_a_multimodal_model(tmp_path: Path) -> None:
    check_native(tmp_path, {"model_type": "gemma3"})
    with refused("native.other-model", found="qwen2"):
        check_native(tmp_path, {"model_type": "qwen2"})
