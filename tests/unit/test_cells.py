"""A cell's name, the checkpoints that it needs, and its folder."""

from __future__ import annotations

from typing import Any

import pytest
from refusal import refused
from typer.testing import CliRunner

from affectlocus.cli.entry import app
from affectlocus.cli.shared import settings_of
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
    ("cell", "code", "found"),
    [
        (Cell("lode", "b", "p", "q"), "cell.unknown-kind", "lode"),  # type: ignore[arg-type]
        (Cell("load", "b", "p"), "cell.wrong-modules", ""),
        (Cell("base", "b", modules="q"), "cell.wrong-modules", "q"),
        (Cell("load", "b", "p", "gat"), "modules.unknown-projection", "gat"),
        (Cell("load", "b", "p", "q", "zero"), "cell.wrong-mode", "zero"),
        (Cell("load", "b", "p", "q", "x-1"), "cell.wrong-mode", "x-1"),
        (Cell("tune", "b", "p", "q", "x2"), "cell.wrong-mode", "x2"),
        (Cell("ablate", "b", "p", "q", "even"), "cell.wrong-mode", "even"),
        (Cell("ablate", "b", "p", "q"), "cell.wrong-mode", ""),
        (Cell("ablate", "b", "p", "q", "mean"), "cell.wrong-mode", "mean"),
        (Cell("ablate", "b", "p", "q", "zero", draw=1), "cell.unused-draw", 1),
        (Cell("ablate", "b", "p", "q", "noise", 2, 1), "cell.unused-draw", 1),
    ],
)
def test_a_cell_that_makes_no_sense_is_refused_in_one_line(
    cell: Cell, code: str, found: object
) -> None:
    with refused(code, found=found) as caught:
        validated(cell)
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
    ("text", "code", "fields"),
    [
        ("[]", "params.invalid-value", {"key": "", "rule": "too_short"}),
        ('{"pair": "p"}', "params.missing-key", {"key": "0.kind"}),
        ('{"kind": "lode"}', "params.invalid-value", {"key": "0.kind", "found": "lode"}),
        ('{"kind": "load", "modules": "q"}', "cell.wrong-pair", {"found": None}),
        ('{"kind": "base", "pair": "p"}', "cell.wrong-pair", {"found": "p"}),
        (
            '{"kind": "load", "pair": "p", "modules": "gat"}',
            "modules.unknown-projection",
            {"found": "gat"},
        ),
        (
            '{"kind": "load", "pair": "p", "modules": "q", "mode": "zero"}',
            "cell.wrong-mode",
            {"kind": "load", "found": "zero"},
        ),
        (
            '{"kind": "ablate", "pair": "p", "modules": "q"}',
            "cell.wrong-mode",
            {"kind": "ablate", "found": ""},
        ),
        ('{"kind": "tuned", "pair": "p/q"}', "params.not-a-file-name", {"found": "p/q"}),
        (
            '{"kind": "tuned", "pair": "p", "seed": -1}',
            "params.invalid-value",
            {"key": "0.seed", "found": -1, "rule": "greater_than_equal"},
        ),
        ('{"kind": "tuned", "pair": "p", "sed": 1}', "params.unknown-key", {"key": "0.sed"}),
    ],
)
def test_json_that_is_not_a_cell_is_refused(text: str, code: str, fields: dict[str, Any]) -> None:
    with refused(code, **fields):
        settings_of(CellList, text)


TUNED = '{"kind": "tuned", "pair": "p"}'


@pytest.mark.parametrize(
    ("outputs", "cells", "code", "fields"),
    [
        (
            ["a/p.parquet"],
            f"[{TUNED}, {TUNED}]",
            "cell.wrong-number-of-outputs",
            {"option": "--cells", "found": 2, "expected": 1},
        ),
        (["a/p.parquet", "a/q.parquet"], f"[{TUNED}, {TUNED}]", "cell.shared-folder", {}),
        (
            ["a/p.parquet"],
            '{"kind": "base", "base": "c"}',
            "cell.other-base",
            {"cell": "c/base", "expected": "c"},
        ),
        (
            ["a/p.parquet"],
            '{"kind": "base", "pair": "p"}',
            "cell.wrong-pair",
            {"file": "--cells", "key": "0", "found": "p"},
        ),
        (
            ["a/p.parquet"],
            "lost.json",
            "option.unreadable-file",
            {"option": "--cells", "file": "lost.json"},
        ),
    ],
)
def test_cells_that_do_not_fit_the_outputs_are_refused_before_any_file_is_read(
    outputs: list[str], cells: str, code: str, fields: dict[str, Any]
) -> None:
    options = ["--cells", cells, "--base", "b.json", "--data", "d.parquet", "--settings", "{}"]
    done = CliRunner().invoke(app, ["evaluate", *outputs, *options])
    assert isinstance(done.exception, InputError)
    with refused(code, **fields):
        raise done.exception
