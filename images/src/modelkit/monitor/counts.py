"""Captured rows to counts over the version's frozen bins: the only step that sees values.

What leaves this module are counts, so no value of a request can reach a report, a status or a log. Rows come a batch at
a time, and what is counted of the batches adds up (see `summary`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.data.calibration import count_confidences
from modelkit.data.profile import (
    NUMERIC,
    Histogram,
    confidence_score,
    count_categories,
    count_numeric,
    is_length,
    reference_histogram,
)
from modelkit.monitor.constants import SEVERAL, find_constants
from modelkit.monitor.duplicates import sketch_rows
from modelkit.monitor.encoding import encode_answers, stack
from modelkit.monitor.groups import Codes, count_groups
from modelkit.monitor.reference import Reference
from modelkit.monitor.summary import PREDICTION, SCORE, Summary, empty_histogram, output_entries

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """One feature, or the predictions: reference and window over the same bins."""

    name: str
    entry: Mapping[str, Any]
    reference: Histogram
    window: Histogram
    is_constant: bool = False
    """Do all rows of the window that have a value have the same?"""

    @property
    def ordered(self) -> bool:
        """Are the bins intervals of numbers, not categories?"""
        return bool(self.entry["kind"] == NUMERIC)


@dataclass(frozen=True, slots=True)
class Counts:
    """All counts of one window beside the reference's."""

    rows: int
    features: tuple[Column, ...]
    outputs: tuple[Column, ...]
    """Predictions, and scores where the model has them."""


def count_rows(
    reference: Reference, features: "pa.Table", meta: "pa.Table", groups: Mapping[str, Codes] | None = None
) -> Summary:
    """Count a batch of rows; `features` and `meta` as in `store.captures.CapturedRows`, `groups` as `assign_groups`
    gives them."""
    redacted = frozenset(meta["redacted"].combine_chunks().flatten().unique().to_pylist())
    outputs = {PREDICTION: _count_column(reference.predictions, meta["prediction"], meta.num_rows)}
    confidences = None
    if reference.calibration is not None:
        confidences = _count_confidences(reference, reference.calibration, meta)
    if reference.scores is not None:
        scores = confidence_score(stack(meta["probabilities"].drop_null()))
        outputs[SCORE] = count_numeric(reference.scores, scores)
    return Summary(
        rows=meta.num_rows,
        features=count_features(reference.features, features, meta.num_rows, redacted),
        outputs=outputs,
        confidences=confidences,
        redacted=redacted,
        constants=find_constants(reference.features, features, redacted),
        groups=count_groups(
            reference,
            {name: codes for name, codes in (groups or {}).items() if name not in redacted},
            meta["prediction"],
        ),
        sketch=sketch_rows(tuple(reference.features), features, meta.num_rows),
    )


def count_features(
    entries: Mapping[str, Mapping[str, Any]], table: "pa.Table", rows: int, redacted: Collection[str] = ()
) -> dict[str, Histogram]:
    """Count the columns of a batch over the bins of their profile entries; those of `redacted` aren't counted.

    A feature that no row has (a client stopped sending it) counts as missing in every row.
    """
    found = dict(zip(table.column_names, table.columns, strict=True))
    return {
        name: _count_column(entry, found.get(name), rows) for name, entry in entries.items() if name not in redacted
    }


def build_counts(reference: Reference, summary: Summary) -> Counts:
    """The summary beside what the version learned."""
    return Counts(
        rows=summary.rows,
        features=build_columns(reference.features, summary.features, summary.constants),
        outputs=build_columns(output_entries(reference), summary.outputs),
    )


def build_columns(
    entries: Mapping[str, Mapping[str, Any]],
    counted: Mapping[str, Histogram],
    constants: Mapping[str, int] | None = None,
) -> tuple[Column, ...]:
    """Each counted column beside its profile entry; `constants` as `find_constants` gives them."""
    found = constants or {}
    return tuple(
        Column(
            name=name,
            entry=entries[name],
            reference=reference_histogram(entries[name]),
            window=histogram,
            is_constant=found.get(name, SEVERAL) != SEVERAL,
        )
        for name, histogram in counted.items()
    )


def _count_confidences(reference: Reference, entry: Mapping[str, Any], meta: "pa.Table") -> Histogram:
    predicted = encode_answers(reference, meta["prediction"])
    classes = len(reference.classes or ())
    told = meta["probabilities"].is_valid().to_numpy()
    scores = stack(meta["probabilities"].drop_null())
    probabilities = np.full((meta.num_rows, classes), np.nan)
    if scores.shape == (np.count_nonzero(told), classes):
        probabilities[told] = scores
    return count_confidences(entry, np.where(np.isnan(predicted), -1, predicted).astype(np.int64), probabilities)


def _count_column(entry: Mapping[str, Any], values: "pa.ChunkedArray | None", rows: int) -> Histogram:
    if values is None or str(values.type) == "null":
        return empty_histogram(entry, nulls=rows)
    if is_length(entry):
        values = _lengths(values)
    if entry["kind"] == NUMERIC:
        return _count_numbers(entry, values)
    frequencies = values.value_counts()
    pairs = zip(frequencies.field("values").to_pylist(), frequencies.field("counts").to_pylist(), strict=True)
    return count_categories(entry, dict(pairs))


def _count_numbers(entry: Mapping[str, Any], values: "pa.ChunkedArray") -> Histogram:
    histogram = empty_histogram(entry)
    for chunk in values.chunks:
        # Nulls in their own count: Arrow would turn a whole column with one null into a copy with NaN.
        present = chunk.drop_null() if chunk.null_count else chunk
        histogram += count_numeric(entry, present.to_numpy(zero_copy_only=False))
        histogram += empty_histogram(entry, nulls=chunk.null_count)
    return histogram


def _lengths(texts: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Characters of each text, null for a missing or an empty one: what `profile.text_lengths` gives."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.utf8_length(texts.cast(pa.string()))
    return pc.if_else(pc.equal(lengths, 0), None, lengths)
