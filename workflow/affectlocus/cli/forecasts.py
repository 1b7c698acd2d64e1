"""The command `forecast`: measures of a base that are taken before it is tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectlocus.cli.shared import (
    Base,
    HardwareText,
    Out,
    importing,
    read_frame,
    settings_of,
    settings_option,
)


def forecast(
    base: Base,
    data: Annotated[list[Path], typer.Option(help="prepared task; repeat to mix several")],
    out: Out,
    settings: Annotated[
        str, settings_option("data, batch_size, max_length, shuffled, seed, as for tune")
    ] = "{}",
    samples: Annotated[
        int, typer.Option(min=1, help="training samples that are read, in the order of the seed")
    ] = 64,
    hardware: HardwareText = "{}",
) -> None:
    """Measure where a tuning may help, before the base is tuned.

    Writes a row for each layer and projection, with the norm of the loss's gradient
    (gradient_norm), the norm of the gradient that a LoRA adapter starts with (adapter_gradient),
    the normalised norm of the features (feature_norm), and the stable rank of the base's weights
    (base_stable_rank). Claims of kind ranks compare them with the scores that tuning then gives.

    Example: affectlocus forecast --base results/checkpoints/qwen2.json
    --data results/data/mine.parquet --settings '{"data": ["mine"]}' --out forecast.parquet
    """
    from affectlocus.config.hardware import Hardware
    from affectlocus.config.tuning import Tuning

    recipe = settings_of(
        Tuning, settings, fill=lambda given: {"data": [path.stem for path in data]} | given
    )
    devices = settings_of(Hardware, hardware, "--hardware")
    frames = [read_frame(path, "split", "prompt", "answer") for path in data]
    with importing():
        from rich.progress import Progress

        from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
        from affectlocus.core.output_files import check_output
        from affectlocus.core.step_tables import write_step_table
        from affectlocus.lm.devices import load
        from affectlocus.lm.prompts import Prompter
        from affectlocus.training.forecast import forecast as run
        from affectlocus.training.tune import SampleLayout, training_examples
    check_output(out)
    folder = checkpoint_folder(base)
    examples = training_examples(
        Prompter(folder),
        frames,
        recipe.max_length,
        recipe.seed,
        recipe.shuffled,
        layout=SampleLayout.of(recipe),
    )[:samples]
    with Progress() as progress:
        bar = progress.add_task("", total=len(examples))
        found = run(
            load(folder, devices),
            examples,
            recipe.batch_size,
            lambda done: progress.advance(bar, done),
        )
    write_step_table(out, found, {"samples": len(examples), "seed": recipe.seed})
