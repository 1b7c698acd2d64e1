"""Presets: the layouts of public data sets as their owners publish them, one YAML file each.

A preset contains no data, only the layout: files, columns, labels and splits. It supplies the keys
of a task that params.yaml leaves out. The files are in `preset_files`. When a layout changes, its
`version` is raised; the report shows it.
"""

from __future__ import annotations

import posixpath
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from affectlocus.config.fields import Strict, one_of
from affectlocus.config.messages import ParameterError
from affectlocus.config.yaml_text import parsed

FOLDER = Path(__file__).parent / "preset_files"
"""The folder of the presets; a file's name is the name of the preset."""


class Preset(Strict):
    """The layout of a public data set."""

    version: int = Field(ge=1, description="raised when the keys of the task change")
    about: str = Field(description="the files and columns of the data set")
    owner: str = Field(description="where the data set is published or requested")
    checked: bool = Field(
        description="true: the layout was checked with the files; false: it is from documentation "
        "only"
    )
    task: dict[str, Any] = Field(description="the keys of a task, as in params.yaml")
    media: dict[str, str] = Field(
        {}, description="medium → the path of a sample's file; a task names those that it reads"
    )

    @property
    def expectation(self) -> str:
        """The expected layout, for messages about files that differ from it."""
        source = "checked with the published files" if self.checked else "from documentation only"
        return f"{self.about} ({source}; keys of the task override the preset's)"


def _read(file: Path) -> Preset:
    return Preset.model_validate(parsed(file.read_text(encoding="utf-8"), str(file)))


PRESETS: dict[str, Preset] = {file.stem: _read(file) for file in sorted(FOLDER.glob("*.yaml"))}


PresetName = Annotated[str, *one_of("preset", PRESETS)]
"""The name of a preset."""

_BY_KEY = ("columns", "context", "join", "number", "split")


def expanded(keys: dict[str, Any]) -> dict[str, Any]:
    """A task with the keys of its preset; the preset's paths start at `root`.

    Keys of the task override those of the preset. In columns, context, join, number and split,
    single keys are overridden. Without a root the task must name all files. A list as `media` takes
    the paths of these media from the preset. An expanded task expands to itself.

    Raises:
        ValueError: the task has neither root nor files, or names a medium that the preset lacks.
    """
    preset = PRESETS[keys["preset"]]
    root, files = keys.get("root"), keys.get("files")
    if files is None and root is None:
        raise ParameterError(
            "task.no-root",
            f"root is missing; preset needs the folder that contains {preset.about}",
            preset=keys["preset"],
        )
    task = deepcopy(preset.task)
    own = task["files"]
    if isinstance(files, dict):
        alike = root is not None and ("all" in files) == ("all" in own)
        task["files"] = {**own, **files} if alike else files
        if "split" in task and task["files"].get("all") is None:
            del task["split"]
    for key, value in keys.items():
        if key in _BY_KEY and isinstance(value, dict) and isinstance(task.get(key), dict):
            task[key] = {**task[key], **value}
        elif key != "files" or not isinstance(value, dict | None):
            task[key] = value
    if isinstance(task.get("media"), list):
        task["media"] = _media(preset, keys["preset"], task["media"], root)
    if root is not None:
        if isinstance(task["files"], dict):
            task["files"] = {key: _below(root, file) for key, file in task["files"].items()}
        if isinstance(task.get("join"), dict):
            task["join"] = _below(root, task["join"])
    return task | {"root": None}


def _media(preset: Preset, name: str, media: list[Any], root: Any) -> dict[str, str]:
    """Medium → the path of a sample's file."""
    unknown = [one for one in media if not isinstance(one, str) or one not in preset.media]
    if unknown:
        raise ParameterError(
            "task.no-such-medium",
            f"preset {name} has the media {', '.join(preset.media) or 'none'}; found "
            f"{unknown[0]!r}: write media as medium: path",
            preset=name,
            found=unknown[0],
        )
    return {medium: _below(root, preset.media[medium]) for medium in media}


def _below(root: Any, file: Any) -> Any:
    """A path, or the keys of a file on disk, with a folder in front."""
    if isinstance(file, str) and isinstance(root, str):
        return posixpath.join(root, file)
    if isinstance(file, dict) and isinstance(file.get("file"), str) and file.get("hub") is None:
        return file | {"file": _below(root, file["file"])}
    return file
