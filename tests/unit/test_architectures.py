"""Names of stored tensors → projections."""

from __future__ import annotations

import pytest
from refusal import refused

from affectlocus.checkpoints.architectures import MODULES, locate, parts, place
from affectlocus.core.projections import PROJECTIONS, Location

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("name", "projection"),
    [
        # Qwen, LLaMA, Mistral, Gemma; bare, and below a multimodal wrapper
        ("model.layers.11.self_attn.q_proj.weight", "q"),
        ("layers.11.self_attn.k_proj.weight", "k"),
        ("language_model.model.layers.11.self_attn.v_proj.weight", "v"),
        ("model.language_model.layers.11.self_attn.o_proj.weight", "o"),
        ("language_model.model.layers.11.mlp.gate_proj.weight", "gate"),
        ("model.layers.11.mlp.up_proj.weight", "up"),
        ("model.layers.11.mlp.down_proj.weight", "down"),
        # InternLM2
        ("model.layers.11.attention.wo.weight", "o"),
        ("model.layers.11.feed_forward.w1.weight", "gate"),
        ("model.layers.11.feed_forward.w3.weight", "up"),
        ("model.layers.11.feed_forward.w2.weight", "down"),
        # LLaMA's own names
        ("layers.11.attention.wq.weight", "q"),
        ("layers.11.attention.wk.weight", "k"),
        ("layers.11.attention.wv.weight", "v"),
    ],
)
def test_a_tensor_of_one_projection_is_located(name, projection) -> None:
    assert locate(name) == Location(11, projection, "weight")
    assert parts(name, 8, None) == [(Location(11, projection, "weight"), None)]


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.input_layernorm.weight",
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight_scale",
        "model.layers.0.self_attn.q_norm.weight",
        "vision_tower.encoder.layers.0.self_attn.q_proj.weight",
        "model.visual.layers.0.mlp.gate_proj.weight",
        "audio_tower.layers.0.self_attn.q_proj.weight",
        "vpm.encoder.layers.0.self_attn.q_proj.weight",
        "talker.model.layers.0.self_attn.q_proj.weight",
        "mtp.layers.0.mlp.gate_proj.weight",
        "visual.blocks.0.attn.q_proj.weight",
        "model.layers.0.self_attn.gate_proj.weight",
        "model.layers.0.mlp.q_proj.weight",
        "model.layers.self_attn.q_proj.weight",
        "model.sublayers.0.self_attn.q_proj.weight",
        "h.0.attn.c_attn.weight",
        "model.layers.0.mlp.gate.weight",  # a mixture's router
        "model.layers.0.block_sparse_moe.gate.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
    ],
)
def test_other_tensors_have_no_place(name) -> None:
    assert place(name) is None
    assert parts(name, 8, HEADS) == []


@pytest.mark.parametrize(
    ("name", "expert"),
    [
        ("model.layers.2.mlp.experts.13.gate_proj.weight", "13"),
        ("model.layers.2.mlp.shared_expert.gate_proj.weight", "shared"),
        ("model.layers.2.mlp.shared_experts.gate_proj.weight", "shared"),
        ("model.layers.2.block_sparse_moe.experts.13.w1.weight", "13"),
    ],
)
def test_experts_are_told_apart(name, expert) -> None:
    assert locate(name) == Location(2, "gate", "weight", expert)


def test_a_fused_tensor_is_split_by_rows() -> None:
    assert locate("model.layers.0.self_attn.qkv_proj.weight") is None
    found = parts("model.layers.0.self_attn.qkv_proj.weight", 80, HEADS)
    assert [(one.projection, rows) for one, rows in found] == [
        ("q", ((0, 40),)),
        ("k", ((40, 60),)),
        ("v", ((60, 80),)),
    ]
    found = parts("model.layers.0.mlp.gate_up_proj.weight", 24, None)
    assert [(one.projection, rows) for one, rows in found] == [
        ("gate", ((0, 12),)),
        ("up", ((12, 24),)),
    ]


def test_internlms_groups_are_split_head_by_head() -> None:
    found = parts("model.layers.0.attention.wqkv.weight", 80, {"text_config": HEADS})
    assert [(one.projection, rows) for one, rows in found] == [
        ("q", ((0, 20), (40, 60))),
        ("k", ((20, 30), (60, 70))),
        ("v", ((30, 40), (70, 80))),
    ]


@pytest.mark.parametrize(
    ("module", "rows", "config", "code", "fields"),
    [
        ("self_attn.qkv_proj", 80, None, "model.no-head-counts", {}),
        ("self_attn.qkv_proj", 80, {}, "model.bad-head-counts", {"found": (None, None)}),
        (
            "self_attn.qkv_proj",
            81,
            HEADS,
            "model.heads-do-not-fit",
            {"found": 81, "expected": (4, 2)},
        ),
        ("mlp.gate_up_proj", 25, None, "model.odd-gate-up", {"found": 25}),
    ],
)
def test_a_fused_tensor_that_cannot_be_split_is_refused(module, rows, config, code, fields) -> None:
    name = f"model.layers.0.{module}.weight"
    with refused(code, tensor=name, **fields):
        parts(name, rows, config)


def test_every_module_names_known_projections_in_the_tables_order() -> None:
    for name, module in MODULES.items():
        order = [PROJECTIONS.index(one) for one in module.projections]
        assert order == sorted(order), name
