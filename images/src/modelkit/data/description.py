"""What a training source looked like: the counts that the next run's data is compared with.

Every column of the table is described, those that weren't learnt from too: an identifier whose values repeat, or a
column that has gone, tells of a join that went wrong. Names of categories are kept of features only.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from modelkit.data.kinds import seem_dates
from modelkit.data.profile import category_key
from modelkit.data.values import to_moments

NUMBER, BOOLEAN, CATEGORY, TIME, MIXED, EMPTY = "Number", "Boolean", "Category", "Time", "Mixed", "Empty"

MOST_CATEGORIES = 1000
"""Categories whose names are kept; of a column with more, unseen ones can't be told."""
_MOST_CLASSES = 100
_DECILES = np.arange(1, 10) / 10
_TEXTS = frozenset({"string"})
_NUMBERS = frozenset({"integer", "floating", "mixed-integer-float", "decimal", "complex"})
_TIMES = frozenset({"datetime", "datetime64", "date"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDescription:
    """One column of a table."""

    name: str
    type: str
    """Number, Boolean, Category (any text), Time, Mixed (values of several types) or Empty."""
    used: bool = False
    """A feature that the model learnt from."""
    rows: int
    missing: int = 0
    distinct: int | None = None
    """Different values; None where they aren't counted (fractional numbers, times)."""
    minimum: float | None = None
    """Of finite numbers (1 and 0 of booleans, seconds since 1970 UTC of times)."""
    maximum: float | None = None
    deciles: tuple[float, ...] = ()
    """The nine of a Number's finite values; none of a constant."""
    categories: tuple[str, ...] = ()
    """The names of all of them, sorted; none when there are over 1,000 or the column looks like an identifier."""
    singletons: int = 0
    """Categories that are there once: their share of the rows estimates that of unseen ones (Good and Turing)."""

    @property
    def missing_share(self) -> float:
        """0 to 1."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def is_constant(self) -> bool:
        """Does it hold at most one value beside missing ones?"""
        if self.type in {EMPTY, MIXED}:
            return self.type == EMPTY
        return self.distinct is not None and self.distinct < 2 if self.minimum is None else self.minimum == self.maximum

    @property
    def is_unique(self) -> bool:
        """Is every value there once, as in an identifier?"""
        return self.distinct is not None and self.distinct > 1 and self.distinct == self.rows - self.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDescription:
    """The table that a version was learnt from."""

    rows: int
    target: str
    columns: tuple[ColumnDescription, ...]
    """In the table's order, the target's among them."""
    class_shares: Mapping[str, float] = field(default_factory=dict)
    """0 to 1 by class; empty for a regression and for over 100 classes."""
    whole: bool = True
    """False: only features are described, as of a version that was written without a description."""


def describe_source(frame: pd.DataFrame, target: str) -> SourceDescription:
    """Describe `frame`, of which nothing is known yet but which column is the target."""
    columns = tuple(describe_column(name, frame[name]) for name in frame.columns)
    return SourceDescription(rows=len(frame), target=target, columns=columns)


def complete_description(
    source: SourceDescription, used: Collection[str], classes: Sequence[Any] | None, target: NDArray[Any]
) -> SourceDescription:
    """`source` with the features that are `used`, names of categories of those only, and the shares of the classes.

    `target` is [n]; `classes` is None for a regression.
    """
    columns = tuple(
        replace(column, used=column.name in used, categories=column.categories if column.name in used else ())
        for column in source.columns
    )
    shares = {}
    if classes is not None and len(classes) <= _MOST_CLASSES:
        shares = {category_key(label) or "": float(np.mean(target == label)) for label in classes}
    return replace(source, columns=columns, class_shares=shares)


def describe_column(name: str, values: "pd.Series[Any]") -> ColumnDescription:
    """Describe one column's values [n]."""
    kind = column_type(values)
    rows, missing = len(values), int(values.isna().sum())
    if kind in {NUMBER, BOOLEAN, TIME}:
        numbers = numbers_of(values, kind)
        numbers = numbers[np.isfinite(numbers)]
        low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (None, None)
        deciles = np.quantile(numbers, _DECILES) if kind == NUMBER and low != high else np.empty(0)
        whole = kind == NUMBER and types.is_integer_dtype(values.dtype)
        distinct = int(values.nunique()) if whole else None
        return ColumnDescription(
            name=name,
            type=kind,
            rows=rows,
            missing=missing,
            distinct=distinct,
            minimum=low,
            maximum=high,
            deciles=tuple(float(value) for value in deciles),
        )
    if kind != CATEGORY:
        return ColumnDescription(name=name, type=kind, rows=rows, missing=missing)
    counts = count_categories(values)
    named = len(counts) <= min(MOST_CATEGORIES, max(20, rows // 2))
    return ColumnDescription(
        name=name,
        type=kind,
        rows=rows,
        missing=rows - int(counts.sum()),
        distinct=len(counts),
        categories=tuple(sorted(counts.index)) if named else (),
        singletons=int((counts == 1).sum()),
    )


def count_categories(values: "pd.Series[Any]") -> "pd.Series[int]":
    """Rows by name of category, missing ones and empty texts left out."""
    codes, distinct = pd.factorize(values)
    counts = np.bincount(codes[codes >= 0], minlength=len(distinct))
    keys = [category_key(value) for value in distinct.tolist()]
    named = pd.Series(counts, index=pd.Index(keys, dtype=object))
    return named[named.index.notna()].groupby(level=0, sort=True).sum()


def column_type(values: "pd.Series[Any]") -> str:
    """Number, Boolean, Category, Time, Mixed or Empty, by the values."""
    dtype = values.dtype
    if types.is_bool_dtype(dtype):
        return BOOLEAN
    if types.is_numeric_dtype(dtype):
        return EMPTY if bool(values.isna().all()) else NUMBER
    if types.is_datetime64_any_dtype(dtype):
        return TIME
    found = types.infer_dtype(values, skipna=True)
    if found == "empty":
        return EMPTY
    if found == "boolean":
        return BOOLEAN
    if found in _NUMBERS:
        return NUMBER
    if found in _TIMES:
        return TIME
    if found in _TEXTS:
        return TIME if seem_dates(values.dropna()) else CATEGORY
    return MIXED


def numbers_of(values: "pd.Series[Any]", kind: str) -> NDArray[np.float64]:
    """The numbers [n] that a Number's, Boolean's or Time's range is of; NaN for a missing one."""
    if kind == TIME:
        return to_moments(values)
    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
