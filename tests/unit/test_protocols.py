"""Free text under both protocols in the workflow, against the scorers of outputs in files."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusal import refused
from wheel_files import REAL, write_wheels

from affectlocus.config.scoring import FREE_METRICS
from affectlocus.scoring import corrected_protocol, mer_unibench
from affectlocus.scoring.bootstrap import Stream
from affectlocus.scoring.protocols import task_protocol, task_protocols
from affectlocus.scoring.score_draws import ScoreDraws
from affectlocus.scoring.wheels import Wheels, read

real = pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
SIGNS = ["negative", "neutral", "positive"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    return read(write_wheels(tmp_path_factory.mktemp("wheels")), own=True)


def answers(gold: list[str], opensets: list[list[str]], valence: list[str] | str = "") -> object:
    return pd.DataFrame({"label": gold, "openset": opensets, "valence": valence})


def scores(
    mine: object, wheels: Wheels | None, theirs: object = None, draws: int = 100
) -> ScoreDraws:
    labels = SIGNS if wheels is None else ["joy", "anger"]
    other = mine if theirs is None else theirs
    return task_protocol("moods", labels, wheels)(mine, other, Stream(0, "moods", draws))


def first(found: ScoreDraws) -> dict[str, float]:
    return {metric: values[0] for metric, values in found.cell.items()}


WORDS = st.sampled_from(["joy", "angry", "fear", "tired", "bold", "odd", "neutral"])


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=3)), min_size=1, max_size=20))
@settings(max_examples=40)
def test_emotions_score_as_another_systems_outputs_do(wheels, samples) -> None:
    gold = [emotion for emotion, _ in samples] + ["joy"]
    opensets = [words for _, words in samples] + [["joy"]]
    found = first(scores(answers(gold, opensets), wheels))
    rates = mer_unibench.hit_rates(gold, opensets, wheels.published)
    corrected = corrected_protocol.mean_over_wheels(
        corrected_protocol.open_set_scores(gold, opensets, wheels.corrected)
    )
    assert found["mer_unibench"] == pytest.approx(100 * mer_unibench.mean_rate(rates))
    assert found["corrected_f1"] == pytest.approx(100 * corrected.f1)
    assert found["corrected_macro_f1"] == pytest.approx(100 * corrected.macro_f1)
    assert found["corrected_precision"] == pytest.approx(100 * corrected.precision)
    assert found["corrected_recall"] == pytest.approx(100 * corrected.recall)
    assert found["labels_per_sample"] == pytest.approx(corrected.labels_per_sample)
    assert found["mapped_labels"] == pytest.approx(100 * (corrected.mapped_labels or 0))
    assert found["corrected_scored"] == pytest.approx(100 * corrected.coverage)


def test_every_wheel_has_its_score_and_the_share_of_samples_that_it_scores(wheels) -> None:
    gold = ["joy", "angry", "neutral", "odd"]
    opensets = [["joy"], ["tired", "angry"], [], ["joy"]]
    found = first(scores(answers(gold, opensets), wheels))
    rates = mer_unibench.hit_rates(gold, opensets, wheels.published)
    corrected = corrected_protocol.open_set_scores(gold, opensets, wheels.corrected)
    for wheel in range(1, 6):
        assert found[f"mer_unibench_wheel{wheel}"] == 100 * rates[wheel].hit_rate
        assert found[f"mer_unibench_scored_wheel{wheel}"] == 100 * rates[wheel].n_scored / 4
        assert found[f"corrected_f1_wheel{wheel}"] == pytest.approx(100 * corrected[wheel].f1)
        assert found[f"corrected_scored_wheel{wheel}"] == 100 * corrected[wheel].coverage
    # The fifth wheel has no anger.
    assert found["mer_unibench_scored_wheel4"] == 50
    assert found["mer_unibench_scored_wheel5"] == 25
    assert found["mer_unibench_scored"] == pytest.approx(45)


SAID = st.sampled_from([*SIGNS, "Positive.", "mixed", ""])


@given(st.lists(st.tuples(st.sampled_from(SIGNS), SAID), min_size=1, max_size=30))
@settings(max_examples=40)
def test_valence_scores_as_another_systems_outputs_do(samples) -> None:
    gold = [sign for sign, _ in samples] + ["negative"]
    said = [word for _, word in samples] + ["neutral"]
    found = first(scores(answers(gold, [[]] * len(gold), said), None))
    numbers = [float(SIGNS.index(sign) - 1) for sign in gold]
    corrected = corrected_protocol.valence_scores(numbers, said)
    assert found["mer_unibench"] == pytest.approx(100 * mer_unibench.waf(numbers, said).waf)
    assert found["corrected_f1"] == pytest.approx(100 * corrected.weighted_f1)
    assert found["corrected_macro_f1"] == pytest.approx(100 * corrected.macro_f1)
    assert found["corrected_accuracy"] == pytest.approx(100 * corrected.accuracy)
    assert found["polar"] == pytest.approx(100 * corrected.polar)
    assert found["mer_unibench_scored"] == 100 * corrected.n_binary / len(gold)


def test_draws_spread_around_the_score_and_pair_the_cell_with_its_base(wheels) -> None:
    rng = np.random.default_rng(3)
    gold = rng.choice(["joy", "anger", "tired"], 300).tolist()
    good = [[one] if rng.random() < 0.7 else ["odd"] for one in gold]
    worse = [words if rng.random() < 0.8 else ["odd"] for words in good]
    found = scores(answers(gold, good), wheels, answers(gold, worse), 400)
    for metric in FREE_METRICS:
        cell, base = found.cell[metric], found.reference[metric]
        assert cell[1:].mean() == pytest.approx(cell[0], abs=1)
        assert 1 < cell[1:].std() < 4
        assert (cell - base)[1:].std() < cell[1:].std()
        assert (cell - base)[1:].min() > 0
    assert found.n == 300


def test_emotions_without_wheels_and_unknown_tasks_are_refused() -> None:
    with refused("score.no-wheels", key="score.wheels", task="moods"):
        task_protocols({"moods": "mer-unibench"}, {"moods": ["joy", "fear"]}, None)
    with refused("score.unknown-task", key="score.protocols", task="mood", found=["moods"]):
        task_protocols({"mood": "mer-unibench"}, {"moods": ["joy", "fear"]}, None)
    assert list(task_protocols({"MOSI": "mer-unibench"}, {"MOSI": SIGNS}, None)) == ["MOSI"]


def test_a_task_that_was_answered_by_candidates_is_refused(wheels) -> None:
    chosen = answers(["joy"], [["joy"]]).drop(columns="openset")  # type: ignore[attr-defined]
    with refused("score.protocol-without-free-text", key="score.protocols", task="moods"):
        scores(chosen, wheels)


def test_gold_labels_outside_a_wheel_are_refused(
    wheels,
) -> None:
    with refused("score.hit-rate-undefined", found=["odd"]):
        scores(answers(["odd", "odd"], [["joy"], []]), wheels)


@pytest.mark.real
@real
def test_the_best_released_checkpoint_has_its_published_hit_rate() -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with (REAL / name).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    gold = {row["sample"]: row["emotion"] for row in rows("meld_gold.csv")}
    said = [row for row in rows("meld_openset.csv") if row["checkpoint"] == "30"]
    mine = answers(
        [gold[row["sample"]] for row in said],
        [row["openset"].split("|") if row["openset"] else [] for row in said],
    )
    found = scores(mine, read(REAL / "emotion_wheel"))
    assert round(first(found)["mer_unibench"], 2) == 55.65
    assert round(first(found)["corrected_f1"], 2) == 23.71
    assert round(first(found)["labels_per_sample"], 2) == 2.98
