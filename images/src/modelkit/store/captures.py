"""Read captured requests of a time window, joined with their feedback, as Arrow tables.

The trainer learns from them and the monitor measures them. The format and its writer are in
`modelkit.store.segments`; this reader needs pyarrow, which the server image doesn't have.

Nothing in a segment is fatal: one that is damaged or has vanished is skipped, counted and logged. A store that can't
be read at all is fatal (StoreError), because half a window would look like a change of the traffic.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from modelkit.store.store import Store, StoredObject

logger = logging.getLogger(__name__)

_TIME = pa.timestamp("us", "UTC")
_KEY = [("id", pa.string()), ("row", pa.int64()), ("time", _TIME)]
_REQUEST = pa.schema(
    [
        *_KEY,
        ("digest", pa.string()),
        ("version", pa.int64()),
        ("probabilities", pa.list_(pa.float64())),
        ("redacted", pa.list_(pa.string())),
    ]
)
_FEEDBACK = pa.schema([*_KEY, ("received", _TIME)])
_META = ("id", "row", "time", "digest", "version", "prediction", "probabilities", "redacted")
_FEATURE = "features."
"""Prefix of the feature columns while they share a table with the others."""

_THREADS = 4
_BATCH_BYTES = 2 * 1024 * 1024
"""Compressed; a thread holds the text of one batch."""
_LISTED_HOURS = 1000
"""Up to so many hour folders are listed one by one; a longer window lists the whole stream once."""


Keep = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class CapturedRows:
    """Rows that were answered in a window, oldest first; `features` and `meta` have the same rows."""

    features: pa.Table
    """One column per feature. A column that only some versions have is null in the rows of the others."""
    meta: pa.Table
    """id, row, time, digest, version, prediction, probabilities (null without), redacted (names of the columns that
    aren't in `features` as they were sent; null: all are), label (null without feedback)."""
    segments: int
    """Segments that were read, of requests and feedback."""
    skipped_segments: int
    """Segments that were damaged or vanished; their rows are missing."""

    @property
    def redacted(self) -> frozenset[str]:
        """Columns that any of the rows doesn't hold as they were sent."""
        return frozenset(self.meta["redacted"].combine_chunks().flatten().unique().to_pylist())


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
    in_window = partial(_in_window, since=since, until=until, digest=digest)
    answered = _read_stream(requests, since, until, in_window)
    rows = _first_of_each_row(_unify(answered.tables, _REQUEST, "prediction"))

    # A label comes after its row, but the clocks of two pods may differ: look at one hour more on both sides.
    hour = timedelta(hours=1)
    feedback = _Stream(store, captures_directory(namespace, deployment, FEEDBACK_STREAM), _FEEDBACK)
    told = _read_stream(feedback, since - hour, datetime.now(UTC) + hour, lambda table: table)
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


def _read_stream(stream: _Stream, since: datetime, until: datetime, keep: Keep) -> _Parsed:
    """The rows for which `keep` is true of all segments whose hour overlaps [since, until)."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="captures") as pool:
        segments = _list_segments(stream, since, until, pool)
        parsed = list(pool.map(partial(_read_batch, stream, keep), _batches(segments)))
    read = sum(count for _, count in parsed)
    return _Parsed(tuple(table for tables, _ in parsed for table in tables), read, len(segments) - read)


def _list_segments(stream: _Stream, since: datetime, until: datetime, pool: ThreadPoolExecutor) -> list[StoredObject]:
    """The segments whose hour folder overlaps [since, until), in the order of their paths."""
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = -((first - until) // timedelta(hours=1))
    if hours > _LISTED_HOURS:
        start = len(stream.directory) + 1
        hour_of = slice(start, start + len(capture_hour(first)))
        low, high = capture_hour(first), capture_hour(until)
        found = stream.store.list(stream.directory)
        return [entry for entry in found if low <= entry.path[hour_of] <= high and entry.path.endswith(SUFFIX)]
    folders = [f"{stream.directory}/{capture_hour(first + timedelta(hours=n))}" for n in range(hours)]
    listed = pool.map(lambda folder: list(stream.store.list(folder)), folders)
    return [entry for entries in listed for entry in entries if entry.path.endswith(SUFFIX)]


def _batches(segments: Iterable[StoredObject]) -> Iterator[list[str]]:
    """Paths in groups of about _BATCH_BYTES: writers make many small segments, Arrow likes few large texts."""
    batch: list[str] = []
    size = 0
    for segment in segments:
        batch.append(segment.path)
        size += segment.size
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read_batch(stream: _Stream, keep: Keep, paths: list[str]) -> tuple[list[pa.Table], int]:
    """Kept rows of a batch and how many of its segments were good; a bad segment costs only itself."""
    contents = []
    for path in paths:
        with suppress(CorruptSegmentError, StoreObjectNotFoundError):
            contents.append(decompress_segment(stream.store.read(path)))
    with suppress(pa.ArrowException):
        return [keep(_parse(b"".join(contents), stream.schema))], len(contents)
    tables = []
    for lines in contents:
        with suppress(pa.ArrowException):
            tables.append(keep(_parse(lines, stream.schema)))
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
