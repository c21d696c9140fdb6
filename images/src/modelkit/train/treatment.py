"""What happens to each column before the estimator: the settings for all columns, those for single ones, and what
the training rows say where a setting is Auto.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelkit.artifact.signature import InputColumn
from modelkit.contract.config import PreprocessingConfig
from modelkit.contract.recipe import ColumnPreprocessingConfig
from modelkit.data.columns import Rows, column_of
from modelkit.data.suggest import enumerate_names, suggest
from modelkit.errors import RefusedError

NUMERIC, TIME, CATEGORICAL, TEXT = KINDS = ("numeric", "time", "categorical", "text")

CHOICES = {
    "scaling": ("Auto", "None", "Standard", "MinMax", "Robust"),
    "imputation": ("Auto", "None", "Mean", "Median", "MostFrequent", "Constant", "KNN", "DropRows"),
    "transform": ("None", "Power", "Quantile"),
    "encoding": ("Auto", "OneHot", "Ordinal", "Target"),
    "text": ("TfIdf", "Hashing"),
}
_SUITS = {
    NUMERIC: ("scaling", "imputation", "transform", "fill_value"),
    TIME: ("scaling", "imputation", "fill_value"),
    CATEGORICAL: ("scaling", "imputation", "encoding", "fill_text"),
    TEXT: ("imputation", "text"),
}
"""Settings that a column of the kind can have of its own."""
_HOLDS = {NUMERIC: "numbers", TIME: "times", CATEGORICAL: "categories", TEXT: "text"}
_IMPUTATIONS = {
    NUMERIC: CHOICES["imputation"],
    TIME: ("Auto", "None", "Mean", "Median", "MostFrequent", "Constant", "DropRows"),
    CATEGORICAL: ("Auto", "None", "MostFrequent", "Constant", "DropRows"),
    TEXT: ("Auto", "None", "DropRows"),
}
"""Text without words is text too: nothing is filled in."""

MOST_ONE_HOT = 50
"""Categories above which Auto encodes by the mean target: as many columns would make the rest hard to see."""
HEAVY_TAIL = 30.0
"""Interquartile ranges from the median, beyond which a value would squeeze all others together."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """Columns with equal treatments are treated together, by one transformer."""

    kind: str
    """numeric, time, categorical or text."""
    imputation: str = "None"
    """None, Mean, Median, MostFrequent, Constant or KNN."""
    fill: float | str | None = None
    """With Constant."""
    transform: str = "None"
    scaling: str = "None"
    encoding: str = "None"
    """OneHot, Ordinal or Target, of categories."""
    text: str = "None"
    """TfIdf or Hashing, of text."""


def kind_of(column: InputColumn) -> str:
    """numeric, time, categorical or text."""
    return TIME if column.dtype == "datetime" else column.kind


def imputation_of(column: InputColumn, settings: PreprocessingConfig) -> str:
    """The imputation that the specification asks for in `column`."""
    own = _own(column, settings)
    if own is not None and own.imputation is not None:
        return own.imputation
    return settings.imputation


def decide_treatments(
    columns: Sequence[InputColumn], settings: PreprocessingConfig, *, scaling: str, rows: Rows | None = None
) -> list[Treatment]:
    """The treatment of each of `columns`; raises RefusedError for a setting that doesn't suit its column.

    Settings for all columns reach those that they suit: a mean is no filling for categories, which then get the most
    frequent one. Settings for a single column must suit it. `scaling` is what Auto means for the estimator, and
    `rows` are training rows, by whose features (never their target) Auto decides.
    """
    _check_names(columns, settings)
    for field, known in CHOICES.items():
        _check(f"preprocessing.{field}", getattr(settings, field), known)
    return [_decide(index, column, settings, scaling, rows) for index, column in enumerate(columns)]


def _decide(
    index: int, column: InputColumn, settings: PreprocessingConfig, scaling: str, rows: Rows | None
) -> Treatment:
    kind = kind_of(column)
    own = _own(column, settings) or ColumnPreprocessingConfig(name=column.name)
    _check_own(column, own, kind)
    if kind == TEXT:
        return Treatment(kind, text=own.text or settings.text)
    imputation = _imputation(kind, imputation_of(column, settings))
    fill = _fill(kind, own, settings) if imputation == "Constant" else None
    encoding = _encoding(index, own.encoding or settings.encoding, rows) if kind == CATEGORICAL else "None"
    scale = own.scaling or settings.scaling
    if encoding == "OneHot":
        if own.scaling not in {None, "Auto", "None"}:
            raise _unsuited(column, f"scaling {own.scaling}", "is one-hot encoded; use encoding Ordinal or Target")
        scale = "None"
    elif scale == "Auto":
        scale = scaling
        if scale == "Standard" and kind == NUMERIC and imputation != "KNN" and _has_heavy_tails(index, rows):
            scale = "Robust"
    transform = own.transform or settings.transform
    # A boolean has no shape to mend.
    if kind != NUMERIC or (own.transform is None and column.dtype == "bool"):
        transform = "None"
    return Treatment(kind, imputation, fill, transform, scale, encoding)


def _own(column: InputColumn, settings: PreprocessingConfig) -> ColumnPreprocessingConfig | None:
    return next((own for own in settings.columns if own.name == column.name), None)


def _imputation(kind: str, wanted: str) -> str:
    if wanted in {"None", "Constant"}:
        return wanted
    if kind == CATEGORICAL:
        return "MostFrequent"
    # Rows that DropRows keeps from training are still answered: as Auto would.
    if wanted in {"Auto", "DropRows"} or (kind == TIME and wanted == "KNN"):
        return "Median"
    return wanted


def _fill(kind: str, own: ColumnPreprocessingConfig, settings: PreprocessingConfig) -> float | str:
    if kind == CATEGORICAL:
        return settings.fill_text if own.fill_text is None else own.fill_text
    return settings.fill_value if own.fill_value is None else own.fill_value


def _encoding(index: int, wanted: str, rows: Rows | None) -> str:
    if wanted != "Auto":
        return wanted
    distinct = 0 if rows is None else len(set(column_of(rows, index).tolist()))
    return "OneHot" if distinct <= MOST_ONE_HOT else "Target"


def _has_heavy_tails(index: int, rows: Rows | None) -> bool:
    if rows is None:
        return False
    values = np.asarray(column_of(rows, index), dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return False
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    # Without a spread in the middle, there is no measure of what is far from it.
    return bool(high > low and np.max(np.abs(values - middle)) > HEAVY_TAIL * (high - low))


def _check_names(columns: Sequence[InputColumn], settings: PreprocessingConfig) -> None:
    names = [column.name for column in columns]
    for own in settings.columns:
        if own.name not in names:
            raise RefusedError(
                "ColumnNotFound",
                f"preprocessing.columns names {own.name!r}, which isn't one of the features that are learnt from: "
                f"{enumerate_names(names)}" + suggest(own.name, names),
            )


def _check_own(column: InputColumn, own: ColumnPreprocessingConfig, kind: str) -> None:
    for field in (*CHOICES, "fill_value", "fill_text"):
        value = getattr(own, field)
        if value is None:
            continue
        if field in CHOICES:
            _check(f"preprocessing.columns: {field} of {column.name!r}", value, CHOICES[field])
        if field not in _SUITS[kind]:
            hint = "; to encode numbers, make it a Category in data.columns" if field == "encoding" else ""
            raise _unsuited(column, _spelled(field), f"holds {_HOLDS[kind]}{hint}")
    if own.imputation is not None and own.imputation not in _IMPUTATIONS[kind]:
        known = ", ".join(_IMPUTATIONS[kind])
        raise _unsuited(column, f"imputation {own.imputation}", f"holds {_HOLDS[kind]}; use {known}")


def _spelled(field: str) -> str:
    """As in the API."""
    return {"fill_value": "fillValue", "fill_text": "fillText"}.get(field, field)


def _check(field: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise RefusedError("BadPreprocessing", f"{field} must be {', '.join(known)}; found {value!r}")


def _unsuited(column: InputColumn, setting: str, why: str) -> RefusedError:
    return RefusedError("BadPreprocessing", f"{setting} doesn't suit column {column.name!r}, which {why}")
