"""Read captured requests of a time window, joined with their feedback, as Arrow tables.

The trainer learns from them: all of the window at once, with the columns of one type each. The monitor, which only
counts, reads groups of segments instead (`modelkit.store.tables`).

Nothing in a segment is fatal: one that is damaged or has vanished is skipped, counted and logged. A store that can't
be read at all is fatal (StoreError), because half a window would look like a change of the traffic.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelkit.contract.files import FEEDBACK_STREAM, REQUESTS_STREAM, captures_directory
from modelkit.store.store import Store
from modelkit.store.tables import (
    FEATURE,
    FEEDBACK,
    REQUEST,
    THREADS,
    Keep,
    Parsed,
    Stream,
    in_window,
    list_segments,
    stream_segments,
)

logger = logging.getLogger(__name__)

_META = ("id", "row", "time", "digest", "version", "prediction", "probabilities", "redacted")


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
    requests = Stream(store, captures_directory(namespace, deployment, REQUESTS_STREAM), REQUEST)
    answered = _read_stream(requests, since, until, partial(in_window, since=since, until=until, digest=digest))
    rows = _first_of_each_row(_unify(answered.tables, REQUEST, "prediction"))

    # A label comes after its row, but the clocks of two pods may differ: look at one hour more on both sides.
    hour = timedelta(hours=1)
    feedback = Stream(store, captures_directory(namespace, deployment, FEEDBACK_STREAM), FEEDBACK)
    told = _read_stream(feedback, since - hour, datetime.now(UTC) + hour, lambda table: table)
    labels = _labels_of(rows, _unify(told.tables, FEEDBACK, "label"))

    skipped = answered.skipped + told.skipped
    if skipped:
        logger.warning("skipped damaged capture segments", extra={"deployment": deployment, "segments": skipped})
    features = [name for name in rows.column_names if name.startswith(FEATURE)]
    return CapturedRows(
        features=rows.select(features).rename_columns([name.removeprefix(FEATURE) for name in features]),
        meta=rows.select(_META).append_column("label", labels),
        segments=answered.read + told.read,
        skipped_segments=skipped,
    )


def _read_stream(stream: Stream, since: datetime, until: datetime, keep: Keep) -> Parsed:
    """The rows that `keep` leaves of all segments whose hour overlaps [since, until)."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="captures") as pool:
        groups = list(stream_segments(stream, list_segments(stream, since, until, pool), keep, pool))
    tables = tuple(table for group in groups for table in group.tables)
    return Parsed(tables, sum(group.read for group in groups), sum(group.skipped for group in groups))


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
