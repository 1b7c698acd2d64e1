"""All scores in one table, and their summary."""

from __future__ import annotations

import pandas as pd

from affectlocus.scoring.collect import join_scores, summarise


def scores(**means: float) -> pd.DataFrame:
    """A table's rows; the cell `a__b` is a/b, its task scores are its mean − 1 and + 1."""
    rows = [
        {"cell": cell.replace("__", "/"), "task": task, "metric": metric, "value": value + shift}
        | {"seeds": 1, "draws": 1}
        for cell, value in means.items()
        for metric, shift in (("weighted_f1", 0.0), ("accuracy", 5.0))
        for task, value in (("one", value - 1), ("two", value + 1), ("mean", value))
    ]
    return pd.DataFrame(rows)


def test_a_cell_of_several_tables_is_listed_once() -> None:
    frame = join_scores(
        [scores(b__base=30, p__load__q=40), scores(b__base=30, p__tune__q__seed0=50)]
    )
    assert frame["cell"].unique().tolist() == ["b/base", "p/load/q", "p/tune/q/seed0"]
    assert not frame.duplicated(["cell", "task", "metric"]).any()
    assert len(frame) == 3 * 2 * 3
    assert frame.index.tolist() == list(range(len(frame)))


def test_of_a_cell_of_several_tables_the_row_with_the_most_replicates_is_kept() -> None:
    few, many = scores(b__base=30), scores(b__base=32).assign(seeds=10)
    for tables in ([few, many], [many, few]):
        assert join_scores(tables)["seeds"].unique().tolist() == [10]


def test_joining_keeps_every_row_of_a_single_table() -> None:
    one = scores(b__base=30, p__load__q=40)
    pd.testing.assert_frame_equal(join_scores([one]), one)


def test_the_summary_is_nested_by_pair_and_kind_and_has_the_mean_of_one_metric() -> None:
    frame = scores(b__base=30.126, p__load__q=40, p__ablate__q__zero=20, p__tuned=60)
    assert summarise(frame, "weighted_f1", {}) == {
        "weighted_f1": {
            "b": {"base": 30.13},
            "p": {"load": {"q": 40.0}, "ablate": {"q zero": 20.0}, "tuned": 60.0},
        }
    }
    assert summarise(frame, "accuracy", {})["accuracy"]["p"]["tuned"] == 65.0


def test_a_set_that_is_loaded_whole_and_in_doses_has_a_key_for_each() -> None:
    frame = scores(p__load__q=40, **{"p__load__q__x0.5": 30})
    nested = summarise(frame, "weighted_f1", {})["weighted_f1"]
    assert nested == {"p": {"load": {"q": 40.0, "q x0.5": 30.0}}}


def test_the_summary_has_the_perplexity_of_every_cell_on_every_text() -> None:
    frame = scores(b__base=30, p__tuned=60)
    text = frame.drop_duplicates("cell").assign(task="text", metric="perplexity", value=[3.217, 4])
    summary = summarise(pd.concat([frame, text]), "weighted_f1", {})
    assert summary["fluency"] == {"text": {"b": {"base": 3.22}, "p": {"tuned": 4.0}}}
    assert summary["weighted_f1"] == {"b": {"base": 30.0}, "p": {"tuned": 60.0}}


def test_the_summary_has_distinct_2_of_every_cell() -> None:
    frame = scores(b__base=30, p__tuned=60)
    wrote = frame.drop_duplicates("cell").assign(task="text", metric="distinct_2", value=[71, 64.5])
    summary = summarise(pd.concat([frame, wrote]), "weighted_f1", {})
    assert summary["distinct_2"] == {"text": {"b": {"base": 71.0}, "p": {"tuned": 64.5}}}
    assert "fluency" not in summary


def test_the_perplexity_of_bases_that_have_one_is_reported() -> None:
    bases = {"qwen2": {"kind": "model", "perplexity": 3.14159265}, "brought": {"kind": "model"}}
    summary = summarise(scores(qwen2__base=30), "weighted_f1", bases)
    assert summary["perplexity"] == {"qwen2": 3.1416}


def test_no_perplexity_means_no_such_key() -> None:
    summary = summarise(scores(b__base=30), "weighted_f1", {"b": {"kind": "model"}})
    assert list(summary) == ["weighted_f1"]
