"""The command `tune`: one tuning of a base, or several of them in one process."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import (
    Features,
    HardwareText,
    SaveMinutes,
    features_by_task,
    importing,
    placed_list,
    read_features,
    read_frame,
    settings_of,
    settings_option,
    training_states,
    write_manifest,
)
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE

if TYPE_CHECKING:
    from affectlocus.config.tuning import PlacedTuning, Tuning
    from affectlocus.training.training_state import TrainingStates


def tune(
    base: Annotated[
        list[Path],
        typer.Option(
            help="manifest of the base; of several (NAME.seedN.json), each of --tunings takes the "
            "one of its seed"
        ),
    ],
    data: Annotated[list[Path], typer.Option(help="prepared task; repeat to mix several")],
    settings: Annotated[
        str,
        settings_option(
            "method, data, modules, rank, alpha, dropout, steps, batch_size, "
            "learning_rate, warmup, weight_decay, max_length, group_by_length, shuffled, seed, "
            "fair, trajectory, bridge, start, answers, end, clip, schedule"
        ),
    ] = "{}",
    folder: Annotated[
        Path | None, typer.Option(help="folder to write the adapter or model into")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="manifest to write")] = None,
    tunings: Annotated[
        str | None,
        typer.Option(
            help="in place of --folder and --out: JSON list of tunings, each with folder, out and "
            "the keys of --settings in which it differs"
        ),
    ] = None,
    features: Features = None,
    threads: Annotated[
        int, typer.Option(help="CPU threads; the result depends on their number")
    ] = 1,
    hardware: HardwareText = "{}",
    save_minutes: SaveMinutes = None,
) -> None:
    """Tune a base on module sets, by LoRA or in full, within a fixed budget.

    Writes an adapter (LoRA) or a model (SFT), and a manifest (--out) with the losses. Several
    tunings share one process, and those of one base also the loaded base; each has the same numbers
    as alone, and is written as soon as it is finished. A tuning whose folder already holds its
    checkpoint is not repeated. After a kill, SIGTERM or Ctrl-C, the same command resumes from the
    last saved state.

    Example: affectlocus tune --base results/checkpoints/qwen2.json --data results/data/mine.parquet
    --settings '{"data": ["mine"], "modules": "gate", "rank": 8}' --folder gate --out gate.json

    Example: affectlocus tune --base results/checkpoints/qwen2.json --data results/data/mine.parquet
    --settings '{"data": ["mine"]}' --tunings '[{"modules": "gate", "folder": "gate",
    "out": "gate.json"}, {"modules": "up", "folder": "up", "out": "up.json"}]'
    """
    from affectlocus.config.hardware import Hardware
    from affectlocus.config.tuning import Tuning, TuningList

    placed: list[PlacedTuning] = placed_list(
        Tuning, TuningList, settings, "--tunings", tunings, folder, out
    )
    base_of = {one.folder: _base_of(one, base) for one in placed}
    devices = settings_of(Hardware, hardware, "--hardware")
    data_of = {one.folder: _files(one, data) for one in placed}
    frames = {path: read_frame(path, "split", "prompt", "answer") for path in data}
    media_files = features_by_task(features)
    with importing():
        import torch
        from rich.progress import Progress

        from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
        from affectlocus.core.files import read_json
        from affectlocus.core.output_files import check_output, replacing
        from affectlocus.training.training_loop import DivergedError
        from affectlocus.training.training_state import say
        from affectlocus.training.tune import Tuner, TuningJob
        from affectlocus.training.tuning_record import write_record

    media = {task: read_features(files, "train") for task, files in media_files.items()}
    base_folders = {path: checkpoint_folder(path) for path in base}
    torch.set_num_threads(threads)
    inputs = [*base, *base_folders.values(), *data]
    for one in placed:
        check_output(Path(one.out))
        check_output(Path(one.folder), "tune", inputs=inputs)
    states = {
        one.folder: training_states(
            "tune",
            Path(one.folder),
            devices.save_minutes if save_minutes is None else save_minutes,
            recipe=one.recipe.model_dump(),
            base=read_json(base_of[one.folder])["files"],
            data=data_of[one.folder],
            hardware=devices.model_dump(),
            threads=threads,
            **_features_of(one, data_of[one.folder], media_files),
        )
        for one in placed
    }
    left = [one for one in placed if not _finished(one, states[one.folder])]
    if not left:
        return
    diverged: list[DivergedError] = []
    with Progress() as progress:
        bar = progress.add_task("", total=sum(one.steps for one in left))
        for manifest, base_folder in base_folders.items():
            own = [one for one in left if base_of[one.folder] == manifest]
            if not own:
                continue
            tuner = Tuner(base_folder, devices)
            for numbers in tuner.stacks([one.recipe for one in own]):
                stack = [own[number] for number in numbers]
                progress.update(bar, description=", ".join(Path(one.folder).name for one in stack))
                try:
                    with ExitStack() as opened:
                        jobs = [
                            TuningJob(
                                one.recipe,
                                [frames[path] for path in data_of[one.folder]],
                                opened.enter_context(
                                    replacing(Path(one.folder), "tune", inputs=inputs)
                                ),
                                states[one.folder],
                                [media.get(path.stem, {}) for path in data_of[one.folder]],
                            )
                            for one in stack
                        ]
                        found = tuner.tune(jobs, partial(progress.advance, bar, len(stack)))
                        for one, job, measured in zip(stack, jobs, found, strict=True):
                            write_record(job.folder, states[one.folder].job, measured)
                except DivergedError as error:
                    if len(placed) == 1:
                        raise
                    # The other tunings are finished first.
                    diverged.append(error.within(", ".join(one.folder for one in stack)))
                    say(str(diverged[-1]))
                    continue
                for one, measured in zip(stack, found, strict=True):
                    _write(one, measured)
                    states[one.folder].remove()
    if diverged:
        raise diverged[0]


def _features_of(
    one: PlacedTuning, data: list[Path], media_files: dict[str, dict[str, Path]]
) -> dict[str, list[Path]]:
    """The files of features that a tuning with a bridge depends on, under one topic."""
    if one.bridge is None:
        return {}
    files = [file for path in data for file in media_files.get(path.stem, {}).values()]
    return {"features": [each for file in files for each in (file, file.with_suffix(".parquet"))]}


def _base_of(one: PlacedTuning, bases: list[Path]) -> Path:
    """The manifest of a tuning's base: the only one, or that of its seed."""
    from affectlocus.core.cells import replicate_name

    if len(bases) == 1:
        return bases[0]
    own = [path for path in bases if path.stem.endswith(replicate_name("", one.seed))]
    if len(own) != 1:
        raise InputError(
            "tuning.no-base-of-seed",
            f"--base: {len(own)} of {', '.join(map(str, bases))} end with .seed{one.seed}.json, "
            f"the seed of {one.folder}; give one of them for each seed",
            option="--base",
            found=bases,
            expected=f".seed{one.seed}.json",
        )
    return own[0]


def _write(one: PlacedTuning, measured: dict[str, Any]) -> None:
    kind = "adapter" if one.method == "lora" else "model"
    if one.modules == BRIDGE:
        kind = BRIDGE
    recipe = one.recipe.model_dump()
    write_manifest(Path(one.out), Path(one.folder), kind=kind, recipe=recipe, **measured)


def _finished(one: PlacedTuning, states: TrainingStates) -> bool:
    """Whether the folder holds the checkpoint already; its manifest is then written again."""
    from affectlocus.orchestration.plan import TUNED
    from affectlocus.training.tuning_record import finished

    measured = finished(Path(one.folder), states.job)
    if measured is None:
        return False
    _write(one, measured)
    states.remove()
    typer.echo(f"note: {one.folder}: {TUNED}", err=True)
    return True


def _files(recipe: Tuning, data: list[Path]) -> list[Path]:
    """The prepared tasks of a recipe: those with its names, or all if there are as many."""
    named = {path.stem: path for path in data}
    if all(name in named for name in recipe.data):
        return [named[name] for name in recipe.data]
    if len(recipe.data) == len(data):
        return data
    missing = next(name for name in recipe.data if name not in named)
    raise InputError(
        "tuning.task-not-given",
        f"--data: no file is named after the task {missing} of a tuning; give {missing}.parquet",
        option="--data",
        found=list(named),
        expected=missing,
    )
