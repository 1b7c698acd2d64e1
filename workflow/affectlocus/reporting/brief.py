"""A pair in brief: what its results say, in plain sentences.

The terminal, the report and the documentation show these sentences. They are written from the
files of results alone: `deltas/`, `table1*_intervals.csv` with its baselines, `training.csv` and
`claims.csv`. A missing file leaves its sentence out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.claims.verdict import (
    CONTRADICTED,
    PRINTED,
    SUPPORTED,
    UNDECIDED,
    UNTESTABLE,
    WITHIN,
)
from affectlocus.config.experiment import Parameters, read
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import METRICS
from affectlocus.core.phrases import in_words
from affectlocus.core.projections import ALL, PROJECTIONS, in_band, parse_modules
from affectlocus.scoring.tables import MEAN
from affectlocus.training.learning import NO_MORE, judged

_MEASURES = {
    "l2": "by L2 norm",
    "relative": "relative to the base's weights",
    "rms": "per weight (RMS)",
}
_VERDICTS = (SUPPORTED, CONTRADICTED, WITHIN, UNDECIDED, UNTESTABLE)
_LOADED = ("load", "tuned")  # the load of all seven is the tuned model
_TABLE = ("modules", "kind", "task", "metric", "value", "low", "gain", "gain_low", "cell")
_MOST = 0.9  # share of the gain that a set must have to be called as good as all
_WHOLE = 99.995  # percent


@dataclass(frozen=True)
class PairKind:
    """What a pair's results are evidence for: `affective`, `control` or `null`; and its base."""

    base: str
    evidence: str


@dataclass(frozen=True)
class Brief:
    """A pair in brief.

    Attributes:
        warnings: reasons to doubt that there is anything to locate; they come first.
        sentences: where it changed most; what carries the gain; what null and control say.
    """

    pair: str
    warnings: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join([*self.warnings, *self.sentences])


def kinds_of(parameters: Parameters) -> dict[str, PairKind]:
    """The kinds of an experiment's pairs."""
    return {name: PairKind(one.base, one.evidence) for name, one in parameters.pairs.items()}


def written_kinds(config: Mapping[str, Any]) -> dict[str, PairKind]:
    """The kinds of the pairs in a params.yaml that is not validated; empty if it has none."""
    pairs = config.get("pairs")
    found = {}
    for name, one in pairs.items() if isinstance(pairs, dict) else ():
        if isinstance(one, dict):
            tuning = one.get("tuning")
            shuffled = isinstance(tuning, dict) and tuning.get("shuffled")
            domain = one.get("domain", "affective")
            evidence = "null" if shuffled or domain is None else str(domain)
            found[str(name)] = PairKind(str(one.get("base")), evidence)
    return found


def brief(results: Path, pair: str, kinds: Mapping[str, PairKind]) -> Brief:
    """The sentences on a pair.

    Args:
        results: an experiment's folder of results.
        kinds: the experiment's pairs.
    """
    deltas, scores = _deltas(results, pair), _loads(results, pair)
    sentences = [
        *_place_sentence(pair, deltas),
        *_gain_sentence(scores),
        *_others_sentence(results, pair, kinds, deltas),
    ]
    warnings = [
        *constant_warning(scores, _baselines(results, pair)),
        *_learning_warning(results, pair),
        *_layers_warning(pair, deltas),
    ]
    return Brief(pair, warnings, sentences if deltas or scores is not None else [])


def warnings_of(results: Path, parameters: Parameters) -> list[str]:
    """The warnings on the pairs of the matrix, if there are results already."""
    kinds = kinds_of(parameters)
    return [
        warning if warning.startswith(pair) else f"{pair}: {warning}"
        for pair in parameters.matrix.pairs
        for warning in brief(results, pair, kinds).warnings
    ]


def brief_of_table(path: Path) -> Brief | None:
    """The pair that a table's csv shows, in brief; None if the file is not the table of a pair.

    The kinds of the pairs are read from the params.yaml next to the folder of results.
    """
    try:
        rows = pd.read_csv(
            path.with_name(f"{path.stem}_intervals.csv"), usecols=["cell", "kind"], dtype=str
        )
    except (OSError, ValueError):
        return None
    cells = rows.loc[rows["kind"] != "base", "cell"].dropna()
    if cells.empty:
        return None
    kinds: dict[str, PairKind] = {}
    with suppress(InputError):
        kinds = written_kinds(read(path.resolve().parent.parent / "params.yaml"))
    found = brief(path.parent, str(cells.iloc[0]).partition("/")[0], kinds)
    return found if found.text else None


def verdict_line(path: Path) -> str:
    """The verdicts of a claims.csv in a line, untestable ones last; empty without the file."""
    if not path.is_file():
        return ""
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    if "stated" not in frame or "level" not in frame:
        return ""
    stated = frame[(frame["level"] == "claim") & frame["stated"].astype(bool)]
    groups: dict[str, list[str]] = {}
    for row in stated.to_dict("records"):
        groups.setdefault(str(row["verdict"]).removesuffix(PRINTED), []).append(str(row["claim"]))
    words = [word for word in _VERDICTS if word in groups]
    parts = [f"{len(groups[word])} {word} ({', '.join(groups[word])})" for word in words]
    return f"Verdicts: {'; '.join(parts)}." if parts else ""


# Where it changed


def _deltas(results: Path, pair: str) -> list[pd.DataFrame]:
    """The rows of a pair's weights, a frame for each replicate."""
    folder = results / "deltas"
    names = [folder / f"{pair}.parquet", *sorted(folder.glob(f"{pair}.seed*.parquet"))]
    paths = [one for one in names if one.is_file() and _is_rows(one.name, pair)]
    columns = ["layer", "projection", "parameter", "adapted", *_MEASURES]
    frames = [pd.read_parquet(path, columns=columns) for path in paths]
    return [frame[frame["parameter"] == "weight"] for frame in frames]


def _is_rows(name: str, pair: str) -> bool:
    """Whether a file has the rows of a pair's deltas, and not their histogram or the like."""
    seed = name.removeprefix(pair).removesuffix(".parquet").removeprefix(".seed")
    return not seed or seed.isdecimal()


def _largest(deltas: Sequence[pd.DataFrame], measure: str) -> tuple[str, int]:
    """The projection with the largest mean over layers, and in how many replicates it is."""
    means = [
        frame[frame["adapted"]].groupby("projection")[measure].mean().reindex(PROJECTIONS)
        for frame in deltas
    ]
    total = sum(one / len(means) for one in means)
    if not isinstance(total, pd.Series) or total.isna().all():
        return "", 0
    name = str(total.idxmax())
    return name, sum(one.idxmax() == name for one in means if not one.isna().all())


def _place_sentence(pair: str, deltas: Sequence[pd.DataFrame]) -> list[str]:
    places: dict[str, list[str]] = {}
    for measure, words in _MEASURES.items():
        name, wins = _largest(deltas, measure) if deltas else ("", 0)
        if name:
            often = f" ({wins} of {len(deltas)} replicates)" if len(deltas) > 1 else ""
            places.setdefault(name, []).append(f"{words}{often}")
    if not places:
        return []
    parts = [f"in {name} {in_words(words)}" for name, words in places.items()]
    return [f"{pair} changed most {in_words(parts)}{_largest_layer(deltas)}."]


def _largest_layer(deltas: Sequence[pd.DataFrame]) -> str:
    squares = pd.concat(deltas).assign(square=lambda rows: rows["l2"] ** 2)
    by_layer = squares.groupby("layer")["square"].sum()
    if len(by_layer) < 2 or not by_layer.sum() > 0:
        return ""
    share = 100 * by_layer.max() / by_layer.sum()
    return f", and of the {len(by_layer)} layers most in layer {by_layer.idxmax()} ({share:.0f} %)"


def _layers_warning(pair: str, deltas: Sequence[pd.DataFrame]) -> list[str]:
    if not deltas:
        return []
    adapted = deltas[0].groupby("layer")["adapted"].any()
    if adapted.all() or not adapted.any():
        return []
    return [f"{pair}: only {adapted.sum()} of {len(adapted)} layers are adapted."]


# What carries the gain


def _loads(results: Path, pair: str) -> pd.DataFrame | None:
    """The rows of a pair's Table 1 for the mean over tasks; None without the table."""
    rows = _companion(results, pair, "intervals")
    return None if rows is None else rows[rows["task"] == MEAN]


def _companion(results: Path, pair: str, kind: str) -> pd.DataFrame | None:
    for name in ("table1", f"table1.{pair}"):
        path = results / f"{name}_intervals.csv"
        if not path.is_file():
            continue
        rows = pd.read_csv(path, keep_default_na=False, na_values=[""])
        # A broken table is refused where it is shown.
        if not set(_TABLE) <= set(rows) or not _shows(rows, pair):
            continue
        if kind == "intervals":
            return rows
        other = path.with_name(f"{name}_{kind}.csv")
        return pd.read_csv(other, keep_default_na=False) if other.is_file() else None
    return None


def _shows(rows: pd.DataFrame, pair: str) -> bool:
    loaded = rows.loc[rows["kind"].isin(_LOADED), "cell"].dropna().astype(str)
    return bool(loaded.str.startswith(f"{pair}/").any())


def _baselines(results: Path, pair: str) -> pd.DataFrame | None:
    return _companion(results, pair, "baselines")


def _whole(scores: pd.DataFrame) -> dict[str, Any] | None:
    """The row of the largest loaded set: all seven, unless the table lacks it."""
    rows: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()}
        for row in scores.to_dict("records")
        if row["kind"] in _LOADED and not in_band(row["modules"])
    ]
    sizes = [len(parse_modules(row["modules"]).projections) for row in rows]
    return rows[sizes.index(max(sizes))] if rows else None


def _gain_sentence(scores: pd.DataFrame | None) -> list[str]:
    whole = None if scores is None else _whole(scores)
    if scores is None or whole is None:
        return []
    name = "all seven projections" if whole["modules"] == ALL else whole["modules"]
    gain, label = float(whole["gain"]), _metric(str(whole["metric"]))
    if not whole["gain_low"] > 0:
        return [
            f"Loading {name} does not raise the mean {label} ({_points(whole)}), so there is no "
            "gain that a place could carry."
        ]
    text = f"Loading {name} raises the mean {label} by {_points(whole)}"
    loads = scores[scores["kind"].isin(_LOADED)]
    singles = loads[loads["modules"].isin(PROJECTIONS)].sort_values("gain", ascending=False)
    if len(singles):
        first = singles.iloc[0]
        if first["gain_low"] > 0:
            share = f"{100 * first['gain'] / gain:.0f} % of it"
            text += f"; alone, {first['modules']} carries most, {_points(first)}, {share}"
            if len(singles) > 1:
                second = singles.iloc[1]
                text += f" (next {second['modules']}, {second['gain']:+.1f})"
        else:
            text += "; no single projection alone raises it beyond its interval"
    enough = [
        (len(parse_modules(row["modules"]).projections), -row["gain"], row["modules"])
        for row in loads.to_dict("records")
        if row["gain"] >= _MOST * gain and row["modules"] != whole["modules"]
    ]
    if enough:
        size, least, modules = min(enough)
        if size > 1:
            text += (
                f"; the smallest loaded set with {100 * _MOST:.0f} % of it is {modules} "
                f"({-least:+.1f})"
            )
    return [f"{text}."]


def _metric(name: str) -> str:
    return METRICS[name].label.partition(" (")[0] if name in METRICS else name


def _points(row: Mapping[str, Any] | pd.Series) -> str:
    return f"{row['gain']:+.1f} points ({row['gain_low']:+.1f} to {row['gain_high']:+.1f})"


def constant_warning(scores: pd.DataFrame | None, baselines: pd.DataFrame | None) -> list[str]:
    """A sentence if the tuned model scores as one constant answer, so that nothing is located.

    Args:
        scores: the rows of Table 1's intervals for the mean over tasks.
        baselines: its baselines.
    """
    whole = None if scores is None else _whole(scores)
    if whole is None:
        return []
    name = "the tuned model" if whole["modules"] == ALL else f"the model with {whole['modules']}"
    top = whole.get("top_answer")
    if top is not None and top == top and top >= _WHOLE:
        return [
            f"Nothing to locate: {name} answers one label throughout, in every task and replicate."
        ]
    if baselines is not None:
        rows = baselines[
            (baselines["baseline"] == "majority")
            & (baselines["task"] == MEAN)
            & (baselines["metric"] == whole["metric"])
        ]
        if len(rows) and whole["low"] <= float(rows["value"].iloc[0]):
            return [
                f"Nothing to locate: {name} scores no better than the majority answer "
                f"({whole['value']:.1f}, interval from {whole['low']:.1f}; majority "
                f"{float(rows['value'].iloc[0]):.1f})."
            ]
    return []


def _learning_warning(results: Path, pair: str) -> list[str]:
    path = results / "training.csv"
    if not path.is_file():
        return []
    found = judged(pd.read_csv(path, keep_default_na=False, na_values=[""]))
    return [one.sentence for one in found if one.pair == pair and one.verdict == NO_MORE]


# What the null and the control say


def _others_sentence(
    results: Path, pair: str, kinds: Mapping[str, PairKind], deltas: Sequence[pd.DataFrame]
) -> list[str]:
    if pair not in kinds:
        return []
    own = kinds[pair]
    others = {
        name: one
        for name, one in kinds.items()
        if name != pair and one.base == own.base and one.evidence in ("null", "control")
    }
    place = _largest(deltas, "l2")[0] if deltas else ""
    parts, same = [], []
    for name in sorted(others, key=lambda name: others[name].evidence != "null"):
        said, largest = _other(results, name, others[name].evidence)
        parts += [said] if said else []
        same += [name] if said and largest == place else []
    if parts:
        text = "; ".join(parts)
        if same:
            text += f": a largest change in {place} is not specific to this tuning"
        return [f"{text[:1].upper()}{text[1:]}."]
    if own.evidence == "null":
        return []
    return [
        "Without results of a null or a control of this base it is open whether another tuning "
        "would change the same places."
    ]


def _other(results: Path, name: str, evidence: str) -> tuple[str, str]:
    """What another pair's results say, empty without any; and where it changed most by L2."""
    said = []
    scores = _loads(results, name)
    whole = None if scores is None else _whole(scores)
    if whole is not None:
        where = " on its own benchmarks" if evidence == "control" else ""
        said.append(f"changes the score by {_points(whole)}{where}")
    deltas = _deltas(results, name)
    largest = _largest(deltas, "l2")[0] if deltas else ""
    if largest:
        said.append(f"changed most in {largest} by L2 norm")
    return (f"the {evidence} {name} {in_words(said)}" if said else ""), largest
