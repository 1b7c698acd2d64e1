"""Command `diff`: compares two checkpoints without a workflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.pairs import holds_model, is_adapter
from affectlocus.core.checkpoint_files import CHECKPOINT_SUFFIXES, PICKLED
from affectlocus.core.errors import InputError, shortened
from affectlocus.deltas.delta_tables import DELTA_SCORES, DeltaTables, Row
from affectlocus.deltas.deltas import Progress, adapter_alone, deltas
from affectlocus.deltas.layer_values import conclusion, heat_map, largest_layers, layer_rows

FILES = (
    *("deltas.parquet", "deltas.experts.parquet", "deltas.histogram.parquet"),
    *("deltas.neurons.parquet", "heat_map.png", "heat_map.svg"),
)
"""The files that the command may write into its folder."""

_LOCAL = (*CHECKPOINT_SUFFIXES, *PICKLED, ".gguf")

TITLES = {
    "l2": "L2",
    "relative": "relative",
    "rms": "RMS",
    "share_ratio": "share ratio",
    "spectral_norm": "spectral norm",
    "stable_rank": "stable rank",
}


def compare(
    first: Path,
    second: Path | None,
    *,
    then: Sequence[Path] = (),
    alpha: float | None = None,
    prefix: str = "",
    any_base: bool = False,
    spectra: bool = False,
    companions: bool = False,
    progress: Progress | None = None,
    unused: Callable[[dict[str, Any], str], None],
) -> DeltaTables:
    """The deltas of two checkpoints on disk, or of an adapter alone.

    Args:
        first: the base; if `second` is None, an adapter.
        then, alpha, prefix, any_base: as in `Pair`.
        spectra, companions, progress: as in `deltas`.
        unused: called with options and a reason; refuses the first option that is set.

    Raises:
        InputError: checkpoints that are not a pair, or an option without effect.
    """
    no_pth = "it applies to a .pth of trained tensors, and no such file is given"
    if second is None:
        given = {"then": then, "prefix": prefix, "any-base": any_base}
        unused(given, "it needs a base and TUNED")
        if not is_adapter(first):
            raise InputError(
                "pair.no-tuned",
                f"{first}: a model alone has no delta; give the base first and then the tuned one",
                file=first,
            )
        alone = Adapter(first, alpha)
        if alone.layout != "trained-only":
            unused({"alpha": alpha is not None}, no_pth)
        return adapter_alone(alone)
    if is_adapter(first) and not holds_model(first):
        raise InputError(
            "pair.base-is-adapter",
            f"{first}: found an adapter, expected the base; give the base first",
            file=first,
        )
    pair = ModelPair([first, *then], second, alpha, prefix, any_base)
    applied = [*pair.before, *([pair.adapter] if pair.adapter else [])]
    if all(one.adapter.layout != "trained-only" for one in applied):
        unused({"alpha": alpha is not None}, no_pth)
    if pair.adapter is None:
        unused({"any-base": any_base}, f"{second} is a model, not an adapter")
    else:
        unused({"prefix": prefix}, f"{second} is an adapter, not a model")
    measured = deltas(pair, spectra=spectra, companions=companions, progress=progress)
    notes = pair.notes_on_cells()
    measured.outside = pair.outside
    if measured.outside and not any("outside the seven" in note for note in notes):
        notes.insert(0, pair.outside_note(measured.outside))
    measured.notes = [*measured.notes, *notes]
    return measured


def ranked(projections: dict[str, Row], score: str) -> list[str]:
    """The projections by descending mean score; projections that are not adapted come last."""

    def size(name: str) -> float:
        value = projections[name][score]
        return -math.inf if value is None else value

    return sorted(projections, key=size, reverse=True)


def path_hint(source: str) -> str | None:
    """The end of the message "no such file or folder" for a path; None for a possible hub id."""
    hub, at, _ = source.partition("@")
    owner, _, name = hub.partition("/")
    if Path(source).is_symlink():
        return f"; it is a link to {Path(source).readlink()}, which does not exist"
    pathlike = source.startswith((".", "/", "~")) or "./" in source or "\\" in source
    if pathlike or source.endswith(_LOCAL) or not owner or not name or "/" in name:
        return "; expected a model's or an adapter's folder or file, or a hub id (owner/name)"
    if not at and Path(owner).is_dir():
        return f" in {owner}; if it is a hub id, add a revision: {source}@main"
    return None


def short_name(source: str) -> str:
    """The name of a checkpoint for a figure: a hub id, or the last part of a path."""
    path = Path(source).expanduser()
    return shortened(path.resolve().name if path.exists() else source, 60)


def print_table(rows: Sequence[Row], projections: dict[str, Row], score: str, title: str) -> None:
    """Prints a sentence, the projections by descending score, and a heat map of their layers.

    Columns at the end that do not fit are left out.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 80))
    known = [name for name in TITLES if any(row[name] is not None for row in projections.values())]
    largest = largest_layers(rows, score)
    grid = _grid(projections, known, score, title, largest)
    left_out: list[str] = []
    while _width(console, grid) > console.width and (others := [n for n in known if n != score]):
        known.remove(others[-1])
        left_out.insert(0, TITLES[others[-1]])
        grid = _grid(projections, known, score, title, largest)
    console.print(grid)
    layers = heat_map(rows, score)
    if layers is not None:
        console.print(layers)
    console.print(conclusion(rows, score), highlight=False, soft_wrap=False)
    more = f" Too wide for this terminal: {', '.join(left_out)} (see --json)." if left_out else ""
    console.print(
        "Means over layers. L2: eq. 1; relative: L2 over the base's norm, eq. 2; RMS: per weight; "
        "share ratio: share of all squared change over share of all weights (1 is even). Largest "
        f"layer: its number, and its score over the mean. * marks the score that sorts the rows "
        f"(--score {', '.join(DELTA_SCORES)}).{more}",
        highlight=False,
        style="dim",
    )


def _width(console: Console, grid: Table) -> int:
    """The width of a table's rows, without its title."""
    return grid.__rich_measure__(console, console.options.update(max_width=1000)).maximum


def _grid(
    projections: dict[str, Row],
    shown: Sequence[str],
    score: str,
    title: str,
    largest: dict[str, str],
) -> Table:
    # `Text` is not parsed as markup: paths may contain brackets.
    grid = Table(title=Text(title, style="table.title"), title_justify="left")
    grid.add_column("projection", no_wrap=True)
    grid.add_column("layers", justify="right", no_wrap=True)
    for name in shown:
        mark = " *" if name == score else ""
        grid.add_column(TITLES[name] + mark, justify="right", no_wrap=True)
    grid.add_column("largest layer", justify="right", no_wrap=True)
    for name in ranked(projections, score):
        row = projections[name]
        if row["adapted"]:
            numbers = [_digits(row[column]) for column in shown]
            grid.add_row(name, str(row["layers"]), *numbers, largest.get(name, ""))
        else:
            grid.add_row(name, "", "unknown" if row["adapted"] is None else "not adapted")
    return grid


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:#.3g}".rstrip(".")


def report(
    rows: Sequence[Row], projections: dict[str, Row], score: str, **about: Any
) -> dict[str, Any]:
    """The JSON output.

    Returns:
        `about`, `score`, the sentence of `conclusion`, for each projection its means over layers
        (null if it has none), and `layers`: a row for each layer and projection. `about` has
        `outside`, the modules outside the seven that differ; null if no base is given.
    """
    return {
        **about,
        "score": score,
        "conclusion": conclusion(rows, score),
        "projections": projections,
        "layers": layer_rows(rows),
    }
