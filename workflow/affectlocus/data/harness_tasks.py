"""Tasks of lm-evaluation-harness as tasks of params.yaml.

A task of the harness is a YAML file. Those are imported that choose between the same answers for
every sample, from a prompt that only inserts columns. Everything else that changes what a task
measures (Python functions, other jinja, generated answers, filters) is refused by its name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from affectlocus.config.tasks import Task
from affectlocus.core.errors import InputError
from affectlocus.data.table_reader import read_table

_SUPPORTED = "multiple_choice"
_UNCHANGING = {
    *("task", "task_alias", "tag", "group", "dataset_path", "dataset_name", "dataset_kwargs"),
    *("output_type", "training_split", "validation_split", "test_split", "fewshot_split"),
    *("fewshot_config", "num_fewshot", "doc_to_text", "doc_to_target", "doc_to_choice"),
    *("metric_list", "metadata", "repeats", "should_decontaminate", "include", "description"),
    *("doc_to_decontamination_query", "target_delimiter", "fewshot_delimiter", "unsafe_code"),
}
"""Keys that are read, or that change nothing in a task without examples in its prompt."""
_BUILDERS = ("csv", "json", "parquet")
"""The values of dataset_path with which the files are named in dataset_kwargs."""
_SPLITS = {"train": ("training_split",), "test": ("test_split", "validation_split")}
"""Our split → the keys of the harness's split, the first that is set."""
_RESERVED = ("context",)
"""Fields of a prompt that mean something else than a column."""


@dataclass(frozen=True)
class _Function:
    """The tag !function, which names a Python function."""

    name: str


class _Loader(yaml.SafeLoader):
    """The YAML of the harness."""


def _function(loader: yaml.SafeLoader, node: yaml.Node) -> _Function:
    assert isinstance(node, yaml.ScalarNode)
    return _Function(str(loader.construct_scalar(node)))


_Loader.add_constructor("!function", _function)


@dataclass(frozen=True)
class ImportedTask:
    """A task of params.yaml.

    Attributes:
        name: its name.
        keys: its keys.
        notes: what differs from the harness.
    """

    name: str
    keys: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The section `tasks` of params.yaml."""
        section = {"tasks": {self.name: self.keys}}
        return yaml.safe_dump(section, sort_keys=False, allow_unicode=True, width=100)


def task_file(name: str, folder: Path | None = None) -> Path:
    """The YAML file of a task: the file itself, or the one below a folder that has this name.

    Args:
        name: a file, or the name of a task.
        folder: the harness's folder of tasks; by default that of the installed package lm_eval.

    Raises:
        InputError: there is no such file, no such folder, or no task of this name.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml"):
        raise InputError("harness.no-file", f"{name}: no such file", file=path)
    if folder is None:
        spec = find_spec("lm_eval")
        places = list(spec.submodule_search_locations or []) if spec else []
        folder = Path(places[0]) / "tasks" if places else None
    if folder is None or not folder.is_dir():
        raise InputError(
            "harness.no-folder",
            f"{name}: no such file, and no folder of tasks ({folder or 'lm_eval is not installed'}"
            "); name a YAML file, or the folder with --folder",
            file=path,
            found=str(folder) if folder else None,
        )
    wanted = re.compile(rf"^task:\s*[\"']?{re.escape(name)}[\"']?\s*$", re.MULTILINE)
    for file in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        if wanted.search(file.read_text(encoding="utf-8", errors="replace")):
            return file
    raise InputError(
        "harness.no-task",
        f"{name}: no YAML file in {folder} has this task",
        found=name,
        file=folder,
    )


def import_task(
    file: Path, files: Mapping[str, Path] | None = None, domain: str = "affective"
) -> ImportedTask:
    """A task of the harness as one of params.yaml.

    Args:
        file: its YAML file.
        files: split (`train`, `test`) → its data; by default the local files that the task names.
        domain: `affective` or `control`.

    Raises:
        InputError: the task needs what is not supported, or its data are missing or do not fit.
    """
    keys = _read(file)
    _refuse_unsupported(file, keys)
    notes = []
    data = dict(files or {}) or _local_files(file, keys)
    if "test" not in data:
        names = (keys.get(key) for key in ("dataset_path", "dataset_name"))
        source = "/".join(str(name) for name in names if name)
        raise InputError(
            "harness.no-data",
            f"{file}: its data ({source or 'unnamed'}) are no local files; download the "
            f"{_split(keys, 'test') or 'test'} split as csv, jsonl or parquet and name it with "
            "--file test=PATH",
            file=file,
            found=source,
        )
    rows = read_table(data["test"]).rows
    columns = [str(name) for name in rows.columns]
    prompt = _template(file, "description", keys.get("description") or "", columns)
    asked = keys["doc_to_text"]
    text = f"{{{{{asked}}}}}" if asked in columns else asked
    prompt += _template(file, "doc_to_text", text, columns)
    if prompt != prompt.rstrip():
        raise InputError(
            "harness.prompt-ends-with-space",
            f"{file}: the prompt ends with white space, and the answer would follow a second space;"
            " remove it from doc_to_text",
            file=file,
            key="doc_to_text",
        )
    target = _column(file, "doc_to_target", keys["doc_to_target"], columns)
    used = re.findall(r"(?<!\{)\{(\w+)\}", prompt)
    found: dict[str, Any] = {
        "domain": domain,
        "files": {split: path.as_posix() for split, path in data.items()},
        "columns": {"text": "text" if "text" in used else (used or columns)[0], "label": target},
        "labels": _labels(file, _choices(file, keys, columns), rows[target].tolist(), target),
        "prompt": prompt,
    }
    if keys.get("num_fewshot"):
        notes.append(
            f"num_fewshot {keys['num_fewshot']} is left out: the prompt has no examples of answers"
        )
    metrics = [one.get("metric") for one in keys.get("metric_list") or []]
    named = ", ".join(one.name if isinstance(one, _Function) else str(one) for one in metrics)
    notes.append(
        f"scored by the metrics of affectlocus (score.metric), not by {named or 'acc'}; the answer "
        "is the one with the largest log-likelihood, as in acc"
    )
    try:
        Task.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "harness.not-a-task",
            f"{file}: the imported task is not valid: {first['msg'].removeprefix('Value error, ')}",
            file=file,
        ) from None
    return ImportedTask(str(keys.get("task") or file.stem), found, notes)


def _read(file: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a file, over those of the files that it includes."""
    path = file.resolve()
    if path in seen:
        raise InputError("harness.include-loop", f"{file}: includes itself", file=file)
    try:
        # The loader builds plain values only: it is a SafeLoader with one more tag.
        keys = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise InputError(
            "harness.unreadable", f"{file}: not a YAML file of a task ({line})", file=file
        ) from None
    if not isinstance(keys, dict):
        raise InputError(
            "harness.unreadable",
            f"{file}: expected the keys of a task",
            file=file,
        )
    included = keys.get("include") or []
    base: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        base |= _read(file.parent / str(name), (*seen, path))
    return base | keys


def _refuse_unsupported(file: Path, keys: Mapping[str, Any]) -> None:
    if isinstance(keys.get("task"), list):
        raise InputError(
            "harness.group",
            f"{file}: a group of tasks; import one of them: "
            f"{', '.join(str(one) for one in keys['task'] if isinstance(one, str)) or 'its tasks'}",
            file=file,
        )
    for key, value in keys.items():
        name = next(_functions(value), None)
        if name is not None and key not in ("metric_list", "fewshot_config"):
            raise InputError(
                "harness.function",
                f"{file}: {key} is the Python function {name}, which is not run; write its result "
                "into the data, and the column into the YAML file",
                file=file,
                key=key,
                found=name,
            )
    kind = keys.get("output_type", "generate_until")
    if kind != _SUPPORTED:
        raise InputError(
            "harness.output-type",
            f"{file}: output_type {kind} is not supported; expected {_SUPPORTED}",
            file=file,
            found=kind,
            expected=_SUPPORTED,
        )
    unknown = [key for key, value in keys.items() if key not in _UNCHANGING and value]
    if unknown:
        raise InputError(
            "harness.unsupported-key",
            f"{file}: {unknown[0]} is not supported, and may change what the task measures",
            file=file,
            key=unknown[0],
        )
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        if keys.get(key) is None:
            raise InputError("harness.missing-key", f"{file}: {key} is missing", file=file, key=key)
    if keys.get("target_delimiter", " ") != " ":
        raise InputError(
            "harness.delimiter",
            f"{file}: target_delimiter is {keys['target_delimiter']!r}; expected one space, which "
            "is between prompt and answer here",
            file=file,
            found=keys["target_delimiter"],
        )


def _functions(value: Any) -> Any:
    """The names of Python functions in a value."""
    if isinstance(value, _Function):
        yield value.name
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _functions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _functions(inner)


def _split(keys: Mapping[str, Any], split: str) -> str | None:
    return next((str(keys[key]) for key in _SPLITS[split] if keys.get(key)), None)


def _local_files(file: Path, keys: Mapping[str, Any]) -> dict[str, Path]:
    """The files that a task itself names, by our splits."""
    if keys.get("dataset_path") not in _BUILDERS:
        return {}
    named = (keys.get("dataset_kwargs") or {}).get("data_files") or {}
    # The datasets library calls the split of a single file train.
    named = named if isinstance(named, dict) else {"train": named}
    found = {}
    for split in _SPLITS:
        theirs = named.get(_split(keys, split))
        theirs = theirs[0] if isinstance(theirs, list) and len(theirs) == 1 else theirs
        if isinstance(theirs, str):
            places = [Path(theirs), file.parent / theirs]
            found[split] = next((one for one in places if one.is_file()), places[0])
    return found


_INSERT = re.compile(r"\{\{-?\s*(\w+)\s*-?\}\}")


def _template(file: Path, key: str, text: Any, columns: list[str]) -> str:
    """A jinja template that only inserts columns, as a prompt of params.yaml."""
    parts = _INSERT.split(str(text))
    for part in parts[::2]:
        other = re.search(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", part, re.DOTALL)
        if other:
            raise InputError(
                "harness.jinja",
                f"{file}: {key} has the expression {other[0]}; supported is only {{{{column}}}}: "
                "write the result of the expression into a column of the data",
                file=file,
                key=key,
                found=other[0],
            )
    for name in parts[1::2]:
        if name not in columns or name in _RESERVED:
            why = "which means previous turns here" if name in _RESERVED else "which is no column"
            raise InputError(
                "harness.no-column",
                f"{file}: {key} inserts {name}, {why}; the columns are {', '.join(columns)}",
                file=file,
                key=key,
                found=name,
                expected=columns,
            )
    return "".join(
        f"{{{part}}}" if place % 2 else part.replace("{", "{{").replace("}", "}}")
        for place, part in enumerate(parts)
    )


def _column(file: Path, key: str, value: Any, columns: list[str]) -> str:
    """The column that a key names, as its name or as a template that inserts it."""
    inserted = _INSERT.fullmatch(str(value).strip())
    name = inserted[1] if inserted else str(value)
    if name not in columns:
        raise InputError(
            "harness.not-a-column",
            f"{file}: {key} is {value!r}; expected a column ({', '.join(columns)})",
            file=file,
            key=key,
            found=value,
            expected=columns,
        )
    return name


def _choices(file: Path, keys: Mapping[str, Any], columns: list[str]) -> list[str]:
    """The answers, which are the same for every sample."""
    value = keys["doc_to_choice"]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, str) and value not in columns and "{{" not in value:
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            value = keys["doc_to_choice"]
    if not isinstance(value, list):
        raise InputError(
            "harness.choices-differ",
            f"{file}: doc_to_choice is {value!r}, so each sample has its own answers; expected one "
            "list of answers for all samples",
            file=file,
            key="doc_to_choice",
            found=value,
        )
    return [str(one) for one in value]


def _labels(
    file: Path, choices: list[str], values: list[str], column: str
) -> list[str] | dict[str, str]:
    """The labels of a task: the choices themselves, or their numbers → the choices."""
    if set(values) <= set(choices):
        return choices
    numbers = {str(number): word for number, word in enumerate(choices)}
    if set(values) <= numbers.keys():
        return numbers
    other = next(one for one in values if one not in choices and one not in numbers)
    raise InputError(
        "harness.label-is-no-choice",
        f"{file}: the column {column} has {other!r}; expected one of the choices "
        f"{', '.join(choices)}, or its number from 0 to {len(choices) - 1}",
        file=file,
        column=column,
        found=other,
        expected=choices,
    )
