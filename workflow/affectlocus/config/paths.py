"""Checks of the files and folders that params.yaml names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from affectlocus.config.files import DataFile
from affectlocus.config.presets import PRESETS
from affectlocus.config.sources import SEED, Source
from affectlocus.core.checkpoint_files import BRIDGES, checkpoint_paths, is_weights
from affectlocus.core.errors import InputError
from affectlocus.core.files import matching
from affectlocus.core.installed_packages import package_file

if TYPE_CHECKING:
    from affectlocus.config.experiment import Parameters
    from affectlocus.config.media import Encoder
    from affectlocus.config.sources import Base


def missing_files(
    parameters: Parameters, folder: Path, planning: bool = False
) -> Iterator[InputError]:
    """A problem for every file or folder in params.yaml that is missing.

    Args:
        planning: files marked `awaited` may be missing.
    """
    unusable = [one for key, path in _named_paths(parameters) for one in _unusable(key, path)]
    yield from unusable
    if unusable:
        return
    root = folder / parameters.data_root
    yield from _no_tables(parameters, root, planning)
    yield from _no_bases(parameters, root, planning)
    yield from _no_extractor(parameters, root)
    yield from _no_encoders(parameters, root, planning)
    yield from _no_wheels(parameters, root)
    for name, pair in parameters.pairs.items():
        yield from _no_checkpoint(f"pairs.{name}.tuned", pair.tuned, root, planning)
        yield from _no_checkpoint(f"pairs.{name}.initial", pair.initial, root, planning, BRIDGES)


def _no_tables(parameters: Parameters, root: Path, planning: bool) -> Iterator[InputError]:
    """A problem for the files of tasks."""
    for name, task in parameters.tasks.items():
        if task.files is None or (planning and task.awaited):
            continue
        hint = f" (preset {task.preset}: {PRESETS[task.preset].about})" if task.preset else ""
        seen: dict[Path, str] = {}
        tables: list[tuple[str, DataFile]] = [(f"files.{key}", f) for key, f in task.files.items()]
        for part, table in [*tables, *([("join", task.join)] if task.join else [])]:
            if table.hub is not None:
                continue
            path = root / table.file
            key = f"tasks.{name}.{part}"
            if not all(file.is_file() for file in matching(path)) or not matching(path):
                yield InputError(
                    "task.no-file",
                    f"no such file: {path}; correct it, or data_root{hint}",
                    key=key,
                    path=path,
                )
            elif part != "join" and path.resolve() in seen:
                other = seen[path.resolve()]
                yield InputError(
                    "task.same-file-twice",
                    f"the same file as {other}: {path}; a split must not overlap another",
                    key=key,
                    path=path,
                    split=other,
                )
            seen[path.resolve()] = part.removeprefix("files.")


def _no_bases(parameters: Parameters, root: Path, planning: bool) -> Iterator[InputError]:
    """A problem for the files of bases."""
    models = (
        (name, model) for name in parameters.bases for model in parameters.models_of(name).values()
    )
    for name, base in models:
        if planning and base.awaited:
            continue
        if base.folder is not None and not (root / base.folder / "config.json").is_file():
            path = root / base.folder
            yield InputError(
                "base.no-config",
                f"no config.json in {path}; expected a Hugging Face model with its configuration "
                "and tokenizer, because the base is evaluated too (affectlocus diff needs only "
                "weights)",
                key=f"bases.{name}.folder",
                path=path,
            )
        if base.gguf is not None and not (root / base.gguf).is_file():
            yield InputError(
                "base.no-gguf",
                f"no such file: {root / base.gguf}; expected a GGUF file; correct it, or data_root",
                key=f"bases.{name}.gguf",
                path=root / base.gguf,
            )
        if not planning:
            yield from _no_package(f"bases.{name}.package", base)
        for file in base.then:
            if not (root / file).exists():
                yield InputError(
                    "base.no-adapter",
                    f"no such file or folder: {root / file}; correct it",
                    key=f"bases.{name}.then",
                    path=root / file,
                )


def _no_extractor(parameters: Parameters, root: Path) -> Iterator[InputError]:
    """A problem for the folder of the model that reads free text."""
    asked = parameters.extraction.model
    if asked is not None and asked.folder is not None:
        path = root / asked.folder
        if not (path / "config.json").is_file():
            yield InputError(
                "model.no-config",
                f"no config.json in {path}; expected a Hugging Face model",
                key="extraction.model",
                path=path,
            )


def _no_encoders(parameters: Parameters, root: Path, planning: bool) -> Iterator[InputError]:
    """A problem for the files of encoders."""
    for name, medium in parameters.media.items():
        encoder = medium.encoder
        if encoder is None or (planning and encoder.awaited):
            continue
        if encoder.folder is not None and not (root / encoder.folder / "config.json").is_file():
            path = root / encoder.folder
            yield InputError(
                "media.no-config",
                f"no config.json in {path}; expected a Hugging Face model with its weights and "
                "preprocessor_config.json",
                key=f"media.{name}.encoder",
                path=path,
            )
        if not planning:
            yield from _no_package(f"media.{name}.encoder", encoder)


def _no_package(key: str, source: Base | Encoder) -> Iterator[InputError]:
    """A problem for a file of an installed package that is not there."""
    if source.package is not None and source.file is not None:
        try:
            package_file(source.package, source.file)
        except InputError as error:
            yield InputError(error.code, str(error), **error.fields | {"key": key})


def _no_wheels(parameters: Parameters, root: Path) -> Iterator[InputError]:
    """A problem for the folder of wheels."""
    wheels = parameters.score.wheels
    if parameters.score.own_wheels and wheels in (None, "released"):
        yield InputError(
            "score.no-own-wheels",
            "needs a folder of wheels; name it in score.wheels",
            key="score.own_wheels",
        )
    if wheels not in (None, "released") and not (root / str(wheels)).is_dir():
        yield InputError(
            "score.no-wheels-folder",
            f"no such folder: {root / str(wheels)}; correct it, or write released to download "
            "wheels",
            key="score.wheels",
            path=root / str(wheels),
        )


def _no_checkpoint(
    key: str, source: Source | None, root: Path, planning: bool, bridges: Sequence[str] = ()
) -> Iterator[InputError]:
    """A problem for a checkpoint on disk that is not there.

    Args:
        bridges: bridges of which one is enough.
    """
    if source is None or source.folder is None or (planning and source.awaited):
        return
    path = root / source.folder
    if path.is_file() and is_weights(path.name):
        return
    files = checkpoint_paths(path) if path.is_dir() else []
    if any(map(_marks_checkpoint, files)) or any(file.stem in bridges for file in files):
        return
    yield InputError(
        "pair.no-checkpoint",
        f"found neither weights nor adapter_config.json in {path}; "
        "expected a Hugging Face model, a PEFT adapter, or a .pth or .bin file",
        key=key,
        path=path,
    )


def _named_paths(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """(key, path) of every path in params.yaml."""
    yield "data_root", parameters.data_root
    sources = {
        f"bases.{name}.folder": base.folder and base.folder.replace(SEED, "")
        for name, base in parameters.bases.items()
    }
    sources |= {f"bases.{name}.gguf": base.gguf for name, base in parameters.bases.items()}
    for name, pair in parameters.pairs.items():
        sources[f"pairs.{name}.tuned"] = pair.tuned.folder if pair.tuned is not None else None
        sources[f"pairs.{name}.initial"] = pair.initial.folder if pair.initial is not None else None
    asked = parameters.extraction.model
    sources["extraction.model"] = asked.folder if asked is not None else None
    for name, medium in parameters.media.items():
        sources[f"media.{name}.encoder"] = medium.encoder.folder if medium.encoder else None
    sources["score.wheels"] = parameters.score.wheels
    yield from ((key, path) for key, path in sources.items() if path is not None)
    for name, base in parameters.bases.items():
        yield from ((f"bases.{name}.then", path) for path in base.then)
    for name, task in parameters.tasks.items():
        files = dict(task.files.items()) if task.files is not None else {}
        yield from ((f"tasks.{name}.files.{key}", one.file) for key, one in files.items())
        if task.join is not None:
            yield f"tasks.{name}.join", task.join.file


def _unusable(key: str, path: str) -> Iterator[InputError]:
    """Why Snakemake cannot use a path."""
    if re.search(r"[{}]", path):
        yield InputError(
            "path.braces",
            f"found braces in {path!r}, which Snakemake reads as wildcards; rename it",
            key=key,
            path=path,
        )
    if not path.isprintable():
        yield InputError(
            "path.unprintable",
            f"the path {path!r} contains an unprintable character; rename it",
            key=key,
            path=path,
        )
    try:
        Path(path).is_file()
    except OSError as error:
        yield InputError(
            "path.not-valid",
            f"the path {path!r} is not valid: {error.strerror}; correct it",
            key=key,
            path=path,
            reason=error.strerror,
        )


def _marks_checkpoint(file: Path) -> bool:
    """Whether a folder with this file is a model or an adapter."""
    if file.name in ("config.json", "adapter_config.json"):
        return True
    # Weights of a model are enough; those of an adapter or a bridge are not.
    other = ("adapter_model.", "adapters.", *(f"{name}." for name in BRIDGES))
    return is_weights(file.name) and not file.name.startswith(other)
