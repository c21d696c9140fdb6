"""Permutation importance: what a model loses when one column's values are shuffled.

Breiman, Random Forests, 2001; the same measure as scikit-learn's `permutation_importance`, but of any function that
answers rows, so that the exported model is explained, and with one call for all repeats of a column.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modelkit.contract.metrics import improvement
from modelkit.evaluate.answers import Answers, Array
from modelkit.evaluate.metrics import compute_metrics

_MOST_ROWS = 2000
"""More rows cost time and hardly change the order of the columns."""


@dataclass(frozen=True, slots=True)
class Importance:
    """Loss of the metric when a column is shuffled, in the metric's unit; about 0 or less: the column isn't used."""

    name: str
    mean: float
    deviation: float
    """Standard deviation over the repeats."""


def permutation_importance(
    predict: Callable[[Array, Array], Answers],
    rows: Array,
    truth: Array,
    columns: Sequence[str],
    metric: str,
    seed: int,
    repeats: int = 5,
    weights: Array | None = None,
) -> list[Importance]:
    """Importance of each of `columns`, largest first; empty when the metric can't be computed.

    `predict(rows, truth)` gives the answers to rows [m, columns]. At most 2,000 of the rows are used, drawn with
    `seed`. `weights` ([m], or None) are the rows' weights in the metric.
    """
    generator = np.random.default_rng(seed)
    if len(rows) > _MOST_ROWS:
        chosen = np.sort(generator.choice(len(rows), _MOST_ROWS, replace=False))
        rows, truth, weights = rows[chosen], truth[chosen], None if weights is None else weights[chosen]
    base = compute_metrics(replace(predict(rows, truth), weights=weights), (metric,)).get(metric)
    if base is None:
        return []
    stacked, repeated = np.tile(rows, (repeats, 1)), np.tile(truth, repeats)
    found = []
    for index, name in enumerate(columns):
        column = rows[:, index]
        stacked[:, index] = np.concatenate([generator.permutation(column) for _ in range(repeats)])
        answers = replace(predict(stacked, repeated), weights=None if weights is None else np.tile(weights, repeats))
        losses = [
            improvement(metric, base, value)
            for part in np.split(np.arange(len(repeated)), repeats)
            if (value := compute_metrics(select(answers, part), (metric,)).get(metric)) is not None
        ]
        stacked[:, index] = np.tile(column, repeats)
        found.append(Importance(name, float(np.mean(losses)), float(np.std(losses))))
    return sorted(found, key=lambda entry: (-entry.mean, entry.name))


def select(answers: Answers, rows: Array) -> Answers:
    """The answers to some of the rows, by position."""
    return Answers(
        answers.task,
        answers.truth[rows],
        answers.predictions[rows],
        None if answers.probabilities is None else answers.probabilities[rows],
        answers.classes,
        None if answers.weights is None else answers.weights[rows],
    )
