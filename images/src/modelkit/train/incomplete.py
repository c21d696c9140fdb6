"""Imputation DropRows: training rows that miss a value are left out, rows to be answered never are.

The evaluation rows are kept whole, so the metrics tell how well a model answers rows like those it never learnt from.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelkit.artifact.signature import MISSING_TEXT, InputColumn
from modelkit.contract.config import PreprocessingConfig
from modelkit.data.columns import Rows, column_of, take
from modelkit.errors import RefusedError
from modelkit.train.parts import Labelled, Parts
from modelkit.train.treatment import imputation_of


def drop_incomplete(parts: Parts, columns: Sequence[InputColumn], preprocessing: PreprocessingConfig) -> Parts:
    """`parts` whose training part has a value in every column with imputation DropRows, and a note about the others.

    Raises RefusedError when no row would be left.
    """
    train = parts.train
    missing = {
        column.name: _is_missing(train.rows, index)
        for index, column in enumerate(columns)
        if column.nullable and imputation_of(column, preprocessing) == "DropRows"
    }
    if not missing:
        return parts
    incomplete = np.any(list(missing.values()), axis=0)
    dropped, total = int(incomplete.sum()), len(incomplete)
    if not dropped:
        return parts
    if dropped == total:
        worst = max(missing, key=lambda name: int(missing[name].sum()))
        raise RefusedError(
            "EmptyData",
            f"each of the {total} training rows misses a value of a column with imputation DropRows, most of them in "
            f"{worst!r}; use another imputation there",
        )
    note = f"{dropped} of {total} training rows miss a value of a column with imputation DropRows and were left out"
    return replace(parts, train=_take(train, np.flatnonzero(~incomplete)), notes=(*parts.notes, note))


def _is_missing(rows: Rows, index: int) -> NDArray[np.bool_]:
    values = column_of(rows, index)
    return np.asarray(values == MISSING_TEXT) if values.dtype == object else np.isnan(values)


def _take(part: Labelled, positions: NDArray[np.intp]) -> Labelled:
    """Those rows of everything that is kept by row."""
    kept: dict[str, Any] = {}
    for field in fields(part):
        values = getattr(part, field.name)
        if isinstance(values, np.ndarray | pd.DataFrame):
            kept[field.name] = take(values, positions)
    return replace(part, **kept)
