"""Adapters of every layout, against peft's own merge and against their plain twins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import layouts
import pytest
import torch
from adapter_files import SHAPES, factors, numbers, on_layers
from adapter_files import base as by_hand
from adapter_files import peft_folder as saved
from peft import LoraConfig
from refusal import refused
from safetensors.torch import load_file, save_file

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.convert import convert
from affectlocus.checkpoints.name_alignment import align_names
from affectlocus.checkpoints.pairs import Pair

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


@pytest.mark.parametrize("target", ["gate_proj", "lm_head"])
def test_a_bias_of_lora_itself_on_a_base_without_biases_is_refused_by_its_reason(
    checkpoint, lora, target
) -> None:
    """The base is the right one; it has no tensor that could take the change."""
    base = checkpoint("llama", tie_word_embeddings=False)
    adapter = lora(base, [target], lora_bias=True)
    with refused("adapter.bias-without-base", file=adapter, base=base) as error:
        Pair(base, adapter)
    assert error.value.fields["tensor"].endswith(f"{target}.lora_B.bias")


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
    with refused("adapter.no-alpha", file=file, option="alpha"):
        Pair(base, file).delta("model.layers.0.self_attn.q_proj.weight")


def test_an_alpha_that_the_file_contradicts_is_refused(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("qwen2")
    adapter = lora(base, ["q_proj"], r=3, lora_alpha=6)
    file = layouts.trained_only(adapter, tmp_path / "a.pth", {"lora_alpha": 6})
    with refused("adapter.two-alphas", file=file, found=32, expected=6):
        Adapter(file, alpha=32).settings.alpha()


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
    with refused("adapter.no-factors", file=tmp_path / "a.pth"):
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
    file = tmp_path / "a.pth"
    with refused("adapter.several-adapters", file=file, found=["default", "other"]):
        Adapter(file)


def test_a_lost_factor_is_named(checkpoint, lora, tmp_path) -> None:
    folder = shutil.copytree(lora(checkpoint(), ["gate_proj"]), tmp_path / "adapter")
    tensors = load_file(folder / "adapter_model.safetensors")
    lost = next(name for name in tensors if "lora_B" in name)
    del tensors[lost]
    save_file(tensors, folder / "adapter_model.safetensors")
    kept = lost.replace("lora_B", "lora_A")
    with refused("adapter.lone-factor", file=folder, tensor=kept):
        Adapter(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("alora_invocation_tokens", [5, 6]),
        ("layer_replication", [[0, 4], [2, 5]]),
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
    with refused("adapter.unsupported-setting", file=file, key=key, found=value):
        Adapter(folder)


def test_names_are_aligned_by_what_follows_the_wrapper() -> None:
    base = ["model.language_model.layers.0.mlp.up_proj.weight", "lm_head.weight", "norm.weight"]
    names = ["language_model.model.layers.0.mlp.up_proj.weight", "lm_head.weight", "proj.weight"]
    assert align_names(names, base) == {names[0]: base[0], "lm_head.weight": "lm_head.weight"}


def test_an_encoders_layer_is_not_taken_for_the_language_models() -> None:
    tail = "layers.0.self_attn.q_proj.weight"
    base = [f"vision_tower.{tail}", f"language_model.model.{tail}"]
    assert align_names([f"model.{tail}"], base) == {f"model.{tail}": base[1]}


# Small adapters written by hand: what no library would save is read as well, and fast.

TOWERS = (
    *("vision_tower.vision_model.encoder.", "audio_encoder.", "vpm.encoder.", "talker.model."),
    *("vision_tower.base_model.model.", "some_part.encoder."),
)


def same_deltas(pair: Pair, other: Pair) -> bool:
    assert any(pair.adapted(name) for name in pair.names)
    return all(torch.equal(pair.delta(name), other.delta(name)) for name in pair.names)


@pytest.mark.parametrize("tower", TOWERS)
def test_lora_on_an_encoder_leaves_the_language_model_alone(tmp_path, tower) -> None:
    base = by_hand(tmp_path / "base")
    plain = on_layers("language_model.model.", "self_attn.q_proj")
    stem = f"{tower}layers.0.self_attn.q_proj"
    if "base_model" not in tower:
        stem = f"base_model.model.{stem}"
    both = plain | factors(stem, (32, 32), seed=7)
    pair = Pair(base, saved(tmp_path / "both", both))
    assert same_deltas(pair, Pair(base, saved(tmp_path / "plain", plain)))
    assert len(pair.adapter.other) == 1
    assert f"1 trained tensor outside the base, as {pair.adapter.other[0]!r}" in pair.notes[0]


def test_an_encoder_of_another_width_stands_in_nobodys_way(tmp_path) -> None:
    base = by_hand(tmp_path / "base")
    plain = on_layers("language_model.model.", "self_attn.q_proj")
    stem = "base_model.model.vision_tower.encoder.layers.{}.self_attn.q_proj"
    towers = [factors(stem.format(layer), (8, 8)) for layer in range(5)]
    both = plain | {name: value for tower in towers for name, value in tower.items()}
    pair = Pair(base, saved(tmp_path / "both", both))
    assert same_deltas(pair, Pair(base, saved(tmp_path / "plain", plain)))
    assert len(pair.adapter.other) == 5


def test_whole_tensors_of_an_encoder_replace_nothing(tmp_path) -> None:
    base = by_hand(tmp_path / "base")
    plain = on_layers("", "self_attn.q_proj")
    plain = {f"llama_model.model.{name.split('model.')[-1]}": one for name, one in plain.items()}
    encoder = {
        "audio_encoder.layers.0.self_attn.q_proj.weight": numbers(32, 32, seed=9),
        "audio_encoder.norm.weight": numbers(32, seed=9),
        "some_part.norm.weight": numbers(32, seed=9),
        "norm.weight": numbers(32, seed=9),
    }
    for name, tensors in (("plain", plain), ("both", plain | encoder)):
        torch.save({"model": tensors}, tmp_path / f"{name}.pth")
    pair = Pair(base, tmp_path / "both.pth", alpha=4)
    assert same_deltas(pair, Pair(base, tmp_path / "plain.pth", alpha=4))
    assert pair.adapter.other == sorted(encoder)


def test_two_parts_that_may_both_be_the_language_model_are_refused(tmp_path) -> None:
    base = by_hand(tmp_path / "base")
    tensors = on_layers("one.", "self_attn.q_proj") | on_layers("two.", "self_attn.q_proj")
    adapter = saved(tmp_path / "two", tensors)
    with refused("pair.two-language-models", file=adapter) as error:
        Pair(base, adapter)
    assert [name[:13] for name in error.value.fields["found"]] == ["one.layers.0.", "two.layers.0."]


NAMES = ("model.", "model.language_model.", "language_model.model.")


@pytest.mark.parametrize("here", NAMES)
@pytest.mark.parametrize("there", NAMES)
def test_names_of_older_and_newer_transformers_mean_the_same(tmp_path, here, there) -> None:
    base = by_hand(tmp_path / "base", there)
    plain = on_layers(there, "self_attn.q_proj", "mlp.gate_proj")
    tuned = on_layers(here, "self_attn.q_proj", "mlp.gate_proj")
    # More of the base's names than the language model itself has.
    tuned |= on_layers("some_part.model.", *SHAPES, seed=7)
    tuned |= factors("base_model.model.visual.blocks.0.attn.qkv", (24, 8))
    tuned |= factors("base_model.model.model.visual.merger.mlp.0", (8, 8))
    pair = Pair(base, saved(tmp_path / "tuned", tuned))
    assert same_deltas(pair, Pair(base, saved(tmp_path / "plain", plain)))
    assert len(pair.adapter.other) == 2 * 7 + 2


def test_two_wrapped_models_of_one_file_stay_told_apart(tmp_path) -> None:
    base = by_hand(tmp_path / "base")
    first = on_layers("model.", "self_attn.q_proj")
    other = on_layers("model.", "self_attn.q_proj", layers=(0,), seed=5)
    plain = {f"llama_model.{name}": value for name, value in first.items()}
    more = {f"some_part.{name}": value for name, value in other.items()}
    for name, tensors in (("plain", plain), ("both", plain | more)):
        torch.save({"model": tensors}, tmp_path / f"{name}.pth")
    pair = Pair(base, tmp_path / "both.pth", alpha=4)
    assert same_deltas(pair, Pair(base, tmp_path / "plain.pth", alpha=4))
    assert pair.adapter.other == ["some_part.model.layers.0.self_attn.q_proj.weight"]


def test_two_names_of_one_tensor_are_refused() -> None:
    layer = "layers.0.mlp.up_proj.weight"
    names = [f"a.b.model.{layer}", "a.lm_head.weight", "a.b.lm_head.weight"]
    both = ("a.lm_head.weight", "a.b.lm_head.weight")
    with refused("pair.two-tensors-for-one", tensor="lm_head.weight", found=both):
        align_names(names, [f"model.{layer}", "lm_head.weight"])


def test_embeddings_beside_the_layers_and_above_them_are_aligned() -> None:
    layer = "layers.0.mlp.up_proj.weight"
    names = [f"llm.model.{layer}", "llm.model.embed_tokens.weight", "llm.lm_head.weight"]
    base = [f"model.{layer}", "model.embed_tokens.weight", "lm_head.weight"]
    assert align_names([*names, "embed_tokens.weight"], base) == dict(zip(names, base, strict=True))


HEADS = {
    "a classifier": ({"score.weight": (3, 32)}, False, "score.weight"),
    "a classifier of two layers": (
        {"classifier.dense.weight": (32, 32), "classifier.out_proj.weight": (3, 32)},
        False,
        "classifier.dense.weight",
    ),
    "a tied head": (
        {"lm_head.modules_to_save.weight": (20, 32), "model.embed_tokens.weight": (20, 32)},
        True,
        "lm_head.weight",
    ),
    "a resized vocabulary": (
        {"lm_head.weight": (23, 32), "model.embed_tokens.weight": (23, 32)},
        False,
        "lm_head.weight has 20 rows in the base, 23 in",
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_what_lies_outside_the_seven_and_does_not_fit_is_noted(tmp_path, kind) -> None:
    shapes, tied, said = HEADS[kind]
    base = by_hand(tmp_path / "base", tied=tied)
    plain = on_layers("model.", "self_attn.q_proj")
    more = {f"base_model.model.{name}": numbers(*shape) for name, shape in shapes.items()}
    pair = Pair(base, saved(tmp_path / "both", plain | more, task_type="SEQ_CLS"))
    twin = Pair(base, saved(tmp_path / "plain", plain))
    for name in (f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)):
        assert torch.equal(pair.delta(name), twin.delta(name))
        assert pair.delta(name).any()
    assert any(said in note for note in pair.notes)
    embedding = "model.embed_tokens.weight"
    assert pair.adapted(embedding) == (kind == "a tied head")
    assert pair.sides(embedding)[1].shape == (20, 32)


def test_a_saved_module_counts_and_not_pefts_second_copy_of_it(tmp_path) -> None:
    base, head = by_hand(tmp_path / "base"), "base_model.model.lm_head"
    trained, stale = numbers(20, 32, seed=5), numbers(20, 32, seed=6)
    more = {f"{head}.modules_to_save.weight": trained, f"{head}.weight": stale}
    pair = Pair(base, saved(tmp_path / "adapter", on_layers("model.", "mlp.gate_proj") | more))
    assert torch.equal(pair.sides("lm_head.weight")[1], trained)


def test_lora_on_the_head_of_a_tied_base_is_noted(tmp_path) -> None:
    base = by_hand(tmp_path / "base", tied=True)
    tensors = on_layers("model.", "mlp.gate_proj") | factors("base_model.model.lm_head", (20, 32))
    pair = Pair(base, saved(tmp_path / "adapter", tensors))
    assert pair.adapter.other == ["lm_head.weight"]
    assert "as 'lm_head.weight': not measured" in pair.notes[0]
    assert pair.delta(GATE).any()


def test_an_adapter_with_no_module_in_the_base_is_refused(tmp_path) -> None:
    tensors = factors("base_model.model.transformer.h.0.attn.c_attn", (32, 32))
    tensors["base_model.model.lm_head.weight"] = numbers(20, 32)
    base, adapter = by_hand(tmp_path / "base"), saved(tmp_path / "adapter", tensors)
    tensor = "transformer.h.0.attn.c_attn.weight"
    with refused("pair.tensor-not-in-base", file=adapter, tensor=tensor, base=base):
        Pair(base, adapter)


STEM = "base_model.model.model.layers.0.self_attn.q_proj"
A, B, M = f"{STEM}.lora_A.weight", f"{STEM}.lora_B.weight", f"{STEM}.lora_magnitude_vector"


def number(key: str, found: object) -> tuple[dict, dict, str, dict]:
    """A setting of LoRA alpha that is not a number above 0, and its refusal."""
    return {}, {key: found}, "adapter.not-positive", {"key": key, "found": found}


# Kind → other shapes of tensors, other settings, the code and the fields of the refusal.
BAD = {
    "other ranks": (
        {B: (32, 3)},
        {},
        "adapter.factor-ranks-differ",
        {"tensor": A, "found": (2, 3)},
    ),
    "no rank": (
        {A: (0, 32), B: (32, 0)},
        {"r": 0},
        "adapter.factor-ranks-differ",
        {"tensor": A, "found": (0, 0)},
    ),
    "no matrix": (
        {A: (2, 32, 1)},
        {},
        "adapter.factors-not-matrices",
        {"tensor": A, "found": ((2, 32, 1), (32, 2))},
    ),
    "a short magnitude": (
        {M: (31,)},
        {"use_dora": True},
        "adapter.vector-length",
        {"tensor": M, "found": (31,), "expected": 32},
    ),
    "no magnitude": (
        {},
        {"use_dora": True},
        "adapter.no-magnitude",
        {"module": "model.layers.0.self_attn.q_proj"},
    ),
    "another rank": ({}, {"r": 4}, "adapter.other-rank", {"found": 2, "expected": 4}),
    "another rank by pattern": (
        {},
        {"rank_pattern": {"q_proj": 3}},
        "adapter.other-rank",
        {"found": 2, "expected": 3},
    ),
    "an alpha that is a word": number("lora_alpha", "4"),
    "an alpha that is true": number("lora_alpha", True),
    "an alpha of null": number("lora_alpha", None),
    "an alpha of NaN": (
        {},
        {"lora_alpha": float("nan")},
        "adapter.not-positive",
        {"key": "lora_alpha"},
    ),
    "an endless alpha": number("lora_alpha", float("inf")),
    "an alpha of nought": number("lora_alpha", 0),
    "a negative alpha": number("lora_alpha", -4),
    "patterns in a list": (
        {},
        {"alpha_pattern": ["q"]},
        "adapter.setting-type",
        {"key": "alpha_pattern", "found": ["q"]},
    ),
    "a broken pattern": (
        {},
        {"rank_pattern": {"(q": 2}},
        "adapter.bad-pattern",
        {"key": "rank_pattern", "found": "(q"},
    ),
    "a broken exclusion": (
        {},
        {"exclude_modules": "(q"},
        "adapter.bad-pattern",
        {"key": "exclude_modules", "found": "(q"},
    ),
    "an exclusion that is a number": (
        {},
        {"exclude_modules": 3},
        "adapter.setting-type",
        {"key": "exclude_modules", "found": 3},
    ),
    "a pattern's word": (
        {},
        {"alpha_pattern": {"q": "x"}},
        "adapter.not-positive",
        {"key": "alpha_pattern['q']", "found": "x"},
    ),
    "a bias of A": (
        {f"{STEM}.lora_A.bias": (2,)},
        {},
        "adapter.unsupported-factor",
        {"tensor": f"{STEM}.lora_A.bias"},
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_factors_and_settings_that_contradict_each_other_are_refused(tmp_path, kind) -> None:
    shapes, config, code, fields = BAD[kind]
    tensors = factors(STEM, (32, 32)) | {name: numbers(*shape) for name, shape in shapes.items()}
    folder = saved(tmp_path / "adapter", tensors, **config)
    with refused(code, **fields) as error:
        Adapter(folder)
    assert error.value.fields["file"] in (folder, folder / "adapter_config.json")
    assert str(error.value).startswith(f"{error.value.fields['file']}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_factors_are_refused(tmp_path, dtype) -> None:
    tensors = factors(STEM, (32, 32))
    folder = saved(tmp_path / "adapter", tensors | {B: tensors[B].to(dtype)})
    with refused("tensor.not-float", file=folder, tensor=B, found=str(dtype)[6:]):
        Adapter(folder)


def test_a_configuration_that_is_no_object_is_refused(tmp_path) -> None:
    folder = saved(tmp_path / "adapter", factors(STEM, (32, 32)))
    file = folder / "adapter_config.json"
    file.write_text("[1]", encoding="utf-8")
    with refused("json.not-an-object", file=file, found="list"):
        Adapter(folder)


@pytest.mark.parametrize(
    ("config", "code", "fields"),
    [
        (
            {"lora_parameters": {"rank": 2, "scale": found}},
            "adapter.not-positive",
            {"key": "lora_parameters.scale", "found": found},
        )
        for found in ("big", None)
    ]
    + [
        (
            {"lora_parameters": {"rank": 3, "scale": 2.0}},
            "adapter.other-rank",
            {"found": 2, "expected": 3},
        ),
        (
            {"lora_parameters": [2]},
            "adapter.setting-type",
            {"key": "lora_parameters", "found": [2]},
        ),
        (
            {"fine_tune_type": "dora"},
            "adapter.no-magnitude",
            {"module": "model.layers.0.self_attn.q_proj"},
        ),
    ],
)
def test_mlx_settings_that_contradict_its_tensors_are_refused(
    tmp_path, config, code, fields
) -> None:
    folder = layouts.mlx(saved(tmp_path / "peft", factors(STEM, (32, 32))), tmp_path / "mlx")
    assert Adapter(folder).factors
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(settings | config), encoding="utf-8")
    with refused(code, **fields):
        Adapter(folder)


@pytest.mark.parametrize(
    ("config", "alpha", "code", "fields"),
    [
        (
            {"model": {"lora_r": 64, "lora_alpha": 16}},
            None,
            "adapter.other-rank",
            {"found": 2, "expected": 64},
        ),
        (
            {"model": {"lora_alpha": True}},
            None,
            "adapter.not-positive",
            {"key": "lora_alpha of its configuration", "found": True},
        ),
        ({}, float("nan"), "adapter.not-positive", {"key": "the given alpha"}),
        ({}, 0.0, "adapter.not-positive", {"key": "the given alpha", "found": 0}),
        ({}, -8.0, "adapter.not-positive", {"key": "the given alpha", "found": -8}),
    ],
)
def test_a_trained_only_files_settings_are_held_against_its_tensors(
    tmp_path, config, alpha, code, fields
) -> None:
    peft = saved(tmp_path / "peft", factors(STEM, (32, 32)))
    file = layouts.trained_only(peft, tmp_path / "a.pth", config)
    with refused(code, file=file, **fields):
        Adapter(file, alpha).settings.alpha()


@pytest.mark.parametrize(
    ("config", "complete"),
    [
        ({}, False),
        ({"target_modules": ["q_proj", "fc1", "W_pack"]}, True),  # not in this base at all
        ({"target_modules": ".*_proj"}, True),
        ({"exclude_modules": ["v_proj"]}, True),
        ({"exclude_modules": r".*\.v_proj"}, True),
        ({"layers_to_transform": [2]}, True),
        ({"layers_to_transform": [1]}, False),
    ],
    ids=str,
)
def test_a_target_without_factors_is_an_incomplete_adapter(tmp_path, config, complete) -> None:
    base = by_hand(tmp_path / "base")
    tensors = on_layers("model.", "self_attn.q_proj")
    settings = {"target_modules": ["q_proj", "v_proj"], **config}
    folder = saved(tmp_path / "adapter", tensors, **settings)
    if complete:
        assert Pair(base, folder).adapter.names
        return
    file = folder / "adapter_config.json"
    with refused("adapter.target-without-factors", file=file, found="v_proj"):
        Pair(base, folder)


@pytest.mark.parametrize(
    ("folder", "named", "noted"),
    [
        ("Small-Base-2.5", "somebody/Small-Base-2.5", False),
        ("Small-Base-2.5", "/models/small_base_2.5/", False),
        ("Small-Base-2.5", None, False),
        ("Small-Base-2.5-Instruct", "somebody/Small-Base-2.5", True),
        ("Small-Base-2.5", "/models/small_base_2.5-Instruct/", True),
        ("b", "somebody/Small-Base-2.5", True),
        ("models--x--Small-Base-2.5/snapshots/0", "/models/Large-Base", True),
        ("models--x--Small-Base-2.5/snapshots/0", "y/small-base-2.5", False),
    ],
)
def test_a_local_base_of_another_name_is_noted(tmp_path, folder, named, noted) -> None:
    base = by_hand(tmp_path / folder)
    tensors = on_layers("model.", "self_attn.q_proj")
    pair = Pair(base, saved(tmp_path / "adapter", tensors, base_model_name_or_path=named))
    assert pair.notes == (
        [
            f"the adapter names {named} as its base; the base given is {base}: the shapes fit, "
            "but the values were not compared"
        ]
        if noted
        else []
    )
    assert Pair(base, tmp_path / "adapter", any_base=True).notes == []


@pytest.mark.parametrize(
    ("folder", "saved_as", "named", "other"),
    [
        ("b", "x/Origin-7B", "upstream/origin_7b", None),
        ("b", "x/Origin-7B", "x/Origin-7B-Instruct", "x/Origin-7B"),
        ("b", "x/Origin-7B", "/cache/models--x--Origin-7B-Instruct/snapshots/0", "x/Origin-7B"),
        ("b", "/runs/last", "x/Origin-7B", None),
        # The config.json of a fine-tune names its parent, and adapters name the fine-tune.
        ("my-tune", "x/Origin-7B", "me/my-tune", None),
        ("models--me--my-tune/snapshots/0", "x/Origin-7B", "x/Origin-7B", "me/my-tune"),
        ("models--x--Origin-7B-Instruct/snapshots/0", "", "x/Origin-7B", "x/Origin-7B-Instruct"),
    ],
)
def test_a_base_that_is_known_to_be_another_is_refused(
    tmp_path, folder, saved_as, named, other
) -> None:
    base = by_hand(tmp_path / folder, _name_or_path=saved_as)
    tensors = on_layers("model.", "self_attn.q_proj")
    adapter = saved(tmp_path / "adapter", tensors, base_model_name_or_path=named)
    assert Pair(base, adapter, any_base=True).adapter is not None
    if other is None:
        assert Pair(base, adapter).adapter is not None
        return
    with refused("adapter.other-base", file=adapter / "adapter_config.json", found=other):
        Pair(base, adapter)


COPIES = [
    ("Qwen/Qwen2.5-7B-Instruct", "unsloth/qwen2.5-7b-instruct-unsloth-bnb-4bit", True),
    ("Qwen/Qwen2.5-7B-Instruct", "unsloth/Qwen2.5-7B-Instruct-bnb-4bit", True),
    ("Qwen/Qwen2.5-7B-Instruct", "unsloth/Qwen2.5-7B-Instruct", False),
    ("Qwen/Qwen2.5-7B-Instruct", "mlx-community/Qwen2.5-7B-Instruct-4bit", True),
    ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", True),
    ("Qwen/Qwen2.5-7B-Instruct", "mlx-community/Qwen2.5-7B-Instruct-bf16", False),
    ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct-AWQ", True),
    ("unsloth/Qwen2.5-7B", "Qwen/Qwen2.5-7B", False),
    ("meta-llama/Meta-Llama-3-8B", "unsloth/llama-3-8b-bnb-4bit", True),
    ("meta-llama/Llama-3.1-8B", "unsloth/Meta-Llama-3.1-8B", False),
    ("meta-llama/Llama-2-7b-hf", "unsloth/llama-2-7b-bnb-4bit", True),
    ("mistralai/Mistral-7B-v0.1", "unsloth/mistral-7b-bnb-4bit", True),
    ("Qwen/Qwen2.5-7B-Instruct", "mlx-community/Qwen2.5-7B-Instruct-4bit-DWQ-053125", True),
    (
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "neuralmagic/Meta-Llama-3.1-8B-Instruct-quantized.w4a16",
        True,
    ),
    ("Qwen/Qwen2-7B", "unsloth/Qwen2-7B-GGUF", True),
    ("Qwen/Qwen3-8B", "unsloth/Qwen3-8B-128K-unsloth-bnb-4bit", True),
    ("Qwen/Qwen2-7B", "somebody/Qwen2-7B-Q4_K_M-GGUF", True),
    ("Qwen/Qwen2-7B", "somebody/Qwen2-7B-exl2-4.0bpw", True),
    ("Qwen/Qwen2-7B", "somebody/Qwen2-7B-FP8-dynamic", True),
    ("Qwen/Qwen2-7B", "mlx-community/Qwen2-7B-mlx-8Bit", True),
    ("Qwen/Qwen2-7B", "somebody/Qwen2-7B-GPTQ-Int4-g128", True),
    ("Qwen/Qwen2-7B", "somebody/Qwen2-7B-w8a8", True),
    ("Qwen/Qwen2-7B", "somebody/Qwen2-7B-4bit-mlx", True),
]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("given", "named", "quantised"), COPIES)
def test_a_copy_of_the_base_under_a_known_name_is_the_base(
    tmp_path, given, named, quantised, cached
) -> None:
    hub = f"models--{given.replace('/', '--')}/snapshots/0"
    base = by_hand(tmp_path / (hub if cached else "mine"), _name_or_path=given)
    tensors = on_layers("model.", "self_attn.q_proj")
    adapter = saved(tmp_path / "adapter", tensors, base_model_name_or_path=named)
    said = f"the adapter was trained on {named}, a quantised copy of the base given, {base}"
    assert Pair(base, adapter).notes == ([said] if quantised else [])


@pytest.mark.parametrize(
    ("named", "advice"),
    [
        ("unsloth/Qwen2.5-7B-bnb-4bit", "give the unquantised model that it is a copy of"),
        ("unsloth/mistral-7b-v0.2", "give that one"),
        *(
            (f"somebody/Other-7B-{words}", "give the unquantised model that it is a copy of")
            for words in (
                *("GPTQ-tuned", "awq", "GGUF-v2", "bnb", "4bit", "8-bit", "fp8", "int4", "w4a16"),
                *("DWQ", "exl2", "mlx-4bit", "mlx", "Q4_K_M", "hqq", "aqlm", "marlin24", "nvfp4"),
            )
        ),
        # Only unsloth calls the first version so.
        ("somebody/mistral-7b", "give that one"),
        # No word of a quantiser, though its letters occur.
        ("somebody/Hawq-7B-Interbnbl", "give that one"),
    ],
)
def test_a_copy_of_another_model_is_refused_with_advice_that_can_be_followed(
    tmp_path, named, advice
) -> None:
    base = by_hand(tmp_path / "models--mistralai--Mistral-7B-v0.1/snapshots/0")
    tensors = on_layers("model.", "self_attn.q_proj")
    adapter = saved(tmp_path / "adapter", tensors, base_model_name_or_path=named)
    with refused("adapter.other-base", expected=named, found="mistralai/Mistral-7B-v0.1") as error:
        Pair(base, adapter)
    assert f"; {advice}, or accept any base (--any-base)" in str(error.value)


def test_a_peft_adapter_on_a_file_of_trained_tensors_says_that_it_is_added(tmp_path) -> None:
    base = by_hand(tmp_path / "base")
    first, last = (
        saved(tmp_path / name, on_layers("model.", "self_attn.q_proj", seed=seed))
        for seed, name in enumerate(("first", "last"))
    )
    file = layouts.trained_only(first, tmp_path / "first.pth", {"lora_alpha": 4})
    (note,) = (one for one in Pair([base, file], last).notes if "on top" in one)
    assert f"{last} is added on top of {file}" in note
    assert "give the .pth of the continued training" in note
    assert not any("on top" in one for one in Pair([base, first], last).notes)


def test_an_adapter_without_alpha_has_pefts_default(tmp_path) -> None:
    folder = saved(tmp_path / "adapter", factors(STEM, (32, 32)))
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    del config["lora_alpha"]
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert Adapter(folder).scaling("model.layers.0.self_attn.q_proj") == LoraConfig().lora_alpha / 2


def test_conversion_names_every_tensor_that_it_leaves_behind(tmp_path) -> None:
    rest = {
        "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias": numbers(32),
        "base_model.model.model.layers.0.mlp.gate_proj.bias": numbers(48),
        "base_model.model.lm_head.modules_to_save.default.weight": numbers(20, 32),
        "base_model.model.lm_head.weight": numbers(20, 32),
        "base_model.model.score.weight": numbers(3, 32),
    }
    folder = saved(tmp_path / "adapter", factors(STEM, (32, 32)) | rest)
    told = convert(Adapter(folder), tmp_path / "out")
    assert told["other"] == sorted(rest)
    assert sorted(load_file(tmp_path / "out/adapter_model.safetensors")) == sorted((A, B))


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapters_file_without_its_folder_is_refused(tmp_path, file) -> None:
    base = by_hand(tmp_path / "base")
    folder = saved(tmp_path / "adapter", factors(STEM, (32, 32)))
    if file.endswith(".bin"):
        torch.save(load_file(folder / "adapter_model.safetensors"), folder / file)
    with refused("adapter.no-settings", file=folder / file):
        Pair(base, folder / file)


def test_a_deepspeed_file_is_read_below_module(tmp_path) -> None:
    base = by_hand(tmp_path / "base")
    tensors, _ = layouts.read(base)
    torch.save({"module": {n: v + 1 for n, v in tensors.items()}, "step": 3}, tmp_path / "a.pth")
    pair = Pair(base, tmp_path / "a.pth")
    assert torch.equal(pair.sides(GATE)[1], tensors[GATE] + 1)


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


def test_an_adapter_that_changes_nothing_is_refused(tmp_path) -> None:
    empty = saved(tmp_path / "empty", {})
    with refused("adapter.empty", file=empty):
        Pair(by_hand(tmp_path / "base"), empty)
