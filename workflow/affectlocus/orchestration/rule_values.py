"""Values that rules pass to the command line, and the paths of checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from shlex import quote
from typing import Any

from affectlocus.config.fields import Strict
from affectlocus.config.task_answers import Scorings
from affectlocus.core.output_files import COMPLETE


def settings(model: Strict | Scorings) -> str:
    """A section of params.yaml as JSON text."""
    # The order of keys is kept, because the order of labels decides ties.
    return json.dumps(model.model_dump(mode="json"))


def unfilled(text: str) -> Callable[[Any], str]:
    """A parameter function that returns the text; Snakemake does not format braces in it."""

    def value(_: Any) -> str:
        return text

    return value


def repeated(option: str, values: Iterable[object]) -> str:
    """An option once for each value, quoted for a shell."""
    return " ".join(f"--{option} {quote(str(value))}" for value in values)


def options(**values: object) -> str:
    """Options with one value each, quoted for a shell."""
    return " ".join(repeated(name, [value]) for name, value in values.items())


def checkpoint(name: str) -> str:
    """The manifest of a checkpoint."""
    return f"results/checkpoints/{name}.json"


def complete(name: str) -> str:
    """The file that marks a folder of weights made by the workflow as complete."""
    return f"checkpoints/{name}/{COMPLETE}"


def index_of(features: str) -> str:
    """The index of a file of features."""
    return f"{features.removesuffix('.safetensors')}.parquet"


def as_images(names: Iterable[str]) -> list[str]:
    """The files of figures: each as PNG and as SVG."""
    return [f"results/figures/{name}.{suffix}" for name in names for suffix in ("png", "svg")]
