"""The result tables of step `deltas`: their columns, means over layers, and parquet files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from affectlocus.core.projections import PROJECTIONS

Row = dict[str, Any]

_TUNING = "tuning"

DELTA_SCORES = ("l2", "relative", "rms", "share_ratio")
"""The measures of a delta's size that rank projections; each favours some projections."""

_PLACE = {"layer": "int32", "projection": "string"}
_MEASURES = {
    "numel": "int64",
    "shape": "string",
    "dtype": "string",
    "adapted": "bool",
    **dict.fromkeys(
        (
            *("l2", "base_l2", "relative", "rms", "share_ratio", "cosine", "cosine_distance"),
            *("mean", "std", "max_abs", "spectral_norm", "stable_rank", "effective_rank"),
            "dtype_floor",
        ),
        "double",
    ),
}
SCHEMAS = {
    "": {**_PLACE, "parameter": "string", **_MEASURES},
    "experts": {**_PLACE, "parameter": "string", "expert": "string", **_MEASURES},
    "histogram": {**_PLACE, "from": "double", "to": "double", "count": "int64"},
    "neurons": {**_PLACE, "expert": "string", "neuron": "int32", "l2": "double"},
}
"""Suffix of a file's name → its columns and their pyarrow types; "" is the file of the rows."""
COLUMNS = tuple(SCHEMAS[""])


@dataclass(frozen=True)
class TuningFacts:
    """What the files of a pair say about its tuning.

    Attributes:
        model_type: of the base, as in its config.json; "" if unknown.
        method: "lora" for a LoRA adapter, else "" (unknown).
    """

    model_type: str = ""
    method: str = ""


def read_tuning_facts(path: Path) -> TuningFacts:
    """The facts in a file of deltas; unknown for a file without them."""
    from affectlocus.core.step_tables import stored_facts

    facts = stored_facts(path).get(_TUNING)
    known = facts if isinstance(facts, dict) else {}
    return TuningFacts(str(known.get("model_type", "")), str(known.get("method", "")))


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
        tuning: what the files of the pair say about the tuning.
        notes: remarks about the checkpoints that do not prevent the measurement.
        outside: the changed modules outside the seven projections; None if they were not compared.
        unknown: projections that the base may have, if only the adapter is known.
    """

    rows: list[Row] = field(default_factory=list)
    experts: list[Row] = field(default_factory=list)
    histogram: list[Row] = field(default_factory=list)
    neurons: list[Row] = field(default_factory=list)
    tuning: TuningFacts = TuningFacts()
    notes: list[str] = field(default_factory=list)
    outside: list[str] | None = None
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

    `read_tuning_facts` reads `DeltaTables.tuning` from `out`.

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

    rows = {
        "": measured.rows,
        "experts": measured.experts,
        "histogram": measured.histogram,
        "neurons": measured.neurons,
    }
    tables = {
        suffix: pa.Table.from_pylist(list(map(plain, rows[suffix])), pa.schema(list(kinds.items())))
        for suffix, kinds in SCHEMAS.items()
    }
    facts = metadata_of({_TUNING: asdict(measured.tuning)})
    return tables | {"": tables[""].replace_schema_metadata(facts)}
