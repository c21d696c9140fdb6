"""Columns that say something of the rows instead of being learnt from: weight, group and time.

A row without such a value can't be placed, so it is refused instead of guessed.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from modelkit.data.kinds import row_number
from modelkit.data.values import to_moments, to_numbers
from modelkit.errors import RefusedError


def read_weights(name: str, values: "pd.Series[Any]") -> NDArray[np.float64]:
    """The rows' weights [n], finite and at least 0; raises RefusedError (BadWeights)."""
    if types.is_datetime64_any_dtype(values.dtype) or types.is_bool_dtype(values.dtype):
        raise RefusedError("BadWeights", f"the weight column {name!r} must hold numbers; found {values.dtype}")
    weights = to_numbers(values)
    for wrong, problem in (
        (values.isna().to_numpy(), "no value"),
        (np.isnan(weights), "something else than a number"),
        (np.isinf(weights), "an infinite number"),
        (weights < 0, "a negative number"),
    ):
        _refuse(
            values,
            wrong,
            "BadWeights",
            f"the weight column {name!r} holds {problem}",
            "every row needs a weight from 0 up",
        )
    if not np.any(weights > 0):
        raise RefusedError("BadWeights", f"the weight column {name!r} is 0 in all {len(weights)} rows")
    return weights


def read_groups(name: str, values: "pd.Series[Any]") -> NDArray[np.int64]:
    """One code per group [n], counted in the order of first appearance; raises RefusedError (BadGroups)."""
    missing = values.isna().to_numpy()
    _refuse(values, missing, "BadGroups", f"the group column {name!r} holds no value", "every row needs a group")
    codes, groups = pd.factorize(values)
    if len(groups) < 2:
        raise RefusedError(
            "BadGroups", f"the group column {name!r} holds a single group in all {len(codes)} rows; expected several"
        )
    return codes.astype(np.int64)


def read_times(name: str, values: "pd.Series[Any]") -> NDArray[np.float64]:
    """What orders the rows [n]: seconds since 1970 UTC of dates and ISO 8601 text, or the numbers themselves.

    Raises RefusedError (BadTimes).
    """
    times = to_moments(values)
    expected = "every row needs an ISO 8601 date, such as 2026-03-01, or a number"
    missing = values.isna().to_numpy()
    _refuse(values, missing, "BadTimes", f"the time column {name!r} holds no value", expected)
    _refuse(values, ~np.isfinite(times), "BadTimes", f"the time column {name!r} holds no finite time", expected)
    return times


def _refuse(values: "pd.Series[Any]", wrong: NDArray[np.bool_], reason: str, problem: str, expected: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise RefusedError(
            reason,
            f"{problem} in {len(rows)} of {len(wrong)} rows, first in row {row_number(values, rows[0])}; {expected}",
        )
