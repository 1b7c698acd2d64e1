"""The parquet files that steps hand to each other: rows, and facts about all rows.

The facts (whose predictions the rows are, which labels a task has) are JSON in the metadata of the
file's schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from pydantic import TypeAdapter, ValidationError

from affectlocus.core.errors import InputError
from affectlocus.core.output_files import replacing

_KEY = b"affectlocus"
# Earlier files hold the facts under this key: pandas wrote DataFrame.attrs there.
_KEY_OF_ATTRS = b"PANDAS_ATTRS"


def metadata_of(facts: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The metadata of a schema that holds these facts."""
    return {_KEY: json.dumps(dict(facts)).encode()}


def write_step_table(
    path: Path, rows: pd.DataFrame, facts: Mapping[str, Any] | None = None
) -> None:
    """Writes rows without their index, and facts about all of them.

    Args:
        facts: name → a value that JSON can hold.
    """
    table = pa.Table.from_pandas(rows, preserve_index=False)
    if facts:
        table = table.replace_schema_metadata({**table.schema.metadata, **metadata_of(facts)})
    with replacing(path) as temporary:
        pa.parquet.write_table(table, temporary, compression="zstd")


def read_step_table(path: Path, *columns: str) -> pd.DataFrame:
    """The rows of a file of an earlier step.

    Args:
        columns: the columns that the file must have.

    Raises:
        InputError: no such file, not a parquet file, or a column is missing.
    """
    if path.is_dir():
        raise InputError(
            "table.is-a-folder",
            f"{path}: is a folder; expected a parquet file of an earlier step",
            file=path,
        )
    try:
        rows = pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(
            "table.no-file", f"{path}: no such file; run the step that writes it first", file=path
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        line = " ".join(str(error).split())
        raise InputError(
            "table.damaged",
            f"{path}: not a complete parquet file ({line}); run affectlocus doctor --fix, which "
            "moves it aside; the next run makes it again",
            file=path,
        ) from None
    for name in columns:
        if name not in rows.columns:
            raise _without(path, name)
    return rows


def stored_facts(path: Path) -> dict[str, Any]:
    """All facts of a parquet file; empty if it has none."""
    metadata = pa.parquet.read_schema(path).metadata or {}
    try:
        facts = json.loads(metadata.get(_KEY) or metadata.get(_KEY_OF_ATTRS) or b"{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def read_facts(path: Path, **kinds: Any) -> dict[str, Any]:
    """Facts of a parquet file, each of its type.

    Args:
        kinds: name → the type of the fact, which pydantic validates.

    Raises:
        InputError: a fact is missing or has another type.
    """
    stored = stored_facts(path)
    facts = {}
    for name, kind in kinds.items():
        try:
            facts[name] = TypeAdapter(kind).validate_python(stored.get(name))
        except ValidationError:
            raise _without(path, name) from None
    return facts


def _without(path: Path, name: str) -> InputError:
    return InputError(
        "table.no-column",
        f"{path}: no {name!r} in it; expected the file of another step",
        file=path,
        column=name,
    )
