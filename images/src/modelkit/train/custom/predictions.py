"""The custom image's answers to the test rows, as the arrays that the metrics take."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from modelkit.contract.exchange import PREDICTION, PROBABILITY_PREFIX, TEST
from modelkit.data.suggest import enumerate_names
from modelkit.errors import RefusedError

SUM_TOLERANCE = 1e-3
"""How far from 1 the probabilities of a row may add up: a softmax in float16 is this far off. They are rescaled."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Answers to the test rows, in their order."""

    predictions: NDArray[Any]
    """[n] int64 or object labels, or float64."""
    probabilities: NDArray[np.float64] | None
    """[n, classes], rows that add up to 1; None when the image gave none."""


def read_predictions(path: Path, rows: int, classes: tuple[Any, ...] | None) -> Predictions:
    """Read and check the answers; raises RefusedError (BadPredictions) naming the column, the rule and the row.

    `classes` are the sorted labels of a classification, None for a regression.
    """
    wanted = [] if classes is None else [f"{PROBABILITY_PREFIX}{label}" for label in classes]
    frame = _read_parquet(path, rows) if path.suffix == ".parquet" else _read_csv(path, rows, classes)
    if PREDICTION not in frame.columns:
        raise _bad(path, f"it has no column {PREDICTION!r}; its columns are: {enumerate_names(list(frame.columns))}")
    if classes is None:
        values = _finite_numbers(path, PREDICTION, frame[PREDICTION])
        return Predictions(values, None)
    labels = _labels(path, frame[PREDICTION], classes)
    given = [name for name in frame.columns if name.startswith(PROBABILITY_PREFIX)]
    if not given:
        return Predictions(labels, None)
    if sorted(given) != sorted(wanted):
        raise _bad(path, f"its probability columns must be {enumerate_names(wanted)}; found {enumerate_names(given)}")
    columns = [_finite_numbers(path, name, frame[name]) for name in wanted]
    return Predictions(labels, _checked_probabilities(path, np.column_stack(columns)))


def _read_parquet(path: Path, rows: int) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        _check_rows(path, file.metadata.num_rows, rows)  # before anything is unpacked
        names = [name for name in file.schema_arrow.names if name == PREDICTION or name.startswith(PROBABILITY_PREFIX)]
        if len(set(names)) < len(names):
            raise _bad(path, "a column occurs twice")
        frame: pd.DataFrame = file.read(columns=names).to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError) as exc:
        raise _bad(path, "it isn't Parquet, or cut off") from exc
    return frame


def _read_csv(path: Path, rows: int, classes: tuple[Any, ...] | None) -> pd.DataFrame:
    # A label is read as it is written: `007`, `NA` and `1.0` are texts where the classes are.
    words = classes is not None and not _are_whole(classes)
    try:
        dtype = {PREDICTION: str} if words else None
        frame = pd.read_csv(path, nrows=rows + 1, dtype=dtype, keep_default_na=not words)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OSError) as exc:
        raise _bad(path, "it isn't CSV with a header") from exc
    if len(frame) > rows:
        raise _bad(path, f"it has more than {rows} rows; {TEST} has {rows}")
    _check_rows(path, len(frame), rows)
    return frame


def _check_rows(path: Path, found: int, rows: int) -> None:
    if found != rows:
        raise _bad(path, f"it has {found} rows; {TEST} has {rows}, and each needs its answer, in the same order")


def _are_whole(classes: tuple[Any, ...]) -> bool:
    return all(isinstance(label, int) for label in classes)


def _finite_numbers(path: Path, name: str, values: "pd.Series[Any]") -> NDArray[np.float64]:
    if not types.is_numeric_dtype(values.dtype) or types.is_complex_dtype(values.dtype):
        raise _bad(path, f"column {name!r} holds {values.dtype}; expected numbers")
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise _bad(
            path,
            f"column {name!r} holds no finite number in {len(wrong)} of {len(numbers)} rows, first in row "
            f"{wrong[0] + 1}",
        )
    return numbers


def _labels(path: Path, values: "pd.Series[Any]", classes: tuple[Any, ...]) -> NDArray[Any]:
    """The predicted labels in the classes' own type."""
    if _are_whole(classes):
        plain = values.astype("Int64") if types.is_bool_dtype(values.dtype) else values
        numbers = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        known = np.isin(numbers, np.array(classes, dtype=np.float64))
        labels: NDArray[Any] = np.where(known, numbers, 0).astype(np.int64)
    else:
        present = values.notna().to_numpy()
        labels = np.array([str(value) for value in values], dtype=object)
        known = np.array([label in set(classes) for label in labels], dtype=bool) & present
    wrong = np.flatnonzero(~known)
    if len(wrong):
        raise _bad(
            path,
            f"column {PREDICTION!r} holds something else than a class in {len(wrong)} of {len(labels)} rows, first in "
            f"row {wrong[0] + 1}; the classes are: {enumerate_names([str(label) for label in classes])}",
        )
    return labels


def _checked_probabilities(path: Path, table: NDArray[np.float64]) -> NDArray[np.float64]:
    outside = np.flatnonzero(np.any((table < -SUM_TOLERANCE) | (table > 1 + SUM_TOLERANCE), axis=1))
    if len(outside):
        raise _bad(path, f"a probability isn't within 0 and 1 in {len(outside)} rows, first in row {outside[0] + 1}")
    table = np.clip(table, 0.0, 1.0)
    sums = table.sum(axis=1, keepdims=True)
    wrong = np.flatnonzero(np.abs(sums[:, 0] - 1) > SUM_TOLERANCE)
    if len(wrong):
        raise _bad(
            path,
            f"the probabilities of {len(wrong)} of {len(table)} rows don't add up to 1, first in row {wrong[0] + 1}; "
            "give the softmax, not the logits",
        )
    scaled: NDArray[np.float64] = table / sums
    return scaled


def _bad(path: Path, problem: str) -> RefusedError:
    return RefusedError("BadPredictions", f"outputs/{path.name} can't be used: {problem}")
