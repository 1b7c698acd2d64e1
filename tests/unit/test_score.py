"""Scores, intervals and paired gains, against scikit-learn and a naive bootstrap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cell_frames import BASE, TUNED, WORDS, free_text, joined, predictions
from refusal import refused
from scipy.stats import t
from sklearn.metrics import f1_score

from affectlocus.config.scoring import PERCENT, Score
from affectlocus.config.task_answers import NumberAnswer, Scoring
from affectlocus.core.cells import Cell
from affectlocus.core.metrics import metric_names
from affectlocus.evaluation.predictions import Predictions
from affectlocus.scoring.cell_answers import CellAnswers
from affectlocus.scoring.score import cell_scores, score
from affectlocus.scoring.score_draws import score_rows
from affectlocus.scoring.tables import without_replicates

METRICS = metric_names("labels")
DISTINCT_TEXTS = [f"all {word} words differ{word}" for word in "abcdefghijkl"]
LOAD, ABLATE = Cell("load", "b", "p", "q"), Cell("ablate", "b", "p", "q", "zero")


def answered(answers: list[str], truth: list[str], task: str = "moods") -> pd.DataFrame:
    """Chosen answers of one task, as `choose` gives them."""
    return pd.DataFrame(
        {"task": task, "sample": range(len(truth)), "label": truth, "answer": answers}
    )


def drawn(n: int, right: float, seed: int) -> tuple[list[str], list[str]]:
    """Unbalanced true labels; answers that are correct with a probability, otherwise random."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(WORDS, n, p=[0.5, 0.3, 0.2])
    answers = np.where(rng.random(n) < right, truth, rng.choice(WORDS, n))
    return truth.tolist(), answers.tolist()


def get(rows: pd.DataFrame, metric: str = "weighted_f1", task: str = "moods") -> pd.Series:
    return rows[(rows["task"] == task) & (rows["metric"] == metric)].iloc[0]


def score_cell(
    cell: Any, base: Any, labels: Any, resamples: int, confidence: float, seed: int, best: Any = ()
) -> Any:
    sides = (CellAnswers(frame, labels, dict(best)) for frame in (cell, base))
    return score_rows(cell_scores(*sides, resamples, seed), confidence)


def cell_rows(cell: Any, base: Any, resamples: int = 200, seed: int = 0, **more: Any) -> Any:
    return score_cell(cell, base, {"moods": WORDS}, resamples, more.get("confidence", 0.95), seed)


def test_free_text_has_the_same_scores_and_coverage() -> None:
    truth, base = ["joy", "joy", "fear", "rage"], ["joy", "fear", "fear", "joy"]
    cell = ["joy", "", "fear", ""]
    rows = score(
        [free_text(BASE, base, truth), free_text(TUNED, cell, truth)], Score(resamples=200)
    )
    rows = rows[rows["cell"] == "p/tuned"].set_index(["task", "metric"])
    assert rows.loc[("moods", "accuracy"), "value"] == 50
    assert rows.loc[("moods", "weighted_f1"), "value"] == pytest.approx((2 * 200 / 3 + 100) / 4)
    assert rows.loc[("moods", "coverage"), "value"] == 50
    assert rows.loc[("moods", "coverage"), "gain"] == -50
    assert rows.loc[("mean", "coverage"), "value"] == 50
    # If every text names a label, the scores are those of candidates.
    both = [
        score([make(BASE, base, truth), make(TUNED, base[::-1], truth)], Score(resamples=200))
        for make in (free_text, predictions)
    ]
    more = {"coverage", "distinct_1", "distinct_2", "words_per_text", "auc"}
    same = [rows[~rows["metric"].isin(more)].reset_index(drop=True) for rows in both]
    pd.testing.assert_frame_equal(*same)
    assert ["auc" in set(rows["metric"]) for rows in both] == [False, True]


def test_tasks_with_candidates_and_with_free_text_share_a_mean() -> None:
    truth, said = ["joy", "fear"], ["joy", "joy"]
    frames = []
    for cell in (BASE, TUNED):
        other = predictions(cell, truth, truth, "other")
        frames.append(joined(free_text(cell, said, truth), other))
    rows = score(frames, Score(resamples=200)).set_index(["cell", "task", "metric"])["value"]
    assert rows["b/base", "mean", "accuracy"] == 75
    assert rows["b/base", "moods", "coverage"] == 100
    assert ("b/base", "other", "coverage") not in rows.index
    assert ("b/base", "mean", "coverage") not in rows.index


def test_values_equal_scikit_learns_and_the_gain_is_their_difference() -> None:
    truth, mine = drawn(200, 0.7, 1)
    _, theirs = drawn(200, 0.4, 1)
    rows = cell_rows(answered(mine, truth), answered(theirs, truth))
    assert rows["n"].unique().tolist() == [200]
    for name, average in (("weighted_f1", "weighted"), ("macro_f1", "macro")):
        row = get(rows, name)
        expected = [100 * f1_score(truth, one, average=average) for one in (mine, theirs)]
        assert row["value"] == pytest.approx(expected[0])
        assert row["gain"] == pytest.approx(expected[0] - expected[1])


def naive(truth: Any, mine: Any, theirs: Any, draws: int) -> dict[str, np.ndarray]:
    """Interval ends of value and gain in weighted F1 and accuracy, drawing sample by sample."""

    def both(truth: np.ndarray, answers: np.ndarray) -> list[float]:
        weighted = 0.0
        for word in WORDS:
            right = np.sum((truth == word) & (answers == word))
            both = np.sum(truth == word) + np.sum(answers == word)
            weighted += np.mean(truth == word) * (2 * right / both if both else 0)
        return [100 * weighted, 100 * np.mean(truth == answers)]

    truth, mine, theirs = (np.array(one) for one in (truth, mine, theirs))
    rng = np.random.default_rng(99)
    picks = [rng.integers(0, len(truth), len(truth)) for _ in range(draws)]
    own = np.array([both(truth[pick], mine[pick]) for pick in picks])
    base = np.array([both(truth[pick], theirs[pick]) for pick in picks])
    return {"": np.percentile(own, [5, 95], 0), "gain_": np.percentile(own - base, [5, 95], 0)}


def test_intervals_equal_those_of_a_bootstrap_that_draws_samples_one_by_one() -> None:
    truth, mine = drawn(150, 0.7, 2)
    _, theirs = drawn(150, 0.5, 3)
    theirs = [one if i % 3 else two for i, (one, two) in enumerate(zip(mine, theirs, strict=True))]
    rows = cell_rows(answered(mine, truth), answered(theirs, truth), 4000, confidence=0.9)
    expected = naive(truth, mine, theirs, 2500)
    for column, name in enumerate(("weighted_f1", "accuracy")):
        row = get(rows, name)
        for kind in ("", "gain_"):
            low, high = expected[kind][:, column]
            width = high - low
            assert row[f"{kind}high"] - row[f"{kind}low"] == pytest.approx(width, rel=0.1)
            assert row[f"{kind}low"] == pytest.approx(low, abs=0.1 * width)


ANSWERED = {
    "balanced": (list("abcdefg") * 10, list("abcdefg") * 10),
    "one answer to balanced labels": (list("abcdefg") * 10, ["a"] * 70),
    "unbalanced": (["a"] * 95 + ["b"] * 5, ["a"] * 100),
    "constant and right": (["a"] * 9, ["a"] * 9),
    "constant and wrong": (["a"] * 9, ["b"] * 9),
    "one sample": (["a"], ["a"]),
    "two samples": (["a", "b"], ["b", "b"]),
    # Draws without a rare label, which is answered wrongly, have a higher macro F1.
    "rare labels": (["a"] * 30 + list("bcdefghijklm"), ["a"] * 42),
}


@pytest.mark.parametrize(("truth", "mine"), ANSWERED.values(), ids=ANSWERED)
@pytest.mark.parametrize("resamples", [100, 2000])
def test_every_interval_includes_its_value(
    truth: list[str], mine: list[str], resamples: int
) -> None:
    words = list("abcdefghijklm")
    base = ["a" if at % 2 else "b" for at in range(len(truth))]
    frames = [answered(one, truth) for one in (mine, base)]
    rows = score_cell(*frames, {"moods": words}, resamples, 0.95, 0, {"moods": "a"})
    assert set(rows["metric"]) == {*PERCENT, "top_answer"}
    for name in ("", "gain_"):
        value = rows["gain" if name else "value"]
        outside = rows[~value.between(rows[f"{name}low"], rows[f"{name}high"])]
        assert outside.empty, outside


@pytest.mark.parametrize("texts", [["a"], ["a", "a"], ["a b c"] * 9, ["", ""], DISTINCT_TEXTS])
def test_intervals_of_perplexity_and_diversity_include_their_values(texts: list[str]) -> None:
    frames = [written(BASE, texts), written(TUNED, [*texts[1:], "b"])]
    rows = score(frames, Score(resamples=300))
    assert {"perplexity", "distinct_1", "distinct_2", "words_per_text"} < set(rows["metric"])
    for name in ("", "gain_"):
        value = rows["gain" if name else "value"]
        outside = rows[~value.between(rows[f"{name}low"], rows[f"{name}high"])]
        assert outside.empty, outside


def test_identical_answers_have_a_gain_of_exactly_0() -> None:
    truth, mine = drawn(80, 0.6, 4)
    rows = cell_rows(answered(mine, truth), answered(mine, truth))
    assert (rows[["gain", "gain_low", "gain_high"]] == 0).all(axis=None)
    assert (rows["low"] < rows["high"]).all()


def test_gains_are_paired_by_sample_whatever_the_order_of_rows() -> None:
    truth, mine = drawn(120, 0.6, 5)
    cell, base = answered(mine, truth), answered(mine, truth)
    rows = cell_rows(cell, base.sample(frac=1, random_state=1))
    assert (rows[["gain_low", "gain_high"]] == 0).all(axis=None)


def test_a_gain_on_the_same_samples_is_narrower_than_the_scores_themselves() -> None:
    truth, mine = drawn(200, 0.5, 6)
    theirs = [*mine[:-4], *truth[-4:]]
    row = get(cell_rows(answered(mine, truth), answered(theirs, truth)), "accuracy")
    assert row["gain_high"] - row["gain_low"] < 0.5 * (row["high"] - row["low"])


def test_more_confidence_gives_a_wider_interval_around_the_same_value() -> None:
    truth, mine = drawn(100, 0.6, 7)
    cell, base = answered(mine, truth), answered(truth, truth)
    wide, narrow = (get(cell_rows(cell, base, confidence=c)) for c in (0.99, 0.5))
    assert wide["low"] < narrow["low"] < narrow["value"] < narrow["high"] < wide["high"]
    assert wide["value"] == narrow["value"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_intervals() -> None:
    truth, mine = drawn(100, 0.6, 8)
    cell, base = answered(mine, truth), answered(truth, truth)
    first, again, other = (cell_rows(cell, base, seed=seed) for seed in (0, 0, 1))
    assert first.to_csv().encode() == again.to_csv().encode()
    assert (first["value"] == other["value"]).all()
    assert (first["low"] != other["low"]).any()


def test_a_tasks_interval_does_not_depend_on_the_other_tasks() -> None:
    truth, mine = drawn(60, 0.6, 9)
    frames = [answered(mine, truth, task) for task in ("a", "b")]
    both = pd.concat(frames)
    alone = score_cell(frames[1], frames[1], {"b": WORDS}, 200, 0.95, 0)
    together = score_cell(both, both, {"a": WORDS, "b": WORDS}, 200, 0.95, 0)
    pd.testing.assert_series_equal(
        get(alone, task="b"), get(together, task="b"), check_names=False, check_index=False
    )


def test_tasks_with_equal_answers_have_different_draws() -> None:
    truth, mine = drawn(100, 0.6, 16)
    frame = pd.concat(answered(mine, truth, task) for task in ("a", "b"))
    rows = score_cell(frame, frame, {"a": WORDS, "b": WORDS}, 2000, 0.95, 0)
    width = {one: get(rows, task=one)["high"] - get(rows, task=one)["low"] for one in ("a", "mean")}
    assert width["mean"] == pytest.approx(width["a"] / 2**0.5, rel=0.1)


def test_the_mean_has_equal_weights_for_tasks_and_counts_all_samples() -> None:
    labels = {"big": WORDS, "small": WORDS[:2]}
    few = np.random.default_rng(0).choice(WORDS[:2], (2, 20)).tolist()
    parts = {"big": drawn(300, 0.8, 10), "small": few}
    frame = pd.concat(answered(mine, truth, task) for task, (truth, mine) in parts.items())
    base = frame.assign(answer=["joy"] * len(frame))
    rows = score_cell(frame, base, labels, 500, 0.95, 0)
    for name in METRICS:
        big, small, mean = (get(rows, name, task) for task in ("big", "small", "mean"))
        assert mean["n"] == 320
        assert mean["value"] == pytest.approx((big["value"] + small["value"]) / 2)
        assert mean["gain"] == pytest.approx((big["gain"] + small["gain"]) / 2)
        # The mean of independent tasks varies less than the worse of them alone.
        assert mean["high"] - mean["low"] < small["high"] - small["low"]
    assert list(rows["task"].unique()) == ["big", "small", "mean"]


@pytest.mark.parametrize("missing", ["last", "all", "other ids"])
def test_different_samples_are_refused_with_the_task(missing: str) -> None:
    truth, mine = drawn(10, 0.6, 11)
    base = answered(mine, truth)
    if missing == "other ids":
        base["sample"] += 1
    else:
        base = base.iloc[: {"last": -1, "all": 0}[missing]]
    with refused("prediction.other-samples", task="moods"):
        cell_rows(answered(mine, truth), base)


def scored(*frames: Predictions, **changes: Any) -> pd.DataFrame:
    return score(frames, Score(**{"resamples": 100, **changes}))


def test_a_cell_is_compared_with_its_base_and_an_ablation_with_the_tuned_model() -> None:
    truth, mine = drawn(50, 0.7, 12)
    rows = scored(
        predictions(BASE, ["joy"] * 50, truth),
        predictions(LOAD, mine, truth),
        predictions(ABLATE, mine, truth),
        predictions(TUNED, truth, truth),
    )
    references = rows.groupby("cell", sort=False)["reference"].unique().str[0].to_dict()
    assert references == {
        "b/base": "b/base",
        "p/load/q": "b/base",
        "p/ablate/q/zero": "p/tuned",
        "p/tuned": "b/base",
    }
    accuracy = {cell: get(part, "accuracy") for cell, part in rows.groupby("cell")}
    ablated = accuracy["p/ablate/q/zero"]
    assert ablated["gain"] == pytest.approx(ablated["value"] - 100)
    loaded = accuracy["p/load/q"]
    assert loaded["gain"] == pytest.approx(loaded["value"] - accuracy["b/base"]["value"])
    assert accuracy["b/base"]["gain"] == 0


@pytest.mark.parametrize(("cell", "missing"), [(LOAD, "b/base"), (ABLATE, "p/tuned")])
def test_a_missing_reference_is_named(cell: Cell, missing: str) -> None:
    truth, mine = drawn(10, 0.6, 13)
    frames = [predictions(one, mine, truth) for one in (BASE, cell) if one.id != missing]
    with refused("score.no-reference", cell=cell.id, expected=missing):
        scored(*frames)


def test_rows_have_the_columns_of_their_cell_and_survive_parquet(tmp_path: Any) -> None:
    truth, mine = drawn(30, 0.6, 14)
    seeded = Cell("tune", "b", "p", "q+k", seed=3)
    rows = scored(predictions(BASE, mine, truth), predictions(seeded, mine, truth))
    assert list(rows.columns) == [
        *("cell", "kind", "base", "pair", "modules", "mode", "seed", "draw"),
        *("seeds", "draws"),
        *(
            "task",
            "metric",
            "value",
            "n",
            "low",
            "high",
            "gain",
            "gain_low",
            "gain_high",
            "confidence",
            "reference",
        ),
    ]
    assert len(rows) == 2 * 2 * len({*METRICS, "auc", "top_answer"})  # cells, a task and the mean
    first, last = rows.iloc[0], rows.iloc[-1]
    assert (first["cell"], first["pair"]) == ("b/base", "")
    assert pd.isna(first["seed"])
    assert (last["cell"], last["pair"], last["seed"]) == ("p/tune/q+k/seed3", "p", 3)
    rows.to_parquet(tmp_path / "a.parquet", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), rows)


def test_several_seeds_are_followed_by_their_mean_which_is_paired_with_its_base() -> None:
    truth, answers = drawn(80, 0.5, 30)
    seeds = {seed: drawn(80, 0.4 + 0.1 * seed, 30)[1] for seed in (0, 2, 5)}
    cells = [Cell("load", "b", "p", "q", seed=seed) for seed in seeds]
    frames = [predictions(one, seeds[one.seed], truth) for one in cells if one.seed is not None]
    rows = scored(predictions(BASE, answers, truth), *frames, resamples=4000)
    assert rows["cell"].unique().tolist() == ["b/base", *(one.id for one in cells), "p/load/q"]
    mean, each = rows[rows["cell"] == "p/load/q"], rows[rows["seed"].notna()]
    assert set(mean["seeds"]) == {3}
    assert set(each["seeds"]) == {1}
    for metric in METRICS:
        ones = each[(each["metric"] == metric) & (each["task"] == "moods")]
        for column in ("value", "gain"):
            assert get(mean, metric)[column] == pytest.approx(ones[column].mean())
        # Three different seeds give a wide interval: Student's t with two degrees of freedom.
        width = get(mean, metric)["high"] - get(mean, metric)["low"]
        deviation = ones["value"].std(ddof=1) / 3**0.5
        assert width > 0.8 * 2 * t.ppf(0.975, 2) * deviation


def test_a_cell_is_compared_with_the_base_of_its_own_seed() -> None:
    truth, _ = drawn(80, 0.5, 30)
    bases = {seed: drawn(80, 0.2 + 0.2 * seed, 30)[1] for seed in (0, 1, 2)}
    loaded = {seed: drawn(80, 0.6 + 0.1 * seed, 30)[1] for seed in bases}
    base = {seed: predictions(Cell("base", "b", seed=seed), bases[seed], truth) for seed in bases}
    load = [
        predictions(Cell("load", "b", "p", "q", seed=seed), loaded[seed], truth) for seed in bases
    ]
    rows = scored(*base.values(), *load)
    cells = ["b/base/seed0", "b/base/seed1", "b/base/seed2", "b/base"]
    assert rows["cell"].unique().tolist()[:4] == cells
    f1 = rows[(rows["metric"] == "weighted_f1") & (rows["task"] == "moods")].set_index("cell")
    for seed in bases:
        own = f1.loc[f"p/load/q/seed{seed}"]
        assert own["reference"] == f"b/base/seed{seed}"
        assert own["gain"] == pytest.approx(own["value"] - f1.loc[f"b/base/seed{seed}", "value"])
    assert f1.loc["p/load/q", "reference"] == "b/base"
    assert f1.loc["b/base", "seeds"] == 3
    gains = f1["value"]["p/load/q"] - f1["value"]["b/base"]
    assert f1.loc["p/load/q", "gain"] == pytest.approx(gains)


def test_the_interval_of_two_different_seeds_is_clipped_to_the_range_of_scores() -> None:
    truth, answers = drawn(60, 0.95, 32)
    wrong = ["joy" if word != "joy" else "anger" for word in truth]
    cells = [Cell("load", "b", "p", "q", seed=seed) for seed in range(2)]
    frames = [predictions(cells[0], answers, truth), predictions(cells[1], wrong, truth)]
    rows = scored(predictions(BASE, wrong, truth), *frames)
    mean = get(rows[rows["seeds"] == 2], "accuracy")
    # Student's t with one degree of freedom exceeds both ends by far.
    assert (mean["low"], mean["high"]) == (0, 100)
    assert (mean["gain_low"], mean["gain_high"]) == (-100, 100)


def test_random_draws_on_one_checkpoint_are_averaged_and_counted_as_draws() -> None:
    truth, answers = drawn(80, 0.5, 30)
    each = [drawn(80, 0.4 + 0.03 * n, 30)[1] for n in range(5)]
    cells = [Cell("ablate", "b", "p", "q", "noise", draw=n) for n in range(5)]
    frames = [predictions(one, said, truth) for one, said in zip(cells, each, strict=True)]
    rows = scored(predictions(BASE, truth, truth), predictions(TUNED, answers, truth), *frames)
    mean = rows[rows["cell"] == "p/ablate/q/noise"]
    assert (set(mean["seeds"]), set(mean["draws"])) == ({1}, {5})
    assert mean[["seed", "draw"]].isna().all(axis=None)
    assert set(mean["reference"]) == {"p/tuned"}
    ones = rows[rows["draw"].notna() & (rows["metric"] == "accuracy") & (rows["task"] == "moods")]
    assert (ones["draw"].tolist(), set(ones["draws"])) == ([0, 1, 2, 3, 4], {1})
    found = get(mean, "accuracy")
    assert found["value"] == pytest.approx(ones["value"].mean())
    # With similar draws the interval is little wider than that of the samples.
    assert found["high"] - found["low"] < 40
    shown = without_replicates(rows[rows["task"] == "moods"])["cell"].unique().tolist()
    assert shown == ["b/base", "p/tuned", "p/ablate/q/noise"]


def test_equal_seeds_have_the_interval_of_the_samples() -> None:
    truth, answers = drawn(80, 0.5, 31)
    cells = [Cell("load", "b", "p", "q", seed=seed) for seed in range(3)]
    rows = scored(predictions(BASE, truth, truth), *(predictions(c, answers, truth) for c in cells))
    every = 2 * len({*METRICS, "auc", "top_answer"})  # the task and the mean
    one, mean = (get(rows[rows["seeds"] == seeds].tail(every)) for seeds in (1, 3))
    for column in ("value", "low", "high", "gain", "gain_low", "gain_high"):
        assert mean[column] == pytest.approx(one[column])


def test_scoring_twice_gives_the_same_bytes(tmp_path: Any) -> None:
    truth, mine = drawn(30, 0.6, 15)
    frames = [predictions(BASE, ["joy"] * 30, truth), predictions(LOAD, mine, truth)]
    for name in ("one", "two"):
        scored(*frames, seed=4).to_parquet(tmp_path / name, index=False)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# Binary F1, numbers, texts


def test_the_mean_has_the_metrics_that_every_task_has() -> None:
    truth, mine = drawn(60, 0.6, 17)
    frame = pd.concat(answered(mine, truth, task) for task in ("a", "b"))
    labels = {"a": WORDS, "b": WORDS}
    one = score_cell(frame, frame, labels, 100, 0.95, 0, {"a": "joy"})
    assert one[one["metric"] == "binary_f1"]["task"].tolist() == ["a"]
    both = score_cell(frame, frame, labels, 100, 0.95, 0, {"a": "joy", "b": "fear"})
    assert both[both["metric"] == "binary_f1"]["task"].tolist() == ["a", "b", "mean"]
    expected = 100 * f1_score(truth, mine, labels=["fear"], average="macro")
    assert get(both, "binary_f1", "b")["value"] == pytest.approx(expected)


NUMBER = NumberAnswer(highest=24, cutoff=10)


def with_a_number_and_a_text(cell: Cell, seed: int) -> Predictions:
    """A cell's answers to 40 moods and 30 numbers, and the log-likelihoods of 20 documents."""
    rng = np.random.default_rng(seed)
    truth, answers = drawn(40, 0.6, seed=18)
    moods = predictions(cell, answers, truth)
    sums = pd.DataFrame(
        [
            ("phq", f"p{sample}", f"{sample % 25}\n", word, float(value))
            for sample in range(30)
            for word, value in zip(NUMBER.words, rng.normal(0, 2, 25), strict=True)
        ],
        columns=["task", "sample", "label", "candidate", "loglik"],
    )
    texts = pd.DataFrame(
        {"task": "text", "sample": [f"d{n}" for n in range(20)], "label": "", "candidate": ""}
        | {"loglik": -rng.uniform(5, 50, 20), "tokens": np.arange(10, 30)}
    )
    more = Predictions(cell, {"phq": NUMBER.words, "text": []}, pd.concat([sums, texts]))
    return joined(moods, more)


def amounts(number: NumberAnswer = NUMBER) -> tuple[list[Predictions], pd.DataFrame]:
    frames = [with_a_number_and_a_text(cell, seed) for seed, cell in enumerate((BASE, LOAD))]
    rows = score(frames, Score(resamples=400), {"phq": Scoring(number=number)})
    return frames, rows


def test_errors_and_perplexity_have_no_mean_over_tasks() -> None:
    _, rows = amounts()
    kinds = {task: set(part["metric"]) for task, part in rows.groupby("task")}
    assert kinds == {
        "moods": {*METRICS, "auc", "top_answer"},
        "phq": {*PERCENT, "mae", "rmse", "top_answer"},
        "mean": {*METRICS, "top_answer"},
        "text": {"perplexity"},
    }
    row = rows[rows["cell"] == "p/load/q"]
    mean = get(row, task="mean")
    assert mean["n"] == 70
    both = (get(row)["value"], get(row, task="phq")["value"])
    assert mean["value"] == pytest.approx(np.mean(both))
    assert rows["base"].eq("b").all()


def test_errors_and_perplexity_equal_a_direct_computation() -> None:
    frames, rows = amounts()
    values = np.arange(25)
    expected = []
    for frame in [own.rows for own in frames]:
        logs = frame.loc[frame["task"] == "phq", "loglik"].to_numpy().reshape(30, 25)
        chances = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
        error = chances @ values - np.arange(30) % 25
        text = frame[frame["task"] == "text"]
        expected.append(
            {
                "mae": np.abs(error).mean(),
                "rmse": np.sqrt((error**2).mean()),
                "perplexity": np.exp(-text["loglik"].sum() / text["tokens"].sum()),
            }
        )
    own = rows[rows["cell"] == "p/load/q"]
    for metric, task, n in (("mae", "phq", 30), ("rmse", "phq", 30), ("perplexity", "text", 20)):
        row = get(own, metric, task)
        assert row["n"] == n
        assert row["value"] == pytest.approx(expected[1][metric])
        assert row["gain"] == pytest.approx(expected[1][metric] - expected[0][metric])
        assert row["low"] < row["value"] < row["high"]
        assert row["gain_low"] < row["gain"] < row["gain_high"]
    assert (rows.loc[rows["cell"] == "b/base", "gain"] == 0).all()


def test_a_number_with_a_cutoff_has_scores_of_two_classes() -> None:
    frames, rows = amounts()
    own = frames[1].rows
    logs = own.loc[own["task"] == "phq", "loglik"].to_numpy().reshape(30, 25)
    chances = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    said, truth = chances @ np.arange(25) >= 10, np.arange(30) % 25 >= 10
    found = get(rows[rows["cell"] == "p/load/q"], "binary_f1", "phq")["value"]
    assert found == pytest.approx(100 * f1_score(truth, said))


def test_a_number_without_a_cutoff_has_only_errors() -> None:
    _, rows = amounts(NumberAnswer(highest=24))
    assert set(rows[rows["task"] == "phq"]["metric"]) == {"mae", "rmse"}
    assert get(rows, task="mean")["n"] == 40


def test_a_text_that_only_one_of_two_cells_has_is_refused() -> None:
    frames, _ = amounts()
    frames[0] = replace(frames[0], labels={"moods": WORDS, "phq": NUMBER.words})
    with refused("prediction.other-samples", task="text"):
        score(frames, Score(resamples=100), {"phq": Scoring(number=NUMBER)})


def test_predictions_with_only_numbers_and_texts_are_scored() -> None:
    frames, _ = amounts()
    frames = [replace(own, labels={"phq": NUMBER.words, "text": []}) for own in frames]
    rows = score(frames, Score(resamples=100), {"phq": Scoring(number=NumberAnswer(highest=24))})
    assert set(rows["metric"]) == {"mae", "rmse", "perplexity"}
    assert set(rows["task"]) == {"phq", "text"}


# Diversity of generated text


def written(cell: Cell, texts: list[str | None]) -> Predictions:
    """A cell with documents, with generated continuations of some, and with two moods."""
    read = pd.DataFrame({"task": "text", "sample": [f"d{at}" for at in range(len(texts))]})
    read = read.assign(label="", candidate="", loglik=-9.0, tokens=3, text=texts)
    moods = predictions(cell, ["joy", "fear"], ["joy", "joy"])
    return joined(moods, Predictions(cell, {"text": []}, read))


CONTINUATIONS = ["so it was", "so it was", "he ran", "", None, None]


def test_continuations_have_distinct_n_and_the_texts_have_perplexity() -> None:
    other = ["so so so", "we met", "he ran", "and it was", None, None]
    rows = score([written(BASE, CONTINUATIONS), written(TUNED, other)], Score(resamples=300))
    rows = rows[(rows["task"] == "text") & (rows["cell"] == "p/tuned")].set_index("metric")
    assert rows["n"].to_dict() == {
        "perplexity": 6,
        "distinct_1": 4,
        "distinct_2": 4,
        "words_per_text": 4,
    }
    assert rows["value"]["distinct_1"] == pytest.approx(100 * 8 / 10)
    assert rows["gain"]["distinct_1"] == pytest.approx(100 * (8 / 10 - 5 / 8))
    assert rows["value"]["distinct_2"] == pytest.approx(100 * 5 / 6)
    assert rows["gain"]["distinct_2"] == pytest.approx(100 * (5 / 6 - 3 / 5))
    assert rows["value"]["words_per_text"] == 2.5
    for metric in ("distinct_1", "distinct_2", "words_per_text"):
        row = rows.loc[metric]
        assert row["low"] < row["value"] < row["high"]
        assert row["gain_low"] < row["gain"] < row["gain_high"]
    assert (rows["high"][["distinct_1", "distinct_2"]] <= 100).all()


def test_a_cell_compared_with_itself_has_no_gain_in_diversity() -> None:
    rows = score([written(BASE, CONTINUATIONS)], Score(resamples=100))
    own = rows[rows["metric"].str.startswith("distinct")]
    assert len(own) == 2
    assert (own[["gain", "gain_low", "gain_high"]] == 0).all(axis=None)


def test_free_text_answers_have_distinct_n_which_is_in_no_mean() -> None:
    truth = ["joy", "joy", "fear"]
    frames = [free_text(cell, truth, truth) for cell in (BASE, TUNED)]
    frames[1].rows["text"] = ["joy and joy", "joy", "fear"]
    rows = score(frames, Score(resamples=100))
    own = rows[(rows["cell"] == "p/tuned") & (rows["metric"] == "distinct_1")]
    assert own["task"].tolist() == ["moods"]
    assert own["value"].tolist() == [60]
