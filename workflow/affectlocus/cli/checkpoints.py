"""Commands that measure, convert, graft and verify checkpoints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import (
    Out,
    Reading,
    Then,
    importing,
    read_frame,
    settings_of,
    settings_option,
    without_effect,
    write_frame,
)
from affectlocus.core.errors import InputError, check_choice, one_line

if TYPE_CHECKING:
    from affectlocus.deltas.delta_tables import DeltaTables


def deltas(
    base: Annotated[
        list[Path],
        typer.Option(help="manifest of the base checkpoint; repeat for one of each tuned one"),
    ],
    tuned: Annotated[
        list[Path],
        typer.Option(help="manifest of the tuned model or adapter; repeat for several seeds"),
    ],
    out: Annotated[
        list[Path],
        typer.Option(
            "--out",
            help="file to write, one for each tuned checkpoint in the same order; replaced as a "
            "whole or not at all",
        ),
    ],
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
    base: Annotated[
        list[Path],
        typer.Option(help="manifest of the base checkpoint; repeat for one of each tuned one"),
    ],
    tuned: Annotated[
        list[Path],
        typer.Option(
            help="manifest of a checkpoint that was tuned here with `trajectory`; repeat for "
            "several seeds"
        ),
    ],
    out: Annotated[
        list[Path],
        typer.Option(
            "--out",
            help="file to write, one for each tuned checkpoint in the same order; replaced as a "
            "whole or not at all",
        ),
    ],
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


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="a .pth of trained tensors, MLX's adapter folder, or a GGUF file; with --file, an "
            "installed package and its version, NAME==VERSION"
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="folder to write")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="of an adapter: LoRA alpha, if the file has none")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="of an adapter: hub id or folder of the base, for the configuration"),
    ] = None,
    bridge: Annotated[
        str,
        typer.Option(
            help="of a .pth: the system whose bridge it holds: affectgpt or emotion-llama; auto: "
            "the one whose tensors it has; none: convert the adapter alone"
        ),
    ] = "auto",
    modules: Annotated[
        str | None,
        typer.Option(
            help="of a .pth with a bridge: the module set that has LoRA factors, if it is not the "
            "released one"
        ),
    ] = None,
    initial: Annotated[
        Path | None,
        typer.Option(
            help="of a .pth: the checkpoint before training (checkpoint_000000_*.pth); its bridge "
            "is written as bridge_initial"
        ),
    ] = None,
    visual: Annotated[
        str | None,
        typer.Option(
            help="of AffectGPT's .pth: face or frame, the pictures that it was trained on; by "
            "default what the configuration in the file says, or face"
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(help="of a package: its GGUF file; * and ? match any characters"),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="of a GGUF file: its SHA-256")] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="of a GGUF file, in place of --out: manifest to write; the model is kept in "
            "HF_HOME"
        ),
    ] = None,
) -> None:
    """Convert an adapter into a PEFT directory, or a GGUF file into a Hugging Face model.

    A .pth of AffectGPT or Emotion-LLaMA is split into the adapter and the bridge
    (bridge.safetensors and bridge.json), after a check that it has every tensor of its system
    exactly once. Other trained tensors that are not LoRA factors (token embeddings) cannot be
    stored in a PEFT directory; their names are printed. A GGUF file is dequantised into float32,
    and its perplexity on a paragraph of English is printed. From a package that the user has
    installed, only the file is read.

    Example: affectlocus convert checkpoint_000030_loss_0.7.pth --alpha 32 --out adapter
    --initial checkpoint_000000_loss_2.3.pth

    Example: affectlocus convert SmolLM2-135M-Instruct.Q4_1.gguf --out smollm2
    """
    from affectlocus.checkpoints.bridge_layouts import LAYOUTS
    from affectlocus.checkpoints.gguf_files import is_gguf

    check_choice("--bridge", bridge, ("auto", "none", *LAYOUTS))
    if visual is not None:
        check_choice("--visual", visual, ("face", "frame"))
    if file is not None or is_gguf(Path(source)):
        given: dict[str, Any] = {"alpha": alpha is not None, "base": base}
        given |= {"bridge": bridge != "auto", "modules": modules, "initial": initial}
        given |= {"visual": visual}
        without_effect(given, "it applies to adapters, not to GGUF files")
        _convert_gguf(source, file, sha256, out, manifest)
        return
    without_effect({"sha256": sha256, "manifest": manifest}, "it applies to GGUF files only")
    if out is None:
        raise InputError(
            "option.missing", "--out is missing; name the folder to write", option="--out"
        )
    from affectlocus.checkpoints.adapters import Adapter
    from affectlocus.checkpoints.convert import convert as run
    from affectlocus.checkpoints.released_files import bridges_of

    bridges = bridges_of(Path(source), bridge, modules, initial, visual)
    found = run(Adapter(Path(source), alpha), out, base, bridges)
    typer.echo(json.dumps({"out": str(out), **found}, indent=2))


def _convert_gguf(
    source: str, file: str | None, sha256: str | None, out: Path | None, manifest: Path | None
) -> None:
    """Converts a GGUF file into a folder, or into the store below HF_HOME with a manifest."""
    if (out is None) == (manifest is None):
        raise InputError(
            "option.not-one-output",
            "expected --out (a folder to write) or --manifest (a JSON file to write), and not both",
            option="--out",
        )
    from affectlocus.core.extras import needed
    from affectlocus.core.files import write_json
    from affectlocus.core.output_files import check_output
    from affectlocus.data.gguf_sources import gguf_source

    needed("gguf", "affectlocus convert, of a GGUF file,")
    given = gguf_source(source, file, sha256)
    if manifest is not None:
        check_output(manifest, inputs=[given.path])
    with importing():
        from affectlocus.lm.gguf_models import kept_model, write_model
    if manifest is not None:
        write_json(manifest, kept_model(given))
    elif out is not None:
        typer.echo(json.dumps({"out": str(out), **write_model(given, out)}, indent=2))


def graft(
    base: Annotated[Path, typer.Option(help="folder of the base model")],
    tuned: Annotated[Path, typer.Option(help="folder of the tuned model or PEFT adapter")],
    modules: Annotated[str, typer.Option(help="module set, such as gate or q+k+v+o+gate")],
    out: Out,
    kind: Annotated[str, typer.Option(help="load, tuned, or ablate")] = "load",
    mode: Annotated[str, typer.Option(help="ablate: revert, zero, shuffle or noise")] = "",
    seed: Annotated[int, typer.Option(help="seed of shuffle and noise")] = 0,
) -> None:
    """Save a cell as a model of its own: base + the delta of a module set, or the ablated model.

    The result loads with transformers as any other, and is verified bit for bit. Outside the module
    set, head, embeddings and vocabulary included, a load is the base, and an ablation or --kind
    tuned is the tuned model: of an adapter, what peft computes, rounded once to the base's dtype.

    Example: affectlocus graft --base base --tuned adapter --modules gate --out base-with-gate
    """
    from affectlocus.evaluation.graft import save_cell

    counts = save_cell(base, tuned, modules, out, kind, mode, seed)
    typer.echo(json.dumps({"out": str(out), **counts}))


def verify(
    reference: Annotated[Path, typer.Argument(help="folder of a model")],
    changed: Annotated[Path, typer.Argument(help="folder of a model or adapter made from it")],
    modules: Annotated[str, typer.Option(help="the module set that alone may differ")],
) -> None:
    """Check bit for bit that two checkpoints differ in a module set only; exit code 1 if not.

    Bridges of multimodal checkpoints are compared too; --modules bridge allows them alone to
    differ. Without one in the reference, the bridge before the tuning is counted against.

    Example: affectlocus verify base base-with-gate --modules gate
    """
    from affectlocus.evaluation.interventions import verify_folders

    typer.echo(json.dumps(verify_folders(reference, changed, modules)))
