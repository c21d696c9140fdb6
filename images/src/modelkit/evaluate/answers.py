"""What a model said to rows whose truth is known: the input of every measurement in this package."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CLASSIFICATION = "Classification"
REGRESSION = "Regression"


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """One model's answers to n rows."""

    task: str
    """Classification or Regression."""
    truth: Array
    """[n] labels or numbers."""
    predictions: Array
    """[n] labels or numbers."""
    probabilities: Array | None = None
    """[n, classes] in the order of `classes`; None for regression and for classifiers without them."""
    classes: tuple[Any, ...] | None = None
    """The model's classes, sorted; None for regression. Of two, the last is the positive one."""
    weights: NDArray[np.float64] | None = None
    """[n] positive weights of the rows in every metric (scikit-learn's sample_weight); None: all count the same."""

    def __post_init__(self) -> None:
        rows = len(self.truth)
        if len(self.predictions) != rows:
            raise ValueError(f"{len(self.predictions)} predictions for {rows} rows")
        if self.probabilities is not None and self.probabilities.shape != (rows, len(self.classes or ())):
            raise ValueError(f"probabilities of shape {self.probabilities.shape} for {rows} rows")
        if self.weights is not None and self.weights.shape != (rows,):
            raise ValueError(f"weights of shape {self.weights.shape} for {rows} rows")


def encode(labels: Array, classes: Sequence[Any]) -> NDArray[np.int64]:
    """[n] positions of `labels` in `classes`; -1 for a label that isn't one of them."""
    positions = {label: index for index, label in enumerate(classes)}
    return np.fromiter((positions.get(label, -1) for label in labels.tolist()), np.int64, len(labels))
