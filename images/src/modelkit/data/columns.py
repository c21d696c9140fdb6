"""A table as the array that a pipeline takes.

The model's view of a value is the same in training, comparison and serving: numbers and booleans are float64 with NaN
for a missing one, moments are seconds since 1970 UTC, categories and texts are strings with the empty string for a
missing one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelkit.artifact.signature import InputColumn
from modelkit.data.kinds import CATEGORICAL, DATETIME, NUMERIC, TEXT, infer_columns
from modelkit.data.values import to_booleans, to_categories, to_moments, to_numbers, to_texts

__all__ = ["Rows", "as_array", "column_of", "concatenate", "infer_columns", "take", "to_rows"]

Rows = NDArray[Any] | pd.DataFrame
"""[n, features]: a float64 array when every column is numeric, else a frame with columns 0, 1, … (a pipeline that is
fitted on unnamed columns also takes arrays, so that readers of the model need no pandas)."""


def to_rows(frame: pd.DataFrame, columns: Sequence[InputColumn]) -> Rows:
    """The model's view of `frame`, in the order of `columns`; raises KeyError when one is missing."""
    values = [_values(frame[column.name], column) for column in columns]
    if all(column.kind == NUMERIC for column in columns):
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


def _values(values: "pd.Series[Any]", column: InputColumn) -> NDArray[Any]:
    if column.kind == TEXT:
        return to_texts(values)
    if column.kind == CATEGORICAL:
        return to_categories(values)
    if column.dtype == DATETIME:
        return to_moments(values)
    return to_booleans(values) if column.dtype == "bool" else to_numbers(values)
