"""The layout of the paper's tables, and their companion of intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
from refusal import refused

from affectlocus.core.cells import Cell
from affectlocus.scoring.tables import intervals, table, table_tasks

BASE, TUNED = Cell("base", "b"), Cell("tuned", "b", "p")
TASKS = ["mini-SIMS", "mini-MELD"]


def scores(*cells: tuple[Cell, float]) -> pd.DataFrame:
    """Rows as `score` gives them; the second task is 2 below the first, accuracy 10 above F1."""
    rows: list[dict[str, Any]] = []
    for cell, value in cells:
        for task, shift in ((TASKS[0], 0), (TASKS[1], -2), ("mean", -1)):
            for metric, more in (("weighted_f1", 0), ("accuracy", 10)):
                number = value + shift + more
                rows.append(
                    vars(cell)
                    | {
                        "seeds": 1,
                        "draws": 1,
                        "cell": cell.id,
                        "pair": cell.pair or "",
                        "task": task,
                        "metric": metric,
                    }
                    | {"value": number, "n": 50, "low": number - 3, "high": number + 4}
                    | {
                        "gain": 1.0,
                        "gain_low": -1.0,
                        "gain_high": 2.0,
                        "confidence": 0.95,
                        "reference": "b/base",
                    }
                )
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def load(modules: str) -> Cell:
    return Cell("load", "b", "p", modules)


LOADED = scores((BASE, 30), (load("q"), 40), (load("o+gate"), 45), (load("k"), 35), (TUNED, 60))


def test_a_table_runs_from_the_base_to_the_whole_model_in_the_order_of_the_cells() -> None:
    shown = table(LOADED, "weighted_f1", TASKS)
    assert list(shown.columns) == ["num", "modules", *TASKS, "mean"]
    assert shown["num"].tolist() == [0, 1, 2, 3, 4]
    assert shown["modules"].tolist() == ["base", "q", "o+gate", "k", "all"]
    assert shown["mean"].tolist() == [29, 39, 44, 34, 59]
    assert shown[TASKS].iloc[1].tolist() == [40, 38]


def test_tasks_are_in_the_requested_order() -> None:
    shown = table(LOADED, "weighted_f1", TASKS[::-1])
    assert list(shown.columns) == ["num", "modules", *TASKS[::-1], "mean"]
    assert shown[TASKS[0]].iloc[0] == 30


def test_only_the_metric_asked_for_is_shown() -> None:
    difference = (
        table(LOADED, "accuracy", TASKS)["mean"] - table(LOADED, "weighted_f1", TASKS)["mean"]
    )
    assert (difference == 10).all()


def test_ablations_have_a_column_for_their_mode() -> None:
    cells = [Cell("ablate", "b", "p", m, mode) for m in ("q", "k") for mode in ("zero", "revert")]
    frame = scores((BASE, 30), *((cell, 50 - n) for n, cell in enumerate(cells)), (TUNED, 60))
    shown = table(frame, "weighted_f1", TASKS)
    assert list(shown.columns) == ["num", "modules", "mode", *TASKS, "mean"]
    assert shown[["num", "modules", "mode"]].values.tolist() == [
        [0, "base", ""],
        [1, "q", "zero"],
        [2, "q", "revert"],
        [3, "k", "zero"],
        [4, "k", "revert"],
        [5, "all", ""],
    ]


def test_several_seeds_of_a_cell_are_averaged_into_one_row() -> None:
    seeded = [(Cell("tune", "b", "p", "q", seed=seed), 40 + seed) for seed in (0, 1, 5)]
    whole = [(Cell("tune", "b", "p", "all", seed=seed), 60 + seed) for seed in (0, 1, 5)]
    shown = table(scores((BASE, 30), *seeded, *whole), "weighted_f1", TASKS)
    assert shown["modules"].tolist() == ["base", "q", "all"]
    assert shown["num"].tolist() == [0, 1, 2]
    assert shown["mean"].tolist() == [29, 41, 61]


def test_an_ablation_of_all_is_another_row_than_the_whole_model() -> None:
    frame = scores((BASE, 30), (Cell("ablate", "b", "p", "all", "zero"), 10), (TUNED, 60))
    shown = table(frame, "weighted_f1", TASKS)
    assert shown[["modules", "mode", "mean"]].values.tolist() == [
        ["base", "", 29],
        ["all", "zero", 9],
        ["all", "", 59],
    ]


def test_table_and_companion_show_only_the_mean_over_seeds() -> None:
    seeded = [(Cell("tune", "b", "p", "q", seed=seed), 40 + seed) for seed in (0, 1)]
    mean = scores((Cell("tune", "b", "p", "q"), 40.5)).assign(seeds=2)
    frame = pd.concat([scores((BASE, 30), *seeded), mean, scores((TUNED, 60))], ignore_index=True)
    rows = intervals(frame, "weighted_f1")
    assert rows["seeds"].unique().tolist() == [1, 2]
    assert rows[rows["task"] == "mean"]["value"].tolist() == [29, 39.5, 59]
    assert table(frame, "weighted_f1", TASKS)["mean"].tolist() == [29, 39.5, 59]


def test_the_companion_has_every_cell_under_the_number_of_its_row() -> None:
    seeded = [(Cell("tune", "b", "p", "q", seed=seed), 40 + seed) for seed in (0, 1)]
    rows = intervals(scores((BASE, 30), *seeded, (TUNED, 60)), "weighted_f1")
    assert list(rows.columns) == [
        *("num", "modules", "mode", "kind", "seeds", "draws", "task", "metric", "value"),
        "n",
        *("low", "high", "gain", "gain_low", "gain_high", "confidence"),
        *("auc", "top_answer", "one_answer", "reference", "cell"),
    ]
    means = rows[rows["task"] == "mean"]
    assert means["num"].tolist() == [0, 1, 1, 2]
    assert means["cell"].tolist() == ["b/base", "p/tune/q/seed0", "p/tune/q/seed1", "p/tuned"]
    assert means["low"].tolist() == [26, 36, 37, 56]
    assert (rows["metric"] == "weighted_f1").all()


def test_every_number_of_a_table_has_its_row_in_the_companion() -> None:
    shown = table(LOADED, "weighted_f1", TASKS).melt(["num", "modules"], var_name="task")
    rows = intervals(LOADED, "weighted_f1")
    both = shown.merge(rows, on=["num", "modules", "task"], how="outer", suffixes=("", "_i"))
    assert len(both) == len(shown) == len(rows)
    assert (both["value"] == both["value_i"]).all()


def test_the_input_scores_are_not_changed() -> None:
    before = LOADED.copy(deep=True)
    table(LOADED, "weighted_f1", TASKS)
    pd.testing.assert_frame_equal(LOADED, before)


def test_a_metric_that_was_not_scored_is_refused() -> None:
    with refused("score.no-such-metric", metric="f1"):
        table(LOADED, "f1", TASKS)


def extended(task: str, metric: str) -> pd.DataFrame:
    """The scores, and those of one more task, which has this metric alone."""
    rows = LOADED[LOADED["task"] == TASKS[0]].drop_duplicates("cell")
    return pd.concat([LOADED, rows.assign(task=task, metric=metric)])


def test_a_text_with_perplexity_is_not_a_column() -> None:
    scores = extended("text", "perplexity")
    assert table_tasks(scores, "weighted_f1") == TASKS
    shown = table(scores, "weighted_f1", TASKS)
    pd.testing.assert_frame_equal(shown, table(LOADED, "weighted_f1", TASKS))


def test_a_task_without_the_metric_of_the_table_is_named() -> None:
    with refused("score.task-without-metric", task="other", metric="weighted_f1"):
        table_tasks(extended("other", "accuracy"), "weighted_f1")


def test_mae_is_refused_as_the_metric_of_a_table() -> None:
    with refused("score.metric-not-in-percent", metric="mae"):
        table_tasks(extended("phq", "mae"), "mae")


def test_a_table_shows_how_its_cells_answer_and_marks_those_that_give_one_answer() -> None:
    def shape(cell: Cell, seeds: int, *values: tuple[str, float, float]) -> pd.DataFrame:
        rows = scores((cell, 50))
        parts = [rows[rows["metric"] == "weighted_f1"]]
        for task, auc, top in values:
            own = rows[(rows["task"] == task) & (rows["metric"] == "weighted_f1")]
            parts += [own.assign(metric="auc", value=auc)]
            parts += [own.assign(metric="top_answer", value=top)]
        return pd.concat(parts).assign(seeds=seeds)

    first, second = TASKS
    seeds = [Cell("load", "b", "p", "q", seed=seed) for seed in (0, 1)]
    frame = pd.concat(
        [
            shape(BASE, 1, (first, 50, 100), (second, 52, 60), ("mean", 51, 80)),
            shape(seeds[0], 1, (first, 60, 100), (second, 62, 100), ("mean", 61, 100)),
            shape(seeds[1], 1, (first, 70, 40), (second, 72, 100), ("mean", 71, 70)),
            # The mean of two seeds that give one answer each is 100, and counts neither again.
            shape(load("q"), 2, (first, 65, 70), (second, 67, 100), ("mean", 66, 85)),
            shape(TUNED, 1, (first, 80, 30), (second, 82, 40), ("mean", 81, 35)),
        ],
        ignore_index=True,
    )
    shown = table(frame, "weighted_f1", TASKS).set_index("modules")
    assert list(shown.columns)[-4:] == ["mean", "auc", "top_answer", "one_answer"]
    assert shown["auc"].tolist() == [51, 66, 81]
    assert shown["top_answer"].tolist() == [80, 85, 35]
    assert shown["one_answer"].tolist() == [1, 3, 0]
    by_task = intervals(frame, "weighted_f1").set_index(["cell", "task"])["one_answer"]
    assert by_task["p/load/q", first] == 1
    assert by_task["p/load/q", second] == 2
