"""Options and files that several commands share."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel, RootModel

    from affectlocus.config.tasks import Task
    from affectlocus.training.training_state import TrainingStates


Base = Annotated[Path, typer.Option("--base", help="manifest of the base")]


Tuned = Annotated[Path, typer.Option("--tuned", help="manifest of the tuned model or adapter")]


LabelledTasks = Annotated[
    list[Path], typer.Option("--data", help="prepared task with labels; repeat for several")
]


Reading = Annotated[
    str, typer.Option(help="JSON of how the pair is read, with any of: alpha, prefix, any_base")
]


Then = Annotated[
    list[Path] | None,
    typer.Option(help="adapter that is merged into the base first; repeat for a chain"),
]


HardwareText = Annotated[
    str,
    typer.Option(
        "--hardware",
        help="JSON of how the hardware is used, any of: precision, cpu_precision, attention, "
        "placement, checkpointing",
    ),
]


SaveMinutes = Annotated[
    float | None,
    typer.Option(
        min=0,
        envvar="AFFECTLOCUS_SAVE_MINUTES",
        help="minutes between two saves of the unfinished state; by default 10; 0: at each step",
    ),
]


AllSplits = Annotated[
    Path | None,
    typer.Option("--all", help="file of all splits, with a column that names the split"),
]


PairName = Annotated[str | None, typer.Option(help="name of the pair; by default that of --tuned")]


EvaluateText = Annotated[
    str, typer.Option(help="JSON, any of: readout, readouts, batch_tokens, max_length")
]


Features = Annotated[
    list[Path] | None,
    typer.Option(
        "--features",
        help="features of one medium of a task, TASK/MEDIUM.safetensors as encode writes it; "
        "repeat for each",
    ),
]


Initial = Annotated[
    Path | None,
    typer.Option(
        "--initial",
        help="manifest or folder of a checkpoint with the bridge before the tuning; by default it "
        "is in the tuned checkpoint, or else drawn",
    ),
]

Out = Annotated[
    Path, typer.Option("--out", help="file to write; replaced as a whole or not at all")
]


def settings_option(keys: str) -> Any:
    return typer.Option(
        "--settings",
        help=f"JSON text, or a yaml or json file, with any of: {keys} "
        "(explained in workflow/schemas/params.schema.json)",
    )


Model = TypeVar("Model", bound="BaseModel")


@contextmanager
def importing() -> Iterator[None]:
    """Turns the garbage collector off during imports, which saves a sixth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settings_of(
    model: type[Model],
    text: str,
    option: str = "--settings",
    fill: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Model:
    """Settings from JSON text or from a file, validated by the step's pydantic model.

    Args:
        fill: adds the values of other options before the validation.
    """
    from pydantic import ValidationError

    from affectlocus.config.messages import first_problem, located
    from affectlocus.config.yaml_text import parsed

    source = option
    if not text.lstrip().startswith(("{", "[")):
        source = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                "option.unreadable-file",
                f"{option}: cannot read {source}: {error}",
                option=option,
                file=source,
            ) from None
    given = parsed(text, source, "YAML or JSON")
    if given is None:
        given = {}
    try:
        return model.model_validate(fill(given) if fill and isinstance(given, dict) else given)
    except ValidationError as error:
        raise located(first_problem(error, model), source) from None


def task_of(
    settings: str, splits: dict[str, Path | None], join: Path | None
) -> tuple[Task, dict[str, Path]]:
    """The settings of a task, and its files: those of the options, downloaded ones resolved.

    Args:
        splits: split or `all` → the file that an option names.
        join: the file of the settings' join.
    """
    from affectlocus.config.tasks import Task
    from affectlocus.core.files import check_whole
    from affectlocus.data.sources import resolved

    files = {key: path for key, path in splits.items() if path}

    def filled(task: dict[str, Any]) -> dict[str, Any]:
        # A preset's root names its files.
        named = any(task.get(key) for key in ("files", "root", "corpus"))
        if named or not files:
            return task
        return task | {"files": {key: str(path) for key, path in files.items()}}

    task = settings_of(Task, settings, fill=filled)
    given = files | ({"join": join} if join else {})
    if task.corpus:  # a step wrote it; files of people may end without a line break
        for path in given.values():
            check_whole(path)
    return task, resolved(task, given)


def placed_list(
    single: type[BaseModel],
    several: type[RootModel[list[Any]]],
    settings: str,
    option: str,
    listed: str | None,
    folder: Path | None,
    out: Path | None,
) -> list[Any]:
    """The trainings of a call, each with the folder and the manifest that it writes.

    Args:
        single: the model of a training.
        several: the model of a list of them, each with `folder` and `out`.
        settings: the keys that all of them share.
        option: the option that lists them.
        listed: its value; None for one training, with --folder and --out.
    """
    import json

    from affectlocus.config.tuning import OwnKeys, SharedKeys

    if listed is None:
        recipe = settings_of(single, settings)
        if folder is None or out is None:
            missing = "--folder" if folder is None else "--out"
            raise InputError(
                "option.missing",
                f"{missing} is missing; give --folder and --out, or {option} with both for each",
                option=missing,
            )
        return several.model_validate(
            [recipe.model_dump() | {"folder": str(folder), "out": str(out)}]
        ).root
    without_effect({"folder": folder, "out": out}, f"each of {option} names its own")
    shared = settings_of(SharedKeys, settings).root
    entries = [shared | one for one in settings_of(OwnKeys, listed, option).root]
    placed = settings_of(several, json.dumps(entries), option).root
    for key in ("folder", "out"):
        named = [Path(getattr(one, key)).absolute() for one in placed]
        for path in named:
            if named.count(path) > 1:
                raise InputError(
                    "option.same-output",
                    f"{option}: two of them have the {key} {path}; give each its own",
                    option=option,
                    key=key,
                    found=str(path),
                )
    return placed


def device() -> str:
    """The hardware that rounding depends on: the GPU model, or the CPU and its capability.

    The number of GPUs is left out, because a retried job may ask for more of them.
    """
    import torch

    from affectlocus.core.provenance import hardware

    if torch.cuda.is_available():
        cards = range(torch.cuda.device_count())
        return ", ".join(sorted({torch.cuda.get_device_name(card) for card in cards}))
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{hardware().get('Processor', 'CPU')} with {capability}"


def features_by_task(files: list[Path] | None) -> dict[str, dict[str, Path]]:
    """Task → medium → the file of its features, from their paths TASK/MEDIUM.safetensors."""
    found: dict[str, dict[str, Path]] = {}
    for file in files or []:
        media = found.setdefault(file.absolute().parent.name, {})
        if file.stem in media:
            raise InputError(
                "option.same-features",
                f"--features: {media[file.stem]} and {file} are both {file.stem} of task "
                f"{file.absolute().parent.name}; give each medium of a task once",
                option="--features",
                found=[media[file.stem], file],
            )
        media[file.stem] = file
    return found


def read_features(files: Mapping[str, Path], split: str) -> dict[str, Any]:
    """Medium → its features of one split (`features.Features`)."""
    from affectlocus.lm.features import Features

    return {medium: Features.read(file, split) for medium, file in files.items()}


def write_csv(frame: pd.DataFrame, path: Path, number: str = "%.6g") -> None:
    """Writes a table, completely or not at all.

    Args:
        number: the format of floating-point numbers.
    """
    from affectlocus.core.output_files import replacing

    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format=number)


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    from affectlocus.core.step_tables import write_step_table

    write_step_table(path, frame)


def read_frame(path: Path, *columns: str) -> pd.DataFrame:
    """Reads a parquet file of an earlier step, which must have these columns."""
    from affectlocus.core.step_tables import read_step_table

    return read_step_table(path, *columns)


def read_companion(path: Path, what: str, column: str) -> pd.DataFrame:
    """Reads a csv that belongs to a table, which must have a certain column."""
    import pandas as pd

    from affectlocus.core.files import check_whole

    check_whole(path)
    try:
        frame = pd.read_csv(path, keep_default_na=False)
        frame[column]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "table.not-a-companion",
            f"{path}: not a csv of {what} with the column {column!r} ({error})",
            file=path,
            column=column,
        ) from None
    return frame


def without_effect(options: dict[str, Any], why: str) -> None:
    """Refuses options that would have no effect."""
    for option, value in options.items():
        if value:
            name = f"--{option.replace('_', '-')}"
            raise InputError(
                "option.no-effect", f"{name} has no effect: {why}; leave it out", option=name
            )


def write_manifest(out: Path, folder: Path, **about: Any) -> None:
    """Writes the manifest of a checkpoint that a command made."""
    from affectlocus.checkpoints.checkpoint_manifests import manifest
    from affectlocus.core.files import write_json

    write_json(out, {"folder": str(folder), **about, "files": manifest(folder)})


def training_states(step: str, folder: Path, minutes: float | None, **job: Any) -> TrainingStates:
    """The folder of a training's saved states, and the key of the job that they belong to.

    Args:
        job: topic → a value, or a file whose content counts.
    """
    import json
    from hashlib import sha256 as hashed
    from importlib.metadata import version

    from affectlocus.config.hardware import Hardware
    from affectlocus.core.files import sha256
    from affectlocus.orchestration.code_digest import digest
    from affectlocus.training.training_state import TrainingStates, states_folder

    def digest_of(value: Any) -> str:
        parts = value if isinstance(value, list) else [value]
        texts = [sha256(one) if isinstance(one, Path) else one for one in parts]
        return hashed(json.dumps(texts, sort_keys=True).encode()).hexdigest()

    topics = {name: digest_of(value) for name, value in job.items()}
    libraries = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")
    topics["versions"] = ", ".join(f"{name} {version(name)}" for name in libraries)
    return TrainingStates(
        states_folder(folder),
        topics | {"code": digest(step), "device": device()},
        Hardware().save_minutes if minutes is None else minutes,
    )
