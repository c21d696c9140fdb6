"""The profile of a model version: how its data looked, as counts over bins that are frozen at training time.

A window of production data is later counted over the same bins. Counts add up, so that windows, hours, pods
and shards can be counted apart and merged, and two windows can always be compared. The module only counts;
what a difference means is decided by the monitor's checks.

Numeric bins are quantiles of the reference, `(-inf, e0], (e0, e1], …, (ek, inf)`: the outer bins are open, so
that every later value has a bin. A feature with few distinct values gets one bin per value. Categorical
features keep the counts of their most frequent categories, of the others together, and of missing values.

Two kinds have no distribution of their own values and are counted over the bins of something else. Of a text it is
the length in characters; of a moment only whether it is there, because time goes on and would always look drifted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.data.row_hash import measure_duplicates
from modelkit.errors import RefusedError

FORMAT = 1
"""Format of profile.json; a reader refuses another one."""

NUMERIC = "numeric"
CATEGORICAL = "categorical"
TEXT = "text"
TIME = "time"
KINDS = (NUMERIC, CATEGORICAL, TEXT, TIME)

BINS = 10
"""Quantile bins per numeric feature, as is usual for the population stability index."""
ROWS_PER_BIN = 10
"""A small reference gets fewer bins, so that each holds about this many rows."""
MAX_CATEGORIES = 20
"""Categories that are counted one by one."""
MAX_KNOWN = 1000
"""Categories whose names are remembered, so that a new one is noticed; beyond it new ones count as other."""

_MEAN_VALUES = 10_000
"""About so many values, evenly spread over the rows, tell where the bins lie."""
_CHUNK = 65_536
"""Values counted at once: 512 KiB of float64 stay in the processor's cache over the passes."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of one column over the bins of its profile entry. Histograms of the same entry add up."""

    counts: NDArray[np.int64]
    """Per bin; for a categorical column per category, then the others (unseen ones included)."""
    nulls: int = 0
    outside: int = 0
    """Numeric: values below the reference's minimum or above its maximum; categorical: categories that the
    reference doesn't have. They are also in `counts`."""
    invalid: int = 0
    """Values of another type than the column's (text in a numeric column); in no bin."""

    @property
    def valid(self) -> int:
        """Rows that are in a bin."""
        return int(self.counts.sum())

    @property
    def rows(self) -> int:
        """All rows that were counted."""
        return self.valid + self.nulls + self.invalid

    def __add__(self, other: "Histogram") -> "Histogram":
        if self.counts.shape != other.counts.shape:
            raise ValueError(f"histograms of {len(self.counts)} and {len(other.counts)} bins don't add up")
        return Histogram(
            counts=self.counts + other.counts,
            nulls=self.nulls + other.nulls,
            outside=self.outside + other.outside,
            invalid=self.invalid + other.invalid,
        )


def build_profile(
    features: Mapping[str, Array],
    kinds: Mapping[str, str],
    predictions: Array,
    scores: Array | None,
    task: str,
    classes: Sequence[Any] | None,
) -> dict[str, Any]:
    """The content of profile.json: plain JSON types, no NaN.

    `features`: one array of n rows per input column; numeric (NaN is missing) or objects (None or NaN is
    missing). `kinds`: `numeric`, `categorical`, `text` or `time` (seconds) per column. `predictions`: m
    predicted labels or values, and `scores`, when the model has probabilities, an (m, classes) array in the
    order of `classes`. They must
    come from rows that the model was not fitted on (the test part): predictions on training rows are more
    certain than any later ones, and every window would look drifted. m may differ from n. `task`:
    Classification or Regression.
    """
    if missing := [name for name in features if kinds.get(name) not in KINDS]:
        raise RefusedError(
            "UnknownFeatureKind",
            f"column {missing[0]!r} has the kind {kinds.get(missing[0])!r}; expected one of {', '.join(KINDS)}",
        )
    entries = {name: _build_entry(np.asarray(values), kinds[name]) for name, values in features.items()}
    labels = np.asarray(predictions)
    if task == "Classification":
        predicted = _build_class_entry(labels, classes if classes is not None else sorted(set(labels.tolist())))
    else:
        predicted = _build_numeric(labels)
    return {
        "format": FORMAT,
        "task": task,
        "rows": max((entry["rows"] for entry in entries.values()), default=len(labels)),
        "classes": None if classes is None else [category_key(label) for label in classes],
        "features": entries,
        "duplicates": measure_duplicates({name: np.asarray(values) for name, values in features.items()}),
        "predictions": predicted,
        "scores": None if scores is None else _build_numeric(confidence_score(np.asarray(scores))),
    }


def confidence_score(probabilities: Array) -> Array:
    """One number per row of an (n, classes) array of probabilities: with two classes the probability of the
    positive (last) one, else the highest. A one-dimensional array is returned as it is."""
    if probabilities.ndim == 1:
        return probabilities
    return probabilities[:, -1] if probabilities.shape[1] == 2 else probabilities.max(axis=1)


def is_length(profile_entry: Mapping[str, Any]) -> bool:
    """Does the entry count the lengths of texts, as `text_lengths` gives them?"""
    return profile_entry.get("measure") == "length"


def is_presence(profile_entry: Mapping[str, Any]) -> bool:
    """Does the entry count only whether a moment is there?"""
    return profile_entry.get("measure") == "presence"


def text_lengths(values: Array) -> NDArray[np.float64]:
    """Characters of each text [n]; NaN for the empty text and what is no text."""
    lengths = [len(value) or np.nan if isinstance(value, str) else np.nan for value in values.tolist()]
    return np.array(lengths, dtype=np.float64)


def count_feature(profile_entry: Mapping[str, Any], array: Array) -> Histogram:
    """Count a one-dimensional array over the bins of its entry (from `features`, `predictions` or
    `scores`)."""
    if is_length(profile_entry):
        return count_numeric(profile_entry, text_lengths(array))
    if profile_entry["kind"] == NUMERIC:
        return count_numeric(profile_entry, array)
    return count_categories(profile_entry, _count_values(array))


def count_numeric(entry: Mapping[str, Any], array: Array) -> Histogram:
    """Count numbers over a numeric entry's bins; NaN is null, infinities fall into the outer bins, and
    objects that are no numbers are counted as invalid."""
    values, invalid = parse_numbers(array)
    edges = [float(edge) for edge in entry["edges"]]
    low, high = _range_with_tolerance(entry)
    at_most = np.zeros(len(edges), dtype=np.int64)
    nulls = outside = 0
    # One comparison per edge over a chunk in cache is as fast as sorting with wide vector instructions, and
    # far faster without them; bins are few.
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        at_most += np.array([np.count_nonzero(chunk <= edge) for edge in edges], dtype=np.int64)
        nulls += int(np.count_nonzero(chunk != chunk))
        outside += int(np.count_nonzero(chunk < low) + np.count_nonzero(chunk > high))
    # Objects that are no numbers were turned into NaN.
    below = np.concatenate(([0], at_most, [len(values) - nulls]))
    return Histogram(counts=np.diff(below), nulls=nulls - invalid, outside=outside, invalid=invalid)


def count_categories(entry: Mapping[str, Any], values: Mapping[Any, int]) -> Histogram:
    """Count a categorical column of which each distinct value's number of rows is known."""
    index = {key: position for position, key in enumerate(entry["categories"])}
    known = set(entry["known"])
    counts = np.zeros(len(index) + 1, dtype=np.int64)
    nulls = unseen = 0
    for value, number in values.items():
        key = category_key(value)
        if key is None:
            nulls += number
            continue
        counts[index.get(key, len(index))] += number
        if entry["complete"] and key not in index and key not in known:
            unseen += number
    return Histogram(counts=counts, nulls=nulls, outside=unseen)


def reference_histogram(entry: Mapping[str, Any]) -> Histogram:
    """The reference's own counts, in the shape of `count_feature`."""
    counts = list(entry["counts"])
    if entry["kind"] == CATEGORICAL:
        counts.append(entry["other"])
    return Histogram(counts=np.asarray(counts, dtype=np.int64), nulls=entry["nulls"])


def category_key(value: Any) -> str | None:
    """The name under which a category is counted; None for a missing value (None, NaN or the empty text).

    The number 1 is the same category whether it was stored as an integer, a float or text.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def parse_numbers(array: Array) -> tuple[NDArray[np.floating[Any]], int]:
    """The values as floats, NaN where there is no number, and how many of those were neither number nor
    missing."""
    if array.dtype.kind == "f":
        return array, 0
    if array.dtype.kind in "iub":
        return array.astype(np.float64), 0
    values = np.full(len(array), np.nan)
    invalid = 0
    for position, value in enumerate(array.tolist()):
        if value is None:
            continue
        try:
            values[position] = float(value)
        except (TypeError, ValueError):
            invalid += 1
    return values, invalid


def _build_entry(values: Array, kind: str) -> dict[str, Any]:
    if kind == TEXT:
        return {**_build_numeric(text_lengths(values)), "measure": "length"}
    if kind == TIME:
        return _build_presence(values)
    return _build_numeric(values) if kind == NUMERIC else _build_categorical(_count_values(values))


def _build_presence(array: Array) -> dict[str, Any]:
    """A numeric entry of one bin without bounds: every number is in it."""
    values, _ = parse_numbers(array)
    present = int(np.count_nonzero(~np.isnan(values)))
    statistics = dict.fromkeys(("min", "max", "mean", "std"))
    counts = {"rows": len(values), "counts": [present], "nulls": len(values) - present}
    return {"kind": NUMERIC, "edges": [], **statistics, **counts, "measure": "presence"}


def _build_numeric(array: Array) -> dict[str, Any]:
    values, _ = parse_numbers(array)
    finite = values[np.isfinite(values)]
    empty = len(finite) == 0
    entry: dict[str, Any] = {
        "kind": NUMERIC,
        "edges": [] if empty else _bin_edges(finite),
        "min": None if empty else float(finite.min()),
        "max": None if empty else float(finite.max()),
        **_moments(finite),
        "rows": len(values),
    }
    histogram = count_numeric(entry, values)
    entry["counts"] = histogram.counts.tolist()
    entry["nulls"] = histogram.nulls
    entry["means"] = [] if empty else _bin_means(entry, finite)
    return entry


def _moments(finite: Array) -> dict[str, float | None]:
    """Mean and standard deviation; None without a value, and where they are too large for a number."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = {"mean": finite.mean(), "std": finite.std()} if len(finite) else dict.fromkeys(("mean", "std"), np.nan)
    return {name: float(value) if np.isfinite(value) else None for name, value in found.items()}


def _bin_means(entry: Mapping[str, Any], finite: Array) -> list[float]:
    """Where each bin's values lie on average; of a bin of few values its middle, which is nobody's value."""
    edges = entry["edges"]
    part = finite[:: max(1, len(finite) // _MEAN_VALUES)]
    bins = np.searchsorted(np.asarray(edges, dtype=finite.dtype), part, side="left")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    with np.errstate(over="ignore"):
        means = np.bincount(bins, weights=part, minlength=len(edges) + 1) / np.maximum(counts, 1)
    bounds = np.array([min([entry["min"], *edges]), *edges, max([entry["max"], *edges])])
    is_known = (counts >= ROWS_PER_BIN // 2) & np.isfinite(means)
    positions = np.where(is_known, means, bounds[:-1] / 2 + bounds[1:] / 2)
    return [float(position) for position in positions]


def _bin_edges(finite: Array) -> list[float]:
    """Upper edges of all bins but the last, strictly increasing."""
    distinct = np.unique(finite)
    bins = max(2, min(BINS, len(finite) // ROWS_PER_BIN))
    if len(distinct) == 1:
        # A constant: three bins, so that a change in either direction is seen.
        margin = _tolerance(float(distinct[0]), float(distinct[0]))
        return [float(distinct[0]) - margin, float(distinct[0]) + margin]
    if len(distinct) <= bins:
        edges = (distinct[:-1] + distinct[1:]) / 2
    else:
        # Edges that are values of the reference leave no bin empty when many values are tied.
        edges = np.unique(np.quantile(finite, np.arange(1, bins) / bins, method="inverted_cdf"))
        edges = edges[edges < distinct[-1]]
        if not (edges == np.round(edges)).all():
            # Midway to the next value: a probability of a forest comes back as a float32, which is a little beside it.
            edges = edges / 2 + distinct[np.searchsorted(distinct, edges, side="right")] / 2
    return [float(edge) for edge in edges]


def _build_categorical(values: Mapping[Any, int]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    nulls = 0
    for value, number in values.items():
        key = category_key(value)
        if key is None:
            nulls += number
        else:
            counts[key] += number
    ranked = sorted(counts, key=lambda key: (-counts[key], key))
    return _categorical_entry(counts, ranked[:MAX_CATEGORIES], ranked[MAX_CATEGORIES:], nulls)


def _build_class_entry(labels: Array, classes: Sequence[Any]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for value, number in _count_values(labels).items():
        counts[category_key(value) or ""] += number
    keys = [category_key(label) or "" for label in classes]
    return _categorical_entry(counts, keys[:MAX_CATEGORIES], keys[MAX_CATEGORIES:], 0)


def _categorical_entry(
    counts: Mapping[str, int], categories: list[str], further: list[str], nulls: int
) -> dict[str, Any]:
    return {
        "kind": CATEGORICAL,
        "categories": categories,
        "counts": [counts.get(key, 0) for key in categories],
        "other": sum(counts.get(key, 0) for key in further),
        "nulls": nulls,
        "rows": sum(counts.values()) + nulls,
        "known": further[:MAX_KNOWN],
        "complete": len(further) <= MAX_KNOWN,
        # Good and Turing: the share of values seen once estimates the share of values not seen yet.
        "singletons": sum(1 for number in counts.values() if number == 1),
    }


def _count_values(array: Array) -> dict[Any, int]:
    if array.dtype == object:
        return dict(Counter(array.tolist()))
    values, numbers = np.unique(array, return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


def _range_with_tolerance(entry: Mapping[str, Any]) -> tuple[float, float]:
    low, high = entry["min"], entry["max"]
    if low is None or high is None:
        return -np.inf, np.inf
    margin = _tolerance(low, high)
    return low - margin, high + margin


def _tolerance(low: float, high: float) -> float:
    """A value that went through float32 or decimal text must not count as outside."""
    return 1e-6 * max(abs(low), abs(high)) or 1e-12
