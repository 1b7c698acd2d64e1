"""The result tables of step `deltas`: their columns, means over layers, and parquet files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affectlocus.core.projections import PROJECTIONS

Row = dict[str, Any]

TUNING = "tuning"
"""Attribute of a table of deltas: how the checkpoint was tuned (`DeltaTables.tuning`)."""
SCORES = ("l2", "relative", "rms", "share_ratio")
"""The sizes by which tables rank projections; each of them favours some projections."""

COLUMNS = (
    *("layer", "projection", "parameter", "numel", "shape", "dtype", "adapted"),
    *("l2", "base_l2", "relative", "rms", "share_ratio", "cosine", "cosine_distance"),
    *("mean", "std", "max_abs", "spectral_norm", "stable_rank", "effective_rank", "dtype_floor"),
)


@dataclass
class DeltaTables:
    """The tables of one pair, as lists of rows.

    Attributes:
        rows: `COLUMNS`, a row per (layer, projection, parameter), summed over experts.
        experts: the same with `expert`, a row per expert; empty without a mixture of experts.
        histogram: `layer`, `projection`, `from`, `to`, `count` of the element-wise relative change
            Δ/w, clipped to [−1, 1]. The row whose `from` and `to` are null counts entries with
            w = 0.
        neurons: `layer`, `projection`, `expert`, `neuron`, `l2` of the change of the weights of a
            feed-forward neuron: its row of gate and up, its column of down.
        tuning: from the files of the pair: the `model_type` of the base and, for a LoRA adapter,
            `method` (lora) and `ranks` (the different ranks of its factors).
        notes: remarks about the checkpoints that do not prevent the measurement.
        unknown: projections that the base may have, if only the adapter is known.
    """

    rows: list[Row] = field(default_factory=list)
    experts: list[Row] = field(default_factory=list)
    histogram: list[Row] = field(default_factory=list)
    neurons: list[Row] = field(default_factory=list)
    tuning: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def summary(rows: list[Row], unknown: Sequence[str] = ()) -> dict[str, Row]:
    """Projection → `adapted`, `layers`, and the means over layers of the scores of its weights.

    A mean without values is None. `adapted` is None for a projection in `unknown`.
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


def write_tables(measured: DeltaTables, out: Path, *, empty: bool = True) -> list[Path]:
    """Writes `out` (the rows) and the files .experts, .histogram and .neurons next to it.

    `DeltaTables.tuning` becomes an attribute of the frame that pandas reads from `out`.

    Args:
        empty: whether tables without rows are written too. If not, their earlier files, which
            belong to another pair, are removed.

    Returns:
        The paths of the files.
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


def arrow_tables(measured: DeltaTables) -> dict[str, Any]:
    """The tables as pyarrow tables, by suffix: "" (the rows), experts, histogram, neurons."""
    import pyarrow as pa

    from affectlocus.core.step_tables import metadata_of

    def plain(row: Row) -> Row:
        # A value that was not measured is null in the file, not NaN.
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
            kinds = kinds.with_metadata(metadata_of({TUNING: measured.tuning}))
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
