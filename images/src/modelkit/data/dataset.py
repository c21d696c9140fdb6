"""The checked training data: which columns are learnt from, the target and its classes, and what was left out.

Everything that no retry can mend is refused here, with the column, the rule and the numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from modelkit.artifact.signature import InputColumn
from modelkit.contract.config import DataConfig
from modelkit.contract.result import Finding
from modelkit.data.columns import Rows, to_rows
from modelkit.data.description import SourceDescription
from modelkit.data.kinds import CATEGORICAL, NUMERIC, infer_columns
from modelkit.data.roles import read_groups, read_times, read_weights
from modelkit.data.suggest import enumerate_names, suggest
from modelkit.errors import RefusedError

CLASSIFICATION = "Classification"

_MOST_MISSING_TARGETS = 0.2
"""Share of rows without a target above which something is wrong with the data, not with single rows."""
_MOST_CATEGORIES = 100
_MOST_NUMERIC_CLASSES = 50


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Rows with a target, and what is known of them."""

    frame: pd.DataFrame
    """The table as it was read, without the rows that have no target."""
    columns: tuple[InputColumn, ...]
    """The features, in the table's or the specification's order."""
    target: NDArray[Any]
    """[n] int64 or object labels, or float64."""
    classes: tuple[Any, ...] | None
    """Sorted labels; None for regression."""
    notes: tuple[str, ...]
    """What was left out and why, for the model card."""
    weights: NDArray[np.float64] | None = None
    """[n] at least 0, the rows' weights; None: every row counts the same."""
    groups: NDArray[np.int64] | None = None
    """[n] codes, the same for rows that must stay together; None without a group column."""
    times: NDArray[np.float64] | None = None
    """[n] what orders the rows, oldest first: seconds since 1970 UTC or the column's numbers; None without one."""

    source: SourceDescription | None = None
    """What the table looked like, for the next run's validation."""
    findings: tuple[Finding, ...] = ()
    """Warnings of the data's validation."""

    def rows(self) -> Rows:
        """The model's view of every row."""
        return to_rows(self.frame, self.columns)


def build_dataset(frame: pd.DataFrame, config: DataConfig, task: str) -> Dataset:
    """Check `frame` and pick features and target; raises RefusedError for data that can't be learnt from."""
    frame.columns = [str(name) for name in frame.columns]
    names = _feature_names(frame, config)
    kept, target_notes = _with_target(frame, config)
    target = read_labels(kept[config.target], config) if task == CLASSIFICATION else _numbers(kept, config)
    classes = tuple(sorted(set(target.tolist()))) if task == CLASSIFICATION else None
    _refuse_hopeless_target(target, classes, config)
    columns, notes = _usable(kept, infer_columns(kept, names, stated_types(config)), config)
    return Dataset(
        frame=kept.reset_index(drop=True),
        columns=tuple(columns),
        target=target,
        classes=classes,
        notes=(*target_notes, *notes),
        weights=None if config.weight is None else read_weights(config.weight, kept[config.weight]),
        groups=None if config.group is None else read_groups(config.group, kept[config.group]),
        times=None if config.time is None else read_times(config.time, kept[config.time]),
    )


def stated_types(config: DataConfig) -> dict[str, str]:
    """The types that the configuration states, by column."""
    return {column.name: column.type for column in config.columns}


def read_labels(values: "pd.Series[Any]", config: DataConfig) -> NDArray[Any]:
    """Class labels: whole numbers and booleans as int64, all else as text. No value may be missing."""
    if types.is_bool_dtype(values.dtype) or types.is_integer_dtype(values.dtype):
        return values.to_numpy(np.int64)
    if types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(np.float64)
        if not np.all(np.isfinite(numbers)) or not np.all(numbers == np.round(numbers)):
            raise RefusedError(
                "TargetNotClasses",
                f"the target {config.target!r} holds fractional numbers, which aren't classes; "
                "use regressors as candidates, or a target of labels",
            )
        return numbers.astype(np.int64)
    if types.is_datetime64_any_dtype(values.dtype):
        raise RefusedError("TargetNotClasses", f"the target {config.target!r} holds dates; expected labels")
    if all(isinstance(value, bool | np.bool_) for value in values):
        return values.astype(bool).to_numpy(np.int64)
    return np.array([str(value) for value in values], dtype=object)


def _feature_names(frame: pd.DataFrame, config: DataConfig) -> list[str]:
    known = list(frame.columns)
    roles = {"weight": config.weight, "group": config.group, "time": config.time}
    special = [name for name in roles.values() if name is not None]
    for name in (config.target, *config.features, *special, *stated_types(config)):
        if name not in known:
            raise RefusedError(
                "ColumnNotFound",
                f"column {name!r} not found in {config.display_uri}; columns are: {enumerate_names(known)}"
                + suggest(name, known),
            )
    if config.target in config.features:
        raise RefusedError("TargetIsFeature", f"the target {config.target!r} must not be one of the features")
    for role, column in roles.items():
        if column == config.target:
            raise RefusedError("TargetHasRole", f"the target {column!r} must not be the {role} column too")
    names = list(dict.fromkeys(config.features)) or [name for name in known if name not in {config.target, *special}]
    if not names:
        beside = ", ".join(["the target", *(f"the {role}" for role, column in roles.items() if column)])
        raise RefusedError("EmptyData", f"{config.display_uri} has no column beside {beside}")
    return names


def _with_target(frame: pd.DataFrame, config: DataConfig) -> tuple[pd.DataFrame, list[str]]:
    missing = int(frame[config.target].isna().sum())
    if missing == len(frame):
        raise RefusedError("TargetMissing", f"the target {config.target!r} has no value in any row")
    if missing > _MOST_MISSING_TARGETS * len(frame):
        raise RefusedError(
            "TargetMissing",
            f"the target {config.target!r} has no value in {missing} of {len(frame)} rows, more than "
            f"{_MOST_MISSING_TARGETS:.0%}; leave these rows out of the data or fill them",
        )
    if not missing:
        return frame, []
    # The index stays that of the source until all is checked: messages number its rows.
    return frame[frame[config.target].notna()], [f"{missing} of {len(frame)} rows have no target and were left out"]


def _numbers(frame: pd.DataFrame, config: DataConfig) -> NDArray[Any]:
    values = frame[config.target]
    if not types.is_numeric_dtype(values.dtype) or types.is_bool_dtype(values.dtype):
        raise RefusedError(
            "TargetNotNumeric",
            f"the target {config.target!r} of a regression must be numbers; found {values.dtype}; "
            "use classifiers as candidates, or another target",
        )
    numbers = values.to_numpy(np.float64)
    if infinite := int(np.isinf(numbers).sum()):
        raise RefusedError(
            "NonFiniteValues", f"the target {config.target!r} is infinite in {infinite} of {len(numbers)} rows"
        )
    return numbers


def _refuse_hopeless_target(target: NDArray[Any], classes: Sequence[Any] | None, config: DataConfig) -> None:
    if classes is None:
        if len(target) and np.all(target == target[0]):
            raise RefusedError(
                "ConstantTarget", f"the target {config.target!r} is the same number in all {len(target)} rows"
            )
        return
    if len(classes) < 2:
        raise RefusedError(
            "SingleClass",
            f"the target {config.target!r} has a single class in all {len(target)} rows; "
            "a classifier needs at least two",
        )
    if len(classes) > max(_MOST_NUMERIC_CLASSES, len(target) // 10):
        raise RefusedError(
            "TooManyClasses",
            f"the target {config.target!r} has {len(classes)} classes in {len(target)} rows; "
            "use regressors as candidates, or another target",
        )


def _usable(
    frame: pd.DataFrame, columns: Sequence[InputColumn], config: DataConfig
) -> tuple[list[InputColumn], list[str]]:
    usable, notes = [], []
    stated = stated_types(config)
    for column in columns:
        if problem := _useless(frame[column.name], column, is_stated=column.name in stated):
            notes.append(f"column {column.name!r} {problem} and was left out")
        else:
            usable.append(column)
    if not usable:
        raise RefusedError(
            "NoUsableColumn",
            f"no column of {config.display_uri} can be learnt from: {'; '.join(notes[:3])}"
            + (f"; and {len(notes) - 3} more" if len(notes) > 3 else ""),
        )
    return usable, notes


def _useless(values: "pd.Series[Any]", column: InputColumn, *, is_stated: bool) -> str | None:
    distinct = int(values.nunique())
    if distinct == 0:
        return "is empty"
    if column.kind == NUMERIC:
        return "holds a single value" if distinct == 1 else None
    if distinct == 1 and not column.nullable:
        return "holds a single value"
    if not is_stated and column.kind == CATEGORICAL and distinct > max(_MOST_CATEGORIES, len(values) // 2):
        return f"holds {distinct} different texts in {len(values)} rows, like an identifier,"
    return None
