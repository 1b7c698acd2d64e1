"""Adapters of other kinds than plain LoRA: read as their own merge has it, or refused by name."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_files import SHAPES, base, factors, mlx_folder, numbers, on_layers, peft_folder
from peft import PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from refusal import refused
from safetensors.torch import load_file, save_file

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.convert import convert
from affectlocus.checkpoints.pairs import Pair
from affectlocus.deltas.deltas import adapter_alone

Q = "model.layers.{}.self_attn.q_proj"
STEM = f"base_model.model.{Q.format(0)}"
V_STEM = "base_model.model.model.layers.0.self_attn.v_proj"
LATENT = "default_lora_latent_mapping.weight"


def product(*parts: torch.Tensor) -> np.ndarray:
    """A matrix product in float64."""
    found = parts[0].double().numpy()
    for part in parts[1:]:
        found = found @ part.double().numpy()
    return found


# LoRA-XS


def lora_xs(separator: str = ".default", r: int = 2) -> dict[str, torch.Tensor]:
    tensors = on_layers("model.", "self_attn.q_proj", "mlp.gate_proj", r=r)
    for name in list(tensors):
        if "lora_A" in name:
            stem = name.removesuffix(".lora_A.weight")
            key = f"{stem}{separator}_lora_latent_mapping.weight"
            tensors[key] = 0.01 * numbers(r, r, seed=len(tensors))
    return tensors


# `.default` is the adapter's name, which peft takes out of the names that it saves.
@pytest.mark.parametrize("separator", [".default", "", ".other_name"])
def test_lora_xs_is_its_three_matrices(tmp_path, separator) -> None:
    tensors = lora_xs(separator)
    adapter = peft_folder(tmp_path / "xs", tensors)
    pair = Pair(base(tmp_path / "base"), adapter)
    for layer in (0, 1):
        for module in ("self_attn.q_proj", "mlp.gate_proj"):
            stem = f"base_model.model.model.layers.{layer}.{module}"
            expected = 2 * product(
                tensors[f"{stem}.lora_B.weight"],
                tensors[f"{stem}{separator}_lora_latent_mapping.weight"],
                tensors[f"{stem}.lora_A.weight"],
            )
            found = pair.delta(f"model.layers.{layer}.{module}.weight")
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert pair.notes == []
    assert not pair.adapter.other
    alone = {row["layer"]: row["l2"] for row in adapter_alone(Adapter(adapter)).rows[:1]}
    assert alone[0] == pytest.approx(float(pair.delta(f"{Q.format(0)}.weight").norm()), rel=1e-9)


def test_lora_xs_is_converted_to_what_peft_merges(checkpoint, lora, merged, tmp_path) -> None:
    model = checkpoint("llama")
    folder = shutil.copytree(lora(model, ["q_proj"]), tmp_path / "xs")
    tensors = load_file(folder / "adapter_model.safetensors")
    for name in [one for one in tensors if "lora_A" in one]:
        tensors[name.replace(".lora_A.weight", f".{LATENT}")] = numbers(3, 3)
    save_file(tensors, folder / "adapter_model.safetensors")
    convert(Adapter(folder), tmp_path / "out")
    pair, reference = Pair(model, folder), merged(model, tmp_path / "out")
    name = f"{Q.format(1)}.weight"
    assert pair.delta(name).abs().max() > 1e-3
    assert torch.allclose(pair.sides(name)[1], reference[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("changed", "code", "fields"),
    [
        (
            {f"{STEM}.{LATENT}": (3, 3)},
            "adapter.latent-mapping-shape",
            {"tensor": f"{STEM}.{LATENT}", "expected": (2, 2)},
        ),
        (
            {f"{STEM}.{LATENT}": None},
            "adapter.no-latent-mapping",
            {"module": "model.layers.0.self_attn.q_proj"},
        ),
        (
            {f"{STEM}.lora_magnitude_vector": (32,)},
            "adapter.unsupported-factor",
            {"tensor": f"{STEM}.{LATENT}"},
        ),
        (
            {f"{V_STEM}.{LATENT}": (2, 2)},
            "adapter.stray-latent-mapping",
            {"tensor": f"{V_STEM}.{LATENT}"},
        ),
    ],
)
def test_lora_xs_that_is_not_whole_is_refused(tmp_path, changed, code, fields) -> None:
    tensors = lora_xs()
    for name, shape in changed.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = numbers(*shape)
    folder = peft_folder(tmp_path / "xs", tensors)
    with refused(code, file=folder, **fields):
        Adapter(folder)


# peft's other kinds

SETTINGS = {
    "ADALORA": {"total_step": 10},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 8},
    "CPT": {"cpt_token_ids": [1], "cpt_mask": [1], "cpt_tokens_type_mask": [1]},
    "ADAPTION_PROMPT": {"adapter_len": 2, "adapter_layers": 1},
    "FOURIERFT": {"n_frequency": 10},
    "HRA": {"r": 2},
    "IA3": {"feedforward_modules": []},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "MISS": {"r": 2},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 2, "num_tasks": 2},
    "OFT": {"r": 0, "oft_block_size": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 2},
    "PROMPT_TUNING": {"num_virtual_tokens": 2},
    "PSOFT": {"r": 2},
    "P_TUNING": {"num_virtual_tokens": 2, "encoder_hidden_size": 8},
    "RANDLORA": {"r": 4},
    "ROAD": {"group_size": 8},
    "SHIRA": {"r": 2},
    "TRAINABLE_TOKENS": {"token_indices": [1]},
    "VBLORA": {"num_vectors": 4, "vector_length": 8, "topk": 2, "r": 2},
    "WAVEFT": {"n_frequency": 10},
}
# They need other inputs than a model to be made; their names are in peft's registry like the rest.
BY_NAME = {"CARTRIDGE", "XLORA"}
PROMPTS = {
    *("CARTRIDGE", "CPT", "ADAPTION_PROMPT", "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING"),
    *("PREFIX_TUNING", "P_TUNING"),
}
NO_MERGE = {*PROMPTS, "LILY", "POLY", "SHADOW", "XLORA"}


@pytest.fixture(scope="module")
def other_kind(checkpoint, tmp_path_factory):
    """`other_kind("VERA")`: an adapter of that kind as peft saves it."""

    def save(kind: str) -> Path:
        from transformers import AutoModelForCausalLM

        folder = tmp_path_factory.mktemp(kind)
        settings = {"task_type": "CAUSAL_LM", **SETTINGS.get(kind, {})}
        if kind not in PROMPTS | {"TRAINABLE_TOKENS"}:
            settings.setdefault("target_modules", ["q_proj", "v_proj"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = AutoModelForCausalLM.from_pretrained(checkpoint("llama"))
            config = PEFT_TYPE_TO_CONFIG_MAPPING[kind](**settings)
            get_peft_model(model, config).save_pretrained(folder)
        return folder

    return save


@pytest.mark.parametrize("kind", sorted({one.value for one in PeftType} - {"LORA"} - BY_NAME))
def test_every_other_kind_of_peft_is_refused_by_name_whatever_its_settings_say(
    other_kind, checkpoint, kind
) -> None:
    folder = other_kind(kind)
    with refused("adapter.unsupported-setting", key="peft_type", found=kind) as error:
        Pair(checkpoint("llama"), folder)
    assert ("merge_and_unload" in str(error.value)) == (kind not in NO_MERGE)
    stored = load_file(folder / "adapter_model.safetensors")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 8}), encoding="utf-8")
    with refused("adapter.unsupported-tensor", file=folder) as error:
        Pair(checkpoint("llama"), folder)
    assert error.value.fields["tensor"] in stored


@pytest.mark.parametrize("kind", sorted(BY_NAME))
def test_a_kind_that_has_no_delta_says_so_and_gives_no_advice(tmp_path, kind) -> None:
    folder = peft_folder(tmp_path / "a", on_layers("model.", "self_attn.q_proj"), peft_type=kind)
    with refused("adapter.unsupported-setting", key="peft_type", found=kind) as error:
        Adapter(folder)
    assert re.search("no .*delta", str(error.value))
    assert "merge" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        f"{STEM}.lora_E",
        f"{STEM}.lora_something_new",
        f"{STEM}.vera_lambda_b",
        f"{STEM}.scaler.weight",
        f"{STEM}.base_layer.weight.absmax",
        # In a projection that has no factors at all.
        "base_model.model.model.layers.1.mlp.down_proj.ia3_l",
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta",
        "base_model.vera_A",
    ],
)
def test_an_unknown_tensor_of_a_module_is_refused_by_its_name(tmp_path, name) -> None:
    tensors = on_layers("model.", "self_attn.q_proj") | {name: numbers(2, 2)}
    folder = peft_folder(tmp_path / "a", tensors)
    for read in (Adapter, lambda path: Pair(base(tmp_path / "base"), path)):
        with refused("adapter.unsupported-tensor", file=folder, tensor=name):
            read(folder)


def test_what_is_outside_of_modules_is_no_unknown_tensor(tmp_path) -> None:
    more = {
        "base_model.model.score.weight": numbers(3, 32),
        "base_model.model.model.layers.0.self_attn.q_proj.bias": numbers(32),
        "base_model.model.projector.proj.0.weight": numbers(4, 4),
        "base_model.model.vision_tower.layers.0.self_attn.q_proj.lora_E": numbers(2, 1),
    }
    tensors = on_layers("model.", "self_attn.q_proj") | more
    folder = peft_folder(tmp_path / "a", tensors)
    assert len(Adapter(folder).replaced) == len(more)


# Settings of LoRA itself


@pytest.mark.parametrize(
    ("config", "merges"),
    [
        ({"alora_invocation_tokens": [1]}, False),
        ({"layer_replication": [[0, 1], [0, 2]]}, False),
        ({"use_qalora": True}, False),
        ({"arrow_config": {"top_k": 1}}, False),
        ({"kasa_config": {"beta": 1e-4}}, True),
        ({"use_bdlora": {"nblocks": 2}}, True),
        ({"init_lora_weights": "pissa"}, False),
        ({"init_lora_weights": "corda"}, False),
    ],
    ids=str,
)
def test_a_setting_that_changes_the_delta_is_refused_with_advice_that_works(
    tmp_path, config, merges
) -> None:
    folder = peft_folder(tmp_path / "a", on_layers("model.", "self_attn.q_proj"), **config)
    (key,) = config
    file = folder / "adapter_config.json"
    with refused("adapter.unsupported-setting", file=file, key=key, found=config[key]) as error:
        Adapter(folder)
    assert ("merge_and_unload" in str(error.value)) == merges


@pytest.mark.parametrize(
    "config",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal", "r": 4},
        {"init_lora_weights": False},
        {"velora_config": {"num_groups": 4}},
        {"monteclora_config": {"num_samples": 2}},
    ],
    ids=str,
)
def test_a_setting_that_leaves_the_delta_alone_is_read_as_peft_merges(
    checkpoint, lora, merged, config
) -> None:
    from peft import MontecloraConfig, VeloraConfig

    settings = dict(config)
    if "velora_config" in config:
        settings["velora_config"] = VeloraConfig(**config["velora_config"])
    if "monteclora_config" in config:
        settings["monteclora_config"] = MontecloraConfig(**config["monteclora_config"])
    model = checkpoint("llama")
    adapter = lora(model, ["q_proj"], **settings)
    pair, reference = Pair(model, adapter), merged(model, adapter)
    for name in pair.names:
        assert torch.allclose(pair.sides(name)[1], reference[name], rtol=0, atol=2e-6), name
    assert pair.delta(f"{Q.format(0)}.weight").abs().max() > 1e-3


# Two sources of one tensor


@pytest.mark.parametrize("dora", [False, True])
def test_a_wrapped_weight_that_differs_from_the_bases_counts(tmp_path, dora) -> None:
    model = base(tmp_path / "base")
    weights = load_file(model / "model.safetensors")
    tensors = factors(STEM, (32, 32))
    a, b = tensors.values()
    same, other = weights[f"{Q.format(0)}.weight"], numbers(32, 32, seed=9)
    magnitude = numbers(32).abs() + 1
    if dora:
        tensors[f"{STEM}.lora_magnitude_vector"] = magnitude
    for number, own in enumerate((same, other)):
        folder = peft_folder(
            tmp_path / str(number), tensors | {f"{STEM}.base_layer.weight": own}, use_dora=dora
        )
        tuned = own.double().numpy() + 2 * product(b, a)
        if dora:
            norms = np.linalg.norm(tuned, axis=1, keepdims=True)
            tuned = magnitude.double().numpy()[:, None] * tuned / norms
        found = Pair(model, folder).delta(f"{Q.format(0)}.weight")
        np.testing.assert_allclose(found, tuned - same.double().numpy(), rtol=0, atol=1e-10)


def test_a_wrapped_weight_of_another_shape_is_refused(tmp_path) -> None:
    more = {f"{STEM}.base_layer.weight": numbers(32, 16)}
    folder = peft_folder(tmp_path / "a", factors(STEM, (32, 32)) | more)
    with refused("pair.shapes-differ", file=folder, found=(32, 16), expected=(32, 32)):
        Pair(base(tmp_path / "base"), folder)


def test_two_whole_tensors_of_one_name_are_refused(tmp_path) -> None:
    more = {f"{STEM}.base_layer.weight": numbers(32, 32), f"{STEM}.weight": numbers(32, 32)}
    both = {"first": f"{STEM}.base_layer.weight", "second": f"{STEM}.weight"}
    with refused("adapter.two-changes", **both):
        Adapter(peft_folder(tmp_path / "a", factors(STEM, (32, 32)) | more))


def test_pefts_copy_of_what_a_trained_module_replaces_changes_nothing(tmp_path) -> None:
    head = "base_model.model.lm_head"
    more = {
        f"{head}.original_module.weight": numbers(20, 32, seed=5),
        f"{head}.modules_to_save.default.weight": numbers(20, 32, seed=6),
    }
    folder = peft_folder(tmp_path / "a", on_layers("model.", "self_attn.q_proj") | more)
    pair = Pair(base(tmp_path / "base"), folder)
    assert pair.adapter.other == []
    assert torch.equal(pair.sides("lm_head.weight")[1], numbers(20, 32, seed=6))


def test_factors_of_a_module_that_the_bases_layers_lack_are_refused(tmp_path) -> None:
    stem = "base_model.model.model.layers.0.mlp.experts"
    tensors = on_layers("model.", "self_attn.q_proj") | factors(stem, (96, 32))
    folder = peft_folder(tmp_path / "a", tensors)
    tensor = "model.layers.0.mlp.experts.weight"
    with refused("pair.tensor-not-in-base", file=folder, tensor=tensor):
        Pair(base(tmp_path / "base"), folder)


# MLX


def mlx_tensors(prefix: str, *modules: str, names=("lora_a", "lora_b")) -> dict[str, torch.Tensor]:
    """Factors from the right: A (d_in, r) and B (r, d_out)."""
    found = {}
    for layer in (0, 1):
        for module in modules:
            out, into = SHAPES[module]
            stem = f"{prefix}layers.{layer}.{module}."
            found |= {
                stem + names[0]: numbers(into, 2, seed=layer),
                stem + names[1]: numbers(2, out, seed=layer + 1),
            }
    return found


SCALES = {
    "scale alone": ({"scale": 10.0}, {}, 10.0, False),
    "both, before use_dora": ({"scale": 10.0, "alpha": 16.0}, {}, 80.0, True),
    "both, with use_dora": ({"scale": 10.0, "alpha": 16.0}, {"use_dora": False}, 10.0, True),
    "both, with the later key": (
        {"scale": 10.0, "alpha": 16.0},
        {"fine_tune_type": "lora"},
        10.0,
        False,
    ),
    "both keys": (
        {"scale": 10.0, "alpha": 16.0},
        {"fine_tune_type": "lora", "use_dora": False},
        10.0,
        False,
    ),
    "alpha alone": ({"alpha": 16.0}, {}, 8.0, False),
}


@pytest.mark.parametrize("kind", SCALES)
def test_mlx_has_the_factor_that_it_was_trained_with(tmp_path, kind) -> None:
    recipe, more, factor, noted = SCALES[kind]
    tensors = mlx_tensors("model.", "self_attn.q_proj")
    config = {"lora_layers": 16, "lora_parameters": {"rank": 2, "dropout": 0.0, **recipe}, **more}
    folder = mlx_folder(tmp_path / "mlx", tensors, config)
    stem = f"{Q.format(0)}."
    expected = factor * product(tensors[f"{stem}lora_a"], tensors[f"{stem}lora_b"]).T
    pair = Pair(base(tmp_path / "base"), folder)
    np.testing.assert_allclose(pair.delta(f"{stem}weight"), expected, rtol=1e-12)
    alone = adapter_alone(Adapter(folder))
    assert alone.rows[0]["l2"] == pytest.approx(np.linalg.norm(expected), rel=1e-9)
    for notes in (pair.notes, alone.notes):
        assert any("alpha" in note for note in notes) == noted


VLM = {"rank": 2, "alpha": 4.0}
LM = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 4.0}}


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (VLM | {"scale": 3.0}, ("alpha", "scale")),
        (LM | {"scale": 3.0}, ("lora_parameters.scale", "scale")),
        (LM | {"alpha": 3.0}, ("lora_parameters.scale", "alpha")),
        (VLM | {"scale": 4.0}, None),
        (LM | {"scale": 4.0}, None),
    ],
)
def test_two_numbers_for_the_factor_of_mlx_are_refused(tmp_path, config, keys) -> None:
    folder = mlx_folder(tmp_path / "mlx", mlx_tensors("model.", "self_attn.q_proj"), config)
    if keys is not None:
        file = folder / "adapter_config.json"
        with refused("adapter.two-scales", file=file, key=keys, found=(4.0, 3.0)):
            Adapter(folder)
        return
    adapter = Adapter(folder)
    assert {adapter.scaling(module) for module in adapter.factors} == {4.0}


@pytest.mark.parametrize(
    "names", [("A", "B"), ("lora_A.default.weight", "lora_B.default.weight")], ids=str
)
def test_mlx_vlm_is_read_with_alpha_as_its_scale(tmp_path, names) -> None:
    prefix = "language_model.model."
    tensors = mlx_tensors(prefix, "self_attn.q_proj", "mlp.gate_proj", names=names)
    folder = mlx_folder(tmp_path / "vlm", tensors, {"rank": 2, "alpha": 0.1, "dropout": 0.1})
    pair = Pair(base(tmp_path / "base", prefix), folder)
    for module in ("self_attn.q_proj", "mlp.gate_proj"):
        stem = f"{prefix}layers.1.{module}."
        expected = 0.1 * product(tensors[stem + names[0]], tensors[stem + names[1]]).T
        np.testing.assert_allclose(pair.delta(f"{stem}weight"), expected, rtol=1e-12, atol=1e-15)
    assert pair.notes == []
    assert len(adapter_alone(Adapter(folder)).rows) == 4
    with refused("adapter.other-rank", found=2, expected=4):
        Adapter(mlx_folder(tmp_path / "4", tensors, {"rank": 4, "alpha": 0.1}))
    file = tmp_path / "no" / "adapter_config.json"
    with refused("adapter.no-alpha", file=file, key="alpha"):
        adapter_alone(Adapter(mlx_folder(tmp_path / "no", tensors, {"rank": 2})))


def test_mlx_on_the_embedding_is_not_transposed(tmp_path) -> None:
    a, b = numbers(20, 2), numbers(2, 32)
    tensors = mlx_tensors("model.", "self_attn.q_proj") | {
        "model.embed_tokens.lora_a": a,
        "model.embed_tokens.lora_b": b,
    }
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 3.0}}
    folder = mlx_folder(tmp_path / "mlx", tensors, config)
    found = Pair(base(tmp_path / "base"), folder).delta("model.embed_tokens.weight")
    np.testing.assert_allclose(found, 3 * product(a, b), rtol=1e-12)
