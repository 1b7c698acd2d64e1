"""Step `deltas`: the change of each layer's projections by the tuning, weights and biases apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Literal

import numpy as np

from affectlocus.checkpoints.adapters import Adapter, outside_notes
from affectlocus.checkpoints.architectures import Rows, parts, place
from affectlocus.checkpoints.base_layout import language_model_type, unknown_projections
from affectlocus.checkpoints.computed_matrices import dense
from affectlocus.checkpoints.layout_checks import no_projections
from affectlocus.checkpoints.name_alignment import split_layer
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.spectra import LowRank, Spectrum, full_spectrum, low_rank_scores
from affectlocus.core.errors import InputError
from affectlocus.core.phrases import counted
from affectlocus.core.projections import FFN, Location
from affectlocus.deltas.delta_tables import COLUMNS, DeltaTables, Row, TuningFacts
from affectlocus.deltas.measure import BINS, DeltaJob, Sums, measure_all

Progress = Callable[[int, int], None]

_MEASURED = (
    *("l2", "base_l2", "relative", "rms", "cosine", "cosine_distance"),
    *("mean", "std", "max_abs", "dtype_floor"),
)


@dataclass
class _Measurement:
    """The measurement of one location, before experts are summed."""

    shape: tuple[int, ...]
    dtype: str
    adapted: bool
    scores: dict[str, float]
    sums: Sums | None = None
    spectrum: Spectrum | None = None


def deltas(
    pair: Pair, *, spectra: bool = True, companions: bool = True, progress: Progress | None = None
) -> DeltaTables:
    """The deltas of a pair.

    Args:
        spectra: whether to compute the spectra of full deltas. Those of low-rank deltas are always
            computed, because they are cheap.
        companions: whether to compute histograms and norms of neurons.
        progress: called with the number of tensors done and the number of all tensors.

    Raises:
        InputError: a base without projections, NaN or infinity, tensors that are not weights.
    """
    located = pair.projections
    if not located:
        raise no_projections(pair.base)
    jobs = {
        location: DeltaJob(
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
    found: dict[Location, _Measurement] = {}
    for location, sums in measure_all(jobs.values(), progress=progress):
        name, _ = located[location]
        job = jobs[location]
        base = job.base
        assert base is not None
        if sums.nonfinite:
            row, column = divmod(sums.first_nonfinite or 0, base.shape[-1])
            in_base = not np.isfinite(dense(base)).all()
            raise InputError(
                "checkpoint.not-finite",
                f"{pair.base.path if in_base else pair.tuned}: {name}: {sums.nonfinite} entries "
                f"are NaN or infinite, the first in row {row}, column {column}; give a checkpoint "
                "with finite weights",
                file=pair.base.path if in_base else pair.tuned,
                tensor=name,
                found=sums.nonfinite,
            )
        scores, spectrum = sums.scores(), None
        adapted = pair.adapted(name)
        if location in low_rank:
            exact, spectrum = low_rank[location]
            scores |= exact
        elif spectra and adapted and location.parameter == "weight":
            spectrum = full_spectrum(base, job.tuned, job.delta)
        found[location] = _Measurement(
            base.shape,
            (job.stored or base).dtype,
            adapted,
            scores,
            sums,
            spectrum,
        )
    measured = _tables(found)
    measured.notes = pair.notes
    factors = pair.adapter is not None and pair.adapter.adapter.factors
    measured.tuning = TuningFacts(
        language_model_type(pair.base.config) or "", "lora" if factors else ""
    )
    return measured


def adapter_alone(adapter: Adapter) -> DeltaTables:
    """The deltas of a LoRA adapter without its base; scores that need the base are null.

    Raises:
        InputError: the base is needed: two parts may be the language model, DoRA, or a projection
            that is saved whole. Or the adapter changes none of the seven projections.
    """
    unknown = unknown_projections(adapter)
    found: dict[Location, _Measurement] = {}
    for name in adapter.replaced:
        if place(name) is not None:
            raise InputError(
                "adapter.needs-base",
                f"{adapter.path}: {name} is saved whole, so its change depends on the base; give "
                "the base as well",
                file=adapter.path,
                tensor=name,
            )
    chosen: dict[Location, tuple[str, Rows | None]] = {}
    for location, module, rows in _located(adapter):
        rival = chosen[location][0] if location in chosen else None
        if rival is None and chosen:
            # The layers of two models may have different numbers, so that no location occurs twice.
            first, _ = next(iter(chosen.values()))
            rival = first if split_layer(first)[0] != split_layer(module)[0] else None
        if rival is not None:
            raise InputError(
                "adapter.needs-base",
                f"{adapter.path}: {rival} and {module} may both belong to the language model; give "
                "the base as well",
                file=adapter.path,
                found=(rival, module),
            )
        if adapter.factors[module].magnitude is not None:
            raise InputError(
                "adapter.needs-base",
                f"{adapter.path}: {module} is tuned by DoRA, whose delta depends on the base's "
                "weight; give the base as well",
                file=adapter.path,
                module=module,
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
            raise InputError(
                "checkpoint.not-finite",
                f"{adapter.path}: the factors of {module} hold NaN or infinity",
                file=adapter.path,
                module=module,
            )
        found[location] = _Measurement(
            shapes[location], "", True, nothing | scores, spectrum=spectrum
        )
    if not found:
        changed = sorted({module.rpartition(".")[2] for module in adapter.factors})
        raise InputError(
            "adapter.no-projections",
            f"{adapter.path}: it changes {', '.join(changed) or 'nothing'}, none of the seven "
            "projections; expected an adapter of q, k, v, o, gate, up or down",
            file=adapter.path,
            found=changed,
        )
    measured = _tables(found)
    measured.unknown = unknown
    measured.notes = [*adapter.notes, *outside_notes(adapter.path, adapter.factors)]
    if adapter.replaced:
        measured.notes.append(
            f"{adapter.path} holds {counted(adapter.replaced, 'whole tensor')}, as "
            f"{min(adapter.replaced)}: not measured, because their change depends on the base"
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
        try:
            placed = parts(name, rows, config)
        except InputError as error:
            raise error.within(adapter.path, file=adapter.path) from None
        for location, ranges in placed:
            yield location, module, ranges


def _neurons(location: Location) -> Literal["rows", "columns"] | None:
    if location.projection not in FFN or location.parameter != "weight":
        return None
    return "columns" if location.projection == "down" else "rows"


def _tables(found: dict[Location, _Measurement]) -> DeltaTables:
    measured = DeltaTables()
    groups: dict[tuple[int, str, str], dict[Location, _Measurement]] = {}
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


def _summed(members: list[_Measurement]) -> Row:
    """The row of a projection of a layer, summed over its experts if it has several."""
    adapted = [member for member in members if member.adapted]
    # If only some experts are adapted, only these are measured.
    members = adapted or members
    scores, spectrum = members[0].scores, members[0].spectrum
    if len(members) > 1:
        spectrum = None  # the experts' spectra are in their own table
        # Experts may differ in width, so that the norms of their neurons cannot be added.
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
    """Adds share_ratio: a weight's share of all squared change over its share of parameters."""
    weights = [row for row in rows if row["adapted"] and row["parameter"] == "weight"]
    squares = sum(row["l2"] ** 2 for row in weights)
    numel = sum(row["numel"] for row in weights)
    for row in rows:
        row["share_ratio"] = math.nan
    for row in weights:
        if squares:
            row["share_ratio"] = row["l2"] ** 2 / squares / (row["numel"] / numel)


def _histogram_rows(key: tuple[int, str, str], members: list[_Measurement]) -> Iterator[Row]:
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
    """The limits of a bin, before clipping; a change of 0 is in the middle of its bin."""
    half = BINS // 2
    return (number - half - 0.5) / half, (number - half + 0.5) / half


def _neuron_rows(location: Location, one: _Measurement) -> Iterator[Row]:
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
