"""The values of one column as the model sees them, whichever form they came in: a file, a capture or a request.

Nothing is refused here. A value that isn't of the wanted kind counts as missing; what training refuses is decided in
`modelkit.data.kinds`, before.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from modelkit.artifact.moments import to_seconds
from modelkit.artifact.signature import MISSING_TEXT
from modelkit.data.profile import category_key

Numbers = NDArray[np.float64]

_BOOLEAN_WORDS = {"true": 1.0, "false": 0.0}
_PER_SECOND = 1_000_000


def to_numbers(values: "pd.Series[Any]") -> Numbers:
    """Numbers [n], NaN for what is missing or no number; true is 1."""
    if types.is_numeric_dtype(values.dtype):
        return values.to_numpy(np.float64, na_value=np.nan)
    if types.is_object_dtype(values.dtype) and is_all_boolean(values.dropna()):
        values = values.map(float, na_action="ignore")
    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def to_booleans(values: "pd.Series[Any]") -> Numbers:
    """1.0 and 0.0 [n] for booleans, the numbers 1 and 0 and the words true and false; other numbers as they are."""
    if types.is_numeric_dtype(values.dtype):
        return to_numbers(values)
    return _convert_each(values, _boolean)


def to_moments(values: "pd.Series[Any]") -> Numbers:
    """Seconds since 1970 UTC [n] of dates, ISO 8601 text, or numbers that are such seconds already; else NaN."""
    if types.is_datetime64_any_dtype(values.dtype):
        zone = getattr(values.dtype, "tz", None)
        moments = values if zone is None else values.dt.tz_convert("UTC").dt.tz_localize(None)
        exact = moments.to_numpy("datetime64[us]")
        seconds = exact.astype(np.int64) / _PER_SECOND
        return np.where(np.isnat(exact), np.nan, seconds)
    if types.is_numeric_dtype(values.dtype):
        return to_numbers(values)
    return _convert_each(values, _moment)


def to_categories(values: "pd.Series[Any]") -> NDArray[np.object_]:
    """Names of categories [n], the empty text for a missing one; 3, 3.0 and "3" are the same category."""
    codes, distinct = pd.factorize(values)
    names = [category_key(value) or MISSING_TEXT for value in distinct.tolist()]
    return np.array([*names, MISSING_TEXT], dtype=object)[codes]  # the code of a missing value is -1


def to_texts(values: "pd.Series[Any]") -> NDArray[np.object_]:
    """Texts [n], the empty text for a missing one."""
    texts = np.array([value if isinstance(value, str) else str(value) for value in values.tolist()], dtype=object)
    texts[values.isna().to_numpy()] = MISSING_TEXT
    return texts


def is_all_boolean(values: "pd.Series[Any]") -> bool:
    """Is every one of these present values true or false?"""
    return all(isinstance(value, bool | np.bool_) for value in values)


def _convert_each(values: "pd.Series[Any]", convert: Any) -> Numbers:
    """`convert` every different value once."""
    codes, distinct = pd.factorize(values)
    return np.array([*(convert(value) for value in distinct.tolist()), np.nan], dtype=np.float64)[codes]


def _boolean(value: Any) -> float:
    if isinstance(value, str):
        return _BOOLEAN_WORDS.get(value.strip().lower(), np.nan)
    return float(value) if isinstance(value, bool | int | float) else np.nan


def _moment(value: Any) -> float:
    if isinstance(value, str):
        try:
            return to_seconds(value)
        except ValueError:
            return np.nan
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan
