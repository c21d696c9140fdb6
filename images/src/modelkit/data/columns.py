"""What the feature columns of a table are, and the table as the array that a pipeline takes.

The model's view of a value is the same in training, comparison and serving: numbers and booleans are float64 with NaN
for a missing one, texts are strings with the empty string for a missing one.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from modelkit.artifact.signature import MISSING_TEXT, InputColumn
from modelkit.errors import RefusedError

Rows = NDArray[Any] | pd.DataFrame
"""[n, features]: a float64 array when every column is numeric, else a frame with columns 0, 1, … (a pipeline that is
fitted on unnamed columns also takes arrays, so that readers of the model need no pandas)."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")
_LOOKED_AT = 50
"""Texts that are looked at to tell dates from other text."""
_NUMERIC_SHARE = 0.8
"""Text columns of which more values than this are numbers are numbers with errors in them."""


def infer_columns(frame: pd.DataFrame, names: Iterable[str]) -> list[InputColumn]:
    """Type, kind and nullability of each column; raises RefusedError for one that a model can't take as it is."""
    return [_infer_column(name, frame[name]) for name in names]


def to_rows(frame: pd.DataFrame, columns: Sequence[InputColumn]) -> Rows:
    """The model's view of `frame`, in the order of `columns`; raises KeyError when one is missing."""
    values = [_numbers(frame[c.name]) if c.kind == "numeric" else _texts(frame[c.name]) for c in columns]
    if all(column.kind == "numeric" for column in columns):
        return np.column_stack(values) if len(frame) else np.empty((0, len(columns)))
    return pd.DataFrame(dict(enumerate(values)))


def take(rows: Rows, positions: NDArray[np.intp]) -> Rows:
    """Some rows by position."""
    return rows.iloc[positions] if isinstance(rows, pd.DataFrame) else rows[positions]


def concatenate(first: Rows, second: Rows) -> Rows:
    """All rows of both, which have the same columns."""
    if isinstance(first, pd.DataFrame) and isinstance(second, pd.DataFrame):
        return pd.concat([first, second], ignore_index=True)
    return np.concatenate([np.asarray(first), np.asarray(second)])


def as_array(rows: Rows) -> NDArray[Any]:
    """`rows` as one array, of objects where there are texts."""
    return rows.to_numpy(object) if isinstance(rows, pd.DataFrame) else rows


def column_of(rows: Rows, index: int) -> NDArray[Any]:
    """The values of one column, [n]."""
    return rows[index].to_numpy() if isinstance(rows, pd.DataFrame) else rows[:, index]


def _infer_column(name: str, values: "pd.Series[Any]") -> InputColumn:
    nullable = bool(values.isna().any())
    if types.is_bool_dtype(values.dtype):
        return InputColumn(name=name, dtype="bool", kind="numeric", nullable=nullable)
    if types.is_integer_dtype(values.dtype):
        return InputColumn(name=name, dtype="int64", kind="numeric", nullable=nullable)
    if types.is_float_dtype(values.dtype):
        _refuse_infinite(name, values)
        return InputColumn(name=name, dtype="float64", kind="numeric", nullable=nullable)
    if types.is_datetime64_any_dtype(values.dtype) or types.is_timedelta64_dtype(values.dtype):
        raise _date(name)
    present = values.dropna()
    if present.empty:
        return InputColumn(name=name, dtype="float64", kind="numeric", nullable=True)
    if all(isinstance(value, bool | np.bool_) for value in present):
        return InputColumn(name=name, dtype="bool", kind="numeric", nullable=nullable)
    if not all(isinstance(value, str) for value in present):
        raise RefusedError(
            "BadColumnType",
            f"column {name!r} holds values of several types; expected numbers, text or booleans",
        )
    if all(_DATE.fullmatch(value) for value in present.head(_LOOKED_AT)):
        raise _date(name)
    _refuse_spoilt_numbers(name, values)
    return InputColumn(name=name, dtype="string", kind="categorical", nullable=nullable)


def _refuse_infinite(name: str, values: "pd.Series[Any]") -> None:
    infinite = np.flatnonzero(np.isinf(values.to_numpy(np.float64, na_value=np.nan)))
    if len(infinite):
        raise RefusedError(
            "NonFiniteValues",
            f"column {name!r} holds an infinite number in {len(infinite)} of {len(values)} rows, first in row "
            f"{infinite[0] + 1}; replace it or leave it empty",
        )


def _refuse_spoilt_numbers(name: str, values: "pd.Series[Any]") -> None:
    present = values.notna()
    wrong = np.flatnonzero((pd.to_numeric(values, errors="coerce").isna() & present).to_numpy())
    if len(wrong) and len(wrong) < (1 - _NUMERIC_SHARE) * int(present.sum()):
        raise RefusedError(
            "BadColumnType",
            f"column {name!r} holds text in {len(wrong)} of {len(values)} rows where the others hold numbers, "
            f"first in row {wrong[0] + 1}; mend these rows or leave the values empty",
        )


def _date(name: str) -> RefusedError:
    return RefusedError(
        "BadColumnType",
        f"column {name!r} holds dates, which a model can't take as they are; turn them into numbers (such as days "
        "since an event) or leave the column out with features",
    )


def _numbers(values: "pd.Series[Any]") -> NDArray[np.float64]:
    if types.is_numeric_dtype(values.dtype):
        return values.to_numpy(np.float64, na_value=np.nan)
    if types.is_object_dtype(values.dtype):
        # None and booleans; a text that came with a request isn't a number and counts as missing.
        values = values.map(float, na_action="ignore") if _only_booleans(values) else values
    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _only_booleans(values: "pd.Series[Any]") -> bool:
    return all(isinstance(value, bool | np.bool_) for value in values.dropna())


def _texts(values: "pd.Series[Any]") -> NDArray[np.object_]:
    missing = values.isna().to_numpy()
    texts = np.array([str(value) for value in values], dtype=object)
    texts[missing] = MISSING_TEXT
    return texts
