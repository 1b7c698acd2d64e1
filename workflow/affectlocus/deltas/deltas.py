"""Step `deltas`: what the tuning changed, per layer and projection, weight and bias apart."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal

import numpy as np

from affectlocus.checkpoints.adapters import Adapter, counted, outside_notes
from affectlocus.checkpoints.architectures import Rows, parts, place
from affectlocus.checkpoints.base_layout import language_model_type, unknown_projections
from affectlocus.checkpoints.computed_matrices import dense
from affectlocus.checkpoints.name_alignment import split_layer
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.spectra import LowRank, Spectrum, full_spectrum, low_rank_scores
from affectlocus.core.errors import InputError
from affectlocus.core.projections import FFN, PROJECTIONS, Location
from affectlocus.deltas.measure import BINS, Job, Sums, measure_all

Row = dict[str, Any]
Progress = Callable[[int, int], None]

TUNING = "tuning"
"""The attribute of a table of deltas that says how the pair's checkpoint was tuned."""
SCORES = ("l2", "relative", "rms", "share_ratio")
"""The sizes that tables rank by, side by side: none of them is fair to every projection."""

COLUMNS = (
    *("layer", "projection", "parameter", "numel", "shape", "dtype", "adapted"),
    *("l2", "base_l2", "relative", "rms", "share_ratio", "cosine", "cosine_distance"),
    *("mean", "std", "max_abs", "spectral_norm", "stable_rank", "effective_rank", "dtype_floor"),
)

_MEASURED = (
    *("l2", "base_l2", "relative", "rms", "cosine", "cosine_distance"),
    *("mean", "std", "max_abs", "dtype_floor"),
)


@dataclass
class Measured:
    """The tables of one pair, as lists of rows.

    Attributes:
        rows: `COLUMNS`, a row per (layer, projection, parameter); experts are summed.
        experts: the same with `expert`, a row each; empty without a mixture of experts.
        histogram: `layer`, `projection`, `from`, `to`, `count` of the element-wise relative change
            Δ/w, clipped to [−1, 1]; `from` and `to` null counts the entries whose w is 0.
        neurons: `layer`, `projection`, `expert`, `neuron`, `l2` of the change of an FFN neuron's
            weights: its row of gate and up, its column of down.
        tuning: what the pair's files say of it: the base's `model_type`; of an adapter the
            `method` (lora) and the `ranks` of its factors, each once.
        notes: sentences about what was let pass.
        unknown: the projections of which an adapter alone does not tell whether its base has them.
    """

    rows: list[Row] = field(default_factory=list)
    experts: list[Row] = field(default_factory=list)
    histogram: list[Row] = field(default_factory=list)
    neurons: list[Row] = field(default_factory=list)
    tuning: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """What is known of one location before experts are summed."""

    shape: tuple[int, ...]
    dtype: str
    adapted: bool
    scores: dict[str, float]
    sums: Sums | None = None
    spectrum: Spectrum | None = None


def deltas(
    pair: Pair, *, spectra: bool = True, companions: bool = True, progress: Progress | None = None
) -> Measured:
    """The deltas of a pair.

    Args:
        spectra: whether the spectra of full deltas are worked out (a low-rank delta's always are:
            they cost nothing).
        companions: whether histograms and norms of neurons are.
        progress: called with the tensors done and their number.

    Raises:
        InputError: no projections in the base, NaN or infinity, tensors that are no weights.
    """
    located = pair.projections
    if not located:
        raise InputError(_nothing_located(pair))
    jobs = {
        location: Job(
            key=location,
            base=pair.base_side(name, rows),
            tuned=pair.tuned_side(name, rows) if pair.adapter is None else None,
            delta=pair.delta_side(name, rows),
            histogram=companions and location.parameter == "weight" and pair.adapted(name),
            neurons=_neurons(location) if companions and pair.adapted(name) else None,
        )
        for location, (name, rows) in located.items()
    }
    changes = {
        location: job.delta
        for location, job in jobs.items()
        if isinstance(job.delta, LowRank) and location.parameter == "weight"
    }
    low_rank = dict(zip(changes, low_rank_scores(changes.values()), strict=True))
    found: dict[Location, _Found] = {}
    for location, sums in measure_all(jobs.values(), progress=progress):
        name, _ = located[location]
        job = jobs[location]
        base = job.base
        assert base is not None
        if sums.nonfinite:
            row, column = divmod(sums.first_nonfinite or 0, base.shape[-1])
            spoilt = not np.isfinite(dense(base)).all()
            raise InputError(
                f"{pair.base.path if spoilt else pair.tuned}: {name}: {sums.nonfinite} entries are "
                f"NaN or infinite, the first in row {row}, column {column}; its delta means nothing"
            )
        scores, spectrum = sums.scores(), None
        adapted = pair.adapted(name)
        if location in low_rank:
            exact, spectrum = low_rank[location]
            scores |= exact
        elif spectra and adapted and location.parameter == "weight":
            spectrum = full_spectrum(base, job.tuned, job.delta)
        found[location] = _Found(
            base.shape,
            (job.stored or base).dtype,
            adapted,
            scores,
            sums,
            spectrum,
        )
    measured = _tables(found)
    measured.notes = pair.notes
    measured.tuning = _tuning(pair)
    return measured


def _tuning(pair: Pair) -> dict[str, Any]:
    found: dict[str, Any] = {"model_type": language_model_type(pair.base.config) or ""}
    adapter = pair.adapter.adapter if pair.adapter else None
    if adapter is not None and adapter.factors:
        found["method"] = "lora"
        found["ranks"] = sorted({adapter.rank(module) for module in adapter.factors})
    return found


def adapter_alone(adapter: Adapter) -> Measured:
    """The deltas of a LoRA adapter without its base: sizes that need no base, the rest null.

    Raises:
        InputError: what only the base tells: which of two parts is the language model, DoRA, a
            projection saved whole; a base that does not have the seven projections.
    """
    unknown = unknown_projections(adapter)
    found: dict[Location, _Found] = {}
    for name in adapter.replaced:
        if place(name) is not None:
            raise InputError(
                f"{adapter.path}: {name} is saved whole, so its change depends on the base's; give "
                "the base as well"
            )
    chosen: dict[Location, tuple[str, Rows | None]] = {}
    for location, module, rows in _located(adapter):
        rival = chosen[location][0] if location in chosen else None
        if rival is None and chosen:
            # Two models' layers may have other numbers, so that no two of them ever meet.
            first, _ = next(iter(chosen.values()))
            rival = first if split_layer(first)[0] != split_layer(module)[0] else None
        if rival is not None:
            raise InputError(
                f"{adapter.path}: {rival} and {module} may both be the language model's; give the "
                "base as well, which tells"
            )
        if adapter.factors[module].magnitude is not None:
            raise InputError(
                f"{adapter.path}: {module} is tuned by DoRA, whose delta depends on the base's "
                "weight; give the base as well"
            )
        chosen[location] = module, rows
    shapes: dict[Location, tuple[int, ...]] = {}

    def changes() -> Iterator[LowRank]:
        for location, (module, rows) in chosen.items():
            change = adapter.low_rank(module, rows)
            shapes[location] = change.shape
            yield change

    nothing = dict.fromkeys(_MEASURED, math.nan)
    for (location, (module, _)), (scores, spectrum) in zip(
        chosen.items(), low_rank_scores(changes()), strict=True
    ):
        if not math.isfinite(scores["l2"]):
            raise InputError(f"{adapter.path}: the factors of {module} hold NaN or infinity")
        found[location] = _Found(shapes[location], "", True, nothing | scores, spectrum=spectrum)
    if not found:
        touched = sorted({module.rpartition(".")[2] for module in adapter.factors})
        raise InputError(
            f"{adapter.path}: it touches {', '.join(touched) or 'nothing'}, none of the seven "
            "projections; expected a model with q, k, v, o, gate, up and down"
        )
    measured = _tables(found)
    measured.unknown = unknown
    measured.notes = [*adapter.notes, *outside_notes(adapter.path, adapter.factors)]
    if adapter.replaced:
        measured.notes.append(
            f"{adapter.path} holds {counted(adapter.replaced, 'whole tensor')}, as "
            f"{min(adapter.replaced)}: not measured, as only the base tells what that changes"
        )
    if untouched := adapter.untouched_targets():
        measured.notes.append(
            f"{adapter.path}: target_modules names {', '.join(untouched)}, and there are no "
            "factors of that name: if its base has such modules, the adapter is incomplete"
        )
    return measured


def _located(adapter: Adapter) -> Iterator[tuple[Location, str, Rows | None]]:
    config = adapter.base_config
    for module in adapter.factors:
        name = f"{module}.weight"
        rows = adapter.tensors.shape(adapter.factors[module].b)[
            1 if adapter.factors[module].layout.startswith("mlx") else 0
        ]
        for location, ranges in parts(name, rows, config):
            yield location, module, ranges


def _neurons(location: Location) -> Literal["rows", "columns"] | None:
    if location.projection not in FFN or location.parameter != "weight":
        return None
    return "columns" if location.projection == "down" else "rows"


def _tables(found: dict[Location, _Found]) -> Measured:
    measured = Measured()
    groups: dict[tuple[int, str, str], dict[Location, _Found]] = {}
    for location in sorted(found, key=lambda one: one.order):
        key = (location.layer, location.projection, location.parameter)
        groups.setdefault(key, {})[location] = found[location]
    for key, members in groups.items():
        here = dict(zip(("layer", "projection", "parameter"), key, strict=True))
        measured.rows.append(here | _summed(list(members.values())))
        for location, one in members.items():
            if location.expert is not None:
                measured.experts.append(here | {"expert": location.expert} | _summed([one]))
            measured.neurons += _neuron_rows(location, one)
        measured.histogram += _histogram_rows(key, list(members.values()))
    _add_shares(measured.rows)
    _add_shares(measured.experts)
    measured.rows = [{name: row[name] for name in COLUMNS} for row in measured.rows]
    return measured


def _summed(members: list[_Found]) -> Row:
    """One row for a projection of a layer, whether it is one matrix or many experts'."""
    adapted = [one for one in members if one.adapted]
    # Of a mixture with some experts adapted, these are what was measured; the rest was frozen.
    members = adapted or members
    scores, spectrum = members[0].scores, members[0].spectrum
    if len(members) > 1:
        spectrum = None  # the experts' spectra are in their own table
        # Experts may differ in width: norms of their neurons do not add up.
        sums = [
            replace(one.sums, row_squares=None, column_squares=None, histogram=None)
            for one in members
            if one.sums is not None
        ]
        if sums:
            scores = reduce(add, sums).scores()
        else:
            numel = sum(math.prod(one.shape) for one in members)
            l2 = math.sqrt(sum(one.scores["l2"] ** 2 for one in members))
            scores = dict.fromkeys(_MEASURED, math.nan)
            scores |= {"l2": l2, "rms": l2 / math.sqrt(numel)}
    if not adapted:
        scores = dict.fromkeys(scores, math.nan) | {"base_l2": scores["base_l2"]}
    shape = "x".join(map(str, members[0].shape))
    return {
        "numel": sum(math.prod(one.shape) for one in members),
        "shape": shape if len(members) == 1 else f"{len(members)}x{shape}",
        "dtype": members[0].dtype,
        "adapted": bool(adapted),
        **scores,
        "spectral_norm": spectrum.spectral_norm if spectrum else math.nan,
        "stable_rank": spectrum.stable_rank if spectrum else math.nan,
        "effective_rank": spectrum.effective_rank if spectrum else math.nan,
    }


def _add_shares(rows: list[Row]) -> None:
    """share_ratio: a weight's share of all squared change over its share of the parameters."""
    weights = [row for row in rows if row["adapted"] and row["parameter"] == "weight"]
    squares = sum(row["l2"] ** 2 for row in weights)
    numel = sum(row["numel"] for row in weights)
    for row in rows:
        row["share_ratio"] = math.nan
    for row in weights:
        if squares:
            row["share_ratio"] = row["l2"] ** 2 / squares / (row["numel"] / numel)


def _histogram_rows(key: tuple[int, str, str], members: list[_Found]) -> Iterator[Row]:
    counted = [one.sums for one in members if one.sums and one.sums.histogram is not None]
    if not counted:
        return
    layer, projection, _ = key
    counts = sum(one.histogram for one in counted if one.histogram is not None)
    assert not isinstance(counts, int)
    for number, count in enumerate(counts.tolist()):
        low, high = (min(1.0, max(-1.0, edge)) for edge in _edges(number))
        yield {"layer": layer, "projection": projection, "from": low, "to": high, "count": count}
    zeros = sum(one.zeros for one in counted)
    yield {"layer": layer, "projection": projection, "from": None, "to": None, "count": zeros}


def _edges(number: int) -> tuple[float, float]:
    """Where a bin begins and ends, before it is clipped: no change is the middle of its bin."""
    half = BINS // 2
    return (number - half - 0.5) / half, (number - half + 0.5) / half


def _neuron_rows(location: Location, one: _Found) -> Iterator[Row]:
    if one.sums is None:
        return
    squares = one.sums.row_squares if one.sums.row_squares is not None else one.sums.column_squares
    if squares is None:
        return
    for neuron, value in enumerate(np.sqrt(squares).tolist()):
        yield {
            "layer": location.layer,
            "projection": location.projection,
            "expert": location.expert,
            "neuron": neuron,
            "l2": value,
        }


def _nothing_located(pair: Pair) -> str:
    names = pair.base.names()
    if any("c_attn" in name for name in names):
        return (
            f"{pair.base.path}: GPT-2's layers (c_attn, c_fc) have no gated feed-forward block, so "
            "there is no gate to compare; expected a model with gate, up and down projections"
        )
    return (
        f"{pair.base.path}: none of its tensors is a q, k, v, o, gate, up or down projection of a "
        f"layer (the first is {names[0]}); expected the names of Qwen, LLaMA, Mistral, Gemma, "
        "Phi-3 or InternLM2"
    )


def summary(rows: list[Row], unknown: Sequence[str] = ()) -> dict[str, Row]:
    """Projection → `adapted`, `layers`, and the means over layers of its weights' scores.

    A mean that no adapted layer gives is None, as is `adapted` of a projection in `unknown`.
    """
    found: dict[str, Row] = {}
    for projection in PROJECTIONS:
        weights = [
            row
            for row in rows
            if row["projection"] == projection and row["parameter"] == "weight" and row["adapted"]
        ]
        adapted = None if projection in unknown else bool(weights)
        means: Row = {"adapted": adapted, "layers": len(weights)}
        for name in COLUMNS[COLUMNS.index("l2") :]:
            values = [row[name] for row in weights if not math.isnan(row[name])]
            means[name] = math.fsum(values) / len(values) if values else None
        found[projection] = means
    return found


def write_tables(measured: Measured, out: Path, *, empty: bool = True) -> list[Path]:
    """Writes `out` (the rows) and its companions beside it: .experts, .histogram, .neurons.

    `Measured.tuning` becomes an attribute of the rows' frame, as pandas reads it.

    Args:
        empty: whether companions without a row are written too; else an earlier one goes, as it
            tells of another pair.
    """
    import pyarrow.parquet as pq

    from affectlocus.core.output_files import replacing

    written = []
    for suffix, table in arrow_tables(measured).items():
        path = out.with_suffix(f".{suffix}{out.suffix}") if suffix else out
        if suffix and not table.num_rows and not empty:
            path.unlink(missing_ok=True)
            continue
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        written.append(path)
    return written


def arrow_tables(measured: Measured) -> dict[str, Any]:
    """The tables as pyarrow's, by suffix: the rows (no suffix), experts, histogram, neurons."""
    import pyarrow as pa

    def plain(row: Row) -> Row:
        # Null, not NaN: nothing was measured.
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
        }

    tables = {}
    for suffix, rows, schema in (
        ("", measured.rows, _schema(pa)),
        ("experts", measured.experts, _schema(pa, expert=True)),
        ("histogram", measured.histogram, _HISTOGRAM),
        ("neurons", measured.neurons, _NEURONS),
    ):
        kinds = schema if isinstance(schema, pa.Schema) else pa.schema(schema)
        if not suffix and measured.tuning:
            kinds = kinds.with_metadata({"PANDAS_ATTRS": json.dumps({TUNING: measured.tuning})})
        tables[suffix] = pa.Table.from_pylist([plain(row) for row in rows], schema=kinds)
    return tables


_HISTOGRAM = [
    *(("layer", "int32"), ("projection", "string")),
    *(("from", "double"), ("to", "double"), ("count", "int64")),
]
_NEURONS = [
    *(("layer", "int32"), ("projection", "string"), ("expert", "string")),
    *(("neuron", "int32"), ("l2", "double")),
]


def _schema(pa: Any, expert: bool = False) -> Any:
    kinds = {
        "layer": "int32",
        "projection": "string",
        "parameter": "string",
        "numel": "int64",
        "shape": "string",
        "dtype": "string",
        "adapted": "bool",
    }
    names = [*COLUMNS[:3], "expert", *COLUMNS[3:]] if expert else list(COLUMNS)
    return pa.schema(
        [(name, kinds.get(name, "string" if name == "expert" else "double")) for name in names]
    )
