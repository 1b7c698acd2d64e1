"""Command `diff`: where a fine-tune landed, for two checkpoints and no workflow."""

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
from affectlocus.deltas.deltas import SCORES, Measured, Progress, Row, adapter_alone, deltas

FILES = (
    *("deltas.parquet", "deltas.experts.parquet", "deltas.histogram.parquet"),
    *("deltas.neurons.parquet", "heat_map.png", "heat_map.svg"),
)
"""What the command may write into its folder."""

_LOCAL = (*CHECKPOINT_SUFFIXES, *PICKLED, ".gguf")

_TITLES = {
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
) -> Measured:
    """The deltas of two checkpoints on disk, or of an adapter alone.

    Args:
        first: the base; the adapter, where `second` is None.
        then, alpha, prefix, any_base: as `Pair`.
        spectra, companions, progress: as `deltas`.
        unused: refuses the first of some options that was given, and says why it has no effect.

    Raises:
        InputError: checkpoints that are no pair, an option without effect.
    """
    no_pth = "only a .pth of trained tensors needs it, and none is given"
    if second is None:
        given = {"then": then, "prefix": prefix, "any-base": any_base}
        unused(given, "it goes with a base and a TUNED")
        if not is_adapter(first):
            raise InputError(
                f"{first}: a model alone has no delta; give the base first and then the tuned one"
            )
        alone = Adapter(first, alpha)
        if alone.layout != "trained-only":
            unused({"alpha": alpha is not None}, no_pth)
        return adapter_alone(alone)
    if is_adapter(first) and not holds_model(first):
        raise InputError(f"{first}: an adapter, where the base is expected; give the base first")
    pair = ModelPair([first, *then], second, alpha, prefix, any_base)
    applied = [*pair.before, *([pair.adapter] if pair.adapter else [])]
    if all(one.adapter.layout != "trained-only" for one in applied):
        unused({"alpha": alpha is not None}, no_pth)
    if pair.adapter is None:
        unused({"any-base": any_base}, f"{second} is a model, not an adapter")
    else:
        unused({"prefix": prefix}, f"{second} is an adapter, not a model")
    measured = deltas(pair, spectra=spectra, companions=companions, progress=progress)
    measured.notes = [*measured.notes, *pair.notes_on_cells()]
    return measured


def ranked(projections: dict[str, Row], score: str) -> list[str]:
    """The projections, largest mean score first; those that were not adapted last."""

    def size(name: str) -> float:
        value = projections[name][score]
        return -math.inf if value is None else value

    return sorted(projections, key=size, reverse=True)


def mistyped(source: str) -> str | None:
    """Why what is not there was meant for a path all the same; None for what may be a hub id.

    The answer goes behind "no such file or folder".
    """
    hub, at, _ = source.partition("@")
    owner, _, name = hub.partition("/")
    if Path(source).is_symlink():
        return f"; the link leads to {Path(source).readlink()}, which is not there"
    pathlike = source.startswith((".", "/", "~")) or "./" in source or "\\" in source
    if pathlike or source.endswith(_LOCAL) or not owner or not name or "/" in name:
        return "; expected a model's or an adapter's folder or file, or a hub id (owner/name)"
    if not at and Path(owner).is_dir():
        return f" in {owner}; if it is a hub's, give the revision: {source}@main"
    return None


def named(source: str) -> str:
    """A checkpoint's name for a figure: a hub id as it is, the last part of a path."""
    path = Path(source).expanduser()
    return shortened(path.resolve().name if path.exists() else source, 60)


def print_table(projections: dict[str, Row], score: str, title: str) -> None:
    """Prints the projections best first, with every size side by side."""
    # Not markup: paths may hold brackets.
    grid = Table(title=Text(title, style="table.title"), title_justify="left")
    grid.add_column("projection")
    grid.add_column("layers", justify="right")
    shown = [name for name in _TITLES if any(row[name] is not None for row in projections.values())]
    for name in shown:
        mark = " *" if name == score else ""
        grid.add_column(_TITLES[name] + mark, justify="right", no_wrap=True)
    for name in ranked(projections, score):
        row = projections[name]
        if row["adapted"]:
            grid.add_row(name, str(row["layers"]), *(_figure(row[column]) for column in shown))
        else:
            grid.add_row(name, "", "unknown" if row["adapted"] is None else "not adapted")
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 100))
    console.print(grid)
    console.print(
        "Means over layers. L2: eq. 1; relative: to the base's norm, eq. 2; RMS: per weight; share "
        "ratio: the share of all squared change over the share of the weights, 1 is even. "
        f"* is what the rows are sorted by (--score {', '.join(SCORES)}).",
        highlight=False,
        style="dim",
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def report(projections: dict[str, Row], **about: Any) -> dict[str, Any]:
    """One JSON object: `about`, and projection → its means over layers (null where none)."""
    return {**about, "projections": projections}
