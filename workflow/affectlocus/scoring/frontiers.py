"""Small sets of blocks: size against score, and the smallest set that keeps the gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from affectlocus.config.task_answers import Scoring
from affectlocus.evaluation.place_draws import separated
from affectlocus.scoring.cell_answers import read_answers
from affectlocus.scoring.percentiles import mean_scores

COLUMNS = (
    *("method", "named", "modules", "blocks", "share_of_entries", "share_of_change", "metric"),
    *("selection", "score", "gain_kept", "base", "whole", "p_gain", "smallest"),
)
LEVEL = 0.05
"""A tuned model whose gain has a larger p than this has no gain to keep."""


def frontier_table(
    rows: pd.DataFrame,
    sets: Sequence[Mapping[str, Any]],
    chosen_by: Mapping[str, list[str]],
    labels: dict[str, list[str]],
    metric: str,
    tasks: Mapping[str, Scoring],
    keep: float,
) -> pd.DataFrame:
    """A row for each set, with its score on the samples that did not choose it.

    Args:
        rows: the answers of all cells, as step `smallest` writes them.
        sets: of each set `mode` and `draw` of its cell, `named`, `modules`, `blocks`,
            `share_of_entries`, `share_of_change`.
        chosen_by: task → the samples that chose the sets.
        keep: the share of the gain that the smallest set keeps.

    Returns:
        Columns `COLUMNS`: `method` (greedy, learned, pruned, or named: a set of the matrix); mean
        scores in percent over the samples that chose (`selection`) and the others (`score`);
        `gain_kept` of the latter, 1 for the tuned model; `p_gain`, whether the tuned model gains at
        all (exact sign test on the answers in which it differs from the base); `smallest`, true for
        the method's smallest set that keeps the share, if the tuned model gains.
    """
    choosing = [
        sample in set(chosen_by.get(task, ()))
        for task, sample in zip(rows["task"], rows["sample"], strict=True)
    ]
    halves = {True: rows[choosing], False: rows[[not one for one in choosing]]}
    means = {}
    for half, own in halves.items():
        frame = mean_scores(separated(own, labels), metric, tasks)
        for row in frame.to_dict("records"):
            draw = "" if pd.isna(row["draw"]) else str(int(row["draw"]))
            means[half, row["kind"], row["modules"], row["mode"], draw] = row["value"]
    p = _p_of_gain(halves[False], labels, tasks)
    base, whole = (means[False, kind, "", "", ""] for kind in ("base", "tuned"))
    found = []
    for one in sets:
        facts = {key: value for key, value in one.items() if key not in ("mode", "draw")}
        draw = "" if one["draw"] is None else str(one["draw"])
        place = ("load", one["modules"], one["mode"], draw)
        score = means[(False, *place)]
        kept = (score - base) / (whole - base) if whole > base else float("nan")
        found.append(
            {"method": one["mode"] or "named", "metric": metric, **facts}
            | {"selection": means[(True, *place)], "score": score, "gain_kept": kept}
            | {"base": base, "whole": whole, "p_gain": p}
        )
    frame = pd.DataFrame(found)
    frame["smallest"] = False
    if whole > base and p <= LEVEL:
        enough = frame[frame["gain_kept"] >= keep]
        for _, own in enough.groupby("method", sort=False):
            frame.loc[own["share_of_entries"].idxmin(), "smallest"] = True
    order = frame["method"].map({"named": 3, "greedy": 0, "learned": 1, "pruned": 2})
    frame = frame.assign(order=order).sort_values(["order", "share_of_entries"], kind="stable")
    return frame[list(COLUMNS)].reset_index(drop=True)


def _p_of_gain(
    rows: pd.DataFrame, labels: dict[str, list[str]], tasks: Mapping[str, Scoring]
) -> float:
    """One-sided exact sign test: the tuned model is right where the base is wrong, more often."""
    right = {}
    whole = rows[rows["kind"].isin(("base", "tuned"))]
    for one in separated(whole, labels):
        answers = read_answers(one, tasks).chosen
        right[one.cell.kind] = (answers["answer"] == answers["label"]).to_numpy()
    gained = int((right["tuned"] & ~right["base"]).sum())
    lost = int((~right["tuned"] & right["base"]).sum())
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue)


def sentences(frame: pd.DataFrame, keep: float) -> list[str]:
    """What a frontier says, a sentence for each method."""
    first = frame.iloc[0]
    if not (first["whole"] > first["base"] and first["p_gain"] <= LEVEL):
        return [
            f"the tuned model scores {first['whole']:.1f}, the base {first['base']:.1f} "
            f"(p = {first['p_gain']:.2g}): there is no gain to keep, and no set is claimed"
        ]
    found = []
    for method in ("greedy", "learned", "pruned"):
        own = frame[(frame["method"] == method) & frame["smallest"]]
        for _, row in own.iterrows():
            found.append(
                f"{method}: {row['modules']} ({row['blocks']} blocks, "
                f"{100 * row['share_of_entries']:.1f} % of the entries) keeps "
                f"{100 * row['gain_kept']:.0f} % of the gain"
            )
        if own.empty:
            found.append(f"{method}: no smaller set keeps {100 * keep:.0f} % of the gain")
    return found
