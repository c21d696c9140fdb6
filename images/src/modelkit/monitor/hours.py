"""One hour of captured requests, folded into a summary as it is read.

Memory: some groups of segments, eight bytes for each row of the hour (to count a repeated row once), a sample of rows
where one is wanted, and what the caller makes of the answers. Segments come in the order in which they were written.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelkit.contract.files import REQUESTS_STREAM, captures_directory
from modelkit.monitor.counts import count_rows
from modelkit.monitor.groups import assign_groups
from modelkit.monitor.labels import Keys, build_answers, row_keys
from modelkit.monitor.reference import Reference
from modelkit.monitor.sample import RowSample
from modelkit.monitor.summary import Summary, empty_summary
from modelkit.store.store import Store, StoredObject
from modelkit.store.tables import FEATURE, REQUEST, Stream, in_window, stream_segments

HOUR = timedelta(hours=1)

Take = Callable[[pa.Table], None]
"""Takes answered rows in the shape of `labels.ANSWERS`."""


@dataclass(frozen=True, slots=True)
class Source:
    """Whose rows are read, and over which bins they are counted."""

    store: Store
    namespace: str
    deployment: str
    digest: str
    reference: Reference
    pool: Executor
    columns: tuple[str, ...] = ()
    """Features whose groups are compared."""

    @property
    def requests(self) -> Stream:
        """The stream of answered rows."""
        return Stream(self.store, captures_directory(self.namespace, self.deployment, REQUESTS_STREAM), REQUEST)


def summarise_hour(
    source: Source,
    segments: Sequence[StoredObject],
    bounds: tuple[datetime, datetime],
    take: Take,
    sample: RowSample | None = None,
) -> Summary:
    """Count the rows of an hour's `segments` that were answered in `bounds`; `take` gets their answers, `sample` all.

    Of a repeated (id, row) the first counts: the oldest, unless two pods answered it within the time that a segment
    waits to be written. Raises StoreError.
    """
    keep = partial(in_window, since=bounds[0], until=bounds[1], digest=source.digest)
    written = sorted(segments, key=lambda segment: (segment.modified, segment.path))
    seen, summary = _Seen(), empty_summary(source.reference)
    for group in stream_segments(source.requests, written, keep, source.pool):
        for features, meta, keys in _split(group.tables, seen):
            groups = assign_groups(source.reference, source.columns, features)
            counted = count_rows(source.reference, features, meta, groups)
            summary = summary.merge(counted)
            if sample is not None:
                sample.add(keys, features, counted.redacted)
            take(build_answers(source.reference, keys, meta, tuple(groups[name] for name in source.columns)))
        summary = summary.skip(group.skipped)
    return summary


def _split(tables: Sequence[pa.Table], seen: "_Seen") -> Iterator[tuple[pa.Table, pa.Table, Keys]]:
    """Features, the other columns and keys of the rows that weren't there before."""
    for table in tables:
        keys = row_keys(table)
        new = seen.find_new(keys, table["time"].cast(pa.int64()).to_numpy())
        if len(new) < len(keys):
            table, keys = table.take(new), keys[new]
        if "prediction" not in table.column_names:
            table = table.append_column("prediction", pa.nulls(len(keys)))
        names = [name for name in table.column_names if name.startswith(FEATURE)]
        features = table.select(names).rename_columns([name.removeprefix(FEATURE) for name in names])
        yield features, table.drop_columns(names), keys


class _Seen:
    """Which rows there were already."""

    def __init__(self) -> None:
        self._keys: Keys = np.empty(0, dtype=np.uint64)

    def find_new(self, keys: Keys, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions, ascending, of rows that weren't there before; of several with one key the oldest."""
        order = np.lexsort((times, keys))
        ordered = keys[order]
        new = np.append(True, ordered[1:] != ordered[:-1])[: len(order)]
        position = np.searchsorted(self._keys, ordered)
        known = position < len(self._keys)
        known[known] = self._keys[position[known]] == ordered[known]
        new &= ~known
        # A stable sort of two sorted runs merges them.
        self._keys = np.sort(np.concatenate([self._keys, ordered[new]]), kind="stable")
        return np.sort(order[new])
