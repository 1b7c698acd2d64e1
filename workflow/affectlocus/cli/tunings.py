"""The command `tune`: one tuning of a base, or several of them in one process."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import (
    HardwareText,
    SaveMinutes,
    importing,
    read_frame,
    settings_of,
    settings_option,
    training_states,
    without_effect,
    write_manifest,
)
from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    from affectlocus.config.tuning import PlacedTuning, Tuning
    from affectlocus.training.training_state import TrainingStates


def tune(
    base: Annotated[Path, typer.Option(help="manifest of the base checkpoint")],
    data: Annotated[list[Path], typer.Option(help="prepared task; repeat to mix several")],
    settings: Annotated[
        str,
        settings_option(
            "method, data, modules, rank, alpha, dropout, steps, batch_size, "
            "learning_rate, warmup, weight_decay, max_length, group_by_length, shuffled, seed, "
            "fair, trajectory"
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
    threads: Annotated[
        int, typer.Option(help="CPU threads; the result depends on their number")
    ] = 1,
    hardware: HardwareText = "{}",
    save_minutes: SaveMinutes = None,
) -> None:
    """Tune a base on module sets, by LoRA or in full, within a fixed budget.

    Writes an adapter (LoRA) or a model (SFT), and a manifest (--out) with the losses. Several
    tunings share the loaded base; each has the same numbers as alone, and is written as soon as it
    is finished. A tuning whose folder already holds its checkpoint is not repeated. After a kill,
    SIGTERM or Ctrl-C, the same command resumes from the last saved state.

    Example: affectlocus tune --base results/checkpoints/qwen2.json --data results/data/mine.parquet
    --settings '{"data": ["mine"], "modules": "gate", "rank": 8}' --folder gate --out gate.json

    Example: affectlocus tune --base results/checkpoints/qwen2.json --data results/data/mine.parquet
    --settings '{"data": ["mine"]}' --tunings '[{"modules": "gate", "folder": "gate",
    "out": "gate.json"}, {"modules": "up", "folder": "up", "out": "up.json"}]'
    """
    from affectlocus.config.hardware import Hardware

    placed = _placed(settings, tunings, folder, out)
    devices = settings_of(Hardware, hardware, "--hardware")
    data_of = {one.folder: _files(one, data) for one in placed}
    frames = {path: read_frame(path, "split", "prompt", "answer") for path in data}
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

    base_folder = checkpoint_folder(base)
    torch.set_num_threads(threads)
    inputs = [base, base_folder, *data]
    for one in placed:
        check_output(Path(one.out))
        check_output(Path(one.folder), "tune", inputs=inputs)
    states = {
        one.folder: training_states(
            "tune",
            Path(one.folder),
            devices.save_minutes if save_minutes is None else save_minutes,
            recipe=one.recipe.model_dump(),
            base=read_json(base)["files"],
            data=data_of[one.folder],
            hardware=devices.model_dump(),
            threads=threads,
        )
        for one in placed
    }
    left = [one for one in placed if not _finished(one, states[one.folder])]
    if not left:
        return
    tuner = Tuner(base_folder, devices)
    diverged: list[DivergedError] = []
    with Progress() as progress:
        numbers = tuner.stacks([one.recipe for one in left])
        stacks = [[left[number] for number in stack] for stack in numbers]
        bar = progress.add_task("", total=sum(stack[0].steps for stack in stacks))
        for stack in stacks:
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
                        )
                        for one in stack
                    ]
                    found = tuner.tune(jobs, lambda: progress.advance(bar))
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


def _write(one: PlacedTuning, measured: dict[str, Any]) -> None:
    kind = "adapter" if one.method == "lora" else "model"
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


def _placed(
    settings: str, tunings: str | None, folder: Path | None, out: Path | None
) -> list[PlacedTuning]:
    """The tunings of a call."""
    from affectlocus.config.tuning import PlacedTuning, SharedKeys, Tuning, TuningKeys, TuningList

    if tunings is None:
        recipe = settings_of(Tuning, settings)
        if folder is None or out is None:
            option = "--folder" if folder is None else "--out"
            raise InputError(
                "option.missing",
                f"{option} is missing; give --folder and --out, or --tunings with both for each",
                option=option,
            )
        return [PlacedTuning(**recipe.model_dump(), folder=str(folder), out=str(out))]
    without_effect({"folder": folder, "out": out}, "each of --tunings names its own")
    shared = settings_of(SharedKeys, settings).root
    entries = [shared | one for one in settings_of(TuningKeys, tunings, "--tunings").root]
    placed = settings_of(TuningList, json.dumps(entries), "--tunings").root
    for key in ("folder", "out"):
        named = [Path(getattr(one, key)).absolute() for one in placed]
        for path in named:
            if named.count(path) > 1:
                raise InputError(
                    "tuning.same-output",
                    f"--tunings: two tunings have the {key} {path}; give each its own",
                    option="--tunings",
                    key=key,
                    found=str(path),
                )
    return placed


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
