"""Settings are read as plain values, within bounds."""

from __future__ import annotations

import pytest

from affectlocus.errors import InputError
from affectlocus.settings_text import parsed


def test_yaml_and_json_are_read() -> None:
    assert parsed("a: [1, yes, x]\n", "s") == {"a": [1, True, "x"]}
    assert parsed('{"a": 1e-3, "b": null}', "s") == {"a": 0.001, "b": None}
    assert parsed("{a: 1}", "s") == {"a": 1}
    assert parsed("", "s") is None


def test_a_character_beyond_16_bits_stays_whole() -> None:
    # json.dumps writes it as two escapes, which YAML reads as two halves.
    assert parsed('{"label": "\\ud83d\\ude00"}', "s") == {"label": "\N{GRINNING FACE}"}


def test_anchors_and_merged_keys_are_read() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n"
    assert parsed(text, "s")["b"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "the key 'a' stands twice"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("a: &a [*a]", "an anchor stands in itself"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!int x", "not what it looks like"),
        ("a: 2001-13-45", "month must be in 1..12"),
        ("[" * 60 + "]" * 60, "nested deeper than"),
        ("{" * 5000, "nested deeper than"),
        ("a: [", "not YAML"),
        ("#" * 2**20 + "#", "longer than 1 MiB"),
        ("x: &x [1,1,1,1,1,1]\n" + "a: &a [*x,*x,*x,*x,*x,*x,*x]\n" * 1, None),
    ],
)
def test_what_is_no_settings_is_refused_in_one_line(text: str, says: str | None) -> None:
    if says is None:
        assert parsed(text, "s")["a"][6] == [1] * 6
        return
    with pytest.raises(InputError, match=says) as refused:
        parsed(text, "s")
    assert str(refused.value).startswith("s: ")
    assert "\n" not in str(refused.value)
