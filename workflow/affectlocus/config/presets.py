"""Public data sets in the layouts in which their owners publish them, one YAML file each.

A preset holds nothing of a data set, only where things are in it: files, columns, labels, splits.
It fills in the keys of a task that params.yaml leaves out. The files are in `preset_files`; a
changed layout gets a new `version`, which the report shows.
"""

from __future__ import annotations

import posixpath
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from affectlocus.config.yaml_text import parsed

FOLDER = Path(__file__).parent / "preset_files"
"""One YAML file for each preset; its name is the preset's."""


class Preset(BaseModel):
    """The layout of a public data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1, description="raised whenever the task's keys change")
    about: str = Field(description="what the folder holds")
    owner: str = Field(description="where the set is published or requested")
    checked: bool = Field(
        description="true: the layout was read off the files; false: off their documentation alone"
    )
    task: dict[str, Any] = Field(description="the keys of a task, as in params.yaml")

    @property
    def expectation(self) -> str:
        """What a message says was expected where a file differs."""
        source = "as its owners publish it" if self.checked else "by public documentation alone"
        return f"{self.about} ({source}; any key of the task overrides its own)"


def _read(file: Path) -> Preset:
    return Preset.model_validate(parsed(file.read_text(encoding="utf-8"), str(file)))


PRESETS: dict[str, Preset] = {file.stem: _read(file) for file in sorted(FOLDER.glob("*.yaml"))}


def _known(name: str) -> str:
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    return name


PresetName = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "enum": list(PRESETS)}),
]
"""The name of a preset."""

_BY_KEY = ("columns", "context", "join", "number", "split")


def expanded(given: dict[str, Any]) -> dict[str, Any]:
    """A task with its preset's keys beside its own; paths of `files` and `join` start from `root`.

    Of columns, context, join, number and split single keys override; of the rest, whole ones.
    Without a root a task must name all its files itself. An expanded task expands to itself.

    Raises:
        ValueError: no root and no files.
    """
    preset = PRESETS[given["preset"]]
    root, files = given.get("root"), given.get("files")
    if files is None and root is None:
        raise ValueError(f"root is missing beside preset; name the folder that has {preset.about}")
    task = deepcopy(preset.task)
    own = task["files"]
    if isinstance(files, dict):
        alike = root is not None and ("all" in files) == ("all" in own)
        task["files"] = {**own, **files} if alike else files
        if "split" in task and task["files"].get("all") is None:
            del task["split"]
    for key, value in given.items():
        if key in _BY_KEY and isinstance(value, dict) and isinstance(task.get(key), dict):
            task[key] = {**task[key], **value}
        elif key != "files" or not isinstance(value, dict | None):
            task[key] = value
    if root is not None:
        if isinstance(task["files"], dict):
            task["files"] = {key: _below(root, file) for key, file in task["files"].items()}
        if isinstance(task.get("join"), dict):
            task["join"] = _below(root, task["join"])
    return task | {"root": None}


def _below(root: Any, file: Any) -> Any:
    """A path, or the keys of a file on disk, below a folder."""
    if isinstance(file, str) and isinstance(root, str):
        return posixpath.join(root, file)
    if isinstance(file, dict) and isinstance(file.get("file"), str) and file.get("hub") is None:
        return file | {"file": _below(root, file["file"])}
    return file
