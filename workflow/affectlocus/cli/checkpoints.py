"""Commands convert, graft and verify: checkpoints in, checkpoints out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import (
    Out,
    importing,
    without_effect,
)
from affectlocus.core.errors import InputError, check_choice

if TYPE_CHECKING:
    pass


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
