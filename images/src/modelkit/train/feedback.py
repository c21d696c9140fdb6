"""Labelled captured rows as training data: what users sent, with the truth that came back by feedback."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelkit.artifact.signature import InputColumn
from modelkit.contract.config import FeedbackConfig
from modelkit.data.columns import to_rows
from modelkit.data.dataset import Dataset
from modelkit.errors import RefusedError
from modelkit.store.captures import read_captured
from modelkit.store.store import Store
from modelkit.train.onset import find_onset

FEWEST_SINCE = 100
"""Rows since a change that can be learnt from and judged by; with fewer, the older ones stay."""


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """Captured rows that can be learnt from."""

    frame: pd.DataFrame
    """The features by name, as sent."""
    target: NDArray[Any]
    """[n] in the training target's type."""
    found: int
    """Labelled rows that were found, the unusable ones included."""
    notes: tuple[str, ...]
    """Which rows were left out and why."""


def read_feedback(store: Store, namespace: str, config: FeedbackConfig, dataset: Dataset) -> Feedback:
    """The labelled rows of the window that fit `dataset`'s columns and classes.

    Raises StoreError when the store can't be read, and RefusedError when only captured rows are to be learnt from
    and none of them holds a needed column as it was sent.
    """
    captured = read_captured(store, namespace, config.deployment, config.since, config.until)
    known = captured.meta.column("label").is_valid()
    features, meta = captured.features.filter(known), captured.meta.filter(known)
    answers, digests = meta.column("prediction").to_pandas(), meta.column("digest").to_pandas()
    older = count_older(answers, meta.column("label").to_pandas(), digests, dataset)
    features, meta = features.slice(older), meta.slice(older)
    frame, labels = features.to_pandas(), meta.column("label").to_pandas()
    redacted = meta.column("redacted").to_pylist()
    hidden = sorted({column.name for column in dataset.columns} & captured.redacted)
    hides = np.array([names is not None and not set(hidden).isdisjoint(names) for names in redacted], dtype=bool)
    feedback = select_usable(frame, labels, dataset, hides)
    if older:
        feedback = replace(feedback, notes=(explain_older(older), *feedback.notes))
    if hidden and config.policy == "Window" and not len(feedback.target):
        raise RefusedError("FeedbackRedacted", _explain_redacted(feedback.found, hidden, config.deployment))
    return feedback


def count_older(
    predictions: "pd.Series[Any]", labels: "pd.Series[Any]", versions: "pd.Series[Any]", dataset: Dataset
) -> int:
    """How many of the first labelled rows are of the world before a change, judged by what the first version that
    answered them said; 0 when no change is clear, or too few rows would be left."""
    first = (versions == versions.iloc[0]).to_numpy(bool) if len(versions) else np.zeros(0, dtype=bool)
    count = len(first) if first.all() else int(first.argmin())
    truth, answers = labels[:count], predictions[:count]
    if dataset.classes is None:
        errors = (pd.to_numeric(answers, errors="coerce") - pd.to_numeric(truth, errors="coerce")).abs()
    else:
        errors = (answers.astype(str) != truth.astype(str)).astype(float)
    older = find_onset(errors.fillna(0.0).to_numpy(np.float64))
    return older if len(labels) - older >= FEWEST_SINCE else 0


def explain_older(count: int) -> str:
    """The note about rows that `count_older` found."""
    return f"{count} captured rows were left out because they are older than the change that the answers to them show"


def select_usable(
    frame: pd.DataFrame, labels: "pd.Series[Any]", dataset: Dataset, redacted: NDArray[np.bool_] | None = None
) -> Feedback:
    """Rows with a label that the dataset knows and without a missing value where the dataset has none.

    `redacted`: [n] rows that don't hold a column of the dataset as it was sent, which are left out too.
    """
    found = len(frame)
    notes = []
    if redacted is not None and redacted.any():
        notes.append(
            f"{int(redacted.sum())} captured rows were left out because capture.drop or capture.hash hides a column "
            "that is learnt from"
        )
        frame, labels = frame[~redacted].reset_index(drop=True), labels[~redacted].reset_index(drop=True)
    target, known = _targets(labels, dataset)
    # A champion may take columns that this run left out.
    names = dict.fromkeys([*(column.name for column in dataset.columns), *frame.columns])
    frame = frame.reindex(columns=list(names))
    whole = _has_values(frame, dataset.columns)
    usable = known & whole
    if unknown := int(np.sum(~known)):
        notes.append(f"{unknown} captured rows have a label that the training data doesn't have and were left out")
    if partial := int(np.sum(known & ~whole)):
        notes.append(f"{partial} captured rows lack a value of a required column and were left out")
    kept = frame[usable].reset_index(drop=True)
    return Feedback(kept, target[usable], found, tuple(notes))


def _explain_redacted(found: int, hidden: list[str], deployment: str) -> str:
    shown = ", ".join(map(repr, hidden[:3])) + (", …" if len(hidden) > 3 else "")
    return (
        f"none of the {found} labelled captured rows of {deployment} can be learnt from: its capture.drop or "
        f"capture.hash hides {shown}; leave these columns out of spec.data.features, capture them, or use policy Append"
    )


def _targets(labels: "pd.Series[Any]", dataset: Dataset) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The labels in the target's type, and which of them can be used."""
    if dataset.target.dtype == object:
        texts = np.array([str(label) for label in labels], dtype=object)
        return texts, np.array([text in (dataset.classes or ()) for text in texts], dtype=bool)
    plain = labels.map(lambda label: int(label) if isinstance(label, bool | np.bool_) else label)
    numbers = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if dataset.classes is None:
        return numbers, np.isfinite(numbers)
    known = np.isin(numbers, np.array(dataset.classes, dtype=np.float64))
    return np.where(known, numbers, 0).astype(np.int64), known


def _has_values(frame: pd.DataFrame, columns: Sequence[InputColumn]) -> NDArray[np.bool_]:
    rows = to_rows(frame, columns)
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    whole = np.ones(len(frame), dtype=bool)
    for index, column in enumerate(columns):
        if not column.nullable:
            values = table[index]
            whole &= (values.notna() if column.kind == "numeric" else values != "").to_numpy(bool)
    return whole
