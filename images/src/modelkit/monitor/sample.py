"""Some rows of a window, for the checks that counts of single columns can't make.

Those with the smallest keys: a random part of all, the same one in whichever order, by however many pods and in however
many parts the rows are read, because the smallest of several parts' smallest are the smallest of all (bottom-k
sampling: Cohen and Kaplan, Summarizing Data using Bottom-k Sketches, 2007). Memory: the sample and one batch.

A column that any of the rows doesn't hold as it was sent is left out of all.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from modelkit.contract.monitoring import MonitorConfig
from modelkit.data.sample import build_sample, dump_sample, load_sample, most_rows, sample_schema
from modelkit.errors import ModelKitError
from modelkit.monitor.labels import Keys

MOST_ROWS = 5000
"""Whatever is configured."""
_KEY = "key"
_FEATURE = "features."
"""Before every feature's name, so that one may be called as the key is."""


class SampleError(ModelKitError):
    """A finished hour's sample is gone or can't be read."""


class RowSample:
    """At most `limit` rows, those with the smallest keys."""

    def __init__(self, entries: Mapping[str, Mapping[str, Any]], limit: int) -> None:
        self.limit = limit
        self._entries = dict(entries)
        self._keys: Keys = np.empty(0, dtype=np.uint64)
        self._rows = sample_schema(entries).empty_table()

    @property
    def rows(self) -> pa.Table:
        """The rows as the model sees them (see `data.sample`), in the order of their keys; without redacted columns."""
        return self._rows

    def add(self, keys: Keys, features: pa.Table, redacted: frozenset[str]) -> None:
        """Take a batch of captured rows, whose `redacted` columns aren't as they were sent."""
        shown = {name: self._entries[name] for name in self._rows.column_names if name not in redacted}
        if len(self._keys) == self.limit:
            chosen = np.flatnonzero(keys < self._keys[-1])
        else:
            chosen = np.arange(len(keys))
        if len(chosen) > self.limit:
            chosen = chosen[np.argpartition(keys[chosen], self.limit - 1)[: self.limit]]
        # Only rows that may stay are looked at as the model would.
        self._merge(keys[chosen], build_sample(shown, features.take(chosen), len(chosen)))

    def merge(self, stored: pa.Table) -> None:
        """Take what `to_table` gave for other rows; a row that is in both counts as it is here."""
        names = [name for name in stored.column_names if name != _KEY]
        rows = stored.select(names).rename_columns([name.removeprefix(_FEATURE) for name in names])
        self._merge(stored[_KEY].to_numpy(), rows)

    def to_table(self) -> pa.Table:
        """Keys and rows, in the order of the keys."""
        names = [_KEY, *(_FEATURE + name for name in self._rows.column_names)]
        return pa.table([pa.array(self._keys), *self._rows.columns], names=names)

    def _merge(self, keys: Keys, rows: pa.Table) -> None:
        names = [name for name in self._rows.column_names if name in rows.column_names]
        if not len(keys) and len(names) == self._rows.num_columns:
            return
        self._keys, first = np.unique(np.concatenate([self._keys, keys]), return_index=True)
        self._keys, first = self._keys[: self.limit], first[: self.limit]
        # Without columns Arrow knows no number of rows.
        both = pa.concat_tables([self._rows.select(names), rows.select(names)]) if names else pa.table({})
        self._rows = both.take(first).combine_chunks() if names else both


def open_sample(config: MonitorConfig, entries: Mapping[str, Mapping[str, Any]]) -> RowSample | None:
    """An empty sample of as many rows as the configured checks look at; None when there is no such check."""
    wanted = [part.rows for part in (config.multivariate, config.attribution) if part is not None]
    return RowSample(entries, most_rows(entries, min(MOST_ROWS, max(wanted)))) if wanted else None


def dump_rows(sample: RowSample) -> bytes:
    """What is stored of an hour's sample."""
    return dump_sample(sample.to_table())


def load_rows(data: bytes, entries: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """The inverse, for `RowSample.merge`; raises SampleError for what isn't rows of the version."""
    try:
        table = load_sample(data)
    except (pa.ArrowException, OSError) as exc:
        raise SampleError(f"it is no Arrow file ({type(exc).__name__})") from exc
    known = sample_schema({_FEATURE + name: entry for name, entry in entries.items()}).insert(
        0, pa.field(_KEY, pa.uint64())
    )
    fields = {field.name: field.type for field in known}
    if _KEY not in table.column_names or any(fields.get(field.name) != field.type for field in table.schema):
        raise SampleError("it has other columns than this release writes")
    return table
