"""Adapters of every layout, against peft's own merge and against their plain twins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import layouts
import pytest
import torch
from safetensors.torch import load_file, save_file

from affectlocus.adapters import Adapter, aligned
from affectlocus.checkpoints import Pair
from affectlocus.convert import convert
from affectlocus.errors import InputError

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GATE = "model.layers.1.mlp.gate_proj.weight"
REAL = Path(__file__).parents[3] / "shared" / "real" / "adapters"


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"use_dora": True, "use_rslora": True, "rank_pattern": {"gate_proj": 5}},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens", "norm"]},
        {"fan_in_fan_out": True},
        {"layers_to_transform": [1]},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True")
def test_every_tensor_is_what_peft_merges(checkpoint, lora, merged, config) -> None:
    base = checkpoint("qwen2", tie_word_embeddings=False)
    adapter = lora(base, ALL, **config)
    pair, reference = Pair(base, adapter), merged(base, adapter)
    changed = 0
    for name in pair.names:
        before, after = pair.sides(name)
        assert torch.allclose(after, reference[name], rtol=0, atol=2e-6), name
        expected = reference[name].double() - before.double()
        assert torch.allclose(pair.delta(name), expected, rtol=0, atol=2e-6), name
        changed += bool(expected.abs().max() > 1e-4)
        assert pair.adapted(name) or not expected.any(), name
    assert changed >= 7, "the adapter does next to nothing"


def test_a_bias_of_lora_itself_is_scaled_and_added(checkpoint, lora, merged) -> None:
    base = checkpoint("qwen2")
    adapter = lora(base, ["q_proj"], lora_bias=True, lora_alpha=9)
    name = "model.layers.0.self_attn.q_proj.bias"
    pair, reference = Pair(base, adapter), merged(base, adapter)
    assert pair.adapted(name)
    assert torch.allclose(pair.sides(name)[1], reference[name], rtol=0, atol=2e-6)
    assert pair.delta(name).abs().max() > 1e-3


def test_lora_on_the_embedding_is_read_and_has_no_place_among_the_seven(
    checkpoint, lora, merged
) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["embed_tokens", "gate_proj"])
    pair, reference = Pair(base, adapter), merged(base, adapter)
    name = "model.embed_tokens.weight"
    assert pair.adapted(name)
    assert torch.allclose(pair.sides(name)[1], reference[name], rtol=0, atol=2e-6)
    assert name not in {stored for stored, _ in pair.projections.values()}


@pytest.mark.parametrize("config", [{}, {"model": {"lora_r": 3, "lora_alpha": 6}}])
def test_affectgpts_checkpoint_is_its_peft_twin(checkpoint, lora, tmp_path, config) -> None:
    base = checkpoint("qwen2")
    plain = lora(base, ALL, r=3, lora_alpha=6)
    file = layouts.trained_only(plain, tmp_path / "checkpoint_000030_loss_0.717.pth", config)
    alpha = None if config else 6.0
    pair, twin = Pair(base, file, alpha=alpha), Pair(base, plain)
    for name in pair.names:
        assert pair.adapted(name) == twin.adapted(name)
        assert torch.equal(pair.delta(name), twin.delta(name)), name
        assert torch.equal(pair.sides(name)[1], twin.sides(name)[1])
    assert len(pair.adapter.other) == 2 * len(layouts.OTHERS)
    assert f"{2 * len(layouts.OTHERS)} trained tensors outside the base" in pair.notes[0]


def test_a_file_of_trained_tensors_without_alpha_says_how_to_give_it(
    checkpoint, lora, tmp_path
) -> None:
    base = checkpoint("qwen2")
    file = layouts.trained_only(lora(base, ["q_proj"], r=3, lora_alpha=6), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"does not say its LoRA alpha; give it \(--alpha"):
        Pair(base, file).delta("model.layers.0.self_attn.q_proj.weight")


def test_an_alpha_that_the_file_contradicts_is_refused(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("qwen2")
    adapter = lora(base, ["q_proj"], r=3, lora_alpha=6)
    file = layouts.trained_only(adapter, tmp_path / "a.pth", {"lora_alpha": 6})
    with pytest.raises(InputError, match="says lora_alpha 6, not the given 32"):
        Adapter(file, alpha=32).alpha()


def test_a_continued_checkpoint_counts_from_its_intermediate_one(
    checkpoint, lora, merged, tmp_path
) -> None:
    # Emotion-LLaMA: LLaMA-2, then MiniGPT-v2's checkpoint, trained on: its own factors take the
    # place of the earlier ones.
    base = checkpoint("llama")
    first, last = (lora(base, ["q_proj", "v_proj"], r=4, seed=seed) for seed in (1, 2))
    config = {"lora_alpha": 6}
    files = [
        layouts.trained_only(adapter, tmp_path / f"{number}.pth", config)
        for number, adapter in enumerate((first, last))
    ]
    pair = Pair([base, files[0]], files[1])
    before, after = merged(base, first), merged(base, last)
    for name in pair.names:
        expected = after[name].double() - before[name].double()
        assert torch.allclose(pair.delta(name), expected, rtol=0, atol=2e-6), name
        assert torch.allclose(pair.sides(name)[0], before[name], rtol=0, atol=2e-6), name
        assert torch.allclose(pair.sides(name)[1], after[name], rtol=0, atol=2e-6), name
        assert pair.adapted(name) == ("q_proj" in name or "v_proj" in name)


def test_a_peft_adapter_in_a_chain_is_added_and_the_next_lies_on_top(
    checkpoint, lora, merged
) -> None:
    base = checkpoint("llama")
    first, last = lora(base, ["q_proj", "gate_proj"], seed=1), lora(base, ["q_proj"], seed=2)
    pair, reference = Pair([base, first], last), merged(base, first)
    for name in pair.names:
        assert torch.allclose(pair.sides(name)[0], reference[name], rtol=0, atol=2e-6), name
        assert torch.allclose(pair.delta(name), Pair(base, last).delta(name), rtol=0, atol=1e-12)
    assert not pair.adapted(GATE)


def test_mlx_is_its_peft_twin(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("qwen2")
    plain = lora(base, ["q_proj", "gate_proj"], r=3, lora_alpha=6, layers_to_transform=[1])
    pair, twin = Pair(base, layouts.mlx(plain, tmp_path / "mlx")), Pair(base, plain)
    for name in pair.names:
        assert pair.adapted(name) == twin.adapted(name)
        assert torch.allclose(pair.delta(name), twin.delta(name), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", ["trained_only", "mlx", "dora"])
def test_a_converted_adapter_is_what_peft_loads(checkpoint, lora, merged, tmp_path, layout) -> None:
    base = checkpoint("qwen2")
    plain = lora(base, ALL, r=3, lora_alpha=5, **({"use_dora": True} if layout == "dora" else {}))
    if layout == "mlx":
        source = Adapter(layouts.mlx(plain, tmp_path / "mlx"))
    else:
        source = Adapter(layouts.trained_only(plain, tmp_path / "a.pth"), alpha=5)
    told = convert(source, tmp_path / "out", base_name="somebody/base")
    assert told["modules"] == 14
    assert (told["rank"], told["alpha"]) == (3, pytest.approx(5))
    assert len(told["other"]) == (0 if layout == "mlx" else 2 * len(layouts.OTHERS))
    expected, found = merged(base, plain), merged(base, tmp_path / "out")
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=0, atol=1e-6), name
    config = json.loads((tmp_path / "out/adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "somebody/base"


def test_a_file_without_factors_is_not_converted(tmp_path) -> None:
    torch.save({"model": {"proj.weight": torch.ones(2, 2)}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="no LoRA factors"):
        convert(Adapter(tmp_path / "a.pth"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_bases_tensors_is_a_file_of_trained_ones(checkpoint, twin, tmp_path) -> None:
    base = checkpoint("llama")
    tensors, _ = layouts.read(twin(base))
    torch.save({name: tensors[name] for name in tensors if "gate" in name}, tmp_path / "a.pth")
    pair = Pair(base, tmp_path / "a.pth")
    for name in pair.names:
        assert pair.adapted(name) == ("gate" in name)
        before, after = pair.sides(name)
        assert torch.equal(after, tensors[name] if "gate" in name else before)


def test_two_adapters_in_one_file_are_refused(tmp_path) -> None:
    names = [f"m.layers.0.mlp.up_proj.lora_A.{one}.weight" for one in ("default", "other")]
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="holds the adapters default, other; expected one"):
        Adapter(tmp_path / "a.pth")


def test_a_lost_factor_is_named(checkpoint, lora, tmp_path) -> None:
    folder = shutil.copytree(lora(checkpoint(), ["gate_proj"]), tmp_path / "adapter")
    tensors = load_file(folder / "adapter_model.safetensors")
    lost = next(name for name in tensors if "lora_B" in name)
    del tensors[lost]
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="no twin; expected both LoRA factors"):
        Adapter(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("alora_invocation_tokens", [5, 6]),
        ("layer_replication", [[0, 4], [2, 5]]),
        ("trainable_token_indices", [3]),
        ("target_parameters", ["mlp.experts.gate_up_proj"]),
        ("use_qalora", True),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "OLoRA"),
    ],
)
def test_an_adapter_whose_tensors_do_not_tell_its_delta_is_refused_by_its_key(
    checkpoint, lora, tmp_path, key, value
) -> None:
    folder = shutil.copytree(lora(checkpoint(), ["q_proj"]), tmp_path / "adapter")
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {key: value}
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=key) as error:
        Adapter(folder)
    assert str(file) in str(error.value)
    assert repr(value) in str(error.value)


def test_names_are_aligned_by_what_follows_the_wrapper() -> None:
    base = ["model.language_model.layers.0.mlp.up_proj.weight", "lm_head.weight", "norm.weight"]
    names = ["language_model.model.layers.0.mlp.up_proj.weight", "lm_head.weight", "proj.weight"]
    assert aligned(names, base) == {names[0]: base[0], "lm_head.weight": "lm_head.weight"}


def test_an_encoders_layer_is_not_taken_for_the_language_models() -> None:
    tail = "layers.0.self_attn.q_proj.weight"
    base = [f"vision_tower.{tail}", f"language_model.model.{tail}"]
    assert aligned([f"model.{tail}"], base) == {f"model.{tail}": base[1]}


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
def test_real_adapters_are_read() -> None:
    law = Adapter(REAL / "law-qwen2.5-3b")
    assert len(law.factors) == 72
    assert law.base_name == "Qwen/Qwen2.5-3B-Instruct"
    assert law.scaling("model.layers.0.self_attn.q_proj") == 2.0
    mlx = Adapter(REAL / "mlx-qwen2.5-0.5b")
    assert sorted({module.split(".")[2] for module in mlx.factors}) == ["20", "21", "22", "23"]
    assert mlx.scaling("model.layers.20.self_attn.q_proj") == 10.0
