"""The matrix of cells, their names, and the rows of each table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from affectlocus.config.experiment import Parameters, load
from affectlocus.core.cells import Cell, tune_checkpoint
from affectlocus.core.projections import PROJECTIONS
from affectlocus.orchestration.matrix import all_cells, table_cells

RECIPE = {"data": ["moods"]}


def parameters(**cells: Any) -> Parameters:
    """Two pairs on two bases; the first gets the matrix that is asked for."""
    config = f"""
    bases: {{small: {{folder: a}}, other: {{folder: b}}}}
    tune: {RECIPE}
    pairs:
      felt: {{base: small, tuning: {RECIPE}}}
      control: {{base: other, tuned: c, domain: control}}
    tasks:
      moods: {{files: {{train: a, test: b}}, columns: {{label: l}}, labels: [joy, fear]}}
    """
    seeds = {"seeds": cells.pop("seeds", [0])}
    bases = {"bases": cells.pop("bases")} if "bases" in cells else {}
    sets = {"pairs": ["felt"], "load": [], "tune": [], "ablate": [], **cells}
    return Parameters.model_validate(yaml.safe_load(config) | {"matrix": sets} | seeds | bases)


def ids(cells: list[Cell]) -> list[str]:
    return [cell.id for cell in cells]


def test_bases_and_tuned_models_are_cells_even_outside_the_matrix() -> None:
    assert ids(all_cells(parameters())) == [
        "small/base",
        "other/base",
        "felt/tuned/seed0",
        "control/tuned",
    ]


def test_a_base_of_several_pairs_is_one_cell() -> None:
    loaded = load(Path(__file__).parents[2] / "params.yaml")
    bases = [cell for cell in all_cells(loaded) if cell.kind == "base"]
    assert len(loaded.bases) < len(loaded.pairs)
    assert {cell.base for cell in bases} == set(loaded.bases)
    # Pairs on the other bases have five replicates.
    assert len(bases) == len(loaded.seeds) + 4 * 5


def test_a_base_of_each_seed_has_a_cell_for_each_and_heads_each_table() -> None:
    loaded = parameters(
        bases={"small": {"folder": "a/{seed}"}, "other": {"folder": "b"}}, load=["q"], seeds=[3, 1]
    )
    cells = all_cells(loaded)
    assert ids(cells)[:3] == ["small/base/seed3", "small/base/seed1", "other/base"]
    assert ids(table_cells(cells, "felt", "load")) == [
        *("small/base/seed3", "small/base/seed1", "felt/load/q/seed3", "felt/load/q/seed1"),
        *("felt/tuned/seed3", "felt/tuned/seed1"),
    ]
    assert loaded.base_models["small.seed3"].folder == "a/3"


def test_the_embedded_default_has_its_cells_each_with_a_name_of_its_own() -> None:
    loaded = load(Path(__file__).parents[2] / "params.yaml")
    cells = all_cells(loaded)
    kinds = [cell.kind for cell in cells]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    # For each of ten seeds: 16 sets, and 7 of the control beside; 9 sets in 4 modes of ablation.
    # For the first five: 7 sets of the null beside, and the pairs on other bases. For the first
    # three: 7 in 5 doses, 7 as noise; 9 sets at equal parameters.
    assert counts == {
        "base": 10 + 4 * 5,
        "tuned": 4 * 10 + 7 * 5,
        "load": (16 + 7) * 10 + 7 * 5 + (35 + 7) * 3,
        "tune": 16 * 10 + 9 * 3,
        "ablate": 36 * 10,
    }
    assert len(set(ids(cells))) == len(cells)
    tuned = {tune_checkpoint(cell) for cell in cells if cell.kind == "tune"}
    assert len(tuned) == counts["tune"]


def test_cells_stand_in_the_order_of_the_sets() -> None:
    cells = all_cells(parameters(load=["down", "q"], tune=["o+gate"]))
    assert ids(cells)[4:] == [
        "felt/load/down/seed0",
        "felt/load/q/seed0",
        "felt/tune/o+gate/seed0",
    ]


def test_bands_of_layers_are_loads_of_each_projection_after_those_that_are_listed() -> None:
    loaded = parameters(load=["down", "gate@0-1"], bands=["0-1", 2], seeds=[3])
    found = [cell.modules for cell in all_cells(loaded) if cell.kind == "load"]
    bands = [f"{name}@{band}" for band in ("0-1", "2") for name in PROJECTIONS]
    # Listed in `load` and in a band: one cell, at its first place.
    bands.remove("gate@0-1")
    assert found == ["down", "gate@0-1", *bands]
    rows = table_cells(all_cells(loaded), "felt", "load")
    assert [cell.modules for cell in rows[1:-1]] == found


def test_a_set_of_layers_is_a_cell_of_every_arm() -> None:
    sets = ["down@3+q", "all@2-1,0"]
    with pytest.raises(ValidationError, match="'2-1'"):
        parameters(load=sets)
    cells = all_cells(
        parameters(load=["down@3+q"], tune=["all@2,0-1"], ablate=["q@3,1"], modes=["zero"])
    )
    assert ids(cells)[4:] == [
        "felt/load/q+down@3/seed0",
        "felt/tune/all@0-2/seed0",
        "felt/ablate/q@1,3/zero/seed0",
    ]
    assert tune_checkpoint(cells[5]) == "felt.tune.all@0-2.seed0"


def test_one_set_in_two_texts_is_listed_twice() -> None:
    with pytest.raises(ValidationError, match="listed twice"):
        parameters(load=["gate@0-2", "gate@2,0,1"])


def test_every_tune_cell_has_every_seed() -> None:
    cells = all_cells(parameters(tune=["q", "k"], seeds=[3, 1]))
    assert ids(cells)[5:] == [f"felt/tune/{set_}/seed{seed}" for set_ in "qk" for seed in (3, 1)]


def test_what_is_tuned_here_has_every_seed_in_all_that_is_made_of_it() -> None:
    sets = {"load": ["q"], "ablate": ["up"], "modes": ["zero", "noise"], "even": ["all"]}
    cells = all_cells(parameters(**sets, dose={"modules": ["k"], "times": [0.5]}, seeds=[0, 7]))
    kinds = ("tuned", "load/q", "load/k/x0.5", "load/all/even", "ablate/up/zero", "ablate/up/noise")
    assert [name for name in ids(cells) if name.startswith("felt")] == [
        f"felt/{kind}/seed{seed}" for kind in kinds for seed in (0, 7)
    ]


@pytest.mark.parametrize("seeds", [[0], [0, 7]])
def test_a_pair_that_was_brought_has_draws_only_where_something_is_random(seeds: list[int]) -> None:
    sets = {"load": ["q"], "ablate": ["up"], "modes": ["zero", "noise"], "even": ["all"]}
    cells = all_cells(parameters(pairs=["control"], **sets, seeds=seeds, draws=3))
    assert [name for name in ids(cells) if name.startswith("control")] == [
        "control/tuned",
        "control/load/q",
        *(f"control/load/all/even/draw{draw}" for draw in range(3)),
        "control/ablate/up/zero",
        *(f"control/ablate/up/noise/draw{draw}" for draw in range(3)),
    ]


def test_random_cells_of_a_brought_pair_are_five_unless_told_otherwise() -> None:
    cells = all_cells(parameters(pairs=["control"], ablate=["up"], modes=["shuffle"]))
    assert [cell.draw for cell in cells if cell.kind == "ablate"] == [0, 1, 2, 3, 4]
    # What is tuned here has its seeds alone.
    cells = all_cells(parameters(ablate=["up"], modes=["shuffle"], seeds=[4], draws=9))
    assert [(cell.seed, cell.draw) for cell in cells if cell.kind == "ablate"] == [(4, None)]


def rows(kind: Any, **sets: Any) -> list[str]:
    return ids(table_cells(all_cells(parameters(**sets)), "felt", kind))


def test_a_load_table_runs_from_the_base_to_the_tuned_model() -> None:
    assert rows("load", load=["q", "all", "k"]) == [
        "small/base",
        "felt/load/q/seed0",
        "felt/load/k/seed0",
        "felt/tuned/seed0",
    ]


def test_a_tune_table_ends_with_the_base_tuned_on_all_seven() -> None:
    assert rows("tune", tune=["all", "q"], seeds=[0, 1]) == [
        "small/base",
        "felt/tune/q/seed0",
        "felt/tune/q/seed1",
        "felt/tune/all/seed0",
        "felt/tune/all/seed1",
    ]


def test_a_tune_table_without_all_ends_with_the_tuned_model() -> None:
    assert rows("tune", tune=["q"]) == ["small/base", "felt/tune/q/seed0", "felt/tuned/seed0"]


def test_an_ablation_table_keeps_the_ablation_of_all_before_the_tuned_model() -> None:
    assert rows("ablate", ablate=["all"], modes=["zero"]) == [
        "small/base",
        "felt/ablate/all/zero/seed0",
        "felt/tuned/seed0",
    ]


def test_a_load_table_leaves_doses_and_noise_out() -> None:
    dose = {"modules": ["q"], "times": [0.5, 1.5]}
    assert rows("load", load=["q"], dose=dose, even=["all"]) == [
        "small/base",
        "felt/load/q/seed0",
        "felt/tuned/seed0",
    ]


def test_a_table_holds_no_cell_of_another_kind_or_pair() -> None:
    loaded = parameters(pairs=["felt", "control"], load=["q"], tune=["q"], ablate=["q"])
    cells = table_cells(all_cells(loaded), "control", "load")
    assert ids(cells) == ["other/base", "control/load/q", "control/tuned"]


def test_every_cell_of_a_matrix_has_an_id_of_its_own() -> None:
    cells = all_cells(parameters(load=["q"], tune=["q"], ablate=["q+k"], seeds=[0, 1]))
    assert len({cell.id for cell in cells}) == len(cells)


def test_each_arm_has_cells_and_a_table_of_its_own() -> None:
    cells = all_cells(
        parameters(
            load=["q", "gate"],
            even=["gate"],
            dose={"modules": ["gate", "q"], "times": [1.5, 0.5]},
            tune=["gate", "all"],
            fair=["gate"],
        )
    )
    rows = {
        arm: ids(table_cells(cells, "felt", arm))
        for arm in ("load", "even", "dose", "tune", "fair")
    }
    whole = "felt/tuned/seed0"
    assert rows == {
        "load": ["small/base", "felt/load/q/seed0", "felt/load/gate/seed0", whole],
        "even": ["small/base", "felt/load/gate/even/seed0", whole],
        "dose": [
            "small/base",
            *(f"felt/load/gate/{dose}seed0" for dose in ("x0.5/", "", "x1.5/")),
            *(f"felt/load/q/{dose}seed0" for dose in ("x0.5/", "", "x1.5/")),
            whole,
        ],
        "tune": ["small/base", "felt/tune/gate/seed0", "felt/tune/all/seed0"],
        "fair": ["small/base", "felt/tune/gate/fair/seed0", "felt/tune/all/seed0"],
    }
    tabled = {name for names in rows.values() for name in names}
    assert tabled == set(ids(cells)) - {"other/base", "control/tuned"}


def test_an_arm_with_fewer_replicates_has_those_of_the_first_seeds() -> None:
    cells = all_cells(
        parameters(
            seeds=[4, 2, 9], dose={"modules": ["q"], "times": [0.5]}, load=["q"],
            replicates={"dose": 2},
        )
    )  # fmt: skip
    of_dose = [cell.id for cell in cells if cell.mode == "x0.5"]
    assert of_dose == ["felt/load/q/x0.5/seed4", "felt/load/q/x0.5/seed2"]
    assert [cell.seed for cell in cells if cell.kind == "load" and not cell.mode] == [4, 2, 9]
    # The curve compares its doses with the loads and the tuned models of the same replicates.
    rows = table_cells(cells, "felt", "dose")
    assert {cell.seed for cell in rows} == {None, 4, 2}
    assert {cell.seed for cell in table_cells(cells, "felt", "load")} == {None, 4, 2, 9}


def test_of_pairs_beside_the_matrix_single_modules_are_loaded() -> None:
    cells = all_cells(parameters(beside=["control"]))
    assert ids(table_cells(cells, "control", "load")) == [
        "other/base",
        *(f"control/load/{name}" for name in ("q", "k", "v", "o", "gate", "up", "down")),
        "control/tuned",
    ]
