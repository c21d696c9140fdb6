"""Some rows of a version's inputs as the model sees them, in an Arrow table: of its test part, or of a window.

Numbers are float64, categories and texts strings, a missing value is null, a moment is seconds since 1970 UTC. What was
stored at training time and what a server captured compare value by value. Needs pyarrow, but no pandas, which the
monitor's image doesn't have.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelkit.artifact.moments import to_seconds
from modelkit.artifact.signature import MISSING_TEXT
from modelkit.data.profile import CATEGORICAL, category_key, is_length, is_presence

MOST_CHARACTERS = 4096
"""Of a text; the rest is cut off."""
_MOST_BYTES = 16 * 1024**2
"""Of a sample, about."""
_NUMBER_BYTES, _CATEGORY_BYTES, _TEXT_BYTES = 8, 32, 1024

Entries = Mapping[str, Mapping[str, Any]]
"""A version's profile entries by feature, in the order of its signature."""


def most_rows(entries: Entries, rows: int) -> int:
    """How many of `rows` a sample holds: fewer where there are thousands of columns, or many texts."""
    width = sum(
        _CATEGORY_BYTES if _is_category(entry) else _TEXT_BYTES if is_length(entry) else _NUMBER_BYTES
        for entry in entries.values()
    )
    return min(rows, max(1, _MOST_BYTES // max(1, width)))


def sample_schema(entries: Entries) -> pa.Schema:
    """Of a table that `build_sample` returns."""
    return pa.schema([(name, pa.string() if is_text(entry) else pa.float64()) for name, entry in entries.items()])


def build_sample(entries: Entries, table: pa.Table, rows: int) -> pa.Table:
    """The columns of `entries` as the model sees them; what can't be a value of its column is null.

    `table`: `rows` rows, one column per feature as a client sends it or as the model sees it; a column that isn't there
    is missing in every row.
    """
    found = dict(zip(table.column_names, table.columns, strict=True))
    columns = [
        _convert(entry, found[name].combine_chunks() if name in found else pa.nulls(rows))
        for name, entry in entries.items()
    ]
    if not columns:
        # Arrow knows the number of rows by the columns only.
        return pa.table({})
    return pa.table(columns, schema=sample_schema(entries))


def as_rows(sample: pa.Table) -> NDArray[Any]:
    """[n, columns] for a model: float64 when every column is numeric, else objects (see `artifact.native`)."""
    columns = []
    for column in sample.columns:
        if pa.types.is_string(column.type):
            columns.append(pc.fill_null(column, MISSING_TEXT).to_numpy())
        else:
            columns.append(pc.fill_null(column, np.nan).to_numpy())
    if all(column.dtype == np.float64 for column in columns):
        return np.column_stack(columns) if columns else np.empty((sample.num_rows, 0))
    rows = np.empty((sample.num_rows, len(columns)), dtype=object)
    for index, column in enumerate(columns):
        rows[:, index] = column
    return rows


def dump_sample(sample: pa.Table) -> bytes:
    """An Arrow file: quicker to write than Parquet, and no larger for so few rows."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, sample.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(sample)
    return bytes(sink.getvalue().to_pybytes())


def load_sample(data: bytes) -> pa.Table:
    """The inverse of `dump_sample`; raises ArrowException for other bytes."""
    return pa.ipc.open_file(BytesIO(data)).read_all()


def is_text(entry: Mapping[str, Any]) -> bool:
    """Does the model see the column as text: a category's name, or words?"""
    return _is_category(entry) or is_length(entry)


def _is_category(entry: Mapping[str, Any]) -> bool:
    return bool(entry["kind"] == CATEGORICAL)


def _convert(entry: Mapping[str, Any], values: pa.Array) -> pa.Array:
    if not is_text(entry):
        return _numbers(entry, values)
    if _is_category(entry):
        return _each(values, category_key, pa.string())
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return pa.nulls(len(values), pa.string())
    texts = pc.utf8_slice_codeunits(values.cast(pa.string()), 0, MOST_CHARACTERS)
    return pc.if_else(pc.equal(texts, MISSING_TEXT), None, texts)


def _numbers(entry: Mapping[str, Any], values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return values.cast(pa.float64(), safe=False)
    if pa.types.is_floating(kind):
        return pa.array(values.to_numpy(zero_copy_only=False).astype(np.float64), from_pandas=True)
    return _each(values, _seconds if is_presence(entry) else _number, pa.float64())


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None


def _seconds(value: Any) -> float | None:
    try:
        return to_seconds(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _each(values: pa.Array, convert: Any, kind: pa.DataType) -> pa.Array:
    """`convert` every different value once."""
    if pa.types.is_nested(values.type) or pa.types.is_null(values.type):
        return pa.nulls(len(values), kind)
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    found: Sequence[Any] = [convert(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(found, kind).take(encoded.indices)
