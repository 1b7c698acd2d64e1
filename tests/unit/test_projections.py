"""The seven projections, and the text that names a set of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused

from affectlocus.core.errors import InputError
from affectlocus.core.projections import (
    ATTENTION,
    FFN,
    PROJECTIONS,
    STYLES,
    Location,
    ModuleSet,
    in_band,
    layers_text,
    parse_layers,
    parse_modules,
)

ORDER = ["q", "k", "v", "o", "gate", "up", "down"]
SETS = st.lists(st.sampled_from(ORDER), min_size=1, unique=True)


def test_the_seven_are_four_of_attention_and_three_of_the_ffn() -> None:
    assert list(PROJECTIONS) == ORDER
    assert (list(ATTENTION), list(FFN)) == (ORDER[:4], ORDER[4:])


def test_every_projection_has_a_style_that_no_other_has() -> None:
    assert list(STYLES) == ORDER
    for looks in zip(*((s.colour, s.marker) for s in STYLES.values()), strict=True):
        assert len(set(looks)) == len(ORDER)


@st.composite
def layered(draw: st.DrawFn) -> ModuleSet:
    """A set whose projections are each in all layers, or in some of ten."""
    names = draw(SETS)
    numbers = st.none() | st.sets(st.integers(0, 9), min_size=1, max_size=3)
    layers = {name: draw(numbers) for name in names}
    return ModuleSet(
        tuple(
            (name, None if layers[name] is None else tuple(sorted(layers[name])))
            for name in ORDER
            if name in names
        )
    )


@given(SETS)
def test_a_set_that_is_formatted_and_parsed_is_the_same_set(names: list[str]) -> None:
    assert set(parse_modules(str(ModuleSet.of(names))).projections) == set(names)


@given(SETS)
def test_whatever_the_order_of_names_the_parsed_order_is_canonical(names: list[str]) -> None:
    assert list(parse_modules("+".join(names)).projections) == sorted(names, key=ORDER.index)


@given(SETS)
def test_a_canonical_text_is_its_own_canonical_text(names: list[str]) -> None:
    text = str(ModuleSet.of(names))
    assert str(parse_modules(text)) == text
    assert str(ModuleSet.of(reversed(names))) == text


@given(SETS)
def test_two_sets_have_one_text_only_if_they_are_equal(names: list[str]) -> None:
    fewer = names[1:]
    assert not fewer or str(ModuleSet.of(fewer)) != str(ModuleSet.of(names))


def test_all_seven_are_called_all_in_both_directions() -> None:
    assert list(parse_modules("all").projections) == ORDER
    assert str(ModuleSet.of(ORDER)) == "all"
    assert str(parse_modules("down+up+gate+o+v+k+q")) == "all"


def test_a_set_of_six_is_spelled_out() -> None:
    assert str(ModuleSet.of(ORDER[:6])) == "q+k+v+o+gate+up"


@given(layered())
def test_the_text_of_a_set_with_layers_is_that_set(modules: ModuleSet) -> None:
    assert parse_modules(str(modules)) == modules
    inside = {
        (layer, name) for layer in range(10) for name in ORDER if modules.contains(layer, name)
    }
    terms = [f"{name}@{layer}" for layer, name in sorted(inside, reverse=True)]
    if len("+".join(terms)) < 120:
        # Term by term, it contains the same projections of the same layers.
        again = parse_modules("+".join(terms))
        assert {
            (layer, name) for layer in range(10) for name in ORDER if again.contains(layer, name)
        } == inside
    assert sum(modules.counts(10).values()) == len(inside)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("gate@0-9", "gate@0-9"),
        ("down@3-3", "down@3"),
        ("gate@8,0-2,3", "gate@0-3,8"),
        ("gate@4+gate@0-3", "gate@0-4"),
        ("down@1+q", "q+down@1"),
        ("all@0-3", "all@0-3"),
        ("all@2+q@3", "q@2-3+k@2+v@2+o@2+gate@2+up@2+down@2"),
        ("down@5+up@5+gate@5+o@5+v@5+k@5+q@05", "all@5"),
    ],
)
def test_layers_have_one_canonical_text(text: str, canonical: str) -> None:
    assert str(parse_modules(text)) == canonical


@pytest.mark.parametrize("text", ["gate+gate@3", "gate@0-3+gate@2", "all@1+up@0-1", "q@1+q@1"])
def test_a_projection_of_a_layer_named_twice_is_refused(text: str) -> None:
    with refused("modules.listed-twice", modules=text):
        parse_modules(text)


@pytest.mark.parametrize(
    "text", ["gate@", "gate@x", "gate@-1", "gate@3-1", "gate@1,", "gate@1--2", "q@10000", "q@1@2"]
)
def test_unreadable_layers_are_refused(text: str) -> None:
    with refused("modules.bad-layers", modules=text):
        parse_modules(text)


def test_a_layer_listed_twice_in_one_term_is_refused() -> None:
    with refused("modules.layer-listed-twice", modules="gate@0-3,2"):
        parse_modules("gate@0-3,2")


def test_a_set_that_is_too_long_for_a_file_name_is_refused() -> None:
    text = "+".join(f"{name}@0,2,4,6,8,10,12,14" for name in ORDER[:6])
    with refused("modules.too-long", modules=text, expected=120):
        parse_modules(text)


def test_a_layer_beyond_the_model_is_refused_with_its_number_of_layers() -> None:
    parse_modules("gate@0-11").check_layers(12, "base")
    parse_modules("all").check_layers(1, "base")
    with refused("modules.no-such-layer", found=12, expected=12) as caught:
        parse_modules("q+gate@4-12").check_layers(12, "base qwen")
    assert "base qwen" in str(caught.value)
    assert "0 to 11" in str(caught.value)


def test_a_band_is_one_projection_in_some_layers() -> None:
    sets = ("gate@0-3", "gate", "all@0-3", "q@1+k@1")
    assert [in_band(one) for one in sets] == [True, False, False, False]
    assert layers_text(parse_layers("7,0-2")) == "0-2,7"


@given(SETS, st.data())
def test_a_projection_named_twice_is_refused(names: list[str], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(names))
    text = "+".join([*names, again])
    with refused("modules.listed-twice", modules=text):
        parse_modules(text)


@pytest.mark.parametrize(
    "text", ["", "+", "gate+", "+gate", "gat", "Gate", "ALL", "all+q", "q,k", "q + k", "x_proj"]
)
def test_an_unknown_projection_is_named_with_its_set_and_the_seven(text: str) -> None:
    with refused("modules.unknown-projection", modules=text, expected=PROJECTIONS) as caught:
        parse_modules(text)
    assert caught.value.fields["found"] in text.split("+")


@given(st.text())
def test_any_text_is_a_set_or_refused_in_one_line(text: str) -> None:
    try:
        assert set(parse_modules(text).projections) <= set(ORDER)
    except InputError as error:
        assert len(str(error).splitlines()) == 1


def test_locations_sort_by_layer_projection_and_expert_as_numbers() -> None:
    order = [
        Location(2, "q", "bias"),
        Location(2, "q", "weight"),
        Location(2, "gate", "weight", "shared"),
        Location(2, "gate", "weight", "9"),
        Location(2, "gate", "weight", "10"),
        Location(2, "down", "weight"),
        Location(10, "q", "weight"),
    ]
    shuffled = order[::-1]
    assert sorted(shuffled, key=lambda one: one.order) == order
