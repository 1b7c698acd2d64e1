"""Random places: what a mask takes, and whether a planted locus is found above the 95th percentile.

The masks are checked against counts and sums of squares that numpy computes from the whole delta.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from refusal import refused
from safetensors.torch import load_file, save_file
from scipy.stats import beta
from typer.testing import CliRunner

from affectlocus.checkpoints.checkpoint_manifests import manifest
from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.cli import app
from affectlocus.config.experiment import Parameters
from affectlocus.config.matrix import RandomPlaces
from affectlocus.config.tuning import Tuning
from affectlocus.core.cells import Cell
from affectlocus.core.files import write_json
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.evaluate import CellModel
from affectlocus.evaluation.interventions import intervened
from affectlocus.evaluation.place_draws import place_cells, thinned
from affectlocus.evaluation.random_places import place_size
from affectlocus.orchestration.dag import Dag
from affectlocus.reporting.place_dots import place_dots
from affectlocus.scoring.percentiles import PlaceScores, draws_of, percentiles, sentence
from affectlocus.training.tune import Tuner, TuningJob

WEIGHTS = "model.safetensors"


def place(modules: str, mode: str, draw: int = 0, seed: int | None = None) -> Cell:
    return Cell("load", "base", "pair", modules, mode, seed, draw)


def changes(pair: ModelPair, cell: Cell) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tensor → which entries have the tuned model's bits, and the delta; others have the base's."""
    found = {}
    for name in pair.names:
        base, tuned = (side.view(np.uint32) for side in pair.stored_sides(name))
        own = intervened(pair, name, cell).view(np.uint32)
        taken = own == tuned
        assert (taken | (own == base)).all(), name
        found[name] = taken & (base != tuned), pair.difference(name)
    return found


@pytest.fixture(scope="module")
def pairs(checkpoint, twin, lora, projection) -> dict[str, ModelPair]:
    base = checkpoint("llama", tie_word_embeddings=False)
    fused = checkpoint("phi3", tie_word_embeddings=False)
    return {
        "full": ModelPair(base, twin(base, lambda name: bool(projection(name)))),
        "lora": ModelPair(base, lora(base, ["q_proj", "gate_proj", "down_proj"])),
        "fused": ModelPair(fused, twin(fused)),
    }


@pytest.mark.parametrize("kind", ["full", "lora", "fused"])
@pytest.mark.parametrize("modules", ["gate", "down@1"])
def test_a_place_has_exactly_as_many_entries_as_its_set(pairs, kind, modules) -> None:
    pair = pairs[kind]
    own = changes(pair, Cell("load", "base", "pair", modules))
    random = changes(pair, place(modules, "entries"))
    wanted = sum(int(taken.sum()) for taken, _ in own.values())
    # An entry whose delta is rounded away has the same bits in both models.
    assert sum(int(taken.sum()) for taken, _ in random.values()) == pytest.approx(wanted, rel=0.01)
    size = place_size(pair, modules)
    inside = [
        (location, name, rows)
        for location, (name, rows) in pair.projections.items()
        if location.projection == modules.partition("@")[0]
        and ("@" not in modules or location.layer == 1)
    ]
    entries = sum(
        pair.difference(name).size
        if rows is None
        else sum(stop - start for start, stop in rows) * pair.difference(name).shape[1]
        for _, name, rows in inside
    )
    assert sum(size.entries.values()) == entries


@pytest.mark.parametrize("kind", ["full", "lora", "fused"])
@pytest.mark.parametrize("modules", ["gate", "down@1"])
def test_a_place_has_as_much_squared_change_as_its_set(pairs, kind, modules) -> None:
    pair = pairs[kind]

    def square(cell: Cell) -> float:
        return sum(float((delta**2)[taken].sum()) for taken, delta in changes(pair, cell).values())

    own = square(Cell("load", "base", "pair", modules))
    for draw in range(3):
        found = square(place(modules, "change", draw))
        # At most half of one entry's square in each of 14 tensors.
        assert found == pytest.approx(own, rel=0.03)


def test_a_place_spreads_over_all_changed_tensors_and_no_other(pairs) -> None:
    for mode in ("entries", "change"):
        found = changes(pairs["lora"], place("gate@0", mode))
        touched = {name for name, (taken, _) in found.items() if taken.any()}
        assert {name.split(".")[-2] for name in touched} == {"q_proj", "gate_proj", "down_proj"}
        assert len(touched) == 6


def test_draws_and_seeds_have_places_of_their_own_and_each_is_repeated_bit_for_bit(pairs) -> None:
    def mask(*args: Any) -> bytes:
        found = changes(pairs["full"], place("gate", "entries", *args))
        return b"".join(np.packbits(taken).tobytes() for taken, _ in found.values())

    masks = [mask(0), mask(1), mask(0, 0), mask(0, 1)]
    assert len(set(masks)) == 4
    assert mask(0) == masks[0]


def test_a_mask_does_not_change_between_versions(pairs) -> None:
    """The first entries of one mask, which torch's random numbers and the names decide."""
    taken, _ = changes(pairs["full"], place("gate", "entries", 3, 1))[
        "model.layers.0.self_attn.q_proj.weight"
    ]
    assert (int(taken.sum()), np.flatnonzero(taken)[:6].tolist()) == FIRST


FIRST = (205, [5, 6, 13, 16, 22, 39])


def test_a_model_becomes_a_place_and_is_taken_back(checkpoint, lora) -> None:
    base = checkpoint()
    adapter = lora(base, ["q_proj", "gate_proj"])
    live, pair = CellModel(base), ModelPair(base, adapter)
    before = {name: one.clone() for name, one in live.model.state_dict().items()}
    cell = place("gate", "entries", 2)
    counts = live.become(adapter, cell)
    assert counts["outside"] == counts["untouched"]
    held = live.model.state_dict()
    for name in pair.names:
        own = torch.from_numpy(intervened(pair, name, cell).copy())
        assert torch.equal(held[name], own), name
    live.become(None, Cell("base", "base"))
    assert all(torch.equal(one, before[name]) for name, one in live.model.state_dict().items())


def test_a_set_without_change_or_with_all_of_it_is_refused(pairs) -> None:
    for modules in ("up", "q+gate+down"):
        with refused("place.nothing-to-compare", modules=modules):
            place_size(pairs["lora"], modules)
    with refused("modules.no-such-layer", found=5):
        place_size(pairs["lora"], "gate@5")


# The cells and samples of a job


def test_a_job_has_the_base_the_whole_each_set_and_its_places() -> None:
    settings = RandomPlaces(modules=["gate", "down@1"], draws=19, kinds=["change"])
    cells = list(place_cells(Cell("tuned", "b", "p", seed=4), settings))
    assert [cell.id for cell in cells[:4]] == [
        *("b/base/seed4", "p/tuned/seed4", "p/load/gate/seed4"),
        "p/load/gate/change/seed4/draw0",
    ]
    assert len(cells) == 2 + 2 * (1 + 19)
    assert len({cell.id for cell in cells}) == len(cells)


def test_samples_are_evenly_spaced_over_the_test_split() -> None:
    rows = pd.DataFrame({"id": [str(number) for number in range(12)], "split": "test"})
    rows.loc[:1, "split"] = "train"
    task = PreparedTask("moods", ["joy"], rows)
    assert thinned(task, 5).samples["id"].tolist() == ["2", "4", "6", "8", "10"]
    assert thinned(task, 99).samples["id"].tolist() == [str(number) for number in range(2, 12)]


# Percentiles


def scored(seed: int | None, own: float, random: list[float]) -> PlaceScores:
    rows = [("base", "", "", None, 20.0), ("tuned", "", "", None, 70.0)]
    rows += [("load", "gate", "", None, own)]
    rows += [("load", "gate", "entries", draw, value) for draw, value in enumerate(random)]
    frame = pd.DataFrame(rows, columns=["kind", "modules", "mode", "draw", "value"])
    sizes = {"gate": {"share_of_entries": 0.25, "share_of_change": 0.5}}
    return PlaceScores(seed, sizes, frame.astype({"draw": "Int64"}))


def test_a_percentile_has_its_exact_interval_and_p_value() -> None:
    (row,) = percentiles([scored(None, 48.0, [float(v) for v in range(50)])], "acc").to_dict(
        "records"
    )
    assert (row["seed"], row["draws"], row["below"], row["percentile"]) == ("all", 50, 48, 96.0)
    # Clopper and Pearson as quantiles of beta distributions.
    assert row["low"] == pytest.approx(100 * beta.ppf(0.025, 48, 3))
    assert row["high"] == pytest.approx(100 * beta.ppf(0.975, 49, 2))
    # 48 and 49 count against the set: a tie is no evidence.
    assert row["p"] == pytest.approx(3 / 51)
    assert not row["locus"]
    assert "no locus is claimed" in sentence(row)
    (above,) = percentiles([scored(None, 48.5, [float(v) for v in range(50)])], "acc").to_dict(
        "records"
    )
    assert (above["p"], above["locus"]) == (pytest.approx(2 / 51), True)
    assert "no locus" not in sentence(above)


def test_replicates_have_a_row_each_and_their_means_are_compared() -> None:
    high = scored(1, 40.0, [30.0] * 19)
    low = scored(2, 20.0, [30.0] * 19)
    found = percentiles([high, low], "acc").set_index("seed")
    assert found["percentile"].to_dict() == {"1": 100.0, "2": 0.0, "all": 0.0}
    assert found.loc["all", "score"] == 30.0  # equal to all random means
    assert found.loc["1", "locus"]
    assert found.loc["1", "p"] == pytest.approx(1 / 20)


def test_the_figure_has_a_dot_for_each_draw_and_the_percentile() -> None:
    scores = [scored(seed, 45.0 + seed, [float(v) for v in range(50)]) for seed in (1, 2)]
    summary = percentiles(scores, "weighted_f1")
    figure = place_dots(summary, draws_of(scores).fillna({"draw": -1}), "a pair")
    (axis,) = figure.axes
    assert len(axis.collections[0].get_offsets()) == 50
    assert next(text.get_text() for text in axis.texts) == "94 [83, 99]"
    assert "no locus is claimed" in figure.get_label()
    plt.close("all")


# The whole way: a planted locus, and a null

WORDS = {"happy": "joy", "sad": "grief"}


@pytest.fixture(scope="module")
def planted(checkpoint, tmp_path_factory) -> Path:
    """A base, a pair whose skill is in `up` of layer 1 alone, and a pair of noise."""
    base = checkpoint("llama", tie_word_embeddings=False)
    return plant(base, tmp_path_factory.mktemp("planted"), 1.0)


def plant(base: Path, folder: Path, noise: float, count: int = 12) -> Path:
    """Both pairs have noise in every other projection: its size, in units of the skill's.

    Args:
        count: the number of samples of each split.
    """
    rows = [
        (f"{split}{number}", split, f"Anna was {word}{' again' * (number % 3)}.", answer)
        for split in ("train", "test")
        for number in range(count)
        for word, answer in list(WORDS.items())[number % 2 : number % 2 + 1]
    ]
    frame = pd.DataFrame(rows, columns=["id", "split", "prompt", "answer"])
    frame = frame.assign(text=frame["prompt"])
    PreparedTask("moods", list(WORDS.values()), frame).write(folder / "moods.parquet")
    recipe = Tuning(
        data=["moods"], method="sft", modules="up@1", steps=200, batch_size=12, learning_rate=0.1
    )
    Tuner(base).tune([TuningJob(recipe, [frame], folder / "skilled")])
    before, after = (load_file(one / WEIGHTS) for one in (base, folder / "skilled"))
    skill = "model.layers.1.mlp.up_proj.weight"
    size = float((after[skill] - before[skill]).square().mean().sqrt())
    random = torch.Generator().manual_seed(1)
    for name, holds in (("locus", True), ("null", False)):
        tensors = {key: value.clone() for key, value in before.items()}
        for key, value in tensors.items():
            if "_proj" in key and not (holds and key == skill):
                value += noise * size * torch.randn(value.shape, generator=random)
        if holds:
            tensors[skill] = after[skill]
        (folder / name).mkdir()
        for file in base.iterdir():
            (folder / name / file.name).write_bytes(file.read_bytes())
        save_file(tensors, folder / name / WEIGHTS, metadata={"format": "pt"})
    for name, place_of in (("base", base), ("locus", folder / "locus"), ("null", folder / "null")):
        write_json(folder / f"{name}.json", {"folder": str(place_of), "files": manifest(place_of)})
    return folder


def run(*arguments: Any) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def evaluated(folder: Path, name: str, *more: Any, **settings: Any) -> Path:
    out = folder / f"{name}.places.parquet"
    chosen = {"modules": ["up@1"], "draws": 50} | settings
    run(
        *("places", "--base", folder / "base.json", "--tuned", folder / f"{name}.json"),
        *("--data", folder / "moods.parquet", "--settings", json.dumps(chosen)),
        *("--out", out, *more),
    )
    return out


def test_a_planted_locus_is_above_the_95th_percentile_and_noise_is_not(planted) -> None:
    found = {}
    for name in ("locus", "null"):
        answers = evaluated(planted, name)
        said = run(
            *("percentiles", answers, "--settings", '{"metric": "accuracy"}'),
            *("--out", planted / f"{name}.csv", "--draws", planted / f"{name}.draws.csv"),
        )
        found[name] = pd.read_csv(planted / f"{name}.csv").set_index("as_many")
        assert ("no locus is claimed" in said) == (name == "null")
        draws = pd.read_csv(planted / f"{name}.draws.csv")
        assert len(draws) == 2 + 1 + 2 * 50
    assert found["locus"]["locus"].all()
    assert (found["locus"]["percentile"] >= 95).all()
    assert (found["locus"]["score"] == 100).all()
    assert not found["null"]["locus"].any()


def test_answers_are_stored_and_give_the_scores_again(planted) -> None:
    kept = planted / "kept"
    few = {"draws": 19, "kinds": ["entries"], "samples": 5}
    first = pd.read_parquet(evaluated(planted, "locus", "--kept", kept, **few))
    assert first.groupby(["kind", "modules", "mode", "draw"], dropna=False).ngroups == 22
    assert first["sample"].nunique() == 5
    # One finished cell is found again, and another is evaluated again.
    stored = sorted(kept.rglob("moods.parquet"))
    assert len(stored) == 22
    stored[-1].unlink()
    again = pd.read_parquet(evaluated(planted, "locus", "--kept", kept, **few))
    pd.testing.assert_frame_equal(first, again)
    other = pd.read_parquet(evaluated(planted, "locus", "--seed", 7, **few))
    same = first["mode"] == ""
    assert other[same]["loglik"].equals(first[same]["loglik"])
    assert not other[~same]["loglik"].equals(first[~same]["loglik"])


# params.yaml and the jobs


CONFIG: dict[str, Any] = {
    "bases": {"small": {"folder": "b"}},
    "pairs": {"felt": {"base": "small", "tuned": "t"}},
    "tasks": {
        "moods": {
            "files": {"test": "a.csv"},
            "columns": {"label": "l"},
            "labels": ["joy", "fear"],
        }
    },
}


def dag(**places: Any) -> Dag:
    matrix = {"pairs": ["felt"], "load": [], "tune": [], "ablate": [], "random_places": places}
    return Dag(Parameters.model_validate(CONFIG | {"matrix": matrix}))


def test_without_module_sets_there_is_no_job() -> None:
    assert dag().places.files == dag().places.figures == dag().places.tuned == []


def test_each_pair_has_percentiles_scores_and_a_figure() -> None:
    jobs = dag(modules=["gate@0,1"], draws=30, kinds=["change"])
    assert jobs.places.files == ["results/random_places.felt.csv", "results/places/felt.csv"]
    assert jobs.places.figures[0] == "results/figures/places.felt.png"
    assert jobs.places.tuned == ["felt"]
    assert jobs.places.cells() == 2 + 31


def test_the_whole_delta_and_too_few_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="found all"):
        RandomPlaces(modules=["q", "all"])
    with pytest.raises(ValueError, match="19"):
        RandomPlaces(draws=18)


def test_a_cell_of_a_place_may_have_seed_and_draw_and_others_may_not() -> None:
    from affectlocus.core.cells import validated

    cell = place("gate", "entries", 3, 1)
    assert validated(cell).id == "pair/load/gate/entries/seed1/draw3"
    with refused("cell.unused-draw", found=3):
        validated(replace(cell, mode="even"))
    with refused("cell.wrong-mode"):
        validated(replace(cell, kind="ablate"))
