"""Read captured requests of a time window, joined with their feedback, as Arrow tables.

The trainer learns from them and the monitor measures them. The format and its writer are in
`modelkit.store.segments`; this reader needs pyarrow, which the server image doesn't have.

Nothing in a segment is fatal: one that is damaged or has vanished is skipped, counted and logged. A store that can't
be read at all is fatal (StoreError), because half a window would look like a change of the traffic.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from modelkit.contract.files import FEEDBACK_STREAM, REQUESTS_STREAM, capture_hour, captures_directory
from modelkit.errors import StoreObjectNotFoundError
from modelkit.store.segments import SUFFIX, CorruptSegmentError, decompress_segment
from modelkit.store.store import Store

logger = logging.getLogger(__name__)

_TIME = pa.timestamp("us", "UTC")
_KEY = [("id", pa.string()), ("row", pa.int64()), ("time", _TIME)]
_REQUEST = pa.schema(
    [*_KEY, ("digest", pa.string()), ("version", pa.int64()), ("probabilities", pa.list_(pa.float64()))]
)
_FEEDBACK = pa.schema([*_KEY, ("received", _TIME)])
_META = ("id", "row", "time", "digest", "version", "prediction", "probabilities")
_FEATURE = "features."
"""Prefix of the feature columns while they share a table with the others."""

_THREADS = 4
_BATCH_BYTES = 8 * 1024 * 1024
_LISTED_HOURS = 1000
"""Up to so many hour folders are listed one by one; a longer window lists the whole stream once."""


@dataclass(frozen=True, slots=True)
class CapturedRows:
    """Rows that were answered in a window, oldest first; `features` and `meta` have the same rows."""

    features: pa.Table
    """One column per feature. A column that only some versions have is null in the rows of the others."""
    meta: pa.Table
    """id, row, time, digest, version, prediction, probabilities (null without), label (null without feedback)."""
    segments: int
    """Segments that were read, of requests and feedback."""
    skipped_segments: int
    """Segments that were damaged or vanished; their rows are missing."""


@dataclass(frozen=True, slots=True)
class _Stream:
    store: Store
    directory: str
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class _Parsed:
    tables: tuple[pa.Table, ...]
    read: int
    skipped: int


def read_captured(
    store: Store, namespace: str, deployment: str, since: datetime, until: datetime, digest: str | None = None
) -> CapturedRows:
    """Rows of `deployment` answered in [since, until), of the version `digest` or of all versions.

    Feedback counts whenever it arrived, the label that was received last wins, and each (id, row) is kept once, the
    oldest. Columns whose type differs between segments become float64 where all are numbers, else text.
    Raises StoreError when the store can't be read and ValueError for a time without a zone.
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError("since and until must be time-zone aware")
    requests = _Stream(store, captures_directory(namespace, deployment, REQUESTS_STREAM), _REQUEST)
    answered = _read_stream(requests, since, until)
    window = [_in_window(table, since, until, digest) for table in answered.tables]
    rows = _first_of_each_row(_unify(window, _REQUEST, "prediction"))

    # A label comes after its row, but the clocks of two pods may differ: look at one hour more on both sides.
    hour = timedelta(hours=1)
    feedback = _Stream(store, captures_directory(namespace, deployment, FEEDBACK_STREAM), _FEEDBACK)
    told = _read_stream(feedback, since - hour, datetime.now(UTC) + hour)
    labels = _labels_of(rows, _unify(told.tables, _FEEDBACK, "label"))

    skipped = answered.skipped + told.skipped
    if skipped:
        logger.warning("skipped damaged capture segments", extra={"deployment": deployment, "segments": skipped})
    features = [name for name in rows.column_names if name.startswith(_FEATURE)]
    return CapturedRows(
        features=rows.select(features).rename_columns([name.removeprefix(_FEATURE) for name in features]),
        meta=rows.select(_META).append_column("label", labels),
        segments=answered.read + told.read,
        skipped_segments=skipped,
    )


def _read_stream(stream: _Stream, since: datetime, until: datetime) -> _Parsed:
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="captures") as pool:
        paths = _segment_paths(stream, since, until, pool)
        contents = pool.map(partial(_read_segment, stream.store), paths)
        parsed = list(pool.map(partial(_parse_batch, stream.schema), _batches(contents)))
    read = sum(count for _, count in parsed)
    return _Parsed(tuple(table for tables, _ in parsed for table in tables), read, len(paths) - read)


def _segment_paths(stream: _Stream, since: datetime, until: datetime, pool: ThreadPoolExecutor) -> list[str]:
    """Paths of the segments whose hour folder overlaps [since, until), in the order of their names."""
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = -((first - until) // timedelta(hours=1))
    if hours > _LISTED_HOURS:
        start = len(stream.directory) + 1
        hour_of = slice(start, start + len(capture_hour(first)))
        low, high = capture_hour(first), capture_hour(until)
        found = (entry.path for entry in stream.store.list(stream.directory))
        return [path for path in found if low <= path[hour_of] <= high and path.endswith(SUFFIX)]
    folders = [f"{stream.directory}/{capture_hour(first + timedelta(hours=n))}" for n in range(hours)]
    listed = pool.map(lambda folder: list(stream.store.list(folder)), folders)
    return [entry.path for entries in listed for entry in entries if entry.path.endswith(SUFFIX)]


def _read_segment(store: Store, path: str) -> bytes | None:
    """The JSON lines of a segment, or None for one that is damaged or was removed since it was listed."""
    try:
        return decompress_segment(store.read(path))
    except (CorruptSegmentError, StoreObjectNotFoundError):
        return None


def _batches(contents: Iterable[bytes | None]) -> Iterator[list[bytes]]:
    """Segments in groups of about _BATCH_BYTES: writers make many small ones, Arrow likes few large ones."""
    batch: list[bytes] = []
    size = 0
    for lines in contents:
        if lines is None:
            continue
        batch.append(lines)
        size += len(lines)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parse_batch(schema: pa.Schema, batch: list[bytes]) -> tuple[list[pa.Table], int]:
    """Tables of a batch and how many of its segments were good; a bad segment costs only itself."""
    with suppress(pa.ArrowException):
        return [_parse(b"".join(batch), schema)], len(batch)
    tables = []
    for lines in batch:
        with suppress(pa.ArrowException):
            tables.append(_parse(lines, schema))
    return tables, len(tables)


def _parse(lines: bytes, schema: pa.Schema) -> pa.Table:
    """JSON lines as a table with `schema`'s columns, the inferred ones, and one `features.…` column per feature."""
    if not lines:
        return schema.empty_table()
    # A single block: a line that spans two is an error, and each block would infer types of its own.
    read = pj.ReadOptions(block_size=len(lines) + 1)
    table = pj.read_json(BytesIO(lines), read, pj.ParseOptions(explicit_schema=schema))
    textual = _times_as_text(table.schema, schema)
    if textual != table.schema:
        # Arrow takes text such as "2026-03-01" for a time: read it again as the text that it is.
        table = pj.read_json(BytesIO(lines), read, pj.ParseOptions(explicit_schema=textual))
    complete = pc.and_(pc.and_(table["id"].is_valid(), table["row"].is_valid()), table["time"].is_valid())
    return _flatten(table.filter(complete))


def _times_as_text(inferred: pa.Schema, known: pa.Schema) -> pa.Schema:
    def textual(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_struct(kind):
            return pa.struct([field.with_type(textual(field.type)) for field in kind])
        return pa.string() if pa.types.is_timestamp(kind) else kind

    return pa.schema(
        [field if field.name in known.names else field.with_type(textual(field.type)) for field in inferred]
    )


def _flatten(table: pa.Table) -> pa.Table:
    """`features`, a struct, as columns of their own. Table.flatten would split structs of other columns too."""
    if "features" not in table.column_names:
        return table
    features = table["features"]
    rest = table.drop_columns(["features"])
    if not pa.types.is_struct(features.type):
        return rest
    for field, column in zip(features.type, features.flatten(), strict=True):
        rest = rest.append_column(_FEATURE + field.name, column)
    return rest


def _in_window(table: pa.Table, since: datetime, until: datetime, digest: str | None) -> pa.Table:
    low, high = pa.scalar(since, _TIME), pa.scalar(until, _TIME)
    mask = pc.and_(pc.greater_equal(table["time"], low), pc.less(table["time"], high))
    return table.filter(mask if digest is None else pc.and_(mask, pc.equal(table["digest"], digest)))


def _unify(tables: Sequence[pa.Table], known: pa.Schema, inferred: str) -> pa.Table:
    """All rows and all columns in one table; `known` columns and the `inferred` one are always there."""
    kinds: dict[str, set[pa.DataType]] = {field.name: {field.type} for field in known} | {inferred: set()}
    # Tables without rows in the window would widen types that no row has.
    filled = [table for table in tables if table.num_rows]
    for table in filled:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    target = pa.schema([(name, _common_type(found)) for name, found in kinds.items()])
    return pa.concat_tables([_cast(table, target) for table in filled] or [target.empty_table()])


def _common_type(kinds: set[pa.DataType]) -> pa.DataType:
    """The type that holds all: int64 and bool widen to float64 or int64; anything else becomes text."""
    kinds = kinds - {pa.null()}
    if len(kinds) <= 1:
        return next(iter(kinds), pa.null())
    if all(kind in (pa.int64(), pa.float64(), pa.bool_()) for kind in kinds):
        return pa.float64() if pa.float64() in kinds else pa.int64()
    return pa.string()


def _cast(table: pa.Table, target: pa.Schema) -> pa.Table:
    columns = [
        table[field.name].cast(field.type, safe=False)
        if field.name in table.column_names
        else pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        for field in target
    ]
    return pa.table(columns, schema=target)


def _keys(table: pa.Table) -> pa.Array:
    """(id, row) as one text per row; a row number has no space, so two pairs never give the same text."""
    keys = pc.binary_join_element_wise(table["id"], table["row"].cast(pa.string()), " ")
    return keys.combine_chunks()


def _first_of_each_row(table: pa.Table) -> pa.Table:
    """Sorted by time, and of a repeated (id, row) the oldest."""
    table = table.sort_by([("time", "ascending"), ("id", "ascending"), ("row", "ascending")])
    # Codes are given in the order of first appearance; unique gives where each appeared first.
    codes = _keys(table).dictionary_encode().indices.to_numpy()
    kept = np.sort(np.unique(codes, return_index=True)[1])
    return table if len(kept) == table.num_rows else table.take(pa.array(kept))


def _labels_of(rows: pa.Table, feedback: pa.Table) -> pa.ChunkedArray:
    """For each of `rows` the label that was received last, null without; typed as the predictions if there is none."""
    # index_in finds the first match: newest first. Sorting is stable, so reversing after it lets the later line win.
    oldest_first = feedback.sort_by([("received", "ascending")])
    newest_first = oldest_first.take(pa.array(np.arange(feedback.num_rows)[::-1]))
    labels = newest_first["label"].take(pc.index_in(_keys(rows), value_set=_keys(newest_first)))
    return labels.cast(rows.schema.field("prediction").type) if pa.types.is_null(labels.type) else labels
