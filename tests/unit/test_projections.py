"""The seven projections, and the text that names a set of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.errors import InputError
from affectlocus.projections import (
    ATTENTION,
    FFN,
    PROJECTIONS,
    Location,
    format_modules,
    locate,
    parse_modules,
)

ORDER = ["q", "k", "v", "o", "gate", "up", "down"]
SETS = st.lists(st.sampled_from(ORDER), min_size=1, unique=True)


def test_the_seven_are_four_of_attention_and_three_of_the_ffn() -> None:
    assert list(PROJECTIONS) == ORDER
    assert (list(ATTENTION), list(FFN)) == (ORDER[:4], ORDER[4:])


@given(SETS)
def test_a_set_that_is_formatted_and_parsed_is_the_same_set(names: list[str]) -> None:
    assert set(parse_modules(format_modules(names))) == set(names)


@given(SETS)
def test_whatever_the_order_of_names_the_parsed_order_is_canonical(names: list[str]) -> None:
    assert list(parse_modules("+".join(names))) == sorted(names, key=ORDER.index)


@given(SETS)
def test_a_canonical_text_is_its_own_canonical_text(names: list[str]) -> None:
    text = format_modules(names)
    assert format_modules(parse_modules(text)) == text
    assert format_modules(tuple(reversed(names))) == text


@given(SETS)
def test_two_sets_have_one_text_only_if_they_are_equal(names: list[str]) -> None:
    fewer = names[1:]
    assert not fewer or format_modules(fewer) != format_modules(names)


def test_all_seven_are_called_all_in_both_directions() -> None:
    assert list(parse_modules("all")) == ORDER
    assert format_modules(ORDER) == "all"
    assert format_modules(parse_modules("down+up+gate+o+v+k+q")) == "all"


def test_a_set_of_six_is_spelled_out() -> None:
    assert format_modules(ORDER[:6]) == "q+k+v+o+gate+up"


@given(SETS, st.data())
def test_a_projection_named_twice_is_refused(names: list[str], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(names))
    with pytest.raises(InputError, match="twice"):
        parse_modules("+".join([*names, again]))


@pytest.mark.parametrize(
    "text", ["", "+", "gate+", "+gate", "gat", "Gate", "ALL", "all+q", "q,k", "q + k", "q_proj"]
)
def test_an_unknown_projection_is_named_with_its_set_and_the_seven(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_modules(text)
    message = str(caught.value)
    assert f"module set {text!r}" in message
    assert "q, k, v, o, gate, up, down" in message


@given(st.text())
def test_any_text_is_a_set_or_refused_in_one_line(text: str) -> None:
    try:
        assert set(parse_modules(text)) <= set(ORDER)
    except InputError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "location"),
    [
        ("model.layers.0.self_attn.q_proj.weight", Location(0, "q", "weight")),
        ("model.layers.3.self_attn.k_proj.bias", Location(3, "k", "bias")),
        ("model.layers.11.self_attn.v_proj.weight", Location(11, "v", "weight")),
        ("layers.7.self_attn.o_proj.weight", Location(7, "o", "weight")),
        ("model.language_model.layers.27.mlp.gate_proj.weight", Location(27, "gate", "weight")),
        ("language_model.model.layers.100.mlp.up_proj.weight", Location(100, "up", "weight")),
        ("model.layers.10.mlp.down_proj.weight", Location(10, "down", "weight")),
    ],
)
def test_a_projection_is_found_behind_any_wrapper(name: str, location: Location) -> None:
    assert locate(name) == location


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.norm.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.qkv_proj.weight",
        "model.layers.0.mlp.gate_up_proj.weight",
        "model.layers.0.mlp.experts.3.gate_proj.weight",
        "model.layers.0.self_attn.gate_proj.weight",
        "model.layers.0.mlp.q_proj.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.weight_scale",
        "model.layers.self_attn.q_proj.weight",
        "model.sublayers.0.self_attn.q_proj.weight",
        "visual.blocks.0.attn.q_proj.weight",
    ],
)
def test_a_tensor_that_is_none_of_the_seven_has_no_location(name: str) -> None:
    assert locate(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "audio_tower.layers.0.self_attn.q_proj.weight",
    ],
)
def test_a_layer_of_a_vision_or_audio_tower_is_none_of_the_language_model(name: str) -> None:
    assert locate(name) is None


def test_locations_sort_by_layer_as_a_number() -> None:
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in (10, 2, 1)]
    located = [location for name in names if (location := locate(name))]
    assert [location.layer for location in sorted(located)] == [1, 2, 10]
