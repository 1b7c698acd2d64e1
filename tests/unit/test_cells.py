"""A cell's name, the checkpoints that it needs, and its reading from JSON."""

from __future__ import annotations

import pytest

from affectlocus.cells import Cell, read_cell
from affectlocus.errors import InputError


@pytest.mark.parametrize(
    ("cell", "tuned"),
    [
        (Cell("base", "small"), None),
        (Cell("tuned", "small", "felt"), "felt"),
        (Cell("load", "small", "felt", "q"), "felt"),
        (Cell("ablate", "small", "felt", "q", "zero"), "felt"),
        (Cell("tune", "small", "felt", "q+k", seed=2), "felt.tune.q+k.seed2"),
    ],
)
def test_a_cell_names_the_checkpoint_that_it_needs_besides_its_base(
    cell: Cell, tuned: str | None
) -> None:
    assert cell.tuned == tuned


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ("[]", "expected JSON"),
        ("null", "expected JSON"),
        ('{"kind": "base"}', "base"),
        ('{"kind": "base", "base": "b", "module": "q"}', "module"),
        ('{"kind": "lode", "base": "b", "pair": "p", "modules": "q"}', "unknown kind 'lode'"),
        ('{"kind": "load", "base": "b", "pair": "p"}', "'load' with modules ''"),
        ('{"kind": "base", "base": "b", "modules": "q"}', "'base' with modules 'q'"),
        ('{"kind": "load", "base": "b", "pair": "p", "modules": "gat"}', "projection 'gat'"),
        ('{"kind": "load", "base": "b", "pair": "p", "modules": "q", "mode": "zero"}', "'zero'"),
        ('{"kind": "ablate", "base": "b", "pair": "p", "modules": "q"}', "revert, zero, shuffle"),
        ('{"kind": "ablate", "base": "b", "modules": "q", "mode": "mean"}', "'mean'"),
    ],
)
def test_a_cell_that_makes_no_sense_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_cell(text)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_modules_that_are_no_text_are_refused() -> None:
    with pytest.raises(InputError):
        read_cell('{"kind": "load", "base": "b", "pair": "p", "modules": 5}')
