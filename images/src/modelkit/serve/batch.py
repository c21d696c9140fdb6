"""Rows of a request as typed arrays, checked against the model's signature.

Everything that a client sends comes through here, whatever the protocol: a value that isn't what the signature says is
an error that names the column, never the value. Pure: no I/O, no model.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.artifact.moments import to_seconds
from modelkit.artifact.signature import MISSING_TEXT, InputColumn, Signature
from modelkit.serve.errors import MalformedRequestError
from modelkit.serve.record import record

FloatMatrix = NDArray[np.float64]
Column = NDArray[Any]

_NUMBERS = frozenset({int, float})
_MAX_NAME = 64
"""Characters of a client's name for something that an error repeats."""
_EXACT = 2**53 - 1
"""Whole numbers up to this are exact as float64, and no other number is taken for one of them."""


@record
class Batch:
    """Rows ready for the model: a missing number is NaN, a missing text the empty string.

    Either `matrix` [rows, features] (no text columns) or `columns`, one array [rows] per feature: float64, or object
    holding str.
    """

    rows: int
    matrix: FloatMatrix | None
    columns: tuple[Column, ...]

    def column(self, index: int) -> Column:
        """The values [rows] of one feature."""
        return self.columns[index] if self.matrix is None else self.matrix[:, index]

    def row(self, index: int) -> list[Any]:
        """The values of one row, in the order of the signature."""
        if self.matrix is not None:
            values: list[Any] = self.matrix[index].tolist()
            return values
        return [column[index] for column in self.columns]


@dataclass(frozen=True, slots=True)
class Features:
    """What the signature says about the inputs, prepared once for the hot path."""

    columns: tuple[InputColumn, ...]
    names: tuple[str, ...]
    positions: dict[str, int]
    textual: bool
    """Does the model see any column as text?"""
    plain: bool
    """Are all columns float64? Then a row of numbers needs no check per column."""
    pack: Callable[..., bytes]
    """Writes one row's numbers as native float64; raises struct.error for another width or anything but a number."""

    @classmethod
    def of(cls, signature: Signature) -> "Features":
        """The inputs of `signature`."""
        names = tuple(column.name for column in signature.inputs)
        kinds = {column.dtype for column in signature.inputs}
        return cls(
            columns=signature.inputs,
            names=names,
            positions={name: index for index, name in enumerate(names)},
            textual=any(column.kind != "numeric" for column in signature.inputs),
            plain=kinds == {"float64"},
            pack=struct.Struct(f"{len(names)}d").pack,
        )


def build_batch(features: Features, rows: Sequence[Sequence[Any]], *, has_booleans: bool = True) -> Batch:
    """Rows of JSON values, each as long as the signature, as a batch; raises MalformedRequestError.

    `has_booleans`: may there be any among the values? Where it is known that there are none, numbers needn't be looked
    at one by one.
    """
    if features.plain and (matrix := _numbers(features, rows, has_booleans)) is not None:
        return Batch(len(matrix), matrix, ())
    for index, row in enumerate(rows):
        if len(row) != len(features.names):
            raise wrong_width(index, len(row), len(features.names))
    columns = map(build_column, features.columns, zip(*rows, strict=True))
    return join_columns(features, tuple(columns))


def build_matrix(features: Features, matrix: FloatMatrix, *, is_finite: bool = False) -> Batch:
    """A number matrix [rows, features] in the signature's order as a batch; raises MalformedRequestError.

    NaN stands for null. `is_finite`: is it certain that no number is NaN or infinite?
    """
    if features.textual:
        raise MalformedRequestError(
            "the model has text or category columns, which one number tensor can't hold; send one named tensor per "
            "column"
        )
    if not is_finite and not np.isfinite(matrix).all():
        for index, column in enumerate(features.columns):
            _check_finite(column, matrix[:, index])
    if not features.plain:
        for index, column in enumerate(features.columns):
            _check_numbers(column, matrix[:, index])
    return Batch(len(matrix), matrix, ())


def join_columns(features: Features, columns: tuple[Column, ...]) -> Batch:
    """Checked columns as a batch, as one matrix where there is no text."""
    rows = len(columns[0])
    if features.textual:
        return Batch(rows, None, columns)
    return Batch(rows, np.stack(columns, axis=1), ())


def build_column(column: InputColumn, values: Sequence[Any]) -> Column:
    """JSON values of one column as its array [rows]; raises MalformedRequestError naming the column."""
    kinds = set(map(type, values))
    if type(None) in kinds:
        if not column.nullable:
            raise MalformedRequestError(f"the column {show(column.name)} must not be null")
        kinds.discard(type(None))
    if column.dtype == "string":
        if not kinds <= {str}:
            raise _wrong_type(column, "text", kinds)
        return np.array([MISSING_TEXT if value is None else value for value in values], dtype=object)
    if column.dtype == "datetime":
        return _build_moments(column, values, kinds)
    if column.dtype == "bool":
        if not kinds <= {bool, int}:
            raise _wrong_type(column, "true or false", kinds)
    elif not kinds <= _NUMBERS:
        raise _wrong_type(column, "numbers", kinds)
    return _finish_numbers(column, np.array(values, dtype=np.float64))


def build_typed_column(column: InputColumn, values: NDArray[Any]) -> Column:
    """Values [rows] that came typed, as the column's array; raises MalformedRequestError naming the column.

    What each dtype may hold is as in JSON. NaN, and None in an array of objects, stand for null.
    """
    kind = values.dtype.kind
    if kind == "O":
        return build_column(column, values.tolist())
    if column.dtype == "string":
        raise _wrong_type(column, "text", {bool if kind == "b" else float})
    if column.dtype == "bool" and kind == "f":
        raise _wrong_type(column, "true or false", {float})
    if column.dtype != "bool" and kind == "b":
        raise _wrong_type(column, "dates" if column.dtype == "datetime" else "numbers", {bool})
    numbers = values.astype(np.float64)
    if kind == "f" and not np.isfinite(numbers).all():
        _check_finite(column, numbers)
    return _finish_numbers(column, numbers)


def missing_columns(features: Features, found: Callable[[str], bool]) -> MalformedRequestError | None:
    """An error naming the first columns for which `found` says no; None when all are there."""
    missing = [name for name in features.names if not found(name)]
    if not missing:
        return None
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return MalformedRequestError(f"missing column: {', '.join(map(show, missing[:3]))}{more}")


def unknown_column(features: Features, name: str) -> MalformedRequestError:
    """An error for a name that the signature doesn't have."""
    known = ", ".join(map(show, features.names[:10])) + (", …" if len(features.names) > 10 else "")
    return MalformedRequestError(f"unknown column {show(name)}; the model takes {known}")


def wrong_width(index: int, found: int, expected: int) -> MalformedRequestError:
    """An error for a row with too few or too many values."""
    return MalformedRequestError(f"row {index} has {found} values; the model takes {expected}")


def show(name: str) -> str:
    """A client's or the signature's name, quoted, escaped and bounded, for an error message."""
    return repr(name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…")


def _numbers(features: Features, rows: Sequence[Sequence[Any]], has_booleans: bool) -> FloatMatrix | None:
    """`rows` as a matrix when there is nothing but numbers in the signature's shape; None otherwise.

    Packing tells numbers from anything else but booleans, and takes a third of the time that NumPy needs.
    """
    if has_booleans and not set(map(type, chain.from_iterable(rows))) <= _NUMBERS:
        return None
    try:
        packed = bytearray().join(starmap(features.pack, rows))
    except struct.error:
        return None
    return np.frombuffer(packed, dtype=np.float64).reshape(len(rows), len(features.names))


def _finish_numbers(column: InputColumn, numbers: FloatMatrix) -> Column:
    """Numbers of the right type as the column's array, when they are of its dtype."""
    if column.dtype == "datetime":
        return numbers
    _check_numbers(column, numbers)
    return numbers if column.kind == "numeric" else _name_codes(column, numbers)


def _check_finite(column: InputColumn, numbers: FloatMatrix) -> None:
    """NaN stands for null; infinite numbers are none that a model was trained on."""
    if np.isinf(numbers).any():
        raise MalformedRequestError(f"the column {show(column.name)} must hold finite numbers")
    if not column.nullable and np.isnan(numbers).any():
        raise MalformedRequestError(f"the column {show(column.name)} must not be null")


def _build_moments(column: InputColumn, values: Sequence[Any], kinds: set[type]) -> FloatMatrix:
    """Seconds since 1970 UTC of ISO 8601 text, or of numbers that are such seconds already."""
    if not kinds <= {str, int, float}:
        raise _wrong_type(column, "dates", kinds)
    try:
        return np.array([to_seconds(value) if isinstance(value, str) else value for value in values], dtype=np.float64)
    except ValueError:
        raise MalformedRequestError(
            f"the column {show(column.name)} must hold ISO 8601 dates such as 2026-03-01T12:00:00Z (or seconds "
            "since 1970)"
        ) from None


def _name_codes(column: InputColumn, numbers: FloatMatrix) -> Column:
    """Checked numbers of a category as the names that the model knows them by, as `data.values` gives them."""
    names = ("false", "true") if column.dtype == "bool" else None
    texts = [MISSING_TEXT if value != value else names[int(value)] if names else str(int(value)) for value in numbers]
    return np.array(texts, dtype=object)


def _check_numbers(column: InputColumn, numbers: FloatMatrix) -> None:
    """Whole numbers for int64, 0 and 1 for bool. NaN stands for null, which was judged before."""
    if column.dtype == "int64":
        known = numbers[~np.isnan(numbers)]
        if not np.all((known == np.floor(known)) & (np.abs(known) <= _EXACT)):
            raise MalformedRequestError(
                f"the column {show(column.name)} must hold whole numbers of less than 2**53 in size"
            )
    elif column.dtype == "bool":
        known = numbers[~np.isnan(numbers)]
        if not np.all((known == 0) | (known == 1)):
            raise MalformedRequestError(f"the column {show(column.name)} must hold true or false (or 1 and 0)")


_JSON_NAMES = {
    str: "text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def _wrong_type(column: InputColumn, expected: str, kinds: set[type]) -> MalformedRequestError:
    found = " and ".join(sorted({_JSON_NAMES.get(kind, kind.__name__) for kind in kinds}))
    return MalformedRequestError(f"the column {show(column.name)} must hold {expected}; found {found}")
