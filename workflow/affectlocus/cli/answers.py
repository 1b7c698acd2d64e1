"""Commands evaluate, extract and openset: answers of cells, and the labels in their texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affectlocus.cli.shared import (
    Features,
    HardwareText,
    Initial,
    Out,
    Reading,
    Then,
    device,
    features_by_task,
    importing,
    read_features,
    read_frame,
    settings_of,
    settings_option,
    write_frame,
)
from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    from affectlocus.core.cells import Cell


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
            "(of the tuning), draw (number of a random draw), base (by default the name of "
            "--base), bridge (tuned, initial, none), media (shuffled, zero-NAME)"
        ),
    ],
    base: Annotated[
        list[Path],
        typer.Option(help="manifest of the base; of several, each cell takes the one of its seed"),
    ],
    data: Annotated[list[Path], typer.Option(help="prepared task; repeat for several")],
    settings: Annotated[
        str,
        settings_option("readout, readouts, generation, samples, batch_tokens, max_length"),
    ],
    tuned: Annotated[
        list[Path] | None,
        typer.Option(
            help="manifest of the tuned model or adapter; of several, each cell takes its own"
        ),
    ] = None,
    reading: Reading = "{}",
    then: Then = None,
    hardware: HardwareText = "{}",
    features: Features = None,
    initial: Initial = None,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="folder in which the finished answers of each cell to a task are stored for later "
            "jobs; made if missing"
        ),
    ] = None,
) -> None:
    """Build the model of each cell, verify it bit for bit, and evaluate it on every benchmark.

    A cell is a base, a tuned model, a base with the delta of some modules loaded, a base tuned on
    some modules only, or a tuned model with some modules destroyed. Examples of --cells:
    {"kind": "base"}, {"kind": "tuned", "pair": "mine"}, {"kind": "load", "pair": "mine",
    "modules": "gate"}, {"kind": "tune", "pair": "mine", "modules": "gate", "seed": 0},
    {"kind": "ablate", "pair": "mine", "modules": "gate", "mode": "shuffle", "draw": 0}.
    Several cells share one loaded base. With a bridge, a cell reads the features of media
    (--features): {"kind": "load", "pair": "mine", "modules": "gate", "bridge": "tuned"}; the module
    set bridge is base and bridge alone. A cell without a bridge reads the text of the prompts.

    Writes the log-likelihood of every label after every test prompt, and of every text of a task
    with fluency, from which `score` computes scores. For tasks with fluency it also writes texts
    that the cell generates after the openings of some texts (samples). Next to each output,
    verification.json has the counts of the bit-for-bit check; whose tensors the cell has outside
    its module set (outside_is: base or tuned); and the modules outside the seven projections in
    which the two differ (outside_tuned: head, embeddings, norms). Tuned and ablate cells use the
    tuned checkpoint's tokenizer if it has other tokens than the base's.

    With readout generation, writes free text instead: greedy, or sampled (nucleus; the paper uses
    temperature 1, top_p 0.9 and 1200 max_new_tokens), with the task's own prompt, AffectGPT's, or
    the tokenizer's chat template. The text of a sample does not depend on its batch, and is the
    same in every run with one seed. `openset` reads the labels in it.

    With --kept, a killed job resumes after its last finished task, and an added task costs only its
    own answers. A stored answer is used again only if weights, cell, samples, settings, code,
    versions and device are the same.

    Example: affectlocus evaluate load_gate/predictions.parquet
    --cells '{"kind": "load", "pair": "mine", "modules": "gate"}'
    --base qwen2.json --tuned mine.json --data a.parquet --settings '{}'

    Example: affectlocus evaluate tuned/predictions.parquet
    --cells '{"kind": "tuned", "pair": "mine"}' --base qwen2.json --tuned mine.json
    --data a.parquet --settings '{"readout": "generation",
    "generation": {"template": "affectgpt", "sampling": "nucleus", "max_new_tokens": 1200}}'
    """
    from affectlocus.config.evaluation import Evaluate
    from affectlocus.config.hardware import Hardware
    from affectlocus.config.pairs import Reading

    chosen = settings_of(Evaluate, settings)
    devices = settings_of(Hardware, hardware, "--hardware")
    how = settings_of(Reading, reading).model_dump()
    cell_of = _cells(cells, predictions, base)
    tuned_of = dict(zip(cell_of, _manifests(list(cell_of.values()), tuned or []), strict=True))
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
    from affectlocus.data.prepared_task import PreparedTask

    tasks = [PreparedTask.read(path) for path in data]
    names = [task.name for task in tasks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(
            "task.given-twice",
            f"--data: two files are of task {twice}; give one file for each task",
            option="--data",
            task=twice,
        )
    folders = {path: checkpoint_folder(path) for path in [*base, *(tuned or [])]}
    with importing():
        from rich.progress import Progress

        from affectlocus.core.files import write_json
        from affectlocus.evaluation.cell_caches import CellCaches, base_key, task_keys
        from affectlocus.evaluation.evaluate import NO_CACHE
        from affectlocus.evaluation.session import Session
        from affectlocus.orchestration.code_digest import digest
    media_files = features_by_task(features)
    media = {task: read_features(files, "test") for task, files in media_files.items()}
    start = initial and (initial if initial.is_dir() else checkpoint_folder(initial))
    asked_how = {} if kept is None else task_keys(tasks, chosen, media_files)
    found = 0
    with Progress() as progress:
        bar = progress.add_task("", total=None)
        for manifest in base:
            chain = [folders[manifest], *(then or [])]
            session = Session(chain, tasks, chosen, devices, media)
            progress.update(bar, total=len(cell_of) * session.prompts)
            caches = None
            if kept is not None:
                alike = base_key([manifest, *(then or [])], devices, digest("evaluate"), device())
                caches = CellCaches(kept, asked_how, alike, how, initial)
            for out, cell in cell_of.items():
                if _base_of(cell, base) != manifest:
                    continue
                progress.update(bar, description=cell.id)
                own = tuned_of[out]
                cache = caches.of(cell, own) if caches else NO_CACHE
                answers, verified = session.answer(
                    cell,
                    own and folders[own],
                    how,
                    cache,
                    lambda done: progress.advance(bar, done),
                    start,
                )
                found += len(cache.found)
                write_json(out.with_name("verification.json"), {"cell": cell.id, **verified})
                answers.write(out)
    if found:
        from affectlocus.orchestration.plan import FOUND

        every = len(cell_of) * len(tasks)
        typer.echo(f"note: {found} of {every} {FOUND}, in {kept}", err=True)


def _cells(text: str, outputs: list[Path], bases: list[Path]) -> dict[Path, Cell]:
    """Output → its cell."""
    from affectlocus.config.cells import CellList

    cells = [fields.of(bases[0].stem) for fields in settings_of(CellList, text, "--cells").root]
    if len(cells) != len(outputs):
        raise InputError(
            "cell.wrong-number-of-outputs",
            f"--cells: found {len(cells)} cells for {len(outputs)} outputs; give one cell for each "
            "output, in the same order",
            option="--cells",
            found=len(cells),
            expected=len(outputs),
        )
    for cell in cells:
        if _base_of(cell, bases) is None:
            raise InputError(
                "cell.other-base",
                f"--cells: cell {cell.id} of base {cell.base}, but --base is "
                f"{', '.join(map(str, bases))}; pass the manifest of {cell.base}",
                option="--cells",
                cell=cell.id,
                found=bases,
                expected=cell.base,
            )
    folders = [output.absolute().parent for output in outputs]
    for output, folder in zip(outputs, folders, strict=True):
        if folders.count(folder) > 1:
            raise InputError(
                "cell.shared-folder",
                f"{output}: two outputs in one folder; give each a folder of its own, because "
                "verification.json is written next to each",
                file=output,
            )
    return dict(zip(outputs, cells, strict=True))


def _base_of(cell: Cell, bases: list[Path]) -> Path | None:
    """The manifest of a cell's base: that of its seed, or else one that serves every seed."""
    from affectlocus.core.cells import replicate_name

    by_name = {path.stem: path for path in bases}
    return by_name.get(replicate_name(cell.base, cell.seed)) or by_name.get(cell.base)


def _manifests(cells: list[Cell], tuned: list[Path]) -> list[Path | None]:
    """The tuned checkpoint of each cell: the only one given, or the one of its name."""
    from affectlocus.core.cells import replicate_name, tune_checkpoint

    by_name = {path.stem: path for path in tuned}
    found: list[Path | None] = []
    for cell in cells:
        name = replicate_name(str(cell.pair), cell.seed)
        # A pair with the recipe of a tune cell is tuned once, for both.
        if cell.kind == "tune" and (tune_checkpoint(cell) in by_name or name not in by_name):
            name = tune_checkpoint(cell)
        if cell.kind == "base":
            found.append(None)
        elif len(tuned) <= 1:
            found.append(tuned[0] if tuned else None)
        elif name in by_name:
            found.append(by_name[name])
        else:
            raise InputError(
                "cell.no-tuned-checkpoint",
                f"cell {cell.id}: found {len(tuned)} times --tuned; expected {name}.json",
                cell=cell.id,
                option="--tuned",
                found=tuned,
                expected=f"{name}.json",
            )
    return found


def extract(
    predictions: Annotated[Path, typer.Argument(help="predictions.parquet of a cell")],
    model: Annotated[
        Path, typer.Option(help="a causal language model: its folder, or its manifest")
    ],
    cache: Annotated[
        Path, typer.Option(help="folder of stored replies, which jobs may share; made if missing")
    ],
    out: Out,
    settings: Annotated[str, settings_option("batch_tokens, max_new_tokens")] = "{}",
    hardware: HardwareText = "{}",
) -> None:
    """Let a language model list the emotions in a cell's free texts.

    After two examples, the model is asked for a list of the emotions in each text, and for valence
    tasks (labels positive, negative, neutral) then for the polarity of that list. AffectGPT asks
    Qwen2.5-7B-Instruct these two questions; the wording here is our own. Decoding is greedy, so
    the same text has the same reply. Replies are stored in --cache by the SHA-256 of the model's
    files, the prompt and the settings. If all replies are stored, the model is not loaded.
    `openset` reads the output.

    Example: affectlocus extract predictions.parquet --model Qwen2.5-7B-Instruct --cache replies
    --out extracted.parquet
    """
    from affectlocus.config.evaluation import Extraction
    from affectlocus.config.hardware import Hardware
    from affectlocus.core.output_files import check_output
    from affectlocus.evaluation.predictions import Predictions

    chosen = settings_of(Extraction, settings)
    devices = settings_of(Hardware, hardware, "--hardware")
    answers = Predictions.read(predictions, "text")
    check_output(out)
    if not model.exists():
        raise InputError(
            "model.not-found",
            f"--model {model}: no such folder or file; expected a model, or its manifest",
            option="--model",
            file=model,
        )
    if model.is_dir() and not (model / "config.json").is_file():
        raise InputError(
            "model.no-config",
            f"--model {model}: no config.json in it; expected a Hugging Face model",
            option="--model",
            file=model,
        )
    with importing():
        from rich.progress import Progress

        from affectlocus.checkpoints.checkpoint_manifests import (
            checkpoint_folder,
            weights_digest,
        )
        from affectlocus.evaluation.extract import Extractor, ReplyCache
        from affectlocus.evaluation.extract import extract as run
    folder = model if model.is_dir() else checkpoint_folder(model)
    with Progress() as progress:
        bar = progress.add_task("texts asked", total=None)
        found = run(
            answers,
            ReplyCache(cache, weights_digest(model), chosen),
            Extractor(folder, chosen, devices),
            lambda done: progress.advance(bar, done),
        )
    write_frame(found, out)


def openset(
    predictions: Annotated[Path, typer.Argument(help="predictions.parquet of a cell")],
    out: Out,
    extracted: Annotated[Path | None, typer.Option(help="output of extract for this cell")] = None,
) -> None:
    """Read the labels in a cell's free texts: emotion words, and the first label of the task.

    Without --extracted, by fixed rules, in English and Chinese: lists in brackets, sentences such
    as "the character's emotional state is happy and a bit worried", commas of either width,
    negations. Writes the predictions with openset (the words), valence (of valence tasks) and
    answer (the first label that is named, or none), which `score` takes in their place.

    Example: affectlocus openset predictions.parquet --out openset.parquet
    """
    from affectlocus.evaluation.predictions import Predictions
    from affectlocus.scoring.openset import with_open_sets

    answers = Predictions.read(predictions, "text")
    found = None
    if extracted is not None:
        found = read_frame(extracted, "task", "sample", "emotions", "valence")
    with_open_sets(answers, found).write(out)
