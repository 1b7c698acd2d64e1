"""A cell's name, the checkpoints that it needs, and its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from affectlocus.core.cells import Cell, cell_at, dose, tune_checkpoint, validated
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
def test_a_cells_folder_is_read_back_whatever_the_pair_is_called(cell: Cell) -> None:
    assert cell_at(Path("results/cells", cell.id), "b") == validated(cell)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("", "not a cell's folder"),
        ("base", "not a cell's folder"),
        ("p/q", "not a cell's folder"),
        ("load/gate", "not a cell's folder"),
        ("p/load/gate/extra", "not a cell's folder"),
        ("p/load/gat", "projection 'gat'"),
        ("p/load/gate/zero", "'load' with mode 'zero'"),
        ("p/ablate/gate", "'ablate' with mode ''"),
        ("other/base", "a cell of base other; expected b"),
    ],
)
def test_a_folder_that_is_no_cells_is_refused_in_one_line(folder: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        cell_at(Path(folder), "b")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
