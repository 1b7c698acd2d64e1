"""Neurons: concentration by hand, and overlaps against chance by enumeration and simulation."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused
from scipy.stats import hypergeom
from typer.testing import CliRunner

from affectlocus.cli import app
from affectlocus.core.errors import InputError
from affectlocus.deltas.neurons import (
    again_by_chance,
    concentration,
    count_of,
    gini,
    moved_neurons,
    overlaps,
    pooled,
    top,
)


def neurons(*layers: list[float], projection: str = "gate") -> pd.DataFrame:
    """As `deltas` writes them: l2 of each neuron's change, layer by layer."""
    rows = [
        {"layer": layer, "projection": projection, "expert": None, "neuron": number, "l2": value}
        for layer, values in enumerate(layers)
        for number, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def moving(chosen: set[int], n: int = 10) -> list[float]:
    """Changes of n neurons, of which these are the largest."""
    return [2.0 if number in chosen else 1.0 for number in range(n)]


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=30).filter(lambda v: sum(v) > 1e-6))
def test_gini_is_half_the_mean_difference_over_the_mean(values) -> None:
    array = np.array(values)
    difference = np.abs(array[:, None] - array[None, :]).mean()
    assert gini(array) == pytest.approx(difference / (2 * array.mean()), abs=1e-9)


def test_gini_of_the_even_the_lone_and_nothing() -> None:
    assert gini(np.full(7, 3.0)) == pytest.approx(0, abs=1e-12)
    assert gini(np.array([0, 0, 0, 5.0])) == pytest.approx(3 / 4)
    assert np.isnan(gini(np.zeros(4)))


def test_a_share_of_neurons_is_one_at_least_and_ties_go_to_the_first() -> None:
    assert [count_of(0.01, n) for n in (10, 176, 18944)] == [1, 2, 189]
    assert top(np.array([1.0, 4.0, 4.0, 2.0]), 0.5).tolist() == [1, 2]
    assert top(np.array([3.0, 3.0, 3.0]), 0.01).tolist() == [0]


def test_concentration_is_of_squared_changes_layer_by_layer() -> None:
    frame = concentration(neurons([3, 0, 4, 0], [1, 1, 1, 1]), share=0.25)
    first, second = frame.to_dict("records")
    assert (first["layer"], first["projection"], first["neurons"], first["moved"]) == (
        *(0, "gate"),
        *(4, 1),
    )
    assert first["top_share"] == pytest.approx(16 / 25)
    assert first["gini"] == pytest.approx(gini(np.array([9, 0, 16, 0])))
    assert second["top_share"] == second["even_share"] == 0.25
    assert second["gini"] == pytest.approx(0, abs=1e-12)


def test_a_projection_that_did_not_change_has_no_concentration() -> None:
    frame = concentration(neurons([0, 0, 0]))
    assert frame[["gini", "top_share"]].isna().all(axis=None)


def test_experts_are_neurons_apart() -> None:
    one = neurons([1, 2]).assign(expert="0")
    two = neurons([1, 2, 3]).assign(expert="1")
    frame = concentration(pd.concat([one, two]))
    assert frame[["expert", "neurons"]].to_numpy().tolist() == [["0", 2], ["1", 3]]


def test_pairs_that_move_the_same_neurons_share_them_all_against_chance() -> None:
    same = neurons(moving({2, 5, 7}))
    (layer, pooled) = overlaps({"a": same, "b": same}, 0.3).to_dict("records")
    assert (layer["layer"], layer["moved"], layer["shared"], layer["neurons"]) == (0, 3, 3, 10)
    assert layer["expected"] == pytest.approx(0.9)
    assert layer["p"] == pytest.approx(1 / 120)  # one of the 120 threes out of ten
    assert pd.isna(pooled["layer"])
    assert pooled["p"] == pytest.approx(layer["p"])
    assert (layer["chance_low"], layer["chance_high"]) == (0, 2)


def test_pairs_that_move_others_are_no_more_alike_than_chance() -> None:
    first, second = neurons(moving({0, 1, 2})), neurons(moving({3, 4, 5}))
    row = overlaps({"a": first, "b": second}, 0.3).iloc[0]
    assert (row["shared"], row["p"]) == (0, pytest.approx(1))


def test_chance_over_layers_is_that_of_the_sum() -> None:
    one = neurons(moving({0, 1}, 6), moving({0}, 4))
    two = neurons(moving({0, 5}, 6), moving({0}, 4))
    rows = overlaps({"a": one, "b": two}, 0.3)
    pooled = rows[rows["layer"].isna()].iloc[0]
    first, second = hypergeom(6, 2, 2), hypergeom(4, 1, 1)
    by_hand = sum(first.pmf(i) * second.pmf(j) for i in range(3) for j in range(2) if i + j >= 2)
    assert (pooled["shared"], pooled["moved"], pooled["neurons"]) == (2, 3, 10)
    assert pooled["p"] == pytest.approx(by_hand)
    assert pooled["expected"] == pytest.approx(4 / 6 + 1 / 4)


def test_pairs_without_regard_to_each_other_are_seldom_called_alike() -> None:
    random = np.random.default_rng(0)
    drawn = {f"p{n}": neurons(*random.random((3, 40))) for n in range(12)}
    rows = overlaps(drawn, 0.1)
    pooled = rows[rows["layer"].isna()]
    assert len(pooled) == 66
    assert (pooled["p"] < 0.05).mean() < 0.1
    assert pooled["shared"].mean() == pytest.approx(pooled["expected"].mean(), rel=0.25)


def test_only_neurons_of_several_affective_pairs_and_of_no_control_move_again() -> None:
    felt = {"a": neurons(moving({1, 2, 3})), "b": neurons(moving({2, 3, 4}))}
    control = {"c": neurons(moving({3, 8, 9}))}
    frame = moved_neurons(felt, control, 0.3).set_index("neuron")
    assert frame.index.tolist() == [1, 2, 3, 4, 8, 9]
    assert frame.loc[2, ["affective", "others"]].tolist() == [2, 0]
    assert frame.loc[3, ["affective", "others"]].tolist() == [2, 1]
    assert frame.index[frame["again"]].tolist() == [2]


@pytest.mark.parametrize("affective", [0, 1])
def test_with_fewer_than_two_affective_pairs_no_neuron_moves_again(affective: int) -> None:
    felt = {"a": neurons(moving({1, 2}))} if affective else {}
    control = {"c": neurons(moving({2, 3})), "d": neurons(moving({2, 3}))}
    frame = moved_neurons(felt, control, 0.2)
    assert frame["affective"].sum() == 2 * affective
    assert not frame["again"].any()
    (row,) = again_by_chance(felt, control, 0.2).to_dict("records")
    # Not a count of zero: nothing could be counted.
    assert pd.isna(row["again"])
    assert pd.isna(row["expected"])
    assert row["neurons"] == 10


def test_seeds_of_a_pair_count_once_with_their_mean_squared_change() -> None:
    # The second neuron is the largest in no seed, but in the mean square.
    seeds = {"a.seed0": neurons([3.0, 2.5, 0.0]), "a.seed1": neurons([0.0, 2.5, 3.0])}
    pairs = pooled(seeds, dict.fromkeys(seeds, "a"))
    assert pairs["a"]["l2"].tolist() == pytest.approx([4.5**0.5, 2.5, 4.5**0.5])
    assert moved_neurons(pairs, {}, 0.3)[["neuron", "affective"]].to_numpy().tolist() == [[1, 1]]
    (row,) = again_by_chance(pairs, {}, 0.3).to_dict("records")
    assert pd.isna(row["again"])
    assert pd.isna(row["expected"])


def test_the_command_counts_pairs_and_not_seeds(tmp_path: Path) -> None:
    files = []
    for name in ("a.seed0", "a.seed1"):
        files += ["--affective", str(tmp_path / f"{name}.neurons.parquet")]
        neurons(moving({1})).to_parquet(files[-1])
    out = tmp_path / "n.parquet"
    arguments = ["neurons", *files, "--share", "0.1", "--out", str(out), "--pairs"]
    pairs = '{"a.seed0": "a", "a.seed1": "a"}'
    CliRunner().invoke(app, [*arguments, pairs], catch_exceptions=False)
    assert pd.read_parquet(out)[["affective", "again"]].to_numpy().tolist() == [[1, False]]
    assert pd.read_parquet(tmp_path / "n.chance.parquet")["again"].isna().all()
    CliRunner().invoke(app, [*arguments, "{}"], catch_exceptions=False)
    assert pd.read_parquet(out)["again"].all()  # each file is a pair of its own
    wrong = CliRunner().invoke(app, [*arguments, '{"b": "a"}'])
    assert isinstance(wrong.exception, InputError)
    assert wrong.exception.code == "pair.no-file"
    assert wrong.exception.fields["found"] == "b"


def test_deltas_of_nothing_but_zeros_move_no_neuron_again() -> None:
    still = {name: neurons([0.0, 0.0]) for name in "ab"}
    assert moved_neurons(still, {}).empty
    assert again_by_chance(still, {}).empty


def test_how_many_move_again_by_chance_is_the_mean_over_all_choices() -> None:
    n, k = 5, 2
    sets = [set(chosen) for chosen in combinations(range(n), k)]
    # Every choice of two affective pairs and a control.
    counts = [len((a & b) - c) for a in sets for b in sets for c in sets]
    felt = {"a": neurons(moving({0, 1}, n)), "b": neurons(moving({0, 1}, n))}
    frame = again_by_chance(felt, {"c": neurons(moving({3, 4}, n))}, k / n)
    (row,) = frame.to_dict("records")
    assert (row["again"], row["neurons"]) == (2, n)
    assert row["expected"] == pytest.approx(np.mean(counts))


def test_pairs_on_other_bases_and_pairs_without_companions_are_refused() -> None:
    with refused("pair.neuron-counts-differ", layer=0, found={"a": 10, "b": 12}):
        overlaps({"a": neurons(moving(set())), "b": neurons(moving(set(), 12))})
    with refused("table.no-neurons", key="deltas.companions"):
        concentration(neurons([1.0]).iloc[:0])
