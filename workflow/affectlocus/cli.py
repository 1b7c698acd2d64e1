"""The command line: every step of the workflow by itself, and a few tools for people.

Nothing heavy is imported here: a command loads what it needs when it runs.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from affectlocus import __version__
from affectlocus.errors import InputError, or_exit

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

    from affectlocus.cells import Cell
    from affectlocus.wheels import Wheels

app = typer.Typer(
    help=(
        "Where in a network did a fine-tune land, and is that place what makes it work?\n\n"
        "The workflow runs these steps for you (snakemake --cores 2). By hand, in this order: "
        "corpus or retrieve, pretrain, prepare, tune, deltas, evaluate, (extract, openset,) score, "
        "tables, figures. "
        "Each STEP --help says what it reads and writes."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Reading = Annotated[
    str, typer.Option(help="JSON of how the pair is read, with any of: alpha, prefix, any_base")
]
Then = Annotated[
    list[Path] | None,
    typer.Option(help="adapter that made the base the one in question; repeat for a chain"),
]
Tasks = Annotated[
    str,
    typer.Option(
        help='JSON of what scoring a task needs to know: {"TASK": {"positive": "yes"}} for '
        'binary_f1, {"TASK": {"number": {"highest": 24, "cutoff": 10}}} for an error'
    ),
]
HardwareText = Annotated[
    str,
    typer.Option(
        "--hardware",
        help="JSON of how a card is used, any of: precision, attention, placement, checkpointing",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="what to write; replaced whole or not at all")]


def _settings_option(keys: str) -> Any:
    return typer.Option(
        "--settings",
        help=f"JSON text, or a yaml or json file, with any of: {keys} "
        "(what each means: workflow/schemas/params.schema.json)",
    )


Model = TypeVar("Model", bound="BaseModel")


@contextmanager
def _importing() -> Iterator[None]:
    """Imports without the garbage collector, which finds nothing in them and costs a sixth."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _settings(model: type[Model], text: str, option: str = "--settings") -> Model:
    """Settings from JSON text or from a file, checked by the step's own pydantic model."""
    import yaml
    from pydantic import ValidationError

    from affectlocus.parameters import sentence

    source = option
    if not text.lstrip().startswith("{"):
        source = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{option}: cannot read {source}: {error}") from None
    try:
        return model.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not YAML or JSON: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        key, complaint = sentence(error)
        where = f"{source}: {key}" if key else source
        raise InputError(f"{where}: {complaint}") from None


def _write_frame(frame: pd.DataFrame, path: Path) -> None:
    from affectlocus.files import replacing

    with replacing(path) as temporary:
        frame.to_parquet(temporary, compression="zstd", index=False)


def _read_frame(path: Path, *columns: str) -> pd.DataFrame:
    """A parquet file of an earlier step, which has these columns and that step's attributes."""
    import pandas as pd
    import pyarrow

    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the step that writes it first") from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        line = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a whole parquet file ({line}); delete it and run again"
        ) from None
    missing = [name for name in columns if name not in frame.columns and name not in frame.attrs]
    if missing:
        raise InputError(f"{path}: no {missing[0]!r} in it; expected another step's file")
    return frame


def _read_companion(path: Path, what: str, column: str) -> pd.DataFrame:
    """A csv beside a table, known by one of its columns."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, keep_default_na=False)
        frame[column]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no table's {what} ({error})") from None
    return frame


def _write_manifest(out: Path, folder: Path, **about: Any) -> None:
    from affectlocus.checkpoints import manifest
    from affectlocus.files import write_json

    write_json(out, {"folder": str(folder), **about, "files": manifest(folder)})


@app.command()
def corpus(
    settings: Annotated[
        str,
        _settings_option("seed, documents, tuning_samples, control_samples, benchmark_samples"),
    ],
    out: Out,
) -> None:
    """Generate the embedded corpus: pre-training text, training sets, eight small benchmarks.

    Writes a folder with pretraining.txt (a document a line) and a csv for each task.

    Example: affectlocus corpus --settings '{"benchmark_samples": 50}' --out corpus
    """
    from affectlocus.corpus import write_corpus
    from affectlocus.parameters import Corpus

    write_corpus(_settings(Corpus, settings), out)


@app.command()
def retrieve(
    source: Annotated[
        str,
        typer.Argument(
            help="a folder in the Hugging Face layout or a file of weights, a hub id (owner/name), "
            "or an http(s) URL, in which ${NAME} stands for an environment variable"
        ),
    ],
    out: Out,
    revision: Annotated[
        str | None,
        typer.Option(help="of a hub id: a commit's 40 hex digits; a branch is pinned in --lock"),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="of a URL: the file's SHA-256")] = None,
    lock: Annotated[
        Path, typer.Option(help="json of the commits that branches are pinned to")
    ] = Path("checkpoints.lock.json"),
    file: Annotated[
        str | None,
        typer.Option(help="of a data set on the hub: the one file to bring; SOURCE is its id then"),
    ] = None,
) -> None:
    """Bring a checkpoint: download what is not here yet, verify it, write a manifest of its files.

    Downloads resume, are verified by their hashes, and stay below HF_HOME. HF_TOKEN, HF_ENDPOINT
    and HF_HUB_OFFLINE are honoured.

    Example: affectlocus retrieve Qwen/Qwen2.5-0.5B --revision main --out results/checkpoints/q.json
    """
    from affectlocus.files import check_output, write_json

    check_output(out)
    if file is not None:
        from affectlocus.sources import retrieve_table

        if revision is None:
            raise InputError(f"{source}: --revision is missing; --file goes with a data set's")
        write_json(out, retrieve_table(source, revision, file, lock))
        return
    from affectlocus.retrieve import retrieve as run

    write_json(out, run(source, revision, sha256, lock))


@app.command()
def pretrain(
    text: Annotated[Path, typer.Option(help="pretraining.txt of a corpus, a document a line")],
    settings: Annotated[
        str,
        _settings_option(
            "architecture, hidden_size, intermediate_size, layers, heads, kv_heads,"
            " sliding_window, steps, batch_size, learning_rate, seed"
        ),
    ],
    folder: Annotated[Path, typer.Option(help="where the checkpoint goes")],
    out: Out,
    threads: Annotated[int, typer.Option(help="CPU threads; part of the seed's result")] = 1,
) -> None:
    """Pre-train a tiny base (Qwen2, LLaMA or Mistral) and save it in the Hugging Face layout.

    Writes the checkpoint's folder and a manifest (--out) with its perplexity on held-out text.

    Example: affectlocus pretrain --text corpus/pretraining.txt
    --settings '{"architecture": "llama", "steps": 200}' --folder checkpoints/llama --out llama.json
    """
    from affectlocus.parameters import Pretraining

    recipe = _settings(Pretraining, settings)
    with _importing():
        import torch

        from affectlocus.files import check_output, replacing
        from affectlocus.pretrain import pretrain as run

    torch.set_num_threads(threads)
    check_output(out)
    with replacing(folder, "pretrain", inputs=[text]) as temporary:
        measured = run(text, recipe, temporary)
    _write_manifest(out, folder, kind="model", **measured)


@app.command()
def prepare(
    name: Annotated[str, typer.Option(help="the task's name, for messages")],
    settings: Annotated[
        str,
        _settings_option(
            "domain, columns, labels, label_separator, unlisted_labels, duplicate_ids, prompt, "
            "context, overlap_limit, header, delimiter, pattern, encoding, rename, split, join, "
            "number, positive, fluency, files, preset, root, corpus"
        ),
    ],
    out: Out,
    report: Annotated[Path, typer.Option(help="json of rows read, kept, left out, overlapping")],
    train: Annotated[Path | None, typer.Option(help="file of the train split")] = None,
    validation: Annotated[Path | None, typer.Option(help="file of the validation split")] = None,
    test: Annotated[Path | None, typer.Option(help="file of the test split")] = None,
    all_splits: Annotated[
        Path | None,
        typer.Option("--all", help="file of every split, told apart by a column ('split')"),
    ] = None,
    join: Annotated[Path | None, typer.Option(help="the file of the settings' join")] = None,
) -> None:
    """Read a task's files (csv, tsv, jsonl, parquet) into one table of prompts and answers.

    Example: affectlocus prepare --name mine --train train.csv --test test.csv
    --settings mine.yaml --out mine.parquet --report mine.json
    """
    from affectlocus.files import write_json
    from affectlocus.parameters import Task
    from affectlocus.prepare import prepare as run
    from affectlocus.sources import handed

    task = _settings(Task, settings)
    files = {"train": train, "validation": validation, "test": test, "all": all_splits}
    given = {key: path for key, path in (files | {"join": join}).items() if path}
    samples, found = run(name, task, handed(task, given))
    samples.attrs = {"task": name, "labels": task.words}
    _write_frame(samples, out)
    write_json(report, found)


@app.command()
def tune(
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    data: Annotated[list[Path], typer.Option(help="prepared task; repeat to mix several")],
    settings: Annotated[
        str,
        _settings_option(
            "method, data, modules, rank, alpha, dropout, steps, batch_size, "
            "learning_rate, warmup, weight_decay, max_length, group_by_length, shuffled, seed, "
            "fair, trajectory"
        ),
    ],
    folder: Annotated[Path, typer.Option(help="where the adapter or model goes")],
    out: Out,
    threads: Annotated[int, typer.Option(help="CPU threads; part of the seed's result")] = 1,
    hardware: HardwareText = "{}",
) -> None:
    """Tune a base on a module set, by LoRA or in full, within a fixed budget.

    Writes an adapter (LoRA) or a model (SFT), and a manifest (--out) with the losses.

    Example: affectlocus tune --base results/checkpoints/qwen2.json --data results/data/mine.parquet
    --settings '{"data": ["mine"], "modules": "gate", "rank": 8}' --folder gate --out gate.json
    """
    from affectlocus.parameters import Hardware, Tuning

    recipe = _settings(Tuning, settings)
    devices = _settings(Hardware, hardware, "--hardware")
    from affectlocus.checkpoints import checkpoint_folder

    frames = [_read_frame(path, "split", "prompt", "answer") for path in data]
    base_folder = checkpoint_folder(base)
    with _importing():
        import torch

        from affectlocus.files import check_output, replacing
        from affectlocus.tune import tune as run

    torch.set_num_threads(threads)
    check_output(out)
    inputs = [base, base_folder, *data]
    with replacing(folder, "tune", inputs=inputs) as temporary:
        measured = run(base_folder, frames, recipe, temporary, devices)
    kind = "adapter" if recipe.method == "lora" else "model"
    _write_manifest(out, folder, kind=kind, recipe=recipe.model_dump(), **measured)


@app.command()
def deltas(
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    tuned: Annotated[Path, typer.Option(help="manifest of the tuned model or adapter")],
    out: Out,
    settings: Annotated[str, _settings_option("spectra, companions")] = "{}",
    reading: Reading = "{}",
    then: Then = None,
) -> None:
    """Measure what the tuning changed, per layer and projection, into a parquet file.

    Columns: layer, projection, parameter, numel, shape, dtype, adapted, l2 (eq. 1), base_l2,
    relative (eq. 2), rms, share_ratio, cosine, cosine_distance, mean, std, max_abs, spectral_norm,
    stable_rank, effective_rank, dtype_floor. Beside it: the same for single experts (.experts),
    histograms of the element-wise relative change (.histogram), norms of FFN neurons (.neurons).

    Example: affectlocus deltas --base qwen2.json --tuned affective.json --out deltas.parquet
    """
    from affectlocus import parameters
    from affectlocus.checkpoints import Pair, checkpoint_folder
    from affectlocus.deltas import deltas as run
    from affectlocus.deltas import write_tables

    chosen = _settings(parameters.Deltas, settings)
    how = _settings(parameters.Reading, reading)
    chain = [checkpoint_folder(base), *(then or [])]
    pair = Pair(chain, checkpoint_folder(tuned), **how.model_dump())
    with _tensors() as show:
        measured = run(pair, spectra=chosen.spectra, companions=chosen.companions, progress=show)
    for note in measured.notes:
        typer.echo(f"note: {note}", err=True)
    write_tables(measured, out)


@app.command()
def trajectory(
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    tuned: Annotated[
        Path, typer.Option(help="manifest of a checkpoint that was tuned here with `trajectory`")
    ],
    out: Out,
) -> None:
    """Measure the delta at steps along the tuning, per layer and projection.

    Columns: step, layer, projection, numel, l2 (eq. 1), relative (eq. 2), rms, share_ratio, and the
    cosine with the delta at the end: a direction that settles early is near 1 early.

    Example: affectlocus trajectory --base qwen2.json --tuned mine.json --out trajectory.parquet
    """
    from affectlocus.checkpoints import checkpoint_folder
    from affectlocus.files import read_json
    from affectlocus.trajectory import snapshots
    from affectlocus.trajectory import trajectory as run

    record = read_json(tuned)
    last = record.get("recipe", {}).get("steps", 0)
    states = snapshots(checkpoint_folder(tuned), record.get("snapshots", []), last)
    _write_frame(run(checkpoint_folder(base), states), out)


@app.command()
def diff(
    base: Annotated[
        str,
        typer.Argument(
            help="a model: folder, file or hub id (owner/name, or owner/name@revision); "
            "or an adapter, if it is all there is"
        ),
    ],
    tuned: Annotated[
        str | None, typer.Argument(help="what was tuned from it: a model, an adapter, a .pth")
    ] = None,
    score: Annotated[
        str, typer.Option(help="what to sort by: l2, relative, rms or share_ratio")
    ] = "rms",
    out: Annotated[
        Path | None,
        typer.Option(help="folder for the parquet files and the heat map  [default: diff]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    then: Then = None,
    alpha: Annotated[float | None, typer.Option(help="LoRA alpha, if a .pth has none")] = None,
    prefix: Annotated[
        str, typer.Option(help="what the tuned model's names begin with, as language_model.")
    ] = "",
    any_base: Annotated[
        bool, typer.Option(help="read an adapter that names another base all the same")
    ] = False,
    spectra: Annotated[
        bool, typer.Option(help="spectra of full deltas too; minutes for a large model")
    ] = False,
) -> None:
    """Show where a fine-tune landed: the seven projections, best first, for two checkpoints.

    Works on an adapter alone too, with the sizes that need no base. Reads safetensors, .bin and
    .pth, peft's and MLX's adapters, in chunks and in little memory. --json
    prints the same as one object, and writes files only where --out is given.

    Example: affectlocus diff Qwen2.5-3B law-adapter --score relative
    """
    from affectlocus.adapters import Adapter
    from affectlocus.checkpoints import Pair, is_adapter
    from affectlocus.deltas import SCORES, adapter_alone, summary, write_tables
    from affectlocus.deltas import deltas as run
    from affectlocus.diff import FILES, named, print_table, report, without_effect
    from affectlocus.errors import shortened
    from affectlocus.files import check_folder_of_outputs

    if score not in SCORES:
        raise InputError(f"--score: unknown {score!r}; expected one of {', '.join(SCORES)}")
    folder = None if as_json and out is None else out or Path("diff")
    if folder is not None:
        check_folder_of_outputs(folder, FILES)
    if tuned is None:
        unused = {"then": then, "prefix": prefix, "any-base": any_base}
        without_effect(unused, "it goes with a base and a TUNED")
    first, second = _brought(base), _brought(tuned) if tuned else None
    told = "only a .pth of trained tensors needs it, and none is given"
    if second is None:
        if not is_adapter(first):
            raise InputError(
                f"{first}: a model alone has no delta; give the base first and then the tuned one"
            )
        alone = Adapter(first, alpha)
        if alone.layout != "trained-only":
            without_effect({"alpha": alpha is not None}, told)
        measured = adapter_alone(alone)
        if score == "relative":
            raise InputError("--score relative needs the base's norm; give the base too")
    else:
        if is_adapter(first):
            raise InputError(
                f"{first}: an adapter, where the base is expected; give the base first"
            )
        pair = Pair([first, *(then or [])], second, alpha, prefix, any_base)
        applied = [*pair.before, *([pair.adapter] if pair.adapter else [])]
        if all(one.adapter.layout != "trained-only" for one in applied):
            without_effect({"alpha": alpha is not None}, told)
        if pair.adapter is None:
            without_effect({"any-base": any_base}, f"{second} is a model, not an adapter")
        else:
            without_effect({"prefix": prefix}, f"{second} is an adapter, not a model")
        with _tensors() as show:
            measured = run(pair, spectra=spectra, companions=folder is not None, progress=show)
    for note in measured.notes:
        typer.echo(f"note: {note}", err=True)
    found = summary(measured.rows)
    if not any(row["l2"] for row in found.values()):
        typer.echo("note: no projection differs at all: the two are one model", err=True)
    title = shortened(base, 120)
    title += f" → {shortened(tuned, 120)}" if tuned else " (no base given: absolute sizes only)"
    if as_json:
        about = report(found, base=base if tuned else None, tuned=tuned or base, score=score)
        typer.echo(json.dumps(about, indent=2))
    else:
        print_table(found, score, title)
    if folder is None:
        return
    sys.stdout.flush()
    if any((folder / name).exists() for name in FILES):
        typer.echo(f"note: {folder} held an earlier diff, which this one replaces", err=True)
    written = write_tables(measured, folder / "deltas.parquet", empty=False)
    from affectlocus.figures import heat_map, save

    above = " → ".join(map(named, (base, tuned) if tuned else (base,)))
    save(heat_map(_read_frame(written[0], "l2"), above), folder / "heat_map")
    typer.echo(f"written: {', '.join(map(str, written))}, {folder / 'heat_map'}.png", err=True)


def _brought(source: str) -> Path:
    """A path as it is, or where a hub id's files lie once they are downloaded."""
    from affectlocus.diff import mistyped
    from affectlocus.errors import shortened

    hub, _, revision = source.partition("@")
    try:
        for path in (Path(source), Path(source).expanduser()):
            if path.exists():
                return path
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such home"
        raise InputError(f"{shortened(source)}: cannot be read ({reason})") from None
    if reason := mistyped(source):
        raise InputError(f"{shortened(source)}: no such file or folder{reason}")
    from affectlocus.retrieve import retrieve as run

    return Path(run(hub, revision or "main", pins=Path("checkpoints.lock.json"))["folder"])


@contextmanager
def _tensors() -> Iterator[Any]:
    """A progress bar of tensors measured, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("tensors")

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        yield show


@app.command()
def convert(
    adapter: Annotated[
        Path, typer.Argument(help="a .pth of trained tensors, or MLX's adapter folder")
    ],
    out: Out,
    alpha: Annotated[float | None, typer.Option(help="LoRA alpha, if the file has none")] = None,
    base: Annotated[
        str | None, typer.Option(help="hub id or folder of the base, for the configuration")
    ] = None,
) -> None:
    """Turn an adapter in another layout into a PEFT directory that peft loads.

    Trained tensors that are no LoRA factors (projectors, token embeddings) have no place in one;
    their names are printed.

    Example: affectlocus convert checkpoint_000030_loss_0.7.pth --alpha 32 --out adapter
    """
    from affectlocus.adapters import Adapter
    from affectlocus.convert import convert as run

    typer.echo(json.dumps({"out": str(out), **run(Adapter(adapter, alpha), out, base)}, indent=2))


@app.command()
def ledger(
    models: Annotated[
        list[Path],
        typer.Argument(help="a model's folder, its config.json, or the manifest of a checkpoint"),
    ],
    modules: Annotated[
        list[str] | None,
        typer.Option(help="module set, such as gate or q+k+v+o; repeat for several"),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="LoRA rank r")] = 16,
    method: Annotated[str, typer.Option(help="lora, or sft: the weights themselves")] = "lora",
    others: Annotated[
        list[str] | None,
        typer.Option(
            help="what else is trained: NAME=COUNT, a yaml or json file of such lines (perhaps in "
            "groups), or affectgpt for the parts that AffectGPT trains; repeat to add"
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option(help="time a step of each set instead, on a small stand-in")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="csv to write; printed where it is none")] = None,
) -> None:
    """Count what a tuning trains, before it is run: parameters, shares, optimizer, adapter.

    Everything follows from the configuration, exactly: no weight is read or made. GET (the paper's
    Algorithm 1) is the row of gate. Each set stands twice: at the given rank, and at the rank at
    which it comes nearest to the parameters of all seven (equal parameters). Shares in percent:
    share (of LoRA on all seven), share_of_trained (the others in the denominator),
    share_plus_others (they stay trained), share_plus_GROUP (one group of them does).

    Example: affectlocus ledger Qwen2.5-7B --modules all --modules gate --others affectgpt
    """
    import pandas as pd

    from affectlocus.budget import SETS
    from affectlocus.projections import format_modules, parse_modules

    if method not in ("lora", "sft"):
        raise InputError(f"--method {method}: expected lora or sft")
    sets = [format_modules(parse_modules(one)) for one in modules or ()]
    if measure:
        from affectlocus.diff import without_effect

        without_effect({"others": others}, "a measured table has no shares")
        if method == "sft":
            raise InputError("--measure times LoRA; leave --method sft out")
    with _importing():
        from affectlocus.budget import ledger as count
        from affectlocus.targets import config_of, layout_of
    frames = []
    for path in models:
        found = layout_of(path)
        asked = sets or [one for one in SETS if found.has(one)]
        if measure:
            from affectlocus.step_times import step_times

            frame = step_times(config_of(path), asked, rank)
            frame.insert(0, "model", found.name)
        else:
            frame = count(
                found, asked, rank, "lora" if method == "lora" else "sft", _others(others, found)
            )
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    if out is None:
        from affectlocus.show import print_frame

        # What says the same in every row stands in the title.
        same = [n for n in ("model", "method") if n in frame and frame[n].nunique() == 1]
        title = ", ".join([str(frame[n].iloc[0]) for n in same] + ["measured"] * measure)
        if not frame.get("beyond_full_rank", pd.Series(dtype=bool)).any():
            same.append("beyond_full_rank")
        print_frame(frame.drop(columns=same, errors="ignore"), title)
        return
    from affectlocus.files import replacing

    with replacing(out) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.4f")


def _others(given: list[str] | None, model: Any) -> dict[str, dict[str, int]]:
    """Parts that are trained beside the language model, by group."""
    import yaml

    from affectlocus.budget import affectgpt, others_of

    found: dict[str, dict[str, int]] = {}
    for text in given or ():
        name, equals, count = text.partition("=")
        if text == "affectgpt":
            if model.hidden_size is None:
                raise InputError(f"{model.name}: no hidden_size, which AffectGPT's parts depend on")
            groups: Any = affectgpt(model.hidden_size)
        elif equals and not Path(text).exists():
            if not count.isdigit():
                raise InputError(f"--others {text}: expected NAME=COUNT, a number of parameters")
            groups = {"others": {name: int(count)}}
        else:
            try:
                content = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                line = " ".join(str(error).split())
                raise InputError(
                    f"--others {text}: cannot be read ({line}); expected NAME=COUNT, affectgpt, or "
                    "a yaml or json file"
                ) from None
            groups = others_of(content, text)
        for group, parts in groups.items():
            found.setdefault(group, {}).update(parts)
    return found


@app.command()
def neurons(
    affective: Annotated[
        list[Path] | None,
        typer.Option(help="PAIR.neurons.parquet of an affective pair's deltas; repeat for several"),
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(help="the same of a control or null on the same base; repeat for several"),
    ] = None,
    share: Annotated[
        float, typer.Option(help="share of the neurons, the most changed, that are called moved")
    ] = 0.01,
    out: Annotated[
        Path | None, typer.Option(help="parquet of moved neurons; printed if none")
    ] = None,
) -> None:
    """Say how concentrated the change is over feed-forward neurons, and which move again.

    Neurons are rows of gate and up and columns of down; all pairs are on one base. Writes, beside
    the moved neurons (--out: in how many affective and other pairs each moved): .concentration
    (Gini coefficient, and the share of the squared change in the top 1 %), .overlaps (the neurons
    that two pairs share, the number expected by chance, and hypergeometric p), .chance (how many
    move in several affective pairs and in no other, and how many would by chance).

    Example: affectlocus neurons --affective results/deltas/mine.neurons.parquet
    --others results/deltas/control.neurons.parquet --out neurons.parquet
    """
    if not 0 < share <= 0.5:
        raise InputError(f"--share {share:g}: expected more than 0, and 0.5 at most")
    given = {
        path: _read_frame(path, "layer", "projection", "neuron", "l2")
        for path in [*(affective or []), *(others or [])]
    }
    if not given:
        raise InputError("give a PAIR.neurons.parquet with --affective or --others")
    import pandas as pd

    from affectlocus import neurons as step

    names = {path: path.name.removesuffix(".parquet").removesuffix(".neurons") for path in given}
    if len(set(names.values())) < len(names):
        raise InputError("two files are of one name; expected another for each pair")
    one = {names[path]: given[path] for path in affective or []}
    two = {names[path]: given[path] for path in others or []}
    each = [step.concentration(frame).assign(pair=name) for name, frame in (one | two).items()]
    chance = step.again_by_chance(one, two, share)
    if out is None:
        from affectlocus.show import print_frame

        met = step.overlaps(one | two, share)
        met = met[met["layer"].isna()].drop(columns=["layer", "expert"])
        spread = pd.concat(each).groupby(["pair", "projection"], sort=False)
        print_frame(spread[["gini", "top_share"]].mean().reset_index(), "mean over layers")
        print_frame(met, "moved neurons that two pairs share")
        print_frame(chance, "moved in several affective pairs, in no other")
        return
    _write_frame(step.moved_neurons(one, two, share), out)
    _write_frame(pd.concat(each, ignore_index=True), out.with_suffix(".concentration.parquet"))
    _write_frame(step.overlaps(one | two, share), out.with_suffix(".overlaps.parquet"))
    _write_frame(chance, out.with_suffix(".chance.parquet"))


@app.command()
def directions(
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    tuned: Annotated[
        list[Path], typer.Option(help="manifest of a tuned model or adapter; two or more")
    ],
    out: Annotated[
        Path | None, typer.Option(help="parquet to write; means printed if none")
    ] = None,
    settings: Annotated[str, _settings_option("rank")] = "{}",
    readings: Annotated[
        str, typer.Option(help="JSON: name of a tuned manifest → how it is read (alpha, prefix, …)")
    ] = "{}",
    then: Then = None,
) -> None:
    """Compare the directions of deltas on one base: the same place, or only the same size?

    For every two and every weight: the cosine of the deltas, and the overlap of the subspaces of
    their leading singular vectors, left (what the change writes) and right (what it reads), each
    beside its value by chance. Two LoRAs of the same seed begin with the same A, so that what they
    read overlaps from the start: compare such an overlap with a control's of the same seed.

    Example: affectlocus directions --base qwen2.json --tuned affective.json --tuned control.json
    """
    from affectlocus import parameters
    from affectlocus.checkpoints import Pair, checkpoint_folder

    chosen = _settings(parameters.Directions, settings)
    names = [path.stem for path in tuned]
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError("--tuned: expected two manifests at least, each of another name")
    try:
        given = json.loads(readings)
        how = {name: parameters.Reading(**given.get(name, {})) for name in names}
    except (ValueError, TypeError, AttributeError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"--readings: {line}; expected JSON, name → reading") from None
    with _importing():
        from affectlocus.directions import directions as run
    chain = [checkpoint_folder(base), *(then or [])]
    frame = run(
        {
            path.stem: Pair(chain, checkpoint_folder(path), **how[path.stem].model_dump())
            for path in tuned
        },
        chosen.rank,
    )
    if out is not None:
        _write_frame(frame, out)
        return
    from affectlocus.show import print_frame

    scores = ["cosine", "left_overlap", "left_expected", "right_overlap", "right_expected"]
    means = frame.groupby(["first", "second", "projection"], sort=False)[scores].mean()
    print_frame(means.reset_index(), f"mean over layers, {chosen.rank} leading directions")


@app.command()
def activations(
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    tuned: Annotated[Path, typer.Option(help="manifest of the tuned model or adapter")],
    neurons: Annotated[Path, typer.Option(help="PAIR.neurons.parquet of the pair's deltas")],
    data: Annotated[
        list[Path], typer.Option(help="prepared task with neutral samples; repeat for several")
    ],
    out: Out,
    summary: Annotated[Path, typer.Option(help="parquet: moved neurons against the rest")],
    again: Annotated[
        Path | None,
        typer.Option(help="moved neurons of the base's pairs, as the step neurons writes them"),
    ] = None,
    settings: Annotated[str, _settings_option("share, neutral")] = "{}",
    evaluate: Annotated[str, typer.Option(help="JSON, any of: batch_tokens, max_length")] = "{}",
    reading: Reading = "{}",
    then: Then = None,
    hardware: HardwareText = "{}",
) -> None:
    """Measure how the gate's activations shift on emotional against neutral texts.

    In the base and in the tuned model: of every gate neuron the mean activation on the test samples
    with a neutral label and on the others, and the difference as Hedges' g. The summary says, by
    Mann and Whitney's test, whether the neurons that the tuning moved shift more than the rest.

    Example: affectlocus activations --base qwen2.json --tuned mine.json
    --neurons results/deltas/mine.neurons.parquet --data results/data/MELD-emotion.parquet
    --out activations.parquet --summary summary.parquet
    """
    from affectlocus import parameters
    from affectlocus.checkpoints import checkpoint_folder

    chosen = _settings(parameters.Neurons, settings)
    limits = _settings(parameters.Evaluate, evaluate)
    devices = _settings(parameters.Hardware, hardware, "--hardware")
    how = _settings(parameters.Reading, reading)
    frames = [_read_frame(path, "split", "prompt", "answer", "task") for path in data]
    changed = _read_frame(neurons, "layer", "projection", "neuron", "l2")
    repeated = _read_frame(again, "layer", "projection", "neuron", "again") if again else None
    folders = checkpoint_folder(base), checkpoint_folder(tuned)
    with _importing():
        from affectlocus.activations import gate_shifts
    rows, found = gate_shifts(
        [folders[0], *(then or [])],
        folders[1],
        {frame.attrs["task"]: frame for frame in frames},
        changed,
        repeated,
        chosen,
        limits,
        how.model_dump(),
        devices,
    )
    _write_frame(found, summary)
    _write_frame(rows, out)


@app.command()
def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="what to write, …/PAIR/load/gate/predictions.parquet: the folder says which cell"
        ),
    ],
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    data: Annotated[list[Path], typer.Option(help="prepared task; repeat for several")],
    settings: Annotated[
        str,
        _settings_option("readout, readouts, generation, samples, batch_tokens, max_length"),
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
) -> None:
    """Build each cell's model, verify it bit for bit, and let it answer every benchmark.

    A cell is a base, a tuned model, a base with the delta of some modules loaded, a base tuned on
    some modules only, or a tuned model with some modules destroyed: PAIR/tuned, PAIR/load/gate,
    PAIR/tune/gate/seed0, PAIR/ablate/gate/shuffle/seed0. Several share one loaded base. Writes the
    log-likelihood of every label behind every test prompt, and of every text of a task with
    fluency (`score` turns them into scores), with what the cell writes behind the openings of some
    of these texts (samples); and the counts of the bit-for-bit check beside it (verification.json).

    With readout generation, writes free text instead: greedy, or drawn (sampling nucleus: the
    paper's has temperature 1, top_p 0.9 and 1200 max_new_tokens), behind the task's own prompt,
    AffectGPT's, or the tokenizer's chat template. A sample's text is the same in any batch and at
    any run of one seed. `openset` reads the labels in it.

    Example: affectlocus evaluate cells/mine/load/gate/predictions.parquet
    --base qwen2.json --tuned mine.json --data a.parquet --settings '{}'

    Example: affectlocus evaluate cells/mine/tuned/predictions.parquet
    --base qwen2.json --tuned mine.json --data a.parquet --settings '{"readout": "generation",
    "generation": {"template": "affectgpt", "sampling": "nucleus", "max_new_tokens": 1200}}'
    """
    from dataclasses import asdict

    from affectlocus import parameters
    from affectlocus.cells import cell_at

    chosen = _settings(parameters.Evaluate, settings)
    devices = _settings(parameters.Hardware, hardware, "--hardware")
    how = _settings(parameters.Reading, reading).model_dump()
    cells = {out: cell_at(out.absolute().parent, base.stem) for out in predictions}
    manifests = _manifests(list(cells.values()), tuned or [])
    from affectlocus.checkpoints import checkpoint_folder

    frames = [_read_frame(path, "text", "prompt", "answer", "task", "labels") for path in data]
    labels = {frame.attrs["task"]: frame.attrs["labels"] for frame in frames}
    folders = {path: checkpoint_folder(path) for path in [base, *(tuned or [])]}
    with _importing():
        from rich.progress import Progress

        from affectlocus.evaluate import Shared
        from affectlocus.evaluate import evaluate as run
        from affectlocus.files import write_json
        from affectlocus.prompts import Prompter
        from affectlocus.readouts import Openings, Questions, Text
    prompter, length = Prompter(folders[base]), chosen.max_length
    shared = Shared([folders[base], *(then or [])], devices)
    asked = [
        Text.of(task, frame, prompter, length, chosen.samples)
        if not words
        else Openings.of(task, frame, prompter, length, chosen.generation, shared.model)
        if chosen.of(task) == "generation"
        else Questions.of(task, frame, words, prompter, length)
        for frame, (task, words) in zip(frames, labels.items(), strict=True)
    ]
    with Progress() as progress:
        bar = progress.add_task("", total=len(cells) * sum(len(each.prompts) for each in asked))
        for (out, cell), manifest in zip(cells.items(), manifests, strict=True):
            progress.update(bar, description=cell.id)
            counts = shared.become(manifest and folders[manifest], cell, **how)
            answers = run(
                shared.model,
                asked,
                chosen.batch_tokens,
                lambda done: progress.advance(bar, done),
                devices,
            )
            answers.attrs = {"cell": asdict(cell), "labels": labels}
            write_json(out.with_name("verification.json"), {"cell": cell.id, **counts})
            _write_frame(answers, out)


def _manifests(cells: list[Cell], tuned: list[Path]) -> list[Path | None]:
    """The tuned checkpoint of each cell: the only one given, or a tune cell's by its name."""
    from affectlocus.cells import tune_checkpoint

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


@app.command()
def extract(
    predictions: Annotated[Path, typer.Argument(help="predictions.parquet of a cell")],
    model: Annotated[
        Path, typer.Option(help="a causal language model: its folder, or its manifest")
    ],
    cache: Annotated[
        Path, typer.Option(help="folder of its replies, which jobs may share; made if missing")
    ],
    out: Out,
    settings: Annotated[str, _settings_option("batch_tokens, max_new_tokens")] = "{}",
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
    from affectlocus import parameters
    from affectlocus.files import check_output, read_json

    chosen = _settings(parameters.Extraction, settings)
    devices = _settings(parameters.Hardware, hardware, "--hardware")
    frame = _read_frame(predictions, "text", "labels")
    check_output(out)
    if not model.exists():
        raise InputError(
            f"--model {model}: no such folder or file; expected a model, or its manifest"
        )
    if model.is_dir() and not (model / "config.json").is_file():
        raise InputError(f"--model {model}: no config.json in it; expected a Hugging Face model")
    with _importing():
        from rich.progress import Progress

        from affectlocus.checkpoints import checkpoint_folder, manifest
        from affectlocus.extract import Extractor, Replies, identity
        from affectlocus.extract import extract as run
    if model.is_dir():
        folder, files = model, manifest(model)
    else:
        folder, files = checkpoint_folder(model), read_json(model)["files"]
    with Progress() as progress:
        bar = progress.add_task("texts asked", total=None)
        found = run(
            frame,
            Replies(cache, identity(files), chosen),
            Extractor(folder, chosen, devices),
            lambda done: progress.advance(bar, done),
        )
    _write_frame(found, out)


@app.command()
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
    from affectlocus.openset import opened

    frame = _read_frame(predictions, "text", "labels", "cell")
    found = None
    if extracted is not None:
        found = _read_frame(extracted, "task", "sample", "emotions", "valence")
    _write_frame(opened(frame, found), out)


@app.command()
def score(
    context: typer.Context,
    cells: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PREDICTIONS",
            help="predictions.parquet of each cell; openset.parquet, if it answered in free text",
        ),
    ] = None,
    settings: Annotated[
        str | None,
        _settings_option("metric, protocols, wheels, own_wheels, resamples, confidence, seed"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="what to write; replaced whole or not at all"),
    ] = None,
    tasks: Tasks = "{}",
    protocol: Annotated[
        str,
        typer.Option(help="label (this workflow's cells) or mer-unibench (any system's csv files)"),
    ] = "label",
    kind: Annotated[
        str | None, typer.Option(help="mer-unibench: hit-rate (emotions) or waf (valence)")
    ] = None,
    wheels: Annotated[
        str | None,
        typer.Option(
            help="hit-rate, and protocols of cells: folder of AffectGPT's emotion_wheel files, or "
            "`released` to download; for cells in place of the settings' wheels"
        ),
    ] = None,
    own_wheels: Annotated[
        bool,
        typer.Option(
            "--own-wheels",
            help="the folder's wheels are your own; otherwise other files than AffectGPT released "
            "are refused, by their SHA-256",
        ),
    ] = False,
    gold: Annotated[
        Path | None, typer.Option(help="mer-unibench: csv of sample and emotion, or value (waf)")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="mer-unibench: csv of checkpoint, sample and openset (labels joined by |), or "
            "prediction (waf)"
        ),
    ] = None,
    choose: Annotated[
        str | None,
        typer.Option(
            help="mer-unibench: which checkpoint stands for the system: last (the default: the "
            "last by name, where numbers count as numbers, 9 before 10, whatever the file's "
            "order), validation, or test (how it is published)"
        ),
    ] = None,
    validation_gold: Annotated[
        Path | None, typer.Option(help="--choose validation: as --gold")
    ] = None,
    validation_predictions: Annotated[
        Path | None, typer.Option(help="--choose validation: as --predictions")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="mer-unibench: print one object instead of a table")
    ] = False,
) -> None:
    """Turn answers into scores with n, a bootstrap interval, and a paired gain.

    The cells must hold the base, and the tuned model where a cell is an ablation: gains are over
    the base, an ablation's over the tuned model. Writes a row per (cell, task, metric). Free text
    has coverage beside the other metrics: the share of samples in which a label was named; a sample
    without one is wrong. Tasks under the settings' protocols have MER-UniBench's score as well
    (mer_unibench), and the corrected ones.

    With --protocol mer-unibench, scores any system's answers in csv files as MER-UniBench does,
    with a corrected protocol and constant answers beside it. Scores are fractions in JSON,
    percent in the table.

    Example: affectlocus score results/cells/*/*/predictions.parquet --settings '{}' --out s.parquet

    Example: affectlocus score --protocol mer-unibench --kind hit-rate --wheels released
    --gold gold.csv --predictions openset.csv --choose test
    """
    csv_options = {
        "kind": kind,
        "gold": gold,
        "predictions": predictions,
        "choose": choose,
        "validation-gold": validation_gold,
        "validation-predictions": validation_predictions,
        "json": as_json or None,
    }
    if protocol == "mer-unibench":
        if cells or settings is not None:
            raise InputError("--protocol mer-unibench takes no cells and no --settings; drop them")
        if tasks != "{}":
            raise InputError("--protocol mer-unibench takes no --tasks; drop it")
        _score_outputs(csv_options | {"wheels": wheels, "own-wheels": own_wheels}, out)
        return
    if protocol != "label":
        raise InputError(f"--protocol: found {protocol!r}; expected label or mer-unibench")
    for option, value in csv_options.items():
        if value is not None:
            raise InputError(f"--{option} belongs to --protocol mer-unibench; add that, or drop it")
    if not cells:
        context.fail("Missing argument 'PREDICTIONS...'.")
    if settings is None:
        context.fail("Missing option '--settings'.")
    if out is None:
        context.fail("Missing option '--out'.")
    from affectlocus.parameters import Score, Scorings
    from affectlocus.score import score as run

    chosen = _settings(Score, settings)
    frames = [_read_frame(path, "cell", "labels", "loglik") for path in cells]
    protocols = None
    if chosen.protocols:
        from affectlocus.protocols import of_tasks

        labels = {task: words for one in frames for task, words in one.attrs["labels"].items()}
        place, own = wheels or chosen.wheels, own_wheels or chosen.own_wheels
        protocols = of_tasks(chosen.protocols, labels, _wheels(place, own) if place else None)
    about = _settings(Scorings, tasks, "--tasks").root
    _write_frame(run(frames, chosen, about, protocols), out)


def _wheels(place: str, own: bool) -> Wheels:
    from affectlocus.wheels import at

    return at(place, own)


def _score_outputs(options: dict[str, Any], out: Path | None) -> None:
    """`score --protocol mer-unibench`: checks the options, reads, scores, and prints."""
    from affectlocus import outputs
    from affectlocus.files import write_json

    kind, choose = options["kind"], options["choose"] or "last"
    kinds = " or ".join(outputs.KINDS)
    if kind not in (None, *outputs.KINDS):
        raise InputError(f"--kind: found {kind!r}; expected {kinds}")
    if choose not in outputs.CHOICES:
        raise InputError(f"--choose: found {choose!r}; expected {', '.join(outputs.CHOICES)}")
    needed = {"kind": kinds}
    if kind == "hit-rate":
        needed["wheels"] = "a folder, or released"
    needed |= {"gold": "a csv file", "predictions": "a csv file"}
    for_validation = {"validation-gold": "a csv file", "validation-predictions": "a csv file"}
    if choose == "validation":
        needed |= for_validation
    for option, expected in needed.items():
        if options[option] is None:
            raise InputError(f"--{option} is missing; --protocol mer-unibench needs {expected}")
    for option in for_validation:
        if choose != "validation" and options[option] is not None:
            raise InputError(f"--{option} belongs to --choose validation; add that, or drop it")
    wheels = None
    if kind == "hit-rate":
        wheels = _wheels(options["wheels"], options["own-wheels"])
    else:
        for option in ("wheels", "own-wheels"):
            if options[option]:
                raise InputError(f"--{option} belongs to --kind hit-rate; drop it")
    test = outputs.read_outputs(kind, options["gold"], options["predictions"])
    validation = None
    if choose == "validation":
        validation = outputs.read_outputs(
            kind, options["validation-gold"], options["validation-predictions"]
        )
    answer = {
        "protocol": "mer-unibench",
        "kind": kind,
        **({"wheels": {"from": options["wheels"], "commit": wheels.commit}} if wheels else {}),
        **outputs.score_outputs(test, outputs.scorer(kind, wheels), choose, validation),
    }
    if out is not None:
        write_json(out, answer)
    if options["json"]:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    from affectlocus.show import print_outputs

    print_outputs(answer)


@app.command()
def tables(
    scores: Annotated[Path, typer.Option(help="scores of one table's cells, in order")],
    metric: Annotated[str, typer.Option(help="weighted_f1, accuracy, macro_f1 or binary_f1")],
    out: Out,
    intervals: Annotated[Path, typer.Option(help="csv of n, interval and gain of each number")],
    baselines: Annotated[
        Path | None, typer.Option(help="csv of what answers score that look at no input")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="--baselines: prepared task; repeat for several")
    ] = None,
    settings: Annotated[
        str, _settings_option("protocols, wheels, own_wheels, resamples, confidence, seed")
    ] = "{}",
    tasks: Tasks = "{}",
    wheels: Annotated[
        str | None,
        typer.Option(help="--baselines: as in score, in place of the settings' wheels"),
    ] = None,
) -> None:
    """Lay scores out as the paper's tables: num, modules, a column per task, mean; in percent.

    With --baselines, also what a score is worth: the scores of the majority answer and of a
    uniform guess on the same test samples; under the settings' protocols of free text also those
    of the best pair of words and of every label at once.

    Example: affectlocus tables --scores results/scores/mine/load.parquet --metric weighted_f1
    --out table1.csv --intervals table1_intervals.csv
    """
    from affectlocus.files import replacing
    from affectlocus.parameters import Score, Scorings
    from affectlocus.tables import intervals as companion
    from affectlocus.tables import table, tasks_of

    if (baselines is None) != (not data):
        missing = "--data" if baselines is not None else "--baselines"
        raise InputError(f"{missing} is missing; --baselines and --data go together")
    frame = _read_frame(scores, "metric", "task")
    written = [
        (intervals, companion(frame, metric), 6),
        (out, table(frame, metric, tasks_of(frame, metric)), 2),
    ]
    if baselines is not None:
        from affectlocus.baselines import beside

        frames = [_read_frame(path, "split", "answer", "task", "labels") for path in data or []]
        chosen = _settings(Score, settings)
        place = wheels or chosen.wheels
        found = beside(
            {one.attrs["task"]: one for one in frames},
            {one.attrs["task"]: one.attrs["labels"] for one in frames},
            _settings(Scorings, tasks, "--tasks").root,
            chosen,
            _wheels(place, chosen.own_wheels) if place and chosen.protocols else None,
            set(frame.loc[frame["metric"] == "coverage", "task"]),
        )
        written.insert(0, (baselines, found, 6))
    for path, content, digits in written:
        with replacing(path) as temporary:
            content.to_csv(temporary, index=False, float_format=f"%.{digits}f")


@app.command()
def figures(
    out: Annotated[Path, typer.Option(help="file name without suffix; .png and .svg are written")],
    heat_map: Annotated[
        list[Path] | None, typer.Option(help="deltas.parquet of a pair; of several seeds the mean")
    ] = None,
    histogram: Annotated[
        list[Path] | None,
        typer.Option(help="deltas.histogram.parquet of a pair; several seeds are pooled"),
    ] = None,
    singles: Annotated[Path | None, typer.Option(help="intervals of a load or tune table")] = None,
    ablation: Annotated[Path | None, typer.Option(help="intervals of an ablation table")] = None,
    baselines: Annotated[
        Path | None,
        typer.Option(help="--singles, --dose: baselines of the table, drawn as lines"),
    ] = None,
    trade_off: Annotated[
        list[Path] | None,
        typer.Option(help="intervals of a tune table, of each budget; with --ledger"),
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="ledger.csv, for --trade-off")] = None,
    neurons: Annotated[
        Path | None, typer.Option(help="neurons.parquet of a base, its companions beside it")
    ] = None,
    directions: Annotated[
        Path | None, typer.Option(help="directions.parquet of a base; with two --pair")
    ] = None,
    pair: Annotated[list[str] | None, typer.Option(help="name of a pair, for --directions")] = None,
    activations: Annotated[
        Path | None, typer.Option(help="activations.parquet of a pair, .summary beside it")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="JSON of panels of deltas: row → column → a parquet for each seed"),
    ] = None,
    lines: Annotated[bool, typer.Option(help="--grid: gate and up by layer below")] = False,
    trajectory: Annotated[
        list[Path] | None, typer.Option(help="trajectory.parquet of a pair; repeat for its seeds")
    ] = None,
    dose: Annotated[
        Path | None, typer.Option(help="intervals of a dose table; with --baselines, if any")
    ] = None,
    title: Annotated[str, typer.Option(help="what stands above it")] = "",
) -> None:
    """Draw one figure as PNG and SVG.

    Deltas, of one pair or of several side by side, and along the tuning; relative changes; bars of
    single modules, drops, the score against a load's dose or against what was trained; the
    neurons, the directions of two pairs, or the gate's activations.

    Example: affectlocus figures --heat-map results/deltas/mine.parquet --out mine
    """
    closer = (neurons, directions, activations)
    tables = [path for path in (singles, ablation) if path is not None]
    compared = (grid, trajectory, dose)
    if sum(map(bool, (heat_map, histogram, trade_off, *tables, *closer, *compared))) != 1:
        raise InputError(
            "give one of --heat-map, --grid, --trajectory, --histogram, --singles, --ablation, "
            "--dose, --trade-off, --neurons, --directions and --activations"
        )
    import pandas as pd

    from affectlocus import figures as draw

    if any(path is not None for path in closer):
        from affectlocus import weight_figures

    if neurons is not None:
        spread = _read_frame(neurons.with_suffix(".concentration.parquet"), "pair", "top_share")
        met = _read_frame(neurons.with_suffix(".overlaps.parquet"), "first", "shared")
        figure = weight_figures.neurons(spread, met, title)
    elif directions is not None:
        frame = _read_frame(directions, "first", "second", "cosine")
        first, second = pair if pair and len(pair) == 2 else ("", "")
        chosen = frame[(frame["first"] == first) & (frame["second"] == second)]
        if chosen.empty:
            known = frame[["first", "second"]].drop_duplicates().to_numpy().tolist()
            raise InputError(
                f"{directions}: no rows of --pair {first or '?'} --pair {second or '?'}; expected "
                f"one of {', '.join(' and '.join(one) for one in known) or 'none'}"
            )
        figure = weight_figures.direction_maps(chosen, title)
    elif activations is not None:
        found = _read_frame(activations.with_suffix(".summary.parquet"), "set", "probability")
        frame = _read_frame(activations, "model", "effect", "moved")
        figure = weight_figures.shifts(frame, found, title)
    elif trade_off:
        if ledger is None:
            raise InputError("--trade-off goes with --ledger, which counts what each cell trained")
        frame = pd.concat([_read_companion(path, "intervals", "cell") for path in trade_off])
        counted = _read_companion(ledger, "ledger", "parameters")
        base = frame.loc[frame["kind"] == "base", "cell"].iloc[0].partition("/")[0]
        from affectlocus.trade_off import points
        from affectlocus.trade_off import trade_off as against

        cells = points(frame, counted[counted["model"] == base])
        figure = against(cells, str(frame["metric"].iloc[0]), title)
    elif grid is not None:
        from affectlocus.map_figures import delta_maps

        figure = delta_maps(_panels(grid), title, lines=lines)
    elif trajectory:
        from affectlocus.curve_figures import trajectory_curves

        figure = trajectory_curves(_of_seeds(trajectory, "step", "cosine"), title)
    elif dose is not None:
        from affectlocus.curve_figures import dose_curves

        beside = _read_companion(baselines, "baselines", "baseline") if baselines else None
        figure = dose_curves(_read_companion(dose, "intervals", "gain"), title, beside)
    elif heat_map:
        figure = draw.heat_map(_of_seeds(heat_map, "projection", "l2"), title)
    elif histogram:
        figure = draw.relative_changes(_of_seeds(histogram, "projection", "count"), title)
    else:
        frame = _read_companion(tables[0], "intervals", "gain")
        if singles is not None:
            beside = _read_companion(baselines, "baselines", "baseline") if baselines else None
            figure = draw.singles(frame, title, beside)
        else:
            figure = draw.ablation(frame, title)
    draw.save(figure, out)


def _of_seeds(paths: list[Path], *columns: str) -> pd.DataFrame:
    """Files of one pair's seeds as one frame; `tuned` is each one's name."""
    import pandas as pd

    return pd.concat([_read_frame(path, *columns).assign(tuned=path.stem) for path in paths])


def _panels(grid: str) -> dict[str, dict[str, pd.DataFrame]]:
    """What `--grid` names."""
    try:
        given = json.loads(grid)
        paths = {
            row: {column: [Path(path) for path in files] for column, files in members.items()}
            for row, members in given.items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"--grid: {error}; expected JSON, row → column → files") from None
    return {
        row: {column: _of_seeds(files, "numel", "rms") for column, files in members.items()}
        for row, members in paths.items()
    }


@app.command()
def fluency(
    scores: Annotated[list[Path], typer.Argument(help="scores of the tables")],
    out: Annotated[Path | None, typer.Option(help="csv: a row per text and cell")] = None,
    intervals: Annotated[
        Path | None, typer.Option(help="csv of n, interval and gain of each number")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="file name without suffix; .png and .svg are written")
    ] = None,
    title: Annotated[str, typer.Option(help="--figure: what stands above it")] = "",
) -> None:
    """Lay out how fluent each cell still is: perplexity of general text, distinct-n of its own.

    Both of tasks with fluency: distinct-n is of what the cell writes behind the openings of their
    texts (evaluate's samples). Gains are over the base, an ablation's over the tuned model.

    Example: affectlocus fluency results/scores/mine/load.parquet --out fluency.csv --figure fluency
    """
    if out is None and intervals is None and figure is None:
        raise InputError("nothing to write; give --out, --intervals or --figure")
    import pandas as pd

    from affectlocus import fluency_table as step
    from affectlocus.files import replacing

    frame = pd.concat([_read_frame(path, "cell", "metric", "task") for path in scores])
    for path, content in ((out, step.table), (intervals, step.intervals)):
        if path is not None:
            with replacing(path) as temporary:
                content(frame).to_csv(temporary, index=False, float_format="%.6g")
    if figure is not None:
        from affectlocus.figures import save
        from affectlocus.fluency_figure import figure as draw

        save(draw(frame, title), figure)


@app.command()
def collect(
    scores: Annotated[list[Path], typer.Argument(help="scores of the tables")],
    metric: Annotated[str, typer.Option(help="the metric of the summary")],
    out: Out,
    summary: Annotated[Path, typer.Option(help="json of each cell's mean score, for dvc metrics")],
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="manifest of a base with its perplexity")
    ] = None,
) -> None:
    """Join all scores into one tidy table, and sum them up for `dvc metrics`.

    Example: affectlocus collect results/scores/mine/*.parquet --metric weighted_f1
    --out results/scores.parquet --summary results/metrics.json
    """
    import pandas as pd

    from affectlocus.collect import joined, summarise
    from affectlocus.files import read_json, write_json

    frame = joined([_read_frame(path, "cell", "metric") for path in scores])
    bases = {path.stem: read_json(path) for path in checkpoint or []}
    _write_frame(pd.DataFrame(frame), out)
    write_json(summary, summarise(frame, metric, bases))


@app.command()
def claims(
    cells: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PREDICTIONS", help="predictions.parquet of each cell"),
    ] = None,
    delta: Annotated[
        list[Path] | None, typer.Option(help="deltas of a pair, PAIR.parquet; repeat")
    ] = None,
    histogram: Annotated[
        list[Path] | None, typer.Option(help="PAIR.histogram.parquet beside it; repeat")
    ] = None,
    settings: Annotated[
        str,
        _settings_option("metric, draws, confidence, seed, tasks, pairs"),
    ] = "{}",
    out: Annotated[
        Path | None, typer.Option("--out", help="csv of the verdicts; replaced whole or not at all")
    ] = None,
    agreement: Annotated[
        Path | None, typer.Option(help="csv of how far rankings agree (Kendall's W)")
    ] = None,
    on: Annotated[str | None, typer.Option(help="paper: judge the paper's own tables")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one object instead of a table")
    ] = False,
) -> None:
    """Judge every claim of the paper: supported, contradicted, inconclusive or untestable, and why.

    The rules were written before any result was seen; they are in the package's modules locus and
    contrasts. What a pair is (domain, base, method, family, budget, group, seed) stands in the
    settings under pairs; a pair that is not named there counts as affective.

    Example: affectlocus claims --on paper

    Example: affectlocus claims $(find results/cells -name predictions.parquet)
    --delta results/deltas/mine.parquet --out claims.csv
    """
    from affectlocus.files import replacing
    from affectlocus.show import print_claims

    flags: list[str] = []
    if on is not None:
        if on != "paper":
            raise InputError(f"--on: found {on!r}; expected paper")
        if cells or delta or histogram or agreement:
            raise InputError("--on paper reads no files; drop them, or drop --on")
        from affectlocus.claims import on_paper

        verdicts, flags = on_paper()
    else:
        if not cells and not delta:
            raise InputError("nothing to judge; give predictions, --delta, or --on paper")
        from affectlocus.claims import ledger
        from affectlocus.facts import ClaimsSettings

        verdicts, ranked = ledger(
            (_read_frame(path, "cell", "loglik") for path in cells) if cells else None,
            {path.stem: _read_frame(path, "projection", "l2") for path in delta or []},
            {
                path.name.removesuffix(".histogram.parquet"): _read_frame(path, "from", "count")
                for path in histogram or []
            },
            _settings(ClaimsSettings, settings),
        )
        if agreement is not None:
            with replacing(agreement) as temporary:
                ranked.to_csv(temporary, index=False, float_format="%.6g")
    if out is not None:
        with replacing(out) as temporary:
            verdicts.to_csv(temporary, index=False, float_format="%.6g")
    if as_json:
        rows = json.loads(verdicts.to_json(orient="records"))
        typer.echo(json.dumps({"claims": rows, "flags": flags}, indent=2, ensure_ascii=False))
    elif out is None:
        print_claims(verdicts)
        for flag in flags:
            typer.echo(flag)


@app.command()
def revisions(
    deltas: Annotated[list[Path], typer.Argument(help="deltas of each pair, PAIR.parquet")],
    claims: Annotated[Path, typer.Option(help="claims.csv")],
    out: Annotated[Path, typer.Option(help="folder; verdicts.json and l2/PAIR.csv are written")],
) -> None:
    """Write what `dvc metrics diff` and `dvc plots diff` compare two revisions by.

    Example: affectlocus revisions results/deltas/mine.parquet --claims results/claims.csv
    --out results/revisions
    """
    from affectlocus.files import replacing, write_json
    from affectlocus.revisions import by_layer, verdicts

    judged = _read_companion(claims, "verdicts", "verdict")
    judged["effect"] = judged["effect"].replace("", None).astype(float)
    for path in deltas:
        frame = by_layer(_read_frame(path, "projection", "l2"))
        with replacing(out / "l2" / f"{path.stem}.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.6g")
    write_json(out / "verdicts.json", verdicts(judged))


@app.command()
def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="tables and figures that are shown; by default all below --results"),
    ] = None,
    results: Annotated[Path, typer.Option(help="an experiment's results")] = Path("results"),
    parameters: Annotated[Path, typer.Option(help="its params.yaml")] = Path("params.yaml"),
    out: Out = Path("results/report.html"),
    name: Annotated[str, typer.Option(help="what the experiment is called; its folder's")] = "",
    overrides: Annotated[
        str, typer.Option(help="JSON of parameters that were set beside the file, nested as there")
    ] = "{}",
    captions: Annotated[
        Path | None,
        typer.Option(help="write the captions of Snakemake's own report into this folder instead"),
    ] = None,
) -> None:
    """Put a whole experiment on one page of HTML: verdicts, exhibits, data, parameters, time.

    The page holds all it shows and fetches nothing, so it opens offline and can be sent as it is.

    Example: affectlocus report --results results --out report.html
    """
    from affectlocus.files import write_text

    if captions is not None:
        from affectlocus.exhibits import captions as texts

        for rule, text in texts().items():
            write_text(captions / f"{rule}.rst", text)
        return
    from affectlocus.circumstances import merged
    from affectlocus.parameters import Parameters, read
    from affectlocus.report import Experiment
    from affectlocus.report import report as page

    beside = _object(overrides, "--overrides")
    written = json.dumps(merged(read(parameters), beside), default=str)
    experiment = Experiment(
        name=name or parameters.resolve().parent.name,
        text=parameters.read_text(encoding="utf-8"),
        parameters=_settings(Parameters, written, str(parameters)),
        overrides=beside,
    )
    write_text(out, page(experiment, results, files))


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{option}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{option}: expected keys and values, found {type(value).__name__}")
    return value


@app.command()
def show(
    table: Annotated[Path, typer.Argument(help="a csv or parquet file of results")],
    results: Annotated[Path | None, typer.Option(help="folder whose files are listed")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE that chooses rows; repeat")
    ] = None,
    rows: Annotated[int, typer.Option(help="how many rows of a parquet file", min=1)] = 40,
) -> None:
    """Print a table on the terminal, with the path of every result; or chosen rows of any result.

    Example: affectlocus show results/table1.csv --results results

    Example: affectlocus show results/scores.parquet --where cell=mine/load/gate --where task=mean
    """
    from affectlocus.show import print_results, print_rows, print_table

    if where or table.suffix == ".parquet":
        print_rows(table, where or [], rows)
    else:
        print_table(table)
    if results is not None:
        print_results(results)


@app.command()
def check(
    parameters: Annotated[Path, typer.Argument(help="an experiment's params.yaml")] = Path(
        "params.yaml"
    ),
) -> None:
    """Check a params.yaml without running anything, and say what it would run on which data.

    Example: affectlocus check experiments/stories/params.yaml
    """
    from collections import Counter

    from affectlocus.audit import brief
    from affectlocus.matrix import all_cells
    from affectlocus.parameters import load
    from affectlocus.precheck import precheck, precheck_pairs, precheck_wheels
    from affectlocus.room import check_room

    loaded = load(parameters)
    if parameters.is_dir():
        parameters /= "params.yaml"
    reports = precheck(loaded, parameters.parent, str(parameters))
    unscored = precheck_wheels(loaded, parameters.parent, reports, str(parameters))
    check_room(loaded, parameters.parent / loaded.data_root, str(parameters))
    precheck_pairs(loaded, parameters.parent, str(parameters))
    for report in reports.values():
        typer.echo("\n".join(brief(report)))
    for line in unscored:
        typer.echo(line)
    kinds = Counter(cell.kind for cell in all_cells(loaded))
    cells = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    typer.echo(f"{parameters}: good. {len(loaded.benchmarks)} benchmarks; cells: {cells}.")


@app.command()
def plan(
    parameters: Annotated[
        Path, typer.Argument(help="an experiment's folder, or its params.yaml")
    ] = Path("params.yaml"),
    cards: Annotated[
        int | None,
        typer.Option(
            min=0, help="plan for one host with so many cards; by default for a cluster's jobs"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one object instead of a table")
    ] = False,
) -> None:
    """Say what an experiment will take: jobs by kind, GPU hours, downloads, disk; nothing runs.

    What is done already is left out of hours and bytes. The formulas stand in the package's module
    costs, the figures that they start from under `plan` in params.yaml; the lines below the table
    name each. Finished jobs of the experiment replace the estimate of their kind.

    Example: affectlocus plan experiments/paper
    """
    from affectlocus.dag import Dag
    from affectlocus.forecast import plan as run
    from affectlocus.parameters import load

    loaded = load(parameters, planning=True)
    folder = parameters if parameters.is_dir() else parameters.parent
    # Paths of an experiment start from its folder, as they do for Snakemake.
    os.chdir(folder)
    found = run(Dag(loaded), cards)
    if as_json:
        typer.echo(json.dumps(found.report(), indent=2))
        return
    from affectlocus.show import print_plan

    print_plan(found, str(parameters))


@app.command()
def pin(
    parameters: Annotated[
        Path, typer.Argument(help="an experiment's folder, or its params.yaml")
    ] = Path("params.yaml"),
) -> None:
    """Look up the commit of every branch or tag in params.yaml, once, and write it down.

    Into checkpoints.lock.json beside params.yaml, which runs go by from then on; nothing else is
    downloaded. Keep the file under version control.

    Example: affectlocus pin experiments/paper
    """
    from affectlocus.parameters import load
    from affectlocus.sources import pin as run

    loaded = load(parameters, planning=True)
    folder = parameters if parameters.is_dir() else parameters.parent
    for name, commit in run(loaded, folder / "checkpoints.lock.json").items():
        typer.echo(f"{name}: {commit}")


@app.command()
def schema(out: Out = Path("workflow/schemas/params.schema.json")) -> None:
    """Write the JSON schema of params.yaml, for editors and for reading.

    Example: affectlocus schema
    """
    from affectlocus.files import write_text
    from affectlocus.parameters import schema_text

    write_text(out, schema_text())


@app.command()
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

    The result loads with transformers as any other, and is verified bit for bit.

    Example: affectlocus graft --base base --tuned adapter --modules gate --out base-with-gate
    """
    from affectlocus.cells import Cell, checked
    from affectlocus.files import check_apart, check_output, replacing

    cell = checked(
        Cell(
            kind,  # type: ignore[arg-type]
            base.name,
            tuned.name,
            "" if kind == "tuned" else modules,
            mode,
            seed if mode in ("shuffle", "noise") else None,
        )
    )
    check_apart(out, base, tuned)
    check_output(out, "graft", inputs=[base, tuned])
    from affectlocus.evaluate import build
    from affectlocus.prompts import Prompter

    model, counts = build(base, tuned, cell)
    with replacing(out, "graft") as temporary:
        model.save_pretrained(temporary)
        Prompter(base).tokenizer.save_pretrained(temporary)
    typer.echo(json.dumps({"out": str(out), **counts}))


@app.command()
def verify(
    reference: Annotated[Path, typer.Argument(help="folder of a model")],
    changed: Annotated[Path, typer.Argument(help="folder of a model or adapter made from it")],
    modules: Annotated[str, typer.Option(help="the module set that alone may differ")],
) -> None:
    """Check bit for bit that two checkpoints differ in a module set only; exit code 1 if not.

    Example: affectlocus verify base base-with-gate --modules gate
    """
    from affectlocus.interventions import verify_folders

    typer.echo(json.dumps(verify_folders(reference, changed, modules)))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"affectlocus {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
    cards: Annotated[
        int,
        typer.Option(
            min=0,
            help="cards to lease on a host with several: each process its own; a list in "
            "CUDA_VISIBLE_DEVICES that a scheduler made stays",
        ),
    ] = 0,
) -> None:
    # Jobs read what these have put on disk; no other may reach for a hub.
    if context.invoked_subcommand not in ("retrieve", "diff", "check", "score", "pin"):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    held = None
    if cards:
        from affectlocus.leases import lease

        # Before torch is imported: CUDA looks at the cards once.
        held = lease(cards, waiting=lambda text: typer.echo(f"affectlocus: {text}", err=True))
        os.environ["AFFECTLOCUS_CARDS"] = str(cards)  # devices.CARDS
    if os.environ.get("AFFECTLOCUS_JOB"):
        from affectlocus.header import write

        write(str(context.invoked_subcommand), sys.argv[1:], held.cards if held else ())


def main() -> None:
    """Runs the command line; bad input ends in one sentence and exit code 1."""
    or_exit(app)
