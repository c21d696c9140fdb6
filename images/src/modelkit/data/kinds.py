"""What the feature columns of a table are: stated, or judged by their values.

Number, Boolean, Category, Text (words, not a label) and Time are the contract's names. What can't be what it is said
or seems to be is refused with the column, the number of such rows and the first of them, never with a value.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from modelkit.artifact.signature import InputColumn
from modelkit.data.values import is_all_boolean, to_booleans, to_moments, to_numbers
from modelkit.errors import RefusedError

NUMERIC, CATEGORICAL, TEXT = "numeric", "categorical", "text"
"""Kinds of `InputColumn`."""
DATETIME = "datetime"
"""The `InputColumn` dtype of a Time."""

_DATE = re.compile(r"\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")
_LOOKED_AT = 50
"""Texts that are looked at to tell dates from other text."""
_ERROR_SHARE = 0.2
"""A text column of which a smaller share isn't a number (a date) holds numbers (dates) with errors in them."""
_MOST_LABELS = 20
"""Different texts that a column of labels may always have."""
_LABEL_WORDS = 3.0
"""Words that a label has at most on average: what is longer, and mostly different in each row, is text."""
_WORDS_COUNTED = 1000


def infer_columns(
    frame: pd.DataFrame, names: Iterable[str], stated: Mapping[str, str] | None = None
) -> list[InputColumn]:
    """Type, kind and nullability of each column, by its `stated` type or else by its values.

    Raises RefusedError (BadColumnType, NonFiniteValues) for a column that isn't, or can't be learnt from as it is.
    """
    return [infer_column(name, frame[name], (stated or {}).get(name)) for name in names]


def infer_column(name: str, values: "pd.Series[Any]", stated: str | None = None) -> InputColumn:
    """One column; see `infer_columns`."""
    if stated is None:
        dtype, kind = _judge(name, values)
    elif stated in _STATED:
        dtype, kind = _STATED[stated](name, values)
    else:
        raise RefusedError(
            "BadColumnType", f"the type of column {name!r} must be {', '.join(_STATED)}; found {stated!r}"
        )
    nullable = bool(values.isna().any()) or (kind != NUMERIC and bool((values == "").any()))
    return InputColumn(name=name, dtype=dtype, kind=kind, nullable=nullable)


def _judge(name: str, values: "pd.Series[Any]") -> tuple[str, str]:
    dtype = values.dtype
    if types.is_bool_dtype(dtype):
        return "bool", NUMERIC
    if types.is_integer_dtype(dtype):
        return "int64", NUMERIC
    if types.is_float_dtype(dtype):
        _refuse_infinite(name, values.to_numpy(np.float64, na_value=np.nan), values)
        return "float64", NUMERIC
    if types.is_datetime64_any_dtype(dtype):
        return DATETIME, NUMERIC
    present = values.dropna()
    if present.empty:
        return "float64", NUMERIC
    if is_all_boolean(present):
        return "bool", NUMERIC
    _refuse_other_than_text(name, present, "numbers, text, booleans or dates")
    if seem_dates(present) and _are_dates(name, values):
        return DATETIME, NUMERIC
    _refuse_spoilt_numbers(name, values)
    return "string", TEXT if _is_prose(present) else CATEGORICAL


def _number(name: str, values: "pd.Series[Any]") -> tuple[str, str]:
    if types.is_datetime64_any_dtype(values.dtype):
        raise _mistyped(name, "Number", "dates; use the type Time")
    numbers = to_numbers(values)
    _refuse_rows(values, np.isnan(numbers) & values.notna().to_numpy(), "aren't numbers", "Number")
    _refuse_infinite(name, numbers, values)
    return ("int64" if types.is_integer_dtype(values.dtype) else "float64"), NUMERIC


def _boolean(name: str, values: "pd.Series[Any]") -> tuple[str, str]:
    if types.is_datetime64_any_dtype(values.dtype):
        raise _mistyped(name, "Boolean", "dates")
    wrong = ~np.isin(to_booleans(values), (0.0, 1.0)) & values.notna().to_numpy()
    _refuse_rows(values, wrong, "are neither true nor false nor 1 nor 0", "Boolean")
    return "bool", NUMERIC


def _category(name: str, values: "pd.Series[Any]") -> tuple[str, str]:
    if types.is_datetime64_any_dtype(values.dtype):
        raise _mistyped(name, "Category", "dates; use the type Time, or text")
    present = values.dropna()
    if types.is_bool_dtype(values.dtype) or (not present.empty and is_all_boolean(present)):
        return "bool", CATEGORICAL
    if types.is_numeric_dtype(values.dtype):
        numbers = to_numbers(values)
        wrong = ~np.isnan(numbers) & (~np.isfinite(numbers) | (numbers != np.floor(numbers)))
        _refuse_rows(values, wrong, "are fractional numbers, no codes", "Category")
        return "int64", CATEGORICAL
    _refuse_other_than_text(name, present, "labels: text, whole numbers or booleans")
    return "string", CATEGORICAL


def _text(name: str, values: "pd.Series[Any]") -> tuple[str, str]:
    if types.is_numeric_dtype(values.dtype) and bool(values.notna().any()):
        raise _mistyped(name, "Text", "numbers")
    _refuse_other_than_text(name, values.dropna(), "text")
    return "string", TEXT


def _time(name: str, values: "pd.Series[Any]") -> tuple[str, str]:
    if types.is_bool_dtype(values.dtype):
        raise _mistyped(name, "Time", "booleans")
    moments = to_moments(values)
    wrong = np.isnan(moments) & values.notna().to_numpy()
    _refuse_rows(values, wrong, "aren't ISO 8601 dates such as 2026-03-01 or 2026-03-01T12:00:00Z", "Time")
    _refuse_infinite(name, moments, values)
    return DATETIME, NUMERIC


_STATED = {"Number": _number, "Boolean": _boolean, "Category": _category, "Text": _text, "Time": _time}


def seem_dates(present: "pd.Series[Any]") -> bool:
    """Do texts begin as ISO 8601 dates do? The first 50 are looked at."""
    looked_at = present.head(_LOOKED_AT)
    return sum(_DATE.fullmatch(value) is not None for value in looked_at) > (1 - _ERROR_SHARE) * len(looked_at)


def _are_dates(name: str, values: "pd.Series[Any]") -> bool:
    """True for dates, False for something else; raises RefusedError for dates with errors in them."""
    present = values.notna().to_numpy()
    wrong = np.flatnonzero(np.isnan(to_moments(values)) & present)
    if not len(wrong):
        return True
    if len(wrong) < _ERROR_SHARE * np.count_nonzero(present):
        raise RefusedError(
            "BadColumnType",
            f"column {name!r} holds no ISO 8601 date in {len(wrong)} of {len(values)} rows where the others hold "
            f"dates, first in row {row_number(values, wrong[0])}; mend these rows or leave the values empty",
        )
    return False


def _is_prose(present: "pd.Series[Any]") -> bool:
    if int(present.nunique()) <= max(_MOST_LABELS, len(present) // 2):
        return False
    counted = present.head(_WORDS_COUNTED)
    return sum(len(value.split()) for value in counted) > _LABEL_WORDS * len(counted)


def row_number(values: "pd.Series[Any]", position: int) -> int:
    """Which row of the source a value is of, from 1, where rows without a target were left out since."""
    return int(values.index[position]) + 1


def _refuse_infinite(name: str, numbers: NDArray[np.float64], values: "pd.Series[Any]") -> None:
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise RefusedError(
            "NonFiniteValues",
            f"column {name!r} holds an infinite number in {len(infinite)} of {len(numbers)} rows, first in row "
            f"{row_number(values, infinite[0])}; replace it or leave it empty",
        )


def _refuse_spoilt_numbers(name: str, values: "pd.Series[Any]") -> None:
    present = values.notna()
    wrong = np.flatnonzero((pd.to_numeric(values, errors="coerce").isna() & present).to_numpy())
    if len(wrong) and len(wrong) < _ERROR_SHARE * int(present.sum()):
        raise RefusedError(
            "BadColumnType",
            f"column {name!r} holds text in {len(wrong)} of {len(values)} rows where the others hold numbers, "
            f"first in row {row_number(values, wrong[0])}; mend these rows or leave the values empty",
        )


def _refuse_other_than_text(name: str, present: "pd.Series[Any]", expected: str) -> None:
    if not isinstance(present.dtype, pd.StringDtype) and not all(isinstance(value, str) for value in present):
        raise RefusedError("BadColumnType", f"column {name!r} holds values of several types; expected {expected}")


def _refuse_rows(values: "pd.Series[Any]", wrong: NDArray[np.bool_], problem: str, stated: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        first = row_number(values, rows[0])
        found = f"{len(rows)} of {len(wrong)} rows that {problem}, first row {first}"
        raise _mistyped(str(values.name), stated, found)


def _mistyped(name: str, stated: str, found: str) -> RefusedError:
    return RefusedError("BadColumnType", f"column {name!r} is stated to be a {stated}, but holds {found}")
