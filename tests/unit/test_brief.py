"""A pair in brief: the sentences follow from the files of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.brief import (
    PairKind,
    brief,
    brief_of_table,
    verdict_line,
    written_kinds,
)

KINDS = {
    "felt": PairKind("small", "affective"),
    "void": PairKind("small", "null"),
    "sums": PairKind("other", "control"),
}


def write_deltas(results: Path, pair: str, largest: str, adapted: int = 3) -> None:
    """The deltas of a pair with three layers, of which the first `adapted` are adapted."""
    rows: list[dict[str, Any]] = []
    for layer in range(3):
        for name in PROJECTIONS:
            size = (2.0 if name == largest else 1.0) * (1 + layer)
            row = {"layer": layer, "projection": name, "parameter": "weight"}
            row |= {"adapted": layer < adapted, "l2": size, "rms": size}
            # Relative to the base, up is the largest.
            row["relative"] = 9.0 if name == "up" else 1.0
            if layer >= adapted:
                row |= dict.fromkeys(("l2", "rms", "relative"))
            rows.append(row)
    path = results / "deltas" / f"{pair}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)


def write_table(results: Path, pair: str, gains: dict[str, float], **whole: float) -> Path:
    """A load table: gains over a base of 20 with intervals of one point to each side."""
    rows = []
    for modules, gain in {"base": 0.0, **gains}.items():
        kind = "base" if modules == "base" else "tuned" if modules == "all" else "load"
        cell = "small/base" if kind == "base" else f"{pair}/{kind}/{modules}"
        row = {"modules": modules, "kind": kind, "task": "mean", "metric": "weighted_f1"}
        row |= {"value": 20 + gain, "low": 19 + gain, "high": 21 + gain}
        row |= {"gain": gain, "gain_low": gain - 1, "gain_high": gain + 1, "top_answer": 50.0}
        rows.append(row | {"cell": cell} | (whole if modules == "all" else {}))
    # Only the main pair's cells are below load/.
    name = "table1" if pair == "felt" else f"table1.{pair}"
    path = results / f"{name}_intervals.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    baselines = {"baseline": "majority", "task": "mean", "metric": "weighted_f1", "value": 10.0}
    pd.DataFrame([baselines]).to_csv(results / f"{name}_baselines.csv", index=False)
    return results / f"{name}.csv"


GAINS = {"q": 1.5, "gate": 4.0, "o+gate": 9.5, "q+k+v+o": 5.0, "all": 10.0}


def test_a_pair_has_three_sentences(tmp_path: Path) -> None:
    write_deltas(tmp_path, "felt", "gate")
    write_deltas(tmp_path, "void", "gate")
    write_table(tmp_path, "felt", GAINS)
    write_table(tmp_path, "void", {"q": 0.0, "all": -3.0})
    found = brief(tmp_path, "felt", KINDS)
    assert found.warnings == []
    place, gain, others = found.sentences
    assert place == (
        "felt changed most in gate by L2 norm and per weight (RMS) and in up relative to the "
        "base's weights, and of the 3 layers most in layer 2 (64 %)."
    )
    assert gain == (
        "Loading all seven projections raises the mean weighted F1 by +10.0 points (+9.0 to "
        "+11.0); alone, gate carries most, +4.0 points (+3.0 to +5.0), 40 % of it (next q, +1.5); "
        "the smallest loaded set with 90 % of it is o+gate (+9.5)."
    )
    assert others == (
        "The null void changes the score by -3.0 points (-4.0 to -2.0) and changed most in gate "
        "by L2 norm: a largest change in gate is not specific to this tuning."
    )


def test_another_place_of_the_null_is_not_called_the_same(tmp_path: Path) -> None:
    write_deltas(tmp_path, "felt", "gate")
    write_deltas(tmp_path, "void", "down")
    assert "not specific" not in brief(tmp_path, "felt", KINDS).text


def test_a_pair_without_null_and_control_is_told_so(tmp_path: Path) -> None:
    write_deltas(tmp_path, "felt", "gate")
    kinds = {"felt": KINDS["felt"], "sums": KINDS["sums"]}
    assert "Without results of a null or a control" in brief(tmp_path, "felt", kinds).text


def test_the_replicates_that_agree_are_counted(tmp_path: Path) -> None:
    for seed, largest in enumerate(("gate", "gate", "down")):
        write_deltas(tmp_path, f"felt.seed{seed}", largest)
    # A companion of the deltas is no replicate.
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "deltas/felt.seed0.histogram.parquet")
    assert "in gate by L2 norm (2 of 3 replicates)" in brief(tmp_path, "felt", {}).text


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        ({"top_answer": 100.0}, "answers one label throughout"),
        ({"value": 10.5, "low": 9.5}, "scores no better than the majority answer"),
    ],
)
def test_a_tuned_model_that_scores_as_a_constant_has_nothing_to_locate(
    tmp_path: Path, whole: dict[str, float], said: str
) -> None:
    write_table(tmp_path, "felt", GAINS, **whole)
    (warning,) = brief(tmp_path, "felt", KINDS).warnings
    assert warning.startswith("Nothing to locate: ")
    assert said in warning


def test_a_tuning_without_gain_is_told_so(tmp_path: Path) -> None:
    write_table(tmp_path, "felt", {"q": 0.1, "all": 0.5})
    assert "does not raise the mean weighted F1" in brief(tmp_path, "felt", KINDS).text


def test_layers_that_are_not_adapted_are_counted(tmp_path: Path) -> None:
    write_deltas(tmp_path, "felt", "gate", adapted=1)
    found = brief(tmp_path, "felt", KINDS)
    assert found.warnings == ["felt: only 1 of 3 layers are adapted."]


def test_a_tuning_that_learned_no_more_than_its_null_is_told_so(tmp_path: Path) -> None:
    rows = [
        {"pair": pair, "null": null, "seed": seed, "step": 0, "loss": loss, "passes": 1.0}
        for seed in (0, 1, 2)
        for pair, null, loss in (("felt", "void", 1.244), ("void", "", 1.254))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "training.csv", index=False)
    (warning,) = brief(tmp_path, "felt", KINDS).warnings
    assert warning.startswith("felt learned no more than its null void: final loss 1.244 against ")


def test_a_table_has_the_brief_of_its_pair_and_other_files_have_none(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_deltas(results, "felt", "gate")
    table = write_table(results, "felt", GAINS)
    (tmp_path / "params.yaml").write_text("pairs: {felt: {base: small, tuned: x}}\n")
    found = brief_of_table(table)
    assert found is not None
    assert found.pair == "felt"
    assert len(found.sentences) == 3
    (results / "scores.csv").write_text("a,b\n1,2\n")
    assert brief_of_table(results / "scores.csv") is None


def test_the_kinds_of_a_file_that_is_not_validated_are_those_of_the_model() -> None:
    config = {
        "pairs": {
            "a": {"base": "b", "tuned": "t"},
            "n": {"base": "b", "domain": None, "tuned": "t"},
            "s": {"base": "b", "tuning": {"shuffled": True}},
            "bad": 3,
        }
    }
    found = {name: one.evidence for name, one in written_kinds(config).items()}
    assert found == {"a": "affective", "n": "null", "s": "null"}


def test_the_verdicts_are_one_line_with_the_untestable_ones_last(tmp_path: Path) -> None:
    rows = [
        {"claim": name, "level": level, "stated": stated, "verdict": verdict}
        for name, level, stated, verdict in (
            ("C1", "claim", True, "untestable"),
            ("C2", "claim", True, "supported"),
            ("C2", "claim", False, "contradicted"),
            ("C2", "detail", True, "undecided"),
            ("C3", "claim", True, "untestable"),
        )
    ]
    path = tmp_path / "claims.csv"
    assert verdict_line(path) == ""
    pd.DataFrame(rows).to_csv(path, index=False)
    assert verdict_line(path) == "Verdicts: 1 supported (C2); 2 untestable (C1, C3)."
