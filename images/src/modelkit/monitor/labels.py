"""Labelled rows: what the model answered, beside the truth that came back later.

Counts don't do here, a metric needs the pairs. Each row is known by a hash of its request's id and its number, and by
what the model answered; its features aren't needed. At most `MAX_LABELS` labels are kept, those with the smallest hash:
a random part of all, the same one in whichever order, and in however many parts, the rows are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelkit.evaluate.answers import Answers
from modelkit.monitor.encoding import encode_answers, stack
from modelkit.monitor.reference import Reference

MAX_LABELS = 250_000
"""The error of an accuracy over so many is 0.1 points."""

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

ANSWERS = pa.schema(
    [
        ("key", pa.uint64()),
        ("prediction", pa.float64()),
        ("probabilities", pa.list_(pa.float64())),
        ("groups", pa.list_(pa.int16())),
    ]
)
"""What is kept of an answered row, until its label comes: `groups` as `groups.assign_groups` gives them, in the order
of the columns whose groups are compared; null without such columns."""
_LABELLED = ANSWERS.append(pa.field("label", pa.float64()))

_ODD, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The rows of a window whose truth is known."""

    answers: Answers
    """Classification: labels and predictions are positions in the version's classes."""
    unusable: int = 0
    """Further labels, of a class that the version doesn't know or no number at all."""
    groups: NDArray[np.int16] | None = None
    """[n, columns] the groups of each row, for the columns whose groups are compared."""

    def __len__(self) -> int:
        return len(self.answers.truth)


def row_keys(table: pa.Table) -> Keys:
    """A hash of 64 bits for each row's `id` and `row`, the same in every process."""
    ids = table["id"].combine_chunks().dictionary_encode()
    digests = [blake2b(text.encode(), digest_size=8).digest() for text in ids.dictionary.to_pylist()]
    hashes = np.frombuffer(b"".join(digests), dtype="<u8")[ids.indices.to_numpy(zero_copy_only=False)]
    keys = hashes + table["row"].to_numpy().astype(np.uint64) * _ODD
    mixed: Keys = (keys ^ (keys >> np.uint64(31))) * _MIX
    return mixed


def build_answers(
    reference: Reference, keys: Keys, meta: pa.Table, groups: Sequence[NDArray[np.int16]] = ()
) -> pa.Table:
    """The rows of `meta` in the shape of `ANSWERS`; `groups`: for each column that of every row."""
    predictions = encode_answers(reference, meta["prediction"])
    columns = [pa.array(keys), pa.array(predictions), meta["probabilities"], _as_lists(groups, len(keys))]
    return pa.table(columns, schema=ANSWERS)


def _as_lists(groups: Sequence[NDArray[np.int16]], rows: int) -> pa.Array:
    if not groups:
        return pa.nulls(rows, pa.list_(pa.int16()))
    offsets = np.arange(rows + 1, dtype=np.int32) * len(groups)
    return pa.ListArray.from_arrays(offsets, np.stack(groups, axis=1).astype(np.int16).ravel())


class Feedback:
    """The label of each row that was received last; memory for `MAX_LABELS` of them and one batch."""

    def __init__(self) -> None:
        self.keys: Keys = np.empty(0, dtype=np.uint64)
        """Ascending."""
        self.labels: Floats = np.empty(0)
        """As `encode_answers` gives them."""
        self._received = np.empty(0, dtype=np.int64)

    def add(self, reference: Reference, table: pa.Table) -> None:
        """Take a batch of the stream `feedback`. Of two labels received at once the one added later counts."""
        table = table.filter(table["label"].is_valid())
        keys = np.concatenate([self.keys, row_keys(table)])
        labels = np.concatenate([self.labels, encode_answers(reference, table["label"])])
        received = np.concatenate([self._received, table["received"].cast("int64").fill_null(0).to_numpy()])
        order = np.lexsort((received, keys))
        ordered = keys[order]
        last = order[np.append(ordered[1:] != ordered[:-1], True)][:MAX_LABELS] if len(order) else order
        self.keys, self.labels, self._received = keys[last], labels[last], received[last]


class Join:
    """Finds the rows of a window that have a label; memory for those only."""

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback
        self._parts: list[pa.Table] = []

    @property
    def is_needed(self) -> bool:
        """May any row have a label?"""
        return len(self._feedback.keys) > 0

    def add(self, answers: pa.Table) -> None:
        """Take the rows of `answers`, in the shape of `ANSWERS`, that have a label."""
        if not self.is_needed:
            return
        keys, known = answers["key"].to_numpy(), self._feedback.keys
        position = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        found = np.flatnonzero(known[position] == keys)
        if len(found):
            labels = self._feedback.labels[position[found]]
            self._parts.append(answers.take(found).append_column("label", pa.array(labels)))

    def select(self, reference: Reference) -> Labelled:
        """All of them, in the order of their keys; a row that was answered in two hours counts once, as at first."""
        rows = pa.concat_tables(self._parts) if self._parts else _LABELLED.empty_table()
        _, first = np.unique(rows["key"].to_numpy(), return_index=True)
        return select_labelled(reference, rows.take(first))


def select_labelled(reference: Reference, rows: pa.Table) -> Labelled:
    """Pairs for the metrics from `prediction` and `label`, as `encode_answers` gives them, and `probabilities`."""
    predictions, labels = rows["prediction"].to_numpy(), rows["label"].to_numpy()
    usable = ~(np.isnan(predictions) | np.isnan(labels))
    predictions, labels, unusable = predictions[usable], labels[usable], int(np.count_nonzero(~usable))
    groups = _groups_of(rows, usable)
    if reference.classes is None:
        return Labelled(Answers(task=reference.task, truth=labels, predictions=predictions), unusable, groups)
    classes = tuple(range(len(reference.classes)))
    probabilities = rows["probabilities"]
    scores = stack(probabilities) if probabilities.null_count == 0 else np.empty((0, 0))
    answers = Answers(
        task=reference.task,
        truth=labels.astype(np.int64),
        predictions=predictions.astype(np.int64),
        probabilities=scores[usable] if scores.shape == (rows.num_rows, len(classes)) else None,
        classes=classes,
    )
    return Labelled(answers, unusable, groups)


def _groups_of(rows: pa.Table, usable: NDArray[np.bool_]) -> NDArray[np.int16] | None:
    if not rows.num_rows or "groups" not in rows.column_names or rows["groups"].null_count:
        return None
    flat = rows["groups"].combine_chunks().flatten().to_numpy()
    codes: NDArray[np.int16] = flat.reshape(rows.num_rows, -1)[usable]
    return codes
