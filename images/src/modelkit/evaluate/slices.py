"""Slices: a model judged by itself on the rows of one kind, such as a country, an age or a channel.

The column that tells need not be a feature. A row whose value is missing is in no slice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from modelkit.contract.codec import to_plain
from modelkit.contract.config import ComparisonConfig
from modelkit.contract.recipe import SliceConfig
from modelkit.contract.result import Difference, SliceResult
from modelkit.errors import RefusedError
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.bootstrap import metric_intervals, paired_differences
from modelkit.evaluate.importance import select
from modelkit.evaluate.metrics import compute_metrics

MINIMUM_ROWS = 20
"""Of fewer rows no metric is told: a gate on the slice is inconclusive."""

Positions = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A slice of the evaluation rows."""

    config: SliceConfig
    rows: Positions
    """Positions of its rows, ascending."""

    @property
    def is_measurable(self) -> bool:
        """Are there rows enough for metrics?"""
        return len(self.rows) >= MINIMUM_ROWS


def check_slices(frame: pd.DataFrame, configs: Sequence[SliceConfig]) -> None:
    """Raise RefusedError for a slice of a column that `frame` (the source) doesn't have, or whose column can't be
    compared with the slice's bounds."""
    for config in configs:
        if config.column not in frame.columns:
            raise RefusedError(
                "SliceColumnNotFound",
                f"slice {config.name!r} is of the column {config.column!r}, which the data doesn't have; name one of "
                "its columns",
            )
        _is_in(frame[config.column], config)


def find_slices(frame: pd.DataFrame, configs: Sequence[SliceConfig]) -> tuple[Slice, ...]:
    """Each slice's rows of `frame` (the evaluation rows), in the order of `configs`.

    A slice of a column that `frame` doesn't have has no rows: captured rows hold features only. Raises RefusedError
    as `check_slices` does for bounds that don't fit the column.
    """
    found = []
    for config in configs:
        if config.column in frame.columns:
            rows = np.flatnonzero(_is_in(frame[config.column], config))
        else:
            rows = np.empty(0, np.intp)
        found.append(Slice(config, rows))
    return tuple(found)


def _is_in(values: "pd.Series[Any]", config: SliceConfig) -> NDArray[np.bool_]:
    if config.values:
        return _has_value(values, config.values)
    numbers = _numbers(values, config)
    is_in = np.isfinite(numbers)
    if config.minimum is not None:
        is_in &= numbers >= config.minimum
    if config.maximum is not None:
        is_in &= numbers < config.maximum
    return is_in


def _has_value(values: "pd.Series[Any]", wanted: Sequence[str]) -> NDArray[np.bool_]:
    """Numbers are compared as numbers (`1` is `1.0`), truth values without regard to case, times by the beginning of
    their ISO 8601 form (`2026-03` is a month), all else as text."""
    present = values.notna().to_numpy(bool)
    if types.is_datetime64_any_dtype(values.dtype):
        texts = [value.isoformat() if there else "" for value, there in zip(values, present, strict=True)]
        return np.asarray(present & np.array([text.startswith(tuple(wanted)) for text in texts], bool), bool)
    if types.is_bool_dtype(values.dtype) or _holds_booleans(values):
        # Truth values that were read with missing ones among them are objects.
        lowered = {text.lower() for text in wanted}
        return np.asarray(present & np.array([str(value).lower() in lowered for value in values], bool), bool)
    if types.is_numeric_dtype(values.dtype):
        numbers = pd.to_numeric(pd.Series(list(wanted), dtype=object), errors="coerce").to_numpy(np.float64)
        is_one = np.isin(values.to_numpy(np.float64, na_value=np.nan), numbers[~np.isnan(numbers)])
    else:
        is_one = values.astype(str).isin(list(wanted)).to_numpy(bool)
    return np.asarray(present & is_one, bool)


def _holds_booleans(values: "pd.Series[Any]") -> bool:
    return types.is_object_dtype(values.dtype) and all(isinstance(value, bool | np.bool_) for value in values.dropna())


def _numbers(values: "pd.Series[Any]", config: SliceConfig) -> NDArray[np.float64]:
    """For bounds: numbers as they are, times as seconds since 1970 (UTC)."""
    if types.is_numeric_dtype(values.dtype):
        return values.to_numpy(np.float64, na_value=np.nan)
    if types.is_datetime64_any_dtype(values.dtype):
        return _seconds(values)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if np.isfinite(numbers).any() or not values.notna().any():
        return numbers
    times = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    if times.notna().any():
        return _seconds(times)
    raise RefusedError(
        "BadSlice",
        f"slice {config.name!r} has bounds, but the column {config.column!r} holds neither numbers nor times; state "
        "values instead",
    )


def _seconds(times: "pd.Series[Any]") -> NDArray[np.float64]:
    """Seconds since 1970 in UTC; times without a zone are taken as UTC."""
    moments = pd.to_datetime(times, utc=True)
    seconds = (moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return np.asarray(seconds.to_numpy(np.float64, na_value=np.nan), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredSlice:
    """What was found on one slice; without metrics when it has too few rows."""

    slice: Slice
    metrics: Mapping[str, float] = field(default_factory=dict)
    champion: Mapping[str, float] = field(default_factory=dict)
    """The champion's, on the same rows."""
    differences: Mapping[str, Difference] = field(default_factory=dict)

    def to_result(self) -> SliceResult:
        """For the termination message: of the metrics only those that gates ask of the slice."""
        wanted = self.slice.config.metrics
        return SliceResult(
            name=self.slice.config.name,
            rows=len(self.slice.rows),
            metrics={name: self.metrics[name] for name in wanted if name in self.metrics},
            champion={name: self.champion[name] for name in wanted if name in self.champion},
            differences=self.differences,
        )


def measure_slices(
    slices: Sequence[Slice],
    new: Answers,
    old: Answers | None,
    comparisons: Sequence[ComparisonConfig],
    seed: int,
) -> tuple[MeasuredSlice, ...]:
    """All metrics of the new version and, when there are `old` answers, of the champion on each slice's rows.

    `comparisons` with a slice's name are compared by a paired bootstrap on its rows alone.
    """
    return tuple(_measure(found, new, old, comparisons, seed) for found in slices)


def _measure(
    found: Slice, new: Answers, old: Answers | None, comparisons: Sequence[ComparisonConfig], seed: int
) -> MeasuredSlice:
    if not found.is_measurable:
        return MeasuredSlice(found)
    ours = select(new, found.rows)
    if old is None:
        return MeasuredSlice(found, compute_metrics(ours))
    theirs = select(old, found.rows)
    confidences = {entry.metric: entry.confidence for entry in comparisons if entry.slice == found.config.name}
    return MeasuredSlice(
        found,
        compute_metrics(ours),
        compute_metrics(theirs),
        paired_differences(ours, theirs, confidences, seed) if confidences else {},
    )


def describe_slices(
    measured: Sequence[MeasuredSlice], answers: Answers, confidence: float, seed: int
) -> list[dict[str, Any]]:
    """What metrics.json says of the slices: definition, rows, all metrics with their intervals, the champion's.

    The bootstrap's work is shared by the slices, so that many of them don't take long.
    """
    return [
        {
            "name": entry.slice.config.name,
            "column": entry.slice.config.column,
            "values": list(entry.slice.config.values),
            "minimum": entry.slice.config.minimum,
            "maximum": entry.slice.config.maximum,
            "rows": len(entry.slice.rows),
            "metrics": dict(entry.metrics),
            "intervals": metric_intervals(
                select(answers, entry.slice.rows), confidence, seed, tuple(entry.metrics), 1 / len(measured)
            )
            if entry.metrics
            else {},
            "champion": dict(entry.champion),
            "differences": {name: to_plain(found) for name, found in entry.differences.items()},
        }
        for entry in measured
    ]


def slice_notes(measured: Sequence[MeasuredSlice], frame: pd.DataFrame) -> tuple[str, ...]:
    """Which slices couldn't be measured and why, for the model card."""
    notes = []
    for found in (entry.slice for entry in measured if not entry.slice.is_measurable):
        note = f"slice {found.config.name!r} has {len(found.rows)} evaluation rows, fewer than {MINIMUM_ROWS}"
        if found.config.column not in frame.columns:
            note += f" (captured rows have no column {found.config.column!r})"
        notes.append(f"{note}: nothing is said of it")
    return tuple(notes)
