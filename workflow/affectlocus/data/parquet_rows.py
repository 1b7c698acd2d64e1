"""Reads the rows of a parquet file as text, within limits on memory."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow

from affectlocus.data.json_rows import text_of
from affectlocus.data.table_limits import check_cells, check_names, check_size

_BATCH = 512  # rows


def parquet_rows(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a parquet file, every value as text (`json_rows.text_of`).

    Returns:
        Columns of text; and the names of the columns that hold lists or structures.

    Raises:
        LayoutError: duplicate column names; more values than memory can hold.
        pyarrow.ArrowException: a broken file.
    """
    import pyarrow.parquet
    import pyarrow.types

    file = pyarrow.parquet.ParquetFile(path)
    texts = [field.name for field in file.schema_arrow if _is_variable_length(field.type)]
    # Dictionary-encoded columns hold each value once, so that their size in text is known before
    # the texts are created.
    file = pyarrow.parquet.ParquetFile(path, read_dictionary=texts)
    metadata, names = file.metadata, file.schema_arrow.names
    check_cells(metadata.num_rows, len(names))
    check_names(names)
    sizes = (metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    check_size(sum(max(size, 0) for size in sizes))
    columns: dict[str, list[str]] = {name: [] for name in names}
    size = 0
    # Counted in a first pass, in batches: a value repeated a million times is stored only once, so
    # the sizes in the metadata may be far too small.
    for batch in file.iter_batches(batch_size=_BATCH):
        size += sum(_text_bytes(values) for values in batch.columns)
        check_size(size)
    for batch in file.iter_batches(batch_size=_BATCH):
        for name, values in zip(names, batch.columns, strict=True):
            columns[name] += [text_of(value) for value in values.to_pylist()]
    nested = [field.name for field in file.schema_arrow if pyarrow.types.is_nested(field.type)]
    return pd.DataFrame(columns, dtype=object), nested


def _is_variable_length(kind: pyarrow.DataType) -> bool:
    """Whether values of a type may have any length: strings and binary."""
    import pyarrow.types

    texts = (pyarrow.types.is_string, pyarrow.types.is_large_string)
    return any(test(kind) for test in (*texts, pyarrow.types.is_binary))


def _text_bytes(values: pyarrow.Array) -> int:
    """Bytes of a column's values, each counted as often as it occurs."""
    import pyarrow.compute
    import pyarrow.types

    encoded = pyarrow.types.is_dictionary(values.type)
    if not encoded or not _is_variable_length(values.type.value_type):
        return int(values.nbytes)
    lengths = pyarrow.compute.binary_length(values.dictionary)
    return int(pyarrow.compute.sum(lengths.take(values.indices)).as_py() or 0)
