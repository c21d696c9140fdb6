"""To which group each row belongs, by the frozen categories or bins of a feature, and what the groups were answered.

The categories of a feature are its groups; bins of a number are merged to at most `MOST_INTERVALS`. What leaves this
module are small numbers for groups, and counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelkit.data.profile import NUMERIC, category_key, is_length, parse_numbers, reference_histogram
from modelkit.monitor.reference import Reference
from modelkit.monitor.wording import format_number

if TYPE_CHECKING:
    import pyarrow as pa

MOST_INTERVALS = 4
"""Groups of a numeric feature, about equally many reference rows in each."""
MIN_NAMED = 5
"""A category of fewer reference rows is in the group of the others, whose name tells nothing."""
OTHERS = "other"
NO_GROUP = -1

Codes = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Grouping:
    """The groups of one feature."""

    column: str
    labels: tuple[str, ...]
    cells: tuple[int, ...]
    """The group of each cell of the feature's histogram."""


def build_grouping(name: str, entry: Mapping[str, Any]) -> Grouping | None:
    """The groups of a feature with the profile entry; None for one without groups (a text, a moment, a constant)."""
    if "measure" in entry or np.count_nonzero(reference_histogram(entry).counts) < 2:
        return None
    grouping = _intervals(name, entry) if entry["kind"] == NUMERIC else _categories(name, entry)
    return grouping if len(grouping.labels) > 1 else None


def assign_groups(reference: Reference, columns: Sequence[str], features: "pa.Table") -> dict[str, Codes]:
    """The group of each row [n] for each of `columns`; NO_GROUP for a missing value, and where there are no groups."""
    found = dict(zip(features.column_names, features.columns, strict=True))
    codes = {}
    for name in columns:
        grouping = build_grouping(name, reference.features[name]) if name in reference.features else None
        if grouping is None:
            codes[name] = np.full(features.num_rows, NO_GROUP, dtype=np.int16)
        else:
            groups = np.array([*grouping.cells, NO_GROUP], dtype=np.int16)
            codes[name] = groups[_find_cells(reference.features[name], found.get(name), features.num_rows)]
    return codes


def count_groups(
    reference: Reference, codes: Mapping[str, Codes], predictions: "pa.ChunkedArray"
) -> dict[str, NDArray[np.int64]]:
    """Rows of each group by the cell of their prediction [groups, cells]; rows without a prediction aren't counted."""
    cells = len(reference_histogram(reference.predictions).counts)
    answered = _find_cells(reference.predictions, predictions, len(predictions))
    counted = {}
    for name, groups in codes.items():
        shape = expected_shape(reference, name)
        if not shape[0]:
            continue
        used = (groups != NO_GROUP) & (answered != NO_GROUP)
        places = groups[used].astype(np.int64) * cells + answered[used]
        counted[name] = np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)
    return counted


def expected_shape(reference: Reference, column: str) -> tuple[int, int]:
    """Of the counts of one column's groups; (0, …) for a column without groups."""
    grouping = build_grouping(column, reference.features[column]) if column in reference.features else None
    groups = 0 if grouping is None else len(grouping.labels)
    return groups, len(reference_histogram(reference.predictions).counts)


def _categories(name: str, entry: Mapping[str, Any]) -> Grouping:
    named = [key for key, count in zip(entry["categories"], entry["counts"], strict=True) if count >= MIN_NAMED]
    index = {key: position for position, key in enumerate(named)}
    cells = tuple(index.get(key, len(named)) for key in entry["categories"])
    return Grouping(name, (*named, OTHERS), (*cells, len(named)))


def _intervals(name: str, entry: Mapping[str, Any]) -> Grouping:
    """Neighbouring bins together, a border as soon as a group has its part of the reference's rows."""
    edges, counts = entry["edges"], entry["counts"]
    part = max(1.0, sum(counts) / MOST_INTERVALS)
    below = np.cumsum(counts)[:-1]
    # A bin belongs to the part in which its middle row lies.
    middles = (np.concatenate(([0], below)) + np.cumsum(counts)) / 2
    parts = np.minimum(middles // part, MOST_INTERVALS - 1).astype(int)
    cells = np.unique(parts, return_inverse=True)[1].tolist()
    borders = [format_number(edge) for edge, left, right in zip(edges, cells, cells[1:], strict=False) if left != right]
    if not borders:
        return Grouping(name, ("any value",), tuple(cells))
    between = [f"{low} to {high}" for low, high in pairwise(borders)]
    return Grouping(name, (f"up to {borders[0]}", *between, f"above {borders[-1]}"), tuple(cells))


def _find_cells(entry: Mapping[str, Any], values: "pa.ChunkedArray | None", rows: int) -> NDArray[np.int64]:
    """In which cell of the entry's histogram each value is counted [n]; NO_GROUP for one that is in none."""
    if values is None or str(values.type) == "null" or is_length(entry):
        return np.full(rows, NO_GROUP)
    if entry["kind"] == NUMERIC:
        numbers, _ = parse_numbers(values.to_numpy())
        bins = np.searchsorted(np.asarray(entry["edges"], dtype=np.float64), numbers, side="left")
        return np.where(np.isnan(numbers), NO_GROUP, bins)
    encoded = values.combine_chunks().dictionary_encode()
    index = {key: position for position, key in enumerate(entry["categories"])}
    keys = [category_key(value) for value in encoded.dictionary.to_pylist()]
    known = [NO_GROUP if key is None else index.get(key, len(index)) for key in keys]
    codes = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    cells: NDArray[np.int64] = np.array([*known, NO_GROUP], dtype=np.int64)[codes]
    return cells
