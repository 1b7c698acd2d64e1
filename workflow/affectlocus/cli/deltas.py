"""Commands deltas, trajectory and diff: what a tuning changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import (
    Reading,
    Then,
    read_frame,
    settings_of,
    settings_option,
    without_effect,
    write_frame,
)
from affectlocus.core.errors import InputError, check_choice, one_line

if TYPE_CHECKING:
    from affectlocus.deltas.delta_tables import DeltaTables

Bases = Annotated[
    list[Path],
    typer.Option(
        "--base", help="manifest of the base checkpoint; repeat for one of each tuned one"
    ),
]
Outputs = Annotated[
    list[Path],
    typer.Option(
        "--out",
        help="file to write, one for each tuned checkpoint in the same order; replaced as a whole "
        "or not at all",
    ),
]


def deltas(
    base: Bases,
    tuned: Annotated[
        list[Path],
        typer.Option(help="manifest of the tuned model or adapter; repeat for several seeds"),
    ],
    out: Outputs,
    settings: Annotated[str, settings_option("spectra, companions")] = "{}",
    reading: Reading = "{}",
    then: Then = None,
) -> None:
    """Measure what the tuning changed, per layer and projection, into a parquet file.

    Columns: layer, projection, parameter, numel, shape, dtype, adapted, l2 (eq. 1), base_l2,
    relative (eq. 2), rms, share_ratio, cosine, cosine_distance, mean, std, max_abs, spectral_norm,
    stable_rank, effective_rank, dtype_floor. Next to it: the same for single experts (.experts),
    histograms of the element-wise relative change (.histogram), norms of FFN neurons (.neurons).

    Example: affectlocus deltas --base qwen2.json --tuned affective.json --out deltas.parquet
    """
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
    from affectlocus.checkpoints.pairs import Pair
    from affectlocus.config.measures import Deltas
    from affectlocus.config.pairs import Reading
    from affectlocus.deltas.delta_tables import write_tables
    from affectlocus.deltas.deltas import deltas as run

    chosen = settings_of(Deltas, settings)
    how = settings_of(Reading, reading)
    for its_base, its_tuned, its_out in _matched(base, tuned, out):
        chain = [checkpoint_folder(its_base), *(then or [])]
        pair = Pair(chain, checkpoint_folder(its_tuned), **how.model_dump())
        with _tensors() as show:
            measured = run(
                pair, spectra=chosen.spectra, companions=chosen.companions, progress=show
            )
        for note in measured.notes:
            typer.echo(f"note: {one_line(note)}", err=True)
        write_tables(measured, its_out)


def _matched(
    bases: list[Path], tuned: list[Path], outputs: list[Path]
) -> list[tuple[Path, Path, Path]]:
    """Base, tuned checkpoint and output of each measurement; one base may serve all.

    Raises:
        InputError: there are other numbers of bases or outputs than of tuned checkpoints.
    """
    if len(bases) == 1:
        bases = bases * len(tuned)
    for option, given in (("--base", bases), ("--out", outputs)):
        if len(given) != len(tuned):
            raise InputError(
                "option.other-number",
                f"{option}: found {len(given)} for {len(tuned)} times --tuned; give one for each, "
                "in the same order",
                option=option,
                found=len(given),
                expected=len(tuned),
            )
    return list(zip(bases, tuned, outputs, strict=True))


def trajectory(
    base: Bases,
    tuned: Annotated[
        list[Path],
        typer.Option(
            help="manifest of a checkpoint that was tuned here with `trajectory`; repeat for "
            "several seeds"
        ),
    ],
    out: Outputs,
) -> None:
    """Measure the delta at steps along the tuning, per layer and projection.

    Columns: step, layer, projection, numel, l2 (eq. 1), relative (eq. 2), rms, share_ratio, and the
    cosine with the delta at the end: a direction that settles early is near 1 early.

    Example: affectlocus trajectory --base qwen2.json --tuned mine.json --out trajectory.parquet
    """
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
    from affectlocus.core.files import read_object
    from affectlocus.deltas.trajectory import snapshots
    from affectlocus.deltas.trajectory import trajectory as run

    for its_base, its_tuned, its_out in _matched(base, tuned, out):
        record = read_object(its_tuned, "the manifest of a checkpoint")
        last = record.get("recipe", {}).get("steps", 0)
        states = snapshots(checkpoint_folder(its_tuned), record.get("snapshots", []), last)
        write_frame(run(checkpoint_folder(its_base), states), its_out)


def diff(
    base: Annotated[
        str,
        typer.Argument(
            help="a model: folder, file or hub id (owner/name, or owner/name@revision); "
            "or an adapter, if it is all there is"
        ),
    ],
    tuned: Annotated[
        str | None, typer.Argument(help="what was tuned from it: a model, an adapter or a .pth")
    ] = None,
    score: Annotated[
        str, typer.Option(help="what to sort by: l2, relative, rms or share_ratio")
    ] = "rms",
    out: Annotated[
        Path | None,
        typer.Option(help="folder for the parquet files and the heat map  [default: diff]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--html", help="page to write: one file, with the tables and the heat map"),
    ] = None,
    then: Then = None,
    alpha: Annotated[float | None, typer.Option(help="LoRA alpha, if a .pth has none")] = None,
    prefix: Annotated[
        str, typer.Option(help="prefix of the tuned model's tensor names: language_model.")
    ] = "",
    any_base: Annotated[
        bool, typer.Option(help="read an adapter even if it names another base")
    ] = False,
    spectra: Annotated[
        bool, typer.Option(help="also compute spectra of full deltas; minutes for a large model")
    ] = False,
) -> None:
    """Show where a fine-tune landed: the seven projections of two checkpoints, most changed first.

    Also works on an adapter alone, with the sizes that need no base. Reads safetensors, .bin and
    .pth files, and adapters of peft and MLX, in chunks and with little memory. Prints a table, a
    heat map of the layers and a sentence. --json prints the same as one object, with the values of
    every layer, and writes files only with --out. --html writes a page that can be sent.

    Example: affectlocus diff Qwen2.5-3B law-adapter --score relative
    """
    from affectlocus.core.errors import shortened
    from affectlocus.core.output_files import check_folder_of_outputs, check_output
    from affectlocus.data.named_checkpoint import checkpoint_path
    from affectlocus.deltas.delta_tables import DELTA_SCORES, summary, write_tables
    from affectlocus.deltas.diff import FILES, compare, print_table, report, short_name

    check_choice("--score", score, DELTA_SCORES)
    folder = None if as_json and out is None else out or Path("diff")
    if folder is not None:
        check_folder_of_outputs(folder, FILES)
    if page is not None:
        check_output(page, inputs=[Path(one) for one in (base, tuned) if one])
    first = checkpoint_path(base)
    second = checkpoint_path(tuned) if tuned else None
    with _tensors() as show:
        measured = compare(
            first,
            second,
            then=then or [],
            alpha=alpha,
            prefix=prefix,
            any_base=any_base,
            spectra=spectra,
            companions=folder is not None,
            progress=show,
            unused=without_effect,
        )
    if second is None and score == "relative":
        raise InputError(
            "option.needs-base",
            "--score relative needs the base's norm; give the base too",
            option="--score",
            found=score,
        )
    for note in measured.notes:
        typer.echo(f"note: {one_line(note)}", err=True)
    if measured.unknown:
        typer.echo(
            f"note: the adapter has no factors of {', '.join(measured.unknown)}; give the base too "
            "to see whether it has them",
            err=True,
        )
    found = summary(measured.rows, measured.unknown)
    if not any(row["l2"] for row in found.values()):
        alike = "" if measured.outside else "; both are the same model"
        typer.echo(f"note: no projection differs{alike}", err=True)
    title = shortened(base, 120)
    title += f" → {shortened(tuned, 120)}" if tuned else " (no base given: absolute sizes only)"
    if as_json:
        about = report(
            measured.rows,
            found,
            score,
            base=base if tuned else None,
            tuned=tuned or base,
            outside=measured.outside,
        )
        typer.echo(json.dumps(about, indent=2))
    else:
        print_table(measured.rows, found, score, title)
    sys.stdout.flush()
    if page is not None:
        # Names without folders: the page is for others.
        names = " → ".join(map(short_name, (base, tuned) if tuned else (base,)))
        _write_page(page, names, measured, found, score)
        typer.echo(f"written: {page}", err=True)
    if folder is None:
        return
    if any((folder / name).exists() for name in FILES):
        typer.echo(f"note: the earlier diff in {folder} is replaced", err=True)
    written = write_tables(measured, folder / "deltas.parquet", empty=False)
    from affectlocus.reporting.figure_style import save
    from affectlocus.reporting.heat_map import heat_map

    above = " → ".join(map(short_name, (base, tuned) if tuned else (base,)))
    save(heat_map(read_frame(written[0], "l2"), above), folder / "heat_map")
    typer.echo(f"written: {', '.join(map(str, written))}, {folder / 'heat_map'}.png", err=True)


def _write_page(
    page: Path, title: str, measured: DeltaTables, found: dict[str, Any], score: str
) -> None:
    """Writes the page of `diff --html`."""
    from tempfile import TemporaryDirectory

    import pandas as pd

    from affectlocus.core.files import write_text
    from affectlocus.reporting.diff_page import diff_page
    from affectlocus.reporting.drawings import picture
    from affectlocus.reporting.figure_style import save
    from affectlocus.reporting.heat_map import heat_map

    with TemporaryDirectory() as folder:
        drawing = Path(folder) / "heat_map"
        save(heat_map(pd.DataFrame(measured.rows), ""), drawing)
        shown = picture(drawing.with_suffix(".png"))
    write_text(page, diff_page(title, measured.rows, found, score, shown, measured.notes))


@contextmanager
def _tensors() -> Iterator[Any]:
    """A progress bar of measured tensors, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("tensors")

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        yield show
