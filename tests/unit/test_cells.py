"""A cell's name, the checkpoints that it needs, and its folder."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from affectlocus.cli.entry import app
from affectlocus.config.cells import CellList
from affectlocus.core.cells import Cell, dose, tune_checkpoint, validated
from affectlocus.core.errors import InputError


def test_a_tune_cells_checkpoint_is_named_by_its_pair_modules_and_seed() -> None:
    assert tune_checkpoint(Cell("tune", "small", "felt", "q+k", seed=2)) == "felt.tune.q+k.seed2"


def test_a_dose_is_read_from_a_load_cells_mode() -> None:
    assert dose(Cell("load", "b", "p", "q", "x0.25")) == 0.25
    assert dose(Cell("load", "b", "p", "q", "x2")) == 2
    assert dose(Cell("load", "b", "p", "q", "even")) is None
    assert dose(Cell("load", "b", "p", "q")) is None


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Cell("lode", "b", "p", "q"), "unknown kind 'lode'"),  # type: ignore[arg-type]
        (Cell("load", "b", "p"), "'load' with modules ''"),
        (Cell("base", "b", modules="q"), "'base' with modules 'q'"),
        (Cell("load", "b", "p", "gat"), "projection 'gat'"),
        (Cell("load", "b", "p", "q", "zero"), "'zero'"),
        (Cell("load", "b", "p", "q", "x-1"), "'x-1'"),
        (Cell("tune", "b", "p", "q", "x2"), "'x2'"),
        (Cell("ablate", "b", "p", "q", "even"), "'even'"),
        (Cell("ablate", "b", "p", "q"), "revert, zero, shuffle"),
        (Cell("ablate", "b", "p", "q", "mean"), "'mean'"),
        (Cell("ablate", "b", "p", "q", "zero", draw=1), "remove draw1"),
        (Cell("ablate", "b", "p", "q", "noise", 2, 1), "without a seed"),
    ],
)
def test_a_cell_that_makes_no_sense_is_refused_in_one_line(cell: Cell, words: str) -> None:
    with pytest.raises(InputError) as caught:
        validated(cell)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "cell",
    [
        Cell("base", "b"),
        Cell("tuned", "b", "base"),
        Cell("tuned", "b", "seed3", seed=4),
        Cell("load", "b", "zero", "q+gate"),
        Cell("load", "b", "p", "q", "x0.5", 1),
        Cell("load", "b", "even", "q", "even"),
        Cell("tune", "b", "p", "all", seed=12),
        Cell("ablate", "b", "seed1", "q", "zero"),
        Cell("ablate", "b", "draw1", "q", "noise", draw=2),
        Cell("load", "b", "p", "all", "even", draw=0),
        Cell("ablate", "b", "load", "q", "noise", 3),
    ],
)
def test_a_cell_is_the_same_after_a_handover_as_json(cell: Cell) -> None:
    (fields,) = CellList.model_validate_json(CellList.json_of([cell])).root
    assert fields.of("another") == cell


def test_the_base_of_a_cell_may_be_left_out_and_one_cell_needs_no_list() -> None:
    text = '{"kind": "load", "pair": "p", "modules": "gate"}'
    (fields,) = CellList.model_validate_json(text).root
    assert fields.of("b") == Cell("load", "b", "p", "gate")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "at least 1"),
        ('{"pair": "p"}', "kind"),
        ('{"kind": "lode"}', "'load'"),
        ('{"kind": "load", "modules": "q"}', "expected the name of a pair"),
        ('{"kind": "base", "pair": "p"}', "expected no pair"),
        ('{"kind": "load", "pair": "p", "modules": "gat"}', "projection 'gat'"),
        ('{"kind": "load", "pair": "p", "modules": "q", "mode": "zero"}', "mode 'zero'"),
        ('{"kind": "ablate", "pair": "p", "modules": "q"}', "mode ''"),
        ('{"kind": "tuned", "pair": "p/q"}', "becomes a folder"),
        ('{"kind": "tuned", "pair": "p", "seed": -1}', "greater than or equal to 0"),
        ('{"kind": "tuned", "pair": "p", "sed": 1}', "Extra inputs"),
    ],
)
def test_json_that_is_not_a_cell_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CellList.model_validate_json(text)
    assert words in str(caught.value)


TUNED = '{"kind": "tuned", "pair": "p"}'


@pytest.mark.parametrize(
    ("outputs", "cells", "words"),
    [
        (["a/p.parquet"], f"[{TUNED}, {TUNED}]", "--cells: found 2 cells for 1 outputs"),
        (["a/p.parquet", "a/q.parquet"], f"[{TUNED}, {TUNED}]", "two outputs in one folder"),
        (["a/p.parquet"], '{"kind": "base", "base": "c"}', "cell c/base of base c, but --base is"),
        (["a/p.parquet"], '{"kind": "base", "pair": "p"}', "--cells: 0: kind 'base' with pair"),
        (["a/p.parquet"], "lost.json", "--cells: cannot read lost.json"),
    ],
)
def test_cells_that_do_not_fit_the_outputs_are_refused_before_any_file_is_read(
    outputs: list[str], cells: str, words: str
) -> None:
    options = ["--cells", cells, "--base", "b.json", "--data", "d.parquet", "--settings", "{}"]
    done = CliRunner().invoke(app, ["evaluate", *outputs, *options])
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)
