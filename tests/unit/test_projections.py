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
    format_modules,
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
    text = "+".join([*names, again])
    with refused("modules.listed-twice", modules=text):
        parse_modules(text)


@pytest.mark.parametrize(
    "text", ["", "+", "gate+", "+gate", "gat", "Gate", "ALL", "all+q", "q,k", "q + k", "q_proj"]
)
def test_an_unknown_projection_is_named_with_its_set_and_the_seven(text: str) -> None:
    with refused("modules.unknown-projection", modules=text, expected=PROJECTIONS) as caught:
        parse_modules(text)
    assert caught.value.fields["found"] in text.split("+")


@given(st.text())
def test_any_text_is_a_set_or_refused_in_one_line(text: str) -> None:
    try:
        assert set(parse_modules(text)) <= set(ORDER)
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
