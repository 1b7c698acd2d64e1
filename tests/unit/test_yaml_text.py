"""Settings are read as plain values, within bounds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from refusal import refused

from affectlocus.config.fields import labels_map
from affectlocus.config.tuning import Recipe
from affectlocus.config.yaml_text import parsed


def test_yaml_and_json_are_read() -> None:
    assert parsed("a: [1, true, x]\n", "s") == {"a": [1, True, "x"]}
    assert parsed('{"a": 1.5, "b": null}', "s") == {"a": 1.5, "b": None}
    assert parsed("{a: 1}", "s") == {"a": 1}
    assert parsed("", "s") is None


def test_a_character_beyond_16_bits_stays_whole() -> None:
    # json.dumps writes it as two escapes, which YAML reads as two halves.
    assert parsed('{"label": "\\ud83d\\ude00"}', "s") == {"label": "\N{GRINNING FACE}"}


def test_anchors_and_merged_keys_are_read() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n"
    assert parsed(text, "s")["b"] == {"x": 1, "y": 2}


# YAML 1.1 makes booleans, dates, base 60 and base 8 of these.
WORDS = [
    *("on", "off", "yes", "no", "y", "n", "Yes", "NO", "True", "FALSE"),
    *("12:30:45", "2001-01-02", "007", "0777", "1_000", "1.50", "+5", "-0", ".5", "5."),
    *("1e3", "1.0e-2", "0x1F", "0o17", "-.inf", ".nan"),
]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_stays_as_it_is_written(word: str) -> None:
    assert parsed(f"{word}: [{word}]", "s") == {word: [word]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("true", True), ("false", False), ("null", None), ("~", None), ("", None)),
        *(("0", 0), ("-12", -12)),
        *(("1.5", 1.5), ("-0.25", -0.25), ("1.0", 1.0)),
        *(("'on'", "on"), ("'1'", "1")),
    ],
)
def test_yaml_1_2_values_are_read(text: str, value: object) -> None:
    found = parsed(f"a: {text}", "s")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("key", ["true", "null", "1", "1.0", "1e3", "~"])
def test_keys_are_text(key: str) -> None:
    assert parsed(f"{key}: a", "s") == {key: "a"}


def test_numbers_and_booleans_kept_as_text_are_still_valid_parameters() -> None:
    text = "{steps: 1_000, rank: 08, learning_rate: 1.50e-3, shuffled: yes, data: [m]}"
    given = parsed(text, "s")
    recipe = Recipe.model_validate(given)
    assert (recipe.steps, recipe.rank, recipe.learning_rate) == (1000, 8, 1.5e-3)
    assert recipe.shuffled is True


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        *(("steps: 1e3", 1000), ("steps: 1.5E+2", 150), ("steps: 0x1F", 31), ("steps: 0o17", 15)),
        ('{"steps": 1e3}', 1000),
    ],
)
def test_a_count_may_have_an_exponent_or_a_base(text: str, steps: int) -> None:
    assert Recipe.model_validate({"data": ["m"], **parsed(text, "s")}).steps == steps


@pytest.mark.parametrize("text", ["learning_rate: 1e-3", '{"learning_rate": 1e-3}'])
def test_a_rate_may_have_an_exponent(text: str) -> None:
    assert Recipe.model_validate({"data": ["m"], **parsed(text, "s")}).learning_rate == 1e-3


@pytest.mark.parametrize("text", ["labels: [1e3, 1.50, -0]", '{"labels": [1e3, 1.50, -0]}'])
def test_labels_keep_the_way_they_are_written(text: str) -> None:
    assert labels_map(parsed(text, "s")["labels"]) == {w: w for w in ("1e3", "1.50", "-0")}


def test_a_number_with_a_fraction_is_no_count() -> None:
    with pytest.raises(ValidationError, match="steps"):
        Recipe.model_validate({"data": ["m"], "steps": "1.5e-1"})


def test_an_override_of_a_merged_key_can_be_merged_again() -> None:
    text = "a: &a {x: 1}\nb: {c: {d: &d {<<: *a, x: 2}}}\ne: {<<: *d}\n"
    assert parsed(text, "s")["e"] == {"x": 2}


@pytest.mark.parametrize(
    ("text", "code", "fields"),
    [
        ("a: 1\na: 2\n", "params.duplicate-key", {"key": "a", "line": 2}),
        ('{"a": 1, "a": 2}', "params.duplicate-key", {"key": "a"}),
        ("a: &a [*a]", "params.endless-anchor", {}),
        ("[a]: 1", "params.key-not-text", {"line": 1}),
        ("a: =", "params.unquoted-scalar", {"line": 1, "found": "="}),
        ("a: 1\nb: 0x_", "params.unquoted-scalar", {"line": 2, "found": "0x_"}),
        ("a: !!python/object/apply:os.system [ls]", "params.not-yaml", {"line": 1}),
        ("a: !!int x", "params.invalid-scalar", {}),
        ("a: 2001-13-45", "params.unquoted-scalar", {"line": 1, "found": "2001-13-45"}),
        ("[" * 60 + "]" * 60, "params.nested-too-deep", {"expected": 50}),
        ("{" * 5000, "params.nested-too-deep", {"expected": 50}),
        ("a: [", "params.not-yaml", {"line": 1, "found": "a: ["}),
        ("a: 1\nb: \x01", "params.not-yaml", {"line": 2}),
        ("a: 'x\nb: 1\n", "params.not-yaml", {"line": 3, "found": ""}),
        ("#" * 2**20 + "#", "params.too-long", {"found": 2**20 + 1, "expected": 2**20}),
    ],
)
def test_what_is_no_settings_is_refused_in_one_line(
    text: str, code: str, fields: dict[str, object]
) -> None:
    with refused(code, file="s", **fields) as caught:
        parsed(text, "s")
    assert str(caught.value).startswith("s: ")
    assert "\n" not in str(caught.value)


def test_anchors_of_anchors_are_read_up_to_the_limit_of_values() -> None:
    text = "x: &x [1,1,1,1,1,1]\na: &a [*x,*x,*x,*x,*x,*x,*x]\n"
    assert parsed(text, "s")["a"][6] == [1] * 6


@pytest.mark.parametrize(
    ("text", "line", "advice"),
    [
        ("tune:\n  rank 2\n  steps: 3\n", 3, "end the line above with a colon"),
        ("rank\nsteps: 3\n", 2, "end the line above with a colon"),
        ("prompt: Text: {text}\n", 1, "put a text with ': ' in quotes"),
        ("tune:\n\trank: 2", 2, "indent with spaces"),
        ("labels: [happy, sad\nseeds: [0]\n", 2, "closing bracket that is missing before it"),
        ("tune:\n  rank: 1\n steps: 2\n", 3, "check the indentation"),
        ("name: *x", 1, "put a text that begins with * in quotes"),
        ("name: @x", 1, "begins with this character in quotes"),
        ("name: 'x\nsteps: 1\n", 3, "close the quotation mark"),
        ('name: "a\\y"', 1, "write two backslashes"),
    ],
)
def test_text_that_is_not_yaml_is_named_with_its_line_and_what_to_do(
    text: str, line: int, advice: str
) -> None:
    with refused("params.not-yaml", line=line) as caught:
        parsed(text, "params.yaml")
    said = str(caught.value)
    assert said.startswith(f"params.yaml: line {line}: not YAML: ")
    assert advice in said
    assert "while parsing" not in said
    assert len(said.splitlines()) == 1
