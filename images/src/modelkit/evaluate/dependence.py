"""Partial dependence: what a model says on average when one column has a value, whatever the others have.

Friedman, Greedy Function Approximation: A Gradient Boosting Machine, 2001; the same numbers as scikit-learn's
`partial_dependence(kind="average", method="brute")`, but of any function that answers rows, so that the exported model
is explained, and with missing values left out of the grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.evaluate.answers import Array, encode

GRID = 20
"""Points of a numeric column; of the categories the 20 most frequent."""
_PERCENTILES = (0.05, 0.95)
_MOST_ROWS = 500
"""More rows cost time and hardly change an average."""

Predict = Callable[[Array], tuple[Array, Array | None]]


@dataclass(frozen=True, slots=True)
class Dependence:
    """The average answer at each of a column's grid points."""

    name: str
    grid: tuple[Any, ...]
    """Numbers, ascending, or categories, most frequent first."""
    values: tuple[tuple[float, ...], ...]
    """Per grid point: the mean prediction, or the mean probability of each class (of the positive one for two)."""


def partial_dependence(
    predict: Predict, rows: Array, column: int, name: str, classes: Sequence[Any] | None, seed: int
) -> Dependence | None:
    """The dependence on the column at position `column` of `rows` [n, columns]; None when it has fewer than two values.

    `predict` gives predictions [n] and probabilities [n, classes] or None; without probabilities a class's value is
    the share of rows that are said to be of it. At most 500 of the rows are used, drawn with `seed`.
    """
    grid = _grid(rows[:, column])
    if len(grid) < 2:
        return None
    if len(rows) > _MOST_ROWS:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), _MOST_ROWS, replace=False))]
    stacked = np.tile(rows, (len(grid), 1))
    stacked[:, column] = np.repeat(np.array(grid, dtype=rows.dtype), len(rows))
    answers = _scores(*predict(stacked), classes)
    means = answers.reshape(len(grid), len(rows), -1).mean(axis=1)
    return Dependence(name, tuple(grid), tuple(tuple(point) for point in means.tolist()))


def _grid(values: Array) -> list[Any]:
    """scikit-learn's grid: the values themselves when they are few, else even steps between two percentiles."""
    from scipy.stats.mstats import mquantiles

    if isinstance(values[0], str):
        known, counts = np.unique([value for value in values if value], return_counts=True)
        order = np.lexsort((known, -counts))
        return [str(value) for value in known[order][:GRID]]
    numbers = values.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    distinct = np.unique(numbers)
    if len(distinct) <= GRID:
        return [float(value) for value in distinct]
    low, high = mquantiles(numbers, _PERCENTILES)
    return [float(value) for value in np.unique(np.linspace(low, high, GRID))]


def _scores(predictions: Array, probabilities: Array | None, classes: Sequence[Any] | None) -> Array:
    """[n, 1] numbers, or [n, classes] probabilities of which two classes need only the positive one's."""
    if classes is None:
        return predictions.astype(np.float64)[:, None]
    if probabilities is None:
        probabilities = (encode(predictions, classes)[:, None] == np.arange(len(classes))).astype(np.float64)
    return probabilities[:, 1:] if len(classes) == 2 else probabilities
