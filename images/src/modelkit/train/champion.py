"""The champion, measured on the rows that the new version is judged on."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelkit.artifact.model import StoredModel
from modelkit.artifact.signature import InputColumn, Signature
from modelkit.artifact.version import ArtifactError, fetch_version
from modelkit.contract.config import TrainerConfig, VersionRef
from modelkit.contract.files import REFERENCE
from modelkit.contract.result import ChampionResult
from modelkit.data.columns import as_array, to_rows
from modelkit.data.kinds import DATETIME, TEXT
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.bootstrap import paired_differences
from modelkit.evaluate.metrics import compute_metrics
from modelkit.store.store import Store


class ChampionError(ArtifactError):
    """The champion can't be compared with; the message says why."""


def answer_as_champion(
    store: Store, champion: VersionRef, frame: pd.DataFrame, columns: Sequence[InputColumn], new: Answers
) -> Answers:
    """The champion's answers to the evaluation rows.

    `frame` holds the evaluation rows, `columns` what is known of their features, `new` the new version's answers.
    Raises ArtifactError (ChampionError too) when the champion can't be loaded or doesn't fit the rows, StoreError
    when the store can't be read.
    """
    with tempfile.TemporaryDirectory(prefix="champion-") as folder:
        model = StoredModel.open(fetch_version(store, champion, Path(folder), without=(REFERENCE,)))
        _check_fit(model.signature, frame, columns, new)
        rows = as_array(to_rows(frame, model.signature.inputs))
        predictions, probabilities = model.answer(rows)
    if not all(_is_finite(values) for values in (predictions, probabilities)):
        raise ChampionError(f"version {champion.number} has no finite answer to every row")
    return Answers(new.task, new.truth, predictions, probabilities, model.signature.classes, new.weights)


def compare_answers(config: TrainerConfig, number: int, new: Answers, old: Answers) -> ChampionResult:
    """All metrics of the champion (version `number`) on the evaluation rows, and the paired differences of those
    `config.comparisons` that are of all rows."""
    confidences = {entry.metric: entry.confidence for entry in config.comparisons if not entry.slice}
    return ChampionResult(
        number=number,
        metrics=compute_metrics(old),
        differences=paired_differences(new, old, confidences, config.seed),
    )


def _check_fit(signature: Signature, frame: pd.DataFrame, columns: Sequence[InputColumn], new: Answers) -> None:
    version = f"version {signature.number}"
    if signature.task != new.task:
        raise ChampionError(f"{version} is for {signature.task}, this run for {new.task}")
    if new.classes is not None and not set(signature.classes or ()) & set(new.classes):
        raise ChampionError(f"{version} knows none of this run's classes")
    kinds = {column.name: _kind(column) for column in columns}
    for wanted in signature.inputs:
        if wanted.name not in frame.columns:
            raise ChampionError(f"{version} needs the column {wanted.name!r}, which the data doesn't have")
        if (kind := kinds.get(wanted.name, _kind(wanted))) != _kind(wanted):
            raise ChampionError(
                f"{version} needs {_kind(wanted)} values in column {wanted.name!r}; they are {kind} now"
            )
        if not wanted.nullable and frame[wanted.name].isna().any():
            raise ChampionError(f"{version} takes no missing values in column {wanted.name!r}; the data has some now")


def _kind(column: InputColumn) -> str:
    """What a value must be to be read as the column's; a text is read the same whether it is a label or words."""
    if column.dtype == DATETIME:
        return "time"
    return "categorical" if column.kind == TEXT else column.kind


def _is_finite(values: NDArray[Any] | None) -> bool:
    return values is None or values.dtype.kind not in "fc" or bool(np.all(np.isfinite(values)))
