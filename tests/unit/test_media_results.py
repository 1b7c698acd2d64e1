"""Scores, tables, figures and claims of pairs with a bridge: rows of the bridge alone decide."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from refusal import refused

from affectlocus.claims.claims import judge_experiment
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.config.scoring import Score
from affectlocus.core.cells import Cell
from affectlocus.evaluation.predictions import Predictions
from affectlocus.reporting.media_bars import media_bars
from affectlocus.reporting.score_bars import singles
from affectlocus.scoring.collect import join_scores, summarise
from affectlocus.scoring.score import score
from affectlocus.scoring.tables import intervals, table

LABELS = ["sad", "happy"]
SAMPLES = 40


def predictions(cell: Cell, right: float) -> Predictions:
    """Answers of which this share is right."""
    gold = [LABELS[number % 2] for number in range(SAMPLES)]
    rows = []
    for number, label in enumerate(gold):
        good = (number * 7919 % SAMPLES) < right * SAMPLES
        for candidate in LABELS:
            loglik = -1.0 if (candidate == label) == good else -2.0
            rows.append(("moods", str(number), label, candidate, loglik, 1))
    columns = ["task", "sample", "label", "candidate", "loglik", "tokens"]
    return Predictions(cell, {"moods": LABELS}, pd.DataFrame(rows, columns=columns))


def cell(kind, modules="", mode="", bridge="tuned", media="", seed=0):
    return Cell(kind, "b", "p", modules, mode, seed, bridge=bridge, media=media)


BASE = Cell("base", "b")
RIGHT = {
    BASE: 0.5,
    cell("load", "bridge"): 0.8,
    cell("load", "bridge", bridge="initial"): 0.5,
    cell("load", "gate"): 0.85,
    cell("load", "up"): 0.8,
    cell("load", "gate", bridge="initial"): 0.55,
    cell("tuned", media="shuffled"): 0.5,
    cell("tuned", bridge="none"): 0.6,
    cell("tuned"): 0.9,
    cell("tune", "bridge"): 0.75,
    cell("tune", "gate"): 0.85,
    cell("tune", "all"): 0.9,
}


def scores_of(*cells: Cell) -> pd.DataFrame:
    return score([predictions(one, RIGHT[one]) for one in cells], Score(resamples=100))


def gains(scores: pd.DataFrame) -> dict[str, str]:
    return dict(zip(scores["cell"], scores["reference"], strict=True))


def test_loads_are_compared_with_the_bridge_alone_and_controls_with_the_tuned_model():
    references = gains(scores_of(*RIGHT))
    assert references["p/load/bridge/seed0"] == "b/base"
    assert references["p/load/gate/seed0"] == "p/load/bridge/seed0"
    assert references["p/load/gate/bridge-initial/seed0"] == "p/load/bridge/bridge-initial/seed0"
    assert references["p/tune/gate/seed0"] == "p/tune/bridge/seed0"
    assert references["p/tuned/shuffled/seed0"] == "p/tuned/seed0"
    assert references["p/tuned/bridge-none/seed0"] == "p/tuned/seed0"
    assert references["p/tuned/seed0"] == "b/base"


def test_a_table_has_a_row_for_every_bridge_and_control():
    rows = scores_of(*list(RIGHT)[:9])
    shown = table(rows, "accuracy", ["moods"])
    assert shown[["modules", "mode", "moods"]].to_numpy().tolist() == [
        ["base", "", 50.0],
        ["bridge", "", 80.0],
        ["bridge", "initial bridge", 50.0],
        ["gate", "", 85.0],
        ["up", "", 80.0],
        ["gate", "initial bridge", 55.0],
        ["all", "shuffled media", 50.0],
        ["all", "no media", 60.0],
        ["all", "", 90.0],
    ]


def test_scores_of_text_have_no_columns_of_media():
    text = [replace(one, bridge="") for one in (cell("load", "gate"), cell("tuned"))]
    rows = score([predictions(one, 0.5) for one in (BASE, *text)], Score(resamples=100))
    assert not {"bridge", "media"} & set(rows.columns)
    both = join_scores([rows, scores_of(BASE, cell("load", "bridge"))])
    assert set(both["bridge"]) == {"", "tuned"}


def test_the_summary_has_the_controls_beside_the_tuned_model():
    found = summarise(scores_of(*RIGHT), "accuracy", {})["accuracy"]["p"]
    assert found["tuned"] == {"seed0": 90.0}
    assert found["tuned shuffled"] == {"seed0": 50.0}
    assert found["load"]["gate bridge-initial seed0"] == 55.0
    several = [predictions(replace(cell("tuned"), seed=seed), 0.9) for seed in (0, 1)]
    several += [predictions(replace(cell("tuned", media="shuffled"), seed=s), 0.5) for s in (0, 1)]
    scores = score([predictions(BASE, 0.5), *several], Score(resamples=100))
    means = summarise(scores, "accuracy", {})["accuracy"]["p"]
    assert means == {"tuned": 90.0, "tuned shuffled": 50.0}


def test_figures_show_the_bridge_and_the_controls():
    rows = scores_of(*[one for one in RIGHT if one.kind != "tune"])
    companion = intervals(rows, "accuracy")
    drawn = media_bars(companion, "media")
    words = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert words[:3] == ["base, no media", "base, tuned bridge", "base, initial bridge"]
    assert {"tuned model", "tuned, shuffled media", "tuned, no media"} <= set(words)
    loads = [one for one in RIGHT if one.kind in ("base", "load") and one.bridge != "initial"]
    bars = singles(intervals(scores_of(*loads, cell("tuned")), "accuracy"), "load")
    words = [text.get_text() for text in bars.legends[0].get_texts()]
    assert "base, tuned bridge" in words
    plt.close("all")
    text = intervals(scores_of(BASE, cell("load", "gate"), cell("tuned")), "accuracy")
    with refused("figure.no-media-control"):
        media_bars(text, "text")


# Claims


def verdicts(cells, claims) -> pd.DataFrame:
    settings = ClaimsSettings.model_validate(
        {"metric": "accuracy", "draws": 100, "claims": {"sets": [], "own": claims}}
    )
    seeds = [
        predictions(replace(one, seed=None if one.pair is None else seed), RIGHT[one])
        for one in cells
        for seed in (0, 1, 2)
        if one.pair is not None or seed == 0
    ]
    return judge_experiment(seeds, {}, {}, settings)[0]


CLAIM = {"mine": {"kind": "above", "what": "load gate", "than": "base", "text": "gate helps"}}
KEEPS = {
    "mine": {
        "kind": "keeps",
        "what": "tune gate",
        "of": "tune all",
        "share": 0.5,
        "above": "base",
        "text": "gate keeps it",
    }
}


@pytest.mark.parametrize(
    ("claim", "row"), [(CLAIM, cell("load", "bridge")), (KEEPS, cell("tune", "bridge"))]
)
def test_a_claim_is_untestable_without_the_bridge_alone(claim, row):
    without = verdicts([one for one in RIGHT if one != row], claim)
    assert set(without["verdict"]) == {"untestable"}
    (why,) = set(without["why"])
    assert f"no cell {row.kind} bridge of p" in why
    assert "the bridge alone" in why
    assert "untestable" not in set(verdicts(RIGHT, claim)["verdict"])


def test_the_base_of_a_claim_is_the_base_with_the_bridge():
    (row,) = verdicts(RIGHT, CLAIM).to_dict("records")
    assert "load gate 85.00, load bridge 80.00" in row["why"]
    assert "p/load/bridge" in row["basis"]
    (row,) = verdicts(RIGHT, KEEPS).to_dict("records")
    assert "bridge 75.00" in row["why"]
    claim = {"mine": CLAIM["mine"] | {"than": "load bridge"}}
    (row,) = verdicts(RIGHT, claim).to_dict("records")
    assert np.isclose(row["effect"], 5.0)


def test_other_bridges_and_controls_are_no_evidence_for_a_claim():
    few = [one for one in RIGHT if one not in (cell("load", "gate"), cell("tuned"))]
    (row,) = verdicts(few, CLAIM).to_dict("records")
    assert row["verdict"] == "untestable"
    assert "not run: add gate to matrix.load" in row["why"]
