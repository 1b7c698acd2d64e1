"""Cells answer, and labels are read in what they wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import (
    HardwareText,
    Out,
    Reading,
    Then,
    device,
    importing,
    read_frame,
    settings_of,
    settings_option,
    write_frame,
)
from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from affectlocus.config.evaluation import Evaluate
    from affectlocus.config.hardware import Hardware
    from affectlocus.core.cells import Cell
    from affectlocus.lm.readouts import CandidateReadout, FreeTextReadout, TextReadout


def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="parquet file to write for each cell; verification.json is written next to it, so "
            "each cell needs a folder of its own"
        ),
    ],
    cells: Annotated[
        str,
        typer.Option(
            help="JSON text or a json file: a cell, or a list with a cell for each output, in the "
            "same order. Keys: kind (base, tuned, load, tune, ablate), pair, modules, mode, seed "
            "(of the tuning), draw (number of a random draw), base (by default the name of --base)"
        ),
    ],
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    data: Annotated[list[Path], typer.Option(help="prepared task; repeat for several")],
    settings: Annotated[
        str,
        settings_option("readout, readouts, generation, samples, batch_tokens, max_length"),
    ],
    tuned: Annotated[
        list[Path] | None,
        typer.Option(
            help="manifest of the tuned model or adapter; of tune cells one each, by its name"
        ),
    ] = None,
    reading: Reading = "{}",
    then: Then = None,
    hardware: HardwareText = "{}",
    kept: Annotated[
        Path | None,
        typer.Option(
            help="folder in which each cell's answer to a task is kept as soon as it is whole, and "
            "found by a later job; made if missing"
        ),
    ] = None,
) -> None:
    """Build each cell's model, verify it bit for bit, and let it answer every benchmark.

    A cell is a base, a tuned model, a base with the delta of some modules loaded, a base tuned on
    some modules only, or a tuned model with some modules destroyed (--cells says which):
    {"kind": "base"}, {"kind": "tuned", "pair": "mine"}, {"kind": "load", "pair": "mine",
    "modules": "gate"}, {"kind": "tune", "pair": "mine", "modules": "gate", "seed": 0},
    {"kind": "ablate", "pair": "mine", "modules": "gate", "mode": "shuffle", "draw": 0}.
    Several cells share one loaded base. Writes the
    log-likelihood of every label behind every test prompt, and of every text of a task with
    fluency (`score` turns them into scores), with what the cell writes behind the openings of some
    of these texts (samples). Beside it, verification.json has the counts of the bit-for-bit check,
    whose tensors the cell has outside its module set (outside_is: base or tuned), and the modules
    outside the seven projections in which these two differ (outside_tuned: head, embeddings,
    norms). Tuned and ablate cells use the tuned checkpoint's tokenizer where it knows other tokens.

    With readout generation, writes free text instead: greedy, or drawn (sampling nucleus: the
    paper's has temperature 1, top_p 0.9 and 1200 max_new_tokens), behind the task's own prompt,
    AffectGPT's, or the tokenizer's chat template. A sample's text is the same in any batch and at
    any run of one seed. `openset` reads the labels in it.

    With --kept a job that was killed goes on behind the last task that was whole, and a task more
    costs its own answers only: an answer is used again where weights, cell, samples, settings,
    code, versions and device are all what they were.

    Example: affectlocus evaluate load_gate/predictions.parquet
    --cells '{"kind": "load", "pair": "mine", "modules": "gate"}'
    --base qwen2.json --tuned mine.json --data a.parquet --settings '{}'

    Example: affectlocus evaluate tuned/predictions.parquet
    --cells '{"kind": "tuned", "pair": "mine"}' --base qwen2.json --tuned mine.json
    --data a.parquet --settings '{"readout": "generation",
    "generation": {"template": "affectgpt", "sampling": "nucleus", "max_new_tokens": 1200}}'
    """
    from dataclasses import asdict

    from affectlocus.config.evaluation import Evaluate
    from affectlocus.config.hardware import Hardware
    from affectlocus.config.pairs import Reading

    chosen = settings_of(Evaluate, settings)
    devices = settings_of(Hardware, hardware, "--hardware")
    how = settings_of(Reading, reading).model_dump()
    cell_of = _cells(cells, predictions, base)
    manifests = _manifests(list(cell_of.values()), tuned or [])
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder

    frames = [read_frame(path, "text", "prompt", "answer", "task", "labels") for path in data]
    labels = {frame.attrs["task"]: frame.attrs["labels"] for frame in frames}
    folders = {path: checkpoint_folder(path) for path in [base, *(tuned or [])]}
    with importing():
        from rich.progress import Progress

        from affectlocus.core.files import write_json
        from affectlocus.evaluation.evaluate import NO_CACHE, CellModel
        from affectlocus.evaluation.evaluate import evaluate as run
        from affectlocus.evaluation.prediction_cache import PredictionCache
        from affectlocus.lm.prompts import Prompter
        from affectlocus.lm.readouts import CandidateReadout, FreeTextReadout, TextReadout
    prompter, length = Prompter(folders[base]), chosen.max_length
    shared = CellModel([folders[base], *(then or [])], devices)

    def asked_by(prompter: Prompter) -> list[TextReadout | FreeTextReadout | CandidateReadout]:
        return [
            TextReadout.of(task, frame, prompter, length, chosen.samples)
            if not words
            else FreeTextReadout.of(task, frame, prompter, length, chosen.generation, shared.model)
            if chosen.of(task) == "generation"
            else CandidateReadout.of(task, frame, words, prompter, length)
            for frame, (task, words) in zip(frames, labels.items(), strict=True)
        ]

    asked_of = {prompter: asked_by(prompter)}
    asked = asked_of[prompter]
    alike, tasks = {}, {}
    if kept is not None:
        alike = _alike([base, *(then or [])], devices)
        tasks = {
            task: _asked_how(task, words, frame, chosen)
            for frame, (task, words) in zip(frames, labels.items(), strict=True)
        }
    found = 0
    prompters: dict[Path, Prompter] = {}
    with Progress() as progress:
        bar = progress.add_task("", total=len(cell_of) * sum(len(each.prompts) for each in asked))
        for (out, cell), manifest in zip(cell_of.items(), manifests, strict=True):
            progress.update(bar, description=cell.id)
            counts = shared.become(manifest and folders[manifest], cell, **how)
            own_tokens = prompter
            if manifest is not None and cell.kind in ("tuned", "ablate"):
                # A model with more tokens than the base reads texts with its own tokenizer.
                own_tokens = prompters.get(manifest) or prompter.for_checkpoint(folders[manifest])
                prompters[manifest] = own_tokens
            if own_tokens not in asked_of:
                asked_of[own_tokens] = asked_by(own_tokens)
            asked = asked_of[own_tokens]
            _check_tokens(cell, asked, shared.model.get_input_embeddings().weight.shape[0])
            answers = NO_CACHE
            if kept is not None:
                own = {"cell": asdict(cell), "tuned": manifest and _weights(manifest), **how}
                answers = PredictionCache(kept / cell.id, alike | own, tasks)
            frame = run(
                shared.model,
                asked,
                chosen.batch_tokens,
                lambda done: progress.advance(bar, done),
                devices,
                answers,
            )
            found += len(answers.found)
            frame.attrs = {"cell": asdict(cell), "labels": labels}
            write_json(
                out.with_name("verification.json"), {"cell": cell.id, **counts, **shared.outside}
            )
            write_frame(frame, out)
    if found:
        from affectlocus.orchestration.plan import FOUND

        every = len(cell_of) * len(asked)
        typer.echo(f"note: {found} of {every} {FOUND}, in {kept}", err=True)


def _cells(text: str, outputs: list[Path], base: Path) -> dict[Path, Cell]:
    """Output → its cell."""
    from affectlocus.config.cells import CellList

    cells = [fields.of(base.stem) for fields in settings_of(CellList, text, "--cells").root]
    if len(cells) != len(outputs):
        raise InputError(
            f"--cells: found {len(cells)} cells for {len(outputs)} outputs; give one cell for each "
            "output, in the same order"
        )
    for cell in cells:
        if cell.base != base.stem:
            raise InputError(
                f"--cells: cell {cell.id} of base {cell.base}, but --base is {base}; pass the "
                f"manifest of {cell.base}"
            )
    folders = [output.absolute().parent for output in outputs]
    for output, folder in zip(outputs, folders, strict=True):
        if folders.count(folder) > 1:
            raise InputError(
                f"{output}: two outputs in one folder; give each a folder of its own, because "
                "verification.json is written next to each"
            )
    return dict(zip(outputs, cells, strict=True))


def _check_tokens(
    cell: Cell, asked: list[TextReadout | FreeTextReadout | CandidateReadout], rows: int
) -> None:
    """Refuses token ids for which a model has no embedding."""
    for each in asked:
        largest = max((max(ids, default=0) for ids in each.prompts), default=0)
        if largest >= rows:
            raise InputError(
                f"cell {cell.id}: its tokenizer gives token {largest} for a prompt of {each.task}, "
                f"and the model has embeddings of {rows} tokens; the tokenizer belongs to another "
                "model: restore the checkpoint's own"
            )


def _weights(checkpoint: Path) -> str:
    """What tells a checkpoint's weights from any others: of a manifest, what it lists."""
    from affectlocus.checkpoints.checkpoint_manifests import manifest
    from affectlocus.core.files import read_json
    from affectlocus.core.manifests import content_digest, is_manifest, manifest_entry

    if checkpoint.is_dir():
        return content_digest(manifest(checkpoint))
    record = read_json(checkpoint) if checkpoint.suffix == ".json" else {}
    return content_digest(record["files"] if is_manifest(record) else [manifest_entry(checkpoint)])


def _alike(chain: list[Path], hardware: Hardware) -> dict[str, Any]:
    """What decides the answers of every cell: the base, the code, and what computes."""
    import torch

    from affectlocus.orchestration.code_digest import digest

    return {
        "base": [_weights(one) for one in chain],
        "code": digest("evaluate"),
        "device": [
            device(),
            torch.get_num_threads(),
            hardware.model_dump(exclude={"save_minutes"}),
        ],
    }


def _asked_how(
    task: str, labels: list[str], data: pd.DataFrame, settings: Evaluate
) -> dict[str, Any]:
    """What decides the answers to one task, and to no other: of its data, what is asked."""
    from affectlocus.evaluation.prediction_cache import frame_digest

    asked: dict[str, Any] = {"data": frame_digest(data[data["split"] == "test"]), "labels": labels}
    if not labels:
        few = settings.samples
        asked["samples"] = [few.count, few.opening, few.generation.model_dump()]
    elif settings.of(task) == "generation":
        asked["generation"] = settings.generation.model_dump()
    return asked | {"batch_tokens": settings.batch_tokens, "max_length": settings.max_length}


def _manifests(cells: list[Cell], tuned: list[Path]) -> list[Path | None]:
    """The tuned checkpoint of each cell: the only one given, or a tune cell's by its name."""
    from affectlocus.core.cells import tune_checkpoint

    by_name = {path.stem: path for path in tuned}
    found: list[Path | None] = []
    for cell in cells:
        if cell.kind == "base" or len(tuned) <= 1:
            found.append(tuned[0] if tuned else None)
        elif cell.kind == "tune" and tune_checkpoint(cell) in by_name:
            found.append(by_name[tune_checkpoint(cell)])
        else:
            expected = f"{tune_checkpoint(cell)}.json" if cell.kind == "tune" else "a single one"
            raise InputError(f"cell {cell.id}: found {len(tuned)} --tuned; expected {expected}")
    return found


def extract(
    predictions: Annotated[Path, typer.Argument(help="predictions.parquet of a cell")],
    model: Annotated[
        Path, typer.Option(help="a causal language model: its folder, or its manifest")
    ],
    cache: Annotated[
        Path, typer.Option(help="folder of its replies, which jobs may share; made if missing")
    ],
    out: Out,
    settings: Annotated[str, settings_option("batch_tokens, max_new_tokens")] = "{}",
    hardware: HardwareText = "{}",
) -> None:
    """Let a language model read the emotions out of a cell's free texts.

    It is asked, behind two examples, for a list of the emotions in each text, and for valence tasks
    (labels positive, negative, neutral) then for the polarity of that list: the two questions that
    AffectGPT asks Qwen2.5-7B-Instruct, in words of our own, and greedily, so that the same text has
    the same reply. A reply is kept in --cache by the SHA-256 of the model's files, the prompt and
    the settings: nothing is asked twice, and where every reply is there the model is not loaded.
    `openset` reads what is written.

    Example: affectlocus extract predictions.parquet --model Qwen2.5-7B-Instruct --cache replies
    --out extracted.parquet
    """
    from affectlocus.config.evaluation import Extraction
    from affectlocus.config.hardware import Hardware
    from affectlocus.core.output_files import check_output

    chosen = settings_of(Extraction, settings)
    devices = settings_of(Hardware, hardware, "--hardware")
    frame = read_frame(predictions, "text", "labels")
    check_output(out)
    if not model.exists():
        raise InputError(
            f"--model {model}: no such folder or file; expected a model, or its manifest"
        )
    if model.is_dir() and not (model / "config.json").is_file():
        raise InputError(f"--model {model}: no config.json in it; expected a Hugging Face model")
    with importing():
        from rich.progress import Progress

        from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
        from affectlocus.evaluation.extract import Extractor, ReplyCache
        from affectlocus.evaluation.extract import extract as run
    folder = model if model.is_dir() else checkpoint_folder(model)
    with Progress() as progress:
        bar = progress.add_task("texts asked", total=None)
        found = run(
            frame,
            ReplyCache(cache, _weights(model), chosen),
            Extractor(folder, chosen, devices),
            lambda done: progress.advance(bar, done),
        )
    write_frame(found, out)


def openset(
    predictions: Annotated[Path, typer.Argument(help="predictions.parquet of a cell")],
    out: Out,
    extracted: Annotated[
        Path | None, typer.Option(help="what a model read out of its texts (extract)")
    ] = None,
) -> None:
    """Read the labels in a cell's free texts: words for feelings, and which is one of the task's.

    Without --extracted by fixed rules, in English and Chinese: lists in brackets, sentences such
    as "the character's emotional state is happy and a bit worried", commas of either width,
    negations. Writes the predictions with openset (the words), valence (of valence tasks) and
    answer (the first label that is named, or none), which `score` takes in their place.

    Example: affectlocus openset predictions.parquet --out openset.parquet
    """
    from affectlocus.scoring.openset import with_open_sets

    frame = read_frame(predictions, "text", "labels", "cell")
    found = None
    if extracted is not None:
        found = read_frame(extracted, "task", "sample", "emotions", "valence")
    write_frame(with_open_sets(frame, found), out)
