"""Captured rows to counts over the version's frozen bins: the only step that sees values.

What leaves this module are counts, so no value of a request can reach a report, a status or a log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelkit.data.profile import (
    NUMERIC,
    Histogram,
    category_key,
    confidence_score,
    count_categories,
    count_numeric,
    is_length,
    parse_numbers,
    reference_histogram,
)
from modelkit.evaluate.answers import Answers
from modelkit.monitor.reference import Reference

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """One feature, or the predictions: reference and window over the same bins."""

    name: str
    entry: Mapping[str, Any]
    reference: Histogram
    window: Histogram

    @property
    def ordered(self) -> bool:
        """Are the bins intervals of numbers, not categories?"""
        return bool(self.entry["kind"] == NUMERIC)


@dataclass(frozen=True, slots=True)
class Counts:
    """All counts of one window."""

    rows: int
    features: tuple[Column, ...]
    outputs: tuple[Column, ...]
    """Predictions, and scores where the model has them."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The rows of a window whose truth is known."""

    answers: Answers
    """Classification: labels and predictions are positions in the version's classes."""
    unusable: int = 0
    """Further labels, of a class that the version doesn't know or no number at all."""

    def __len__(self) -> int:
        return len(self.answers.truth)


def count_rows(reference: Reference, features: "pa.Table", meta: "pa.Table") -> Counts:
    """Count a window's rows; `features` and `meta` as in `store.captures.CapturedRows`.

    A feature that no row has (a client stopped sending it) counts as missing in every row.
    """
    rows = meta.num_rows
    found = dict(zip(features.column_names, features.columns, strict=True))
    columns = tuple(_compare(name, entry, found.get(name), rows) for name, entry in reference.features.items())
    outputs = [_compare("prediction", reference.predictions, meta["prediction"], rows)]
    if reference.scores is not None:
        scores = confidence_score(_stack(meta["probabilities"].drop_null()))
        outputs.append(_column("score", reference.scores, count_numeric(reference.scores, scores)))
    return Counts(rows=rows, features=columns, outputs=tuple(outputs))


def select_labelled(reference: Reference, meta: "pa.Table") -> Labelled:
    """The rows with feedback, in the terms of the version's classes."""
    known = meta.filter(meta["label"].is_valid())
    if reference.classes is None:
        return _select_numbers(reference, known)
    positions = {category_key(label): position for position, label in enumerate(reference.classes)}
    predictions = _to_positions(known["prediction"], positions)
    labels = _to_positions(known["label"], positions)
    usable = (predictions >= 0) & (labels >= 0)
    probabilities = known["probabilities"]
    scores = _stack(probabilities) if probabilities.null_count == 0 else np.empty((0, 0))
    answers = Answers(
        task=reference.task,
        truth=labels[usable],
        predictions=predictions[usable],
        probabilities=scores[usable] if scores.shape == (known.num_rows, len(positions)) else None,
        classes=tuple(range(len(positions))),
    )
    return Labelled(answers=answers, unusable=int(np.count_nonzero(~usable)))


def _select_numbers(reference: Reference, known: "pa.Table") -> Labelled:
    predictions, labels = _to_floats(known["prediction"]), _to_floats(known["label"])
    usable = np.isfinite(predictions) & np.isfinite(labels)
    answers = Answers(task=reference.task, truth=labels[usable], predictions=predictions[usable])
    return Labelled(answers=answers, unusable=int(np.count_nonzero(~usable)))


def _compare(name: str, entry: Mapping[str, Any], values: "pa.ChunkedArray | None", rows: int) -> Column:
    if values is None or str(values.type) == "null":
        empty = np.zeros_like(reference_histogram(entry).counts)
        return _column(name, entry, Histogram(counts=empty, nulls=rows))
    if is_length(entry):
        values = _lengths(values)
    if entry["kind"] == NUMERIC:
        return _column(name, entry, _count_numbers(entry, values))
    frequencies = values.value_counts()
    pairs = zip(frequencies.field("values").to_pylist(), frequencies.field("counts").to_pylist(), strict=True)
    return _column(name, entry, count_categories(entry, dict(pairs)))


def _column(name: str, entry: Mapping[str, Any], window: Histogram) -> Column:
    return Column(name=name, entry=entry, reference=reference_histogram(entry), window=window)


def _count_numbers(entry: Mapping[str, Any], values: "pa.ChunkedArray") -> Histogram:
    histogram = Histogram(counts=np.zeros_like(reference_histogram(entry).counts))
    for chunk in values.chunks:
        # Nulls in their own count: Arrow would turn a whole column with one null into a copy with NaN.
        present = chunk.drop_null() if chunk.null_count else chunk
        counted = count_numeric(entry, _to_array(present))
        histogram += counted + Histogram(counts=np.zeros_like(counted.counts), nulls=chunk.null_count)
    return histogram


def _lengths(texts: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Characters of each text, null for a missing or an empty one: what `profile.text_lengths` gives."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.utf8_length(texts.cast(pa.string()))
    return pc.if_else(pc.equal(lengths, 0), None, lengths)


def _to_floats(values: "pa.ChunkedArray") -> NDArray[np.float64]:
    numbers, _ = parse_numbers(_to_array(values))
    return numbers.astype(np.float64)


def _to_positions(values: "pa.ChunkedArray", positions: Mapping[str | None, int]) -> NDArray[np.int64]:
    """Each value's position, -1 for one that has none."""
    encoded = values.combine_chunks().dictionary_encode()
    found = [positions.get(category_key(value), -1) for value in encoded.dictionary.to_pylist()]
    indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return np.asarray(np.array(found, dtype=np.int64)[indices], dtype=np.int64)


def _to_array(values: Any) -> NDArray[Any]:
    chunked = hasattr(values, "chunks")
    array: NDArray[Any] = values.to_numpy() if chunked else values.to_numpy(zero_copy_only=False)
    return array


def _stack(probabilities: "pa.ChunkedArray") -> NDArray[np.float64]:
    """Lists of one length as an (n, classes) array. Flattening skips null lists."""
    flat = probabilities.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(probabilities), -1) if len(probabilities) else np.empty((0, 2))
