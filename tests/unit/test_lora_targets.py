"""What LoRA can act on, by configurations and headers, against the models themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from refusal import refused
from transformers import AutoConfig

from affectlocus.training.lora_targets import (
    Layout,
    config_of,
    fair_rank,
    layout,
    layout_of,
    layout_of_config,
    lora_parameters,
)

ALL = ["q", "k", "v", "o", "gate", "up", "down"]


def fused() -> Layout:
    """A layer with Phi-3's fused tensors."""
    stem = "model.layers.0."
    shapes = {
        "self_attn.qkv_proj.weight": (16, 8),
        "self_attn.o_proj.weight": (8, 8),
        "mlp.gate_up_proj.weight": (24, 8),
        "mlp.down_proj.weight": (8, 12),
    }
    return layout("phi", ((stem + name, shape) for name, shape in shapes.items()))


def test_a_models_targets_are_found_on_the_meta_device_as_in_the_model_itself(
    random_model: Callable,
) -> None:
    model = random_model("qwen2")
    found = layout_of_config("tiny", model.config)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    modules = dict(model.named_modules())
    assert len(found.targets) == 2 * len(ALL)
    for target in found.targets:
        weight = modules[target.name].weight
        assert tuple(weight.shape) == target.shape
        bias = modules[target.name].bias
        assert target.bias == (0 if bias is None else bias.numel())
    assert [t.projections for t in found.of("gate+q")] == [("q",), ("gate",)] * 2


def test_an_encoders_layers_are_no_targets() -> None:
    shapes = {f"{where}.layers.0.mlp.up_proj.weight": (4, 2) for where in ("visual", "model")}
    found = layout("both", shapes.items())
    assert [target.name for target in found.targets] == ["model.layers.0.mlp.up_proj"]
    assert found.parameters == 16


def test_a_module_set_by_layer_has_the_targets_of_its_layers(random_model: Callable) -> None:
    found = layout_of_config("tiny", random_model("qwen2").config)
    chosen = found.of("q@0+gate@1")
    assert [(t.layer, t.projections) for t in chosen] == [(0, ("q",)), (1, ("gate",))]
    assert found.of("gate@0,1") == found.of("gate")
    with refused("modules.no-such-layer", found=2, expected=2):
        found.of("gate@1-2")


def test_equal_parameters_count_the_layers_of_a_set(random_model: Callable) -> None:
    found = layout_of_config("tiny", random_model("qwen2").config)
    half, whole = (lora_parameters(found, modules, 4) for modules in ("gate@1", "gate"))
    assert 2 * half == whole
    rank = fair_rank(found, "gate@1", 4)
    trained = lora_parameters(found, "gate@1", rank)
    step = lora_parameters(found, "gate@1", 1)
    assert abs(trained - lora_parameters(found, "all", 4)) <= step / 2


def test_a_fused_tensor_is_adapted_whole_and_never_in_part() -> None:
    found = fused()
    assert [t.projections for t in found.of("q+k+v+o")] == [("q", "k", "v"), ("o",)]
    assert len(found.of("all")) == 4
    with refused("base.fused-projections", found="gate", expected="gate+up") as caught:
        found.of("gate")
    assert str(caught.value.fields["tensor"]).endswith(".gate_up_proj")
    with refused("base.fused-projections", found="q+o", expected="q+k+v"):
        found.of("q+o")
    assert found.has("gate+up")
    assert not found.has("up")


def test_experts_of_a_mixture_are_refused_as_targets() -> None:
    config = AutoConfig.for_model("mixtral", num_hidden_layers=1, vocab_size=50)
    found = layout_of_config("mixture", config)
    assert len(found.of("q+k+v+o")) == 4
    expected = {"model": "mixture", "found": "gate", "expected": "q+k+v+o"}
    with refused("base.no-module-for-lora", **expected):
        found.of("gate")


def test_a_model_without_the_seven_is_refused() -> None:
    with refused("base.no-projections", model="gpt"):
        layout("gpt", [("h.0.attn.c_attn.weight", (6, 2))])


def test_folder_config_and_manifest_give_the_same(checkpoint: Callable, tmp_path: Path) -> None:
    from affectlocus.checkpoints.checkpoint_manifests import manifest

    folder = checkpoint("llama")
    record = tmp_path / "mine.json"
    record.write_text(json.dumps({"folder": str(folder), "files": manifest(folder)}))
    found = [layout_of(path) for path in (folder, folder / "config.json", record)]
    assert found[0].targets == found[1].targets == found[2].targets
    assert [one.name for one in found] == [folder.name, folder.name, "mine"]
    assert found[0].hidden_size == config_of(record).hidden_size == 32


def test_an_unknown_model_type_is_counted_by_the_headers_of_its_weights(
    checkpoint: Callable, tmp_path: Path
) -> None:
    folder = checkpoint("llama")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "newest"}))
    with refused("model.cannot-be-counted", file=tmp_path / "config.json", found="newest"):
        layout_of(tmp_path)
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert layout_of(tmp_path).targets == layout_of(folder).targets
    with refused("model.unsupported-type", file=tmp_path / "config.json", found="newest"):
        config_of(tmp_path)


def test_a_file_that_is_not_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with refused("model.no-type", file=tmp_path / "config.json", key="model_type"):
        layout_of(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}')
    with refused("model.invalid-config", file=tmp_path / "config.json", expected="llama"):
        layout_of(tmp_path)
