"""One file's bytes as a data frame: CSV with a header, Parquet, or JSON lines.

Every problem is a RefusedError that names the file as the user wrote it and never holds a value of it.
"""

import csv
import gzip
import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from modelkit.data.address import CSV, PARQUET
from modelkit.errors import RefusedError

_INDEX_COLUMN = re.compile(r"__index_level_\d+__")
_TAIL = 64 * 1024
"""Bytes that are looked at for a last line that was cut off."""
_JSON_BLOCK = 8 * 1024 * 1024
"""Bytes of JSON that are parsed at once; no line may be longer."""


def read_table(source: Path | BytesIO, form: str, name: str, *, compressed: bool) -> pd.DataFrame:
    """All rows of the file `name`, one column per name in it; `form` is CSV, Parquet or JSONLines.

    Raises RefusedError (DataUnreadable, EmptyData) and PermissionError.
    """
    if form == PARQUET:
        return _read_parquet(source, name)
    if form == CSV:
        return _read_csv(source, name, compressed=compressed)
    return _read_json_lines(source, name, compressed=compressed)


def to_frame(table: Any, name: str) -> pd.DataFrame:
    """An Arrow table as a frame of plain numbers, texts, booleans and moments; raises RefusedError for other types."""
    import pyarrow as pa

    names = table.column_names
    if repeated := sorted({column for column in names if names.count(column) > 1}):
        raise unreadable(name, f"the column {repeated[0]!r} occurs {names.count(repeated[0])} times")
    plain = []
    for index, column in enumerate(table.schema):
        kind = column.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_decimal(kind):
            kind = pa.float64()
        elif pa.types.is_date(kind):
            kind = pa.timestamp("s")
        elif pa.types.is_timestamp(kind):
            kind = pa.timestamp(kind.unit)  # in UTC, whatever zone it was written in
        elif any(is_other(kind) for is_other in _other_types()):
            raise unreadable(
                name, f"the column {column.name!r} is of type {kind}; expected numbers, text, booleans or dates"
            )
        if kind != column.type:
            table = table.set_column(index, column.name, table.column(index).cast(kind))
        if not _INDEX_COLUMN.fullmatch(column.name):
            plain.append(column.name)
    table = table.select(plain)
    try:
        table.validate(full=True)
    except pa.ArrowException as exc:
        raise unreadable(name, "it holds text that isn't UTF-8; convert it to UTF-8") from exc
    # Each column's Arrow memory is given back once it is converted; the table isn't used after that.
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, self_destruct=True, split_blocks=True)
    pa.default_memory_pool().release_unused()
    return frame


def unreadable(name: str, problem: str) -> RefusedError:
    """The refusal of the file `name`."""
    return RefusedError("DataUnreadable", f"{name} can't be read: {problem}")


def _other_types() -> tuple[Any, ...]:
    from pyarrow import types

    return types.is_nested, types.is_binary, types.is_large_binary, types.is_time, types.is_duration


def _read_csv(source: Path | BytesIO, name: str, *, compressed: bool) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # Without an error here, pandas cuts rows that are longer than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(source, index_col=False, low_memory=False, compression="gzip" if compressed else None)
    except pd.errors.EmptyDataError as exc:
        raise RefusedError("EmptyData", f"{name} is empty; expected a header and at least one row") from exc
    except UnicodeDecodeError as exc:
        raise unreadable(name, f"it isn't UTF-8 (byte {exc.start}); convert it to UTF-8") from exc
    except pd.errors.ParserWarning as exc:
        raise unreadable(name, "rows have more values than the header has names") from exc
    except (pd.errors.ParserError, ValueError, EOFError, OSError) as exc:
        if isinstance(exc, PermissionError):
            raise
        raise unreadable(name, f"it isn't CSV: {_without_values(exc)}") from exc
    if len(frame.columns) == 1 and (found := re.search(r"[;\t|]", str(frame.columns[0]))):
        raise unreadable(
            name, f"its header holds {found.group()!r} and no comma; save it with commas between the values"
        )
    if not compressed:
        _refuse_cut_off(source, len(frame.columns), name)
    return frame


def _refuse_cut_off(source: Path | BytesIO, columns: int, name: str) -> None:
    """pandas fills up a last line that was cut off. Whole files end in a line break, or at least in a whole line."""
    with source.open("rb") if isinstance(source, Path) else BytesIO(source.getbuffer()[-_TAIL:]) as file:
        if isinstance(source, Path):
            file.seek(max(0, source.stat().st_size - _TAIL))
        tail = file.read()
    before, line_break, last = tail.rpartition(b"\n")
    if not last.strip() or not line_break or before.count(b'"') % 2:
        return
    values = len(next(csv.reader([last.decode(errors="replace")])))
    if values < columns:
        raise unreadable(name, f"its last line has {values} of {columns} values and no line break: it was cut off")


def _read_parquet(source: Path | BytesIO, name: str) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(source).read()
    except (pa.ArrowException, OSError) as exc:
        if isinstance(exc, PermissionError):
            raise
        raise unreadable(name, f"it isn't Parquet, or cut off: {_without_values(exc)}") from exc
    return to_frame(table, name)


def _read_json_lines(source: Path | BytesIO, name: str, *, compressed: bool) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.json as pj

    try:
        with source.open("rb") if isinstance(source, Path) else source as raw:
            lines = gzip.GzipFile(fileobj=raw) if compressed else raw
            table = pj.read_json(pa.PythonFile(lines, mode="r"), pj.ReadOptions(block_size=_JSON_BLOCK))
    except (pa.ArrowException, EOFError, OSError, ValueError) as exc:
        if isinstance(exc, PermissionError):
            raise
        if "Empty JSON file" in str(exc):
            raise RefusedError("EmptyData", f"{name} is empty; expected one JSON object per line") from exc
        raise unreadable(name, f"it isn't one JSON object per line: {_without_values(exc)}") from exc
    return to_frame(table, name)


def _without_values(exc: Exception) -> str:
    """The parser's first line without quoted text, which may be a value of the data."""
    line = (str(exc).splitlines() or [type(exc).__name__])[0].strip()
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", line)[:200]
