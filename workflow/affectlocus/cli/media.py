"""Commands on audio, video, image and face files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affectlocus.cli.shared import (
    AllSplits,
    device,
    importing,
    settings_of,
    settings_option,
    task_of,
)
from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    from affectlocus.config.media import Medium


def encode(
    name: Annotated[str, typer.Option(help="the task's name, for messages")],
    settings: Annotated[
        str, settings_option("of the task: media, absent, and the keys that prepare takes")
    ],
    medium: Annotated[str, typer.Option(help="the medium of the task that is encoded")],
    reading: Annotated[
        str,
        typer.Option(
            help="JSON text, or a yaml or json file, of how the medium is read: preset, kind, "
            "frames, pick, size, array_channels, rate, clips, seconds, starts, centre, normalise, "
            "window, short, silence, layers, pool, parts, store"
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="file of the features, MEDIUM.safetensors; the index is written next to it, as "
            "MEDIUM.parquet",
        ),
    ],
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="the encoder: its folder, or its manifest as retrieve writes it; none for kind "
            "features"
        ),
    ] = None,
    root: Annotated[Path, typer.Option(help="folder that the paths of media are relative to")] = (
        Path()
    ),
    train: Annotated[Path | None, typer.Option(help="file of the train split")] = None,
    validation: Annotated[Path | None, typer.Option(help="file of the validation split")] = None,
    test: Annotated[Path | None, typer.Option(help="file of the test split")] = None,
    all_splits: AllSplits = None,
    join: Annotated[Path | None, typer.Option(help="the file of the settings' join")] = None,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="folder in which features are stored by content for later jobs; made if missing"
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="files that are read at once")] = 1,
) -> None:
    """Encode the media files of a task's samples with a frozen encoder.

    Encoders are CLIP, SigLIP, DINOv2, VideoMAE, HuBERT, wav2vec 2.0, WavLM and Whisper, as Hugging
    Face models. Each file is a forward pass of its own, so that its features depend on no other
    file. Files that cannot be used (missing, undecodable, silent, without a stream or a face, …)
    are counted, and refused or left out as the task's `absent` says; nothing takes their place.

    With --kept, a killed job resumes after its last shard, and only new or changed files are
    encoded. Stored features are used again only if file, encoder, settings, decoders, code,
    versions and device are the same.

    Example: affectlocus encode --name mine --all clips.csv --medium voice
    --settings '{"columns": {"label": "emotion"}, "labels": ["joy", "fear"], "media":
    {"voice": "voices/{id}.wav"}}' --reading '{"kind": "audio", "encoder": "hubert"}'
    --encoder hubert --out features/voice.safetensors
    """
    from affectlocus.config.media import Medium
    from affectlocus.core.output_files import check_output
    from affectlocus.data.media_files import decoders
    from affectlocus.data.prepare import prepare
    from affectlocus.data.sample_files import media_files

    check_output(out)
    splits = {"train": train, "validation": validation, "test": test, "all": all_splits}
    task, files = task_of(settings, splits, join)
    if medium not in task.media:
        raise InputError(
            "encode.no-such-medium",
            f"--medium {medium}: task {name} has {', '.join(task.media) or 'no media'}; name one "
            "of its media",
            option="--medium",
            found=medium,
            expected=list(task.media),
        )
    how = settings_of(Medium, reading, "--reading")
    used = decoders(how)
    samples = media_files(prepare(name, task, files)[0], medium)
    folder, weights = _encoder_files(encoder, how)
    with importing():
        import torch
        from rich.progress import Progress

        from affectlocus.lm.encode import encode as run
        from affectlocus.lm.encode import refusal
        from affectlocus.lm.encoders import MediaEncoder, as_stored
        from affectlocus.lm.feature_store import FeatureStore
        from affectlocus.orchestration.code_digest import module_digest

    model = as_stored if folder is None else MediaEncoder(folder, how)
    # Whatever encoder a file is written to be, its bytes count, not its place.
    settings_used = how.model_dump(mode="json", exclude={"encoder", "preset"})
    store = FeatureStore(
        kept,
        encoder=weights,
        settings=settings_used,
        decoders=used,
        code=[module_digest("lm.encoders"), module_digest("data.media_files")],
        device=[device(), torch.get_num_threads()] if folder else [],
    )
    with Progress() as progress:
        bar = progress.add_task(f"{name} {medium}", total=samples["file"].nunique())
        found = run(
            samples,
            root,
            how,
            model,
            store,
            threads,
            lambda done: progress.advance(bar, done),
        )
    if (error := refusal(name, medium, found, task.absent)) is not None:
        raise error
    found.write(out)
    for line in found.summary(medium):
        typer.echo(f"note: {line}", err=True)


def _encoder_files(encoder: Path | None, medium: Medium) -> tuple[Path | None, str]:
    """The folder of an encoder, and a digest of its weights and configuration."""
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder, weights_digest
    from affectlocus.config.media import BARE

    if medium.kind in BARE:
        return None, ""
    if encoder is None:
        raise InputError(
            "encode.no-encoder",
            f"--encoder is missing; kind {medium.kind} needs the folder or manifest of an encoder",
            option="--encoder",
            kind=medium.kind,
        )
    if encoder.is_dir():
        if not (encoder / "config.json").is_file():
            raise InputError(
                "media.no-config",
                f"no config.json in {encoder}; expected a Hugging Face model with its weights and "
                "preprocessor_config.json",
                file=encoder,
            )
        return encoder, weights_digest(encoder)
    folder = checkpoint_folder(encoder)
    return folder, weights_digest(encoder)
