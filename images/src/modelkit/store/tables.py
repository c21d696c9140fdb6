"""Segments of captured requests and feedback as Arrow tables, a group of segments at a time.

What `captures` joins to one table and what the monitor folds into counts, so that neither has a second opinion of the
format, which is in `segments`. Nothing in a segment is fatal: one that is damaged or has vanished counts as skipped.
Needs pyarrow, which the server image doesn't have.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from modelkit.contract.files import capture_hour
from modelkit.errors import StoreObjectNotFoundError
from modelkit.store.segments import SUFFIX, CorruptSegmentError, decompress_segment
from modelkit.store.store import Store, StoredObject

TIME = pa.timestamp("us", "UTC")
_KEY = [("id", pa.string()), ("row", pa.int64()), ("time", TIME)]
REQUEST = pa.schema(
    [
        *_KEY,
        ("digest", pa.string()),
        ("version", pa.int64()),
        ("probabilities", pa.list_(pa.float64())),
        ("redacted", pa.list_(pa.string())),
    ]
)
FEEDBACK = pa.schema([*_KEY, ("received", TIME)])
FEATURE = "features."
"""Prefix of the feature columns while they share a table with the others."""

THREADS = 4
_BATCH_BYTES = 1024 * 1024
"""Compressed; a thread holds the text of one batch, and up to THREADS batches wait to be looked at."""
_LISTED_HOURS = 1000
"""Up to so many hour folders are listed one by one; a longer window lists the whole stream once."""

Keep = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a deployment's captures."""

    store: Store
    directory: str
    schema: pa.Schema
    """Of the columns that every line has."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The kept rows of some segments."""

    tables: tuple[pa.Table, ...]
    read: int
    """Segments."""
    skipped: int
    """Segments that were damaged or vanished."""


def list_segments(stream: Stream, since: datetime, until: datetime, pool: Executor) -> list[StoredObject]:
    """The segments whose hour folder overlaps [since, until), in the order of their paths."""
    return list_hours(stream.store, stream.directory, since, until, pool, SUFFIX)


def list_hours(
    store: Store, directory: str, since: datetime, until: datetime, pool: Executor, suffix: str
) -> list[StoredObject]:
    """The objects of a stream that end in `suffix` and whose hour folder overlaps [since, until), by their paths."""
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = -((first - until) // timedelta(hours=1))
    if hours > _LISTED_HOURS:
        start = len(directory) + 1
        hour_of = slice(start, start + len(capture_hour(first)))
        low, high = capture_hour(first), capture_hour(until)
        found = store.list(directory)
        return [entry for entry in found if low <= entry.path[hour_of] <= high and entry.path.endswith(suffix)]
    folders = [f"{directory}/{capture_hour(first + timedelta(hours=n))}" for n in range(hours)]
    listed = pool.map(lambda folder: list(store.list(folder)), folders)
    return [entry for entries in listed for entry in entries if entry.path.endswith(suffix)]


def stream_segments(stream: Stream, segments: Iterable[StoredObject], keep: Keep, pool: Executor) -> Iterator[Parsed]:
    """What `keep` leaves of the segments' rows, in groups and in the order of the segments.

    Memory: the groups that `pool` is reading or that wait to be taken, THREADS at most, however many there are.
    """
    waiting: deque[Future[Parsed]] = deque()
    for batch in _batches(segments):
        if len(waiting) == THREADS:
            yield waiting.popleft().result()
        waiting.append(pool.submit(_read_batch, stream, keep, batch))
    while waiting:
        yield waiting.popleft().result()


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


def _read_batch(stream: Stream, keep: Keep, paths: list[str]) -> Parsed:
    """Kept rows of a batch; a bad segment costs only itself."""
    contents = []
    for path in paths:
        with suppress(CorruptSegmentError, StoreObjectNotFoundError):
            contents.append(decompress_segment(stream.store.read(path)))
    with suppress(pa.ArrowException):
        table = keep(_parse(b"".join(contents), stream.schema))
        return Parsed((table,), len(contents), len(paths) - len(contents))
    tables = []
    for lines in contents:
        with suppress(pa.ArrowException):
            tables.append(keep(_parse(lines, stream.schema)))
    return Parsed(tuple(tables), len(tables), len(paths) - len(tables))


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
        rest = rest.append_column(FEATURE + field.name, column)
    return rest


def in_window(table: pa.Table, since: datetime, until: datetime, digest: str | None) -> pa.Table:
    """The rows that were answered in [since, until), by the version `digest` or by any."""
    low, high = pa.scalar(since, TIME), pa.scalar(until, TIME)
    mask = pc.and_(pc.greater_equal(table["time"], low), pc.less(table["time"], high))
    return table.filter(mask if digest is None else pc.and_(mask, pc.equal(table["digest"], digest)))
