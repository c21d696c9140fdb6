"""A batch's columns as the JSON values that a runtime's input takes. Pure.

Inside, all numbers are float64, moments seconds since 1970, and categories text, whatever a client sent. A runtime
says by the datatype of its input which of them it wants.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.artifact.moments import to_text
from modelkit.artifact.signature import MISSING_TEXT, InputColumn
from modelkit.serve.batch import show
from modelkit.serve.errors import UnprocessableRequestError

FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
INTEGERS = {
    f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}").type for sign in ("", "U") for bits in (8, 16, 32, 64)
}
DATATYPES = frozenset({*FLOATS, *INTEGERS, "BOOL", "BYTES"})
"""Of the Open Inference Protocol, as far as a column can be of them."""


@dataclass(frozen=True, slots=True)
class Cells:
    """How one column is written."""

    column: InputColumn
    datatype: str

    def write(self, values: NDArray[Any]) -> Any:
        """Values [rows] as a list or array that JSON takes; raises UnprocessableRequestError naming the column.

        A missing number becomes null where the input is of floats; other datatypes have nothing for it.
        """
        if self.datatype == "BYTES":
            return self._texts(values)
        numbers = values if values.dtype != object else self._codes(values)
        if self.datatype in FLOATS:
            return narrow(numbers, self.datatype, (self.column.name,))
        if np.isnan(numbers).any():
            raise UnprocessableRequestError(f"the column {show(self.column.name)} must not be null for this runtime")
        if self.datatype == "BOOL":
            return (numbers != 0).tolist()
        return narrow(numbers, self.datatype, (self.column.name,))

    def _texts(self, values: NDArray[Any]) -> list[str]:
        if values.dtype == object:
            return [str(value) for value in values]
        missing = np.isnan(values)
        if self.column.dtype == "datetime":
            try:
                return [
                    MISSING_TEXT if gone else to_text(value)
                    for value, gone in zip(values.tolist(), missing, strict=True)
                ]
            except ValueError:
                raise UnprocessableRequestError(
                    f"the column {show(self.column.name)} must hold moments of the years 1 to 9999"
                ) from None
        names = {1.0: "true", 0.0: "false"} if self.column.dtype == "bool" else {}
        whole = self.column.dtype == "int64"
        return [
            MISSING_TEXT if gone else names.get(value) or str(int(value) if whole else value)
            for value, gone in zip(values.tolist(), missing, strict=True)
        ]

    def _codes(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Categories that are whole numbers or booleans outside, as these; raises for other text."""
        words = {MISSING_TEXT: np.nan, "true": 1.0, "false": 0.0}
        try:
            return np.array([words[text] if text in words else float(int(text)) for text in values], dtype=np.float64)
        except ValueError:
            raise UnprocessableRequestError(
                f"the column {show(self.column.name)} holds text; the runtime takes {self.datatype}"
            ) from None


def narrow(numbers: NDArray[np.float64], datatype: str, names: tuple[str, ...]) -> NDArray[Any]:
    """Numbers [rows] or [rows, names] in the datatype; raises UnprocessableRequestError for what it can't hold."""
    if datatype == "FP64":
        return numbers
    kind = FLOATS.get(datatype) or INTEGERS[datatype]
    with np.errstate(over="ignore", invalid="ignore"):
        narrowed = numbers.astype(kind)
    if datatype in FLOATS:
        bad = np.isinf(narrowed)
    else:
        limits = np.iinfo(kind)
        # Compared before the cast: beyond the limits it gives any number. float64 holds 2**63 - 1 as 2**63.
        bad = ~((numbers >= limits.min) & (numbers <= limits.max) & (narrowed == numbers))
    if bad.any():
        name = names[int(np.argmax(bad.reshape(len(bad), -1).any(axis=0)))]
        raise UnprocessableRequestError(f"the column {show(name)} holds a number that {datatype} can't hold")
    return narrowed
