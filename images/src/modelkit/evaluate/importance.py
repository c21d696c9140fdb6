"""Permutation importance: what a model loses when one column's values are shuffled.

Breiman, Random Forests, 2001; the same measure as scikit-learn's `permutation_importance`, but of any function that
answers rows, so that the exported model is explained.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

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
    jobs: int = 1,
) -> list[Importance]:
    """Importance of each of `columns`, largest first; empty when the metric can't be computed.

    `predict(rows, truth)` gives the answers to rows [m, columns], and is called by `jobs` threads at a time. At most
    2,000 of the rows are used, drawn with `seed`. `weights` ([m], or None) are the rows' weights in the metric.
    """
    generator = np.random.default_rng(seed)
    if len(rows) > _MOST_ROWS:
        chosen = np.sort(generator.choice(len(rows), _MOST_ROWS, replace=False))
        rows, truth, weights = rows[chosen], truth[chosen], None if weights is None else weights[chosen]
    base = compute_metrics(replace(predict(rows, truth), weights=weights), (metric,)).get(metric)
    if base is None:
        return []

    def measure(index: int, values: Array) -> float | None:
        shuffled = rows.copy()
        shuffled[:, index] = values
        return compute_metrics(replace(predict(shuffled, truth), weights=weights), (metric,)).get(metric)

    found = []
    with ThreadPoolExecutor(jobs) as pool:
        for index, name in enumerate(columns):
            drawn = [generator.permutation(rows[:, index]) for _ in range(repeats)]
            values = pool.map(partial(measure, index), drawn)
            losses = [improvement(metric, base, value) for value in values if value is not None]
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
