"""The model metrics of `modelkit.contract.metrics`, equal to scikit-learn's, weighted by `Answers.weights` or not.

Every metric is a function of row weights, and is computed for many weightings at once: a bootstrap resample is a
weighting by counts, on top of the rows' own weights. A metric that can't be computed (one class in the truth, no
probabilities) is NaN here and left out by `compute_metrics`.

Definitions are scikit-learn's: precision, recall and F1 of the positive class (the last of the sorted classes) for two
classes, their macro average over the classes that occur for more, and always an average with `_macro` and `_weighted`;
0 where a denominator is 0; ROC AUC by rank with ties counted half and average precision, one class against the rest and
macro for more than two; log loss in nats; Brier score of the positive class for two classes, summed over the classes
for more. The calibration error (`ranking.calibration_error`) is of the positive class's probability for two classes, of
the largest probability for more (Guo et al., On Calibration of Modern Neural Networks, 2017). The mean absolute
percentage error is a share of 1, and can't be computed where a true value is 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS
from modelkit.evaluate import ranking
from modelkit.evaluate.answers import CLASSIFICATION, Answers, encode

Floats = NDArray[np.float64]


def metric_names(task: str) -> tuple[str, ...]:
    """The metrics of a task."""
    return CLASSIFICATION_METRICS if task == CLASSIFICATION else REGRESSION_METRICS


def compute_metrics(answers: Answers, names: Sequence[str] | None = None) -> dict[str, float]:
    """The metrics `names` (all of the task by default) that can be computed, in the metric's own unit."""
    if len(answers.truth) == 0:
        return {}
    weights = np.ones((1, len(answers.truth)))
    values = weighted_metrics(answers, names or metric_names(answers.task), weights)
    return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}


def weighted_metrics(answers: Answers, names: Sequence[str], weights: Floats) -> dict[str, Floats]:
    """[B] values of each metric for B weightings [B, n] of the rows; NaN where it can't be computed.

    The rows' own weights are multiplied in. Many weightings in several calls are cheaper with one `Meter`.
    """
    return Meter(answers).values(names, weights)


def weighted_class_scores(answers: Answers, weights: Floats) -> dict[str, Floats]:
    """precision, recall and f1 of each class, [B, k], for B weightings [B, n] of the rows.

    The rows' own weights are multiplied in. The classes are the model's, then those that only the truth has, sorted as
    text.
    """
    return Meter(answers).class_scores(weights)


class Tallies(Protocol):
    """How many rows of each class there are and how they were answered, counted or expected, under B weightings."""

    @property
    def hits(self) -> Floats:
        """[B, k] weight of the rows of each class that are said to be of it."""

    @property
    def support(self) -> Floats:
        """[B, k] weight of the rows of each class."""

    @property
    def predicted(self) -> Floats:
        """[B, k] weight of the rows that are said to be of each class."""

    @property
    def total(self) -> Floats:
        """[B] weight of all rows."""


def tally_metric(tallies: Tallies, name: str) -> Floats | None:
    """[B] values of a metric of labels; None for one that tallies don't tell (of probabilities, or of a regression)."""
    if name not in _OF_LABELS:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return _OF_LABELS[name](tallies)


class Meter:
    """Measures one model's answers under many weightings: what no weighting changes is made once."""

    def __init__(self, answers: Answers) -> None:
        self._own = answers.weights
        self._rows = _Rows(answers) if answers.task == CLASSIFICATION else None
        self._errors = None if self._rows is not None else _error_terms(answers)

    def values(self, names: Sequence[str], weights: Floats) -> dict[str, Floats]:
        """As `weighted_metrics`."""
        weights = self._weigh(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self._rows is not None:
                counts = _Counts(self._rows, weights)
                return {name: _CLASSIFICATION[name](counts) for name in names}
            assert self._errors is not None
            errors = _measure(self._errors, weights)
            return {name: _REGRESSION[name](errors) for name in names}

    def class_scores(self, weights: Floats) -> dict[str, Floats]:
        """As `weighted_class_scores`; raises ValueError for a regression."""
        if self._rows is None:
            raise ValueError("a regression has no classes")
        counts = _Counts(self._rows, self._weigh(weights))
        with np.errstate(divide="ignore", invalid="ignore"):
            return {name: score(counts) for name, score in _PER_CLASS.items()}

    def _weigh(self, weights: Floats) -> Floats:
        return weights if self._own is None else weights * self._own


class _Rows:
    """A classifier's answers as numbers; the classes are the model's, then those that only the truth has."""

    def __init__(self, answers: Answers) -> None:
        known = list(answers.classes or ())
        unknown = sorted(set(answers.truth.tolist()) - set(known), key=str)
        self.truth = encode(answers.truth, [*known, *unknown])
        self.predicted = encode(answers.predictions, [*known, *unknown])
        self.every = len(known) + len(unknown)
        self.classes = len(known)
        """Classes of the model."""
        self.probabilities: Floats | None = None
        """[n, classes]; None also where the truth has a class that the model doesn't know."""
        if answers.probabilities is not None and not unknown:
            self.probabilities = answers.probabilities.astype(np.float64)
        self._orders: dict[int, ranking.Order] = {}

    @cached_property
    def indicators(self) -> Floats:
        """[n, 3 k]: hits, truth and prediction of each class as zeros and ones."""
        every = np.arange(self.every)
        is_class, says_class = self.truth[:, None] == every, self.predicted[:, None] == every
        return np.column_stack([is_class & says_class, is_class, says_class]).astype(np.float64)

    @cached_property
    def log_losses(self) -> Floats:
        """[n], in nats."""
        assert self.probabilities is not None
        chosen = self.probabilities[np.arange(len(self.truth)), self.truth] / self.probabilities.sum(axis=1)
        smallest = np.finfo(np.float64).eps
        return np.asarray(-np.log(np.clip(chosen, smallest, 1 - smallest)))

    @cached_property
    def squares(self) -> Floats:
        """[n], Brier's squared distances."""
        assert self.probabilities is not None
        distances = (self.probabilities - (self.truth[:, None] == np.arange(self.classes))) ** 2
        return np.asarray(distances[:, 1] if self.classes == 2 else distances.sum(axis=1))

    def order(self, index: int) -> ranking.Order:
        """The rows by the probability of a class."""
        if index not in self._orders:
            assert self.probabilities is not None
            self._orders[index] = ranking.Order.of(self.truth == index, self.probabilities[:, index])
        return self._orders[index]

    @cached_property
    def surest(self) -> ranking.Order:
        """The rows by their largest probability; right answers are the positive ones."""
        assert self.probabilities is not None
        right = self.probabilities.argmax(axis=1) == self.truth
        return ranking.Order.of(right, self.probabilities.max(axis=1))


class _Counts:
    """A classifier's answers under B weightings; made as it is asked for."""

    def __init__(self, rows: _Rows, weights: Floats) -> None:
        self.rows = rows
        self.weights = weights
        self.total = weights.sum(axis=1)
        self._rankings: dict[int, ranking.Ranking] = {}

    @cached_property
    def _sums(self) -> Floats:
        return self.weights @ self.rows.indicators

    @property
    def hits(self) -> Floats:
        """[B, k] weight of the rows of each class that are said to be of it."""
        return self._sums[:, : self.rows.every]

    @property
    def support(self) -> Floats:
        """[B, k] weight of the rows of each class."""
        return self._sums[:, self.rows.every : 2 * self.rows.every]

    @property
    def predicted(self) -> Floats:
        """[B, k] weight of the rows that are said to be of each class."""
        return self._sums[:, 2 * self.rows.every :]

    def ranking(self, index: int) -> ranking.Ranking:
        """The rows by the probability of a class, made once: several metrics need it."""
        if index not in self._rankings:
            self._rankings[index] = ranking.weigh(self.rows.order(index), self.weights)
        return self._rankings[index]


def _accuracy(counts: Tallies) -> Floats:
    return np.asarray(counts.hits.sum(axis=1) / counts.total)


def _balanced_accuracy(counts: Tallies) -> Floats:
    return _macro(counts.hits / counts.support, counts.support > 0)


def _precision(counts: Tallies) -> Floats:
    return _share(counts.hits, counts.predicted)


def _recall(counts: Tallies) -> Floats:
    return _share(counts.hits, counts.support)


def _f1(counts: Tallies) -> Floats:
    return _share(2 * counts.hits, counts.predicted + counts.support)


def _share(numerator: Floats, denominator: Floats) -> Floats:
    return np.where(denominator > 0, numerator / denominator, 0.0)


_PER_CLASS: Mapping[str, Callable[[Tallies], Floats]] = MappingProxyType(
    {"precision": _precision, "recall": _recall, "f1": _f1}
)


def _usual(counts: Tallies, scores: Floats) -> Floats:
    """Of the positive class for two classes, macro over the classes that occur for more."""
    return np.asarray(scores[:, 1]) if scores.shape[1] == 2 else _over_classes(counts, scores)


def _over_classes(counts: Tallies, scores: Floats) -> Floats:
    return _macro(scores, counts.support + counts.predicted > 0)


def _by_support(counts: Tallies, scores: Floats) -> Floats:
    return np.asarray((scores * counts.support).sum(axis=1) / counts.support.sum(axis=1))


def _macro(scores: Floats, present: NDArray[np.bool_]) -> Floats:
    return np.asarray(np.where(present, scores, 0.0).sum(axis=1) / present.sum(axis=1))


def _log_loss(counts: _Counts) -> Floats:
    if counts.rows.probabilities is None:
        return _undefined(counts)
    return np.asarray(counts.weights @ counts.rows.log_losses / counts.total)


def _brier(counts: _Counts) -> Floats:
    if counts.rows.probabilities is None:
        return _undefined(counts)
    return np.asarray(counts.weights @ counts.rows.squares / counts.total)


def _calibration_error(counts: _Counts) -> Floats:
    if counts.rows.probabilities is None:
        return _undefined(counts)
    if counts.rows.classes == 2:
        return ranking.calibration_error(counts.ranking(1))
    return ranking.calibration_error(ranking.weigh(counts.rows.surest, counts.weights))


def _of_ranking(counts: _Counts, measure: Callable[[ranking.Ranking], Floats]) -> Floats:
    """Of the positive class for two classes, the mean of each against the rest for more."""
    if counts.rows.probabilities is None:
        return _undefined(counts)
    if counts.rows.classes == 2:
        return measure(counts.ranking(1))
    return np.asarray(np.mean([measure(counts.ranking(index)) for index in range(counts.rows.classes)], axis=0))


def _undefined(counts: _Counts) -> Floats:
    return np.full(len(counts.weights), np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class _Errors:
    """Weighted means of the residuals, [B]."""

    squared: Floats
    absolute: Floats
    relative: Floats
    """Of the absolute residuals as a share of the truth; NaN where a true value is 0."""
    variance: Floats
    """Of the truth around its weighted mean."""


def _error_terms(answers: Answers) -> Floats:
    """[n, 5]: squared, absolute and relative error, the truth around its mean and the square of that."""
    truth = answers.truth.astype(np.float64)
    residuals = truth - answers.predictions.astype(np.float64)
    shares = np.abs(residuals / truth) if np.all(truth) else np.full(len(truth), np.nan)
    centred = truth - truth.mean()  # or the difference of two large sums would lose the variance
    return np.column_stack([residuals**2, np.abs(residuals), shares, centred, centred**2])


def _measure(terms: Floats, weights: Floats) -> _Errors:
    means = weights @ terms / weights.sum(axis=1, keepdims=True)
    return _Errors(
        squared=means[:, 0],
        absolute=means[:, 1],
        relative=means[:, 2],
        variance=np.maximum(means[:, 4] - means[:, 3] ** 2, 0.0),
    )


def _r2(errors: _Errors) -> Floats:
    return np.where(errors.variance > 0, 1 - errors.squared / errors.variance, np.nan)


_OF_LABELS: Mapping[str, Callable[[Tallies], Floats]] = MappingProxyType(
    {
        "accuracy": _accuracy,
        "balanced_accuracy": _balanced_accuracy,
        "precision": lambda counts: _usual(counts, _precision(counts)),
        "recall": lambda counts: _usual(counts, _recall(counts)),
        "f1": lambda counts: _usual(counts, _f1(counts)),
        "precision_macro": lambda counts: _over_classes(counts, _precision(counts)),
        "recall_macro": lambda counts: _over_classes(counts, _recall(counts)),
        "f1_macro": lambda counts: _over_classes(counts, _f1(counts)),
        "precision_weighted": lambda counts: _by_support(counts, _precision(counts)),
        "recall_weighted": lambda counts: _by_support(counts, _recall(counts)),
        "f1_weighted": lambda counts: _by_support(counts, _f1(counts)),
    }
)
_CLASSIFICATION: Mapping[str, Callable[[_Counts], Floats]] = MappingProxyType(
    {
        **_OF_LABELS,
        "roc_auc": lambda counts: _of_ranking(counts, ranking.roc_auc),
        "average_precision": lambda counts: _of_ranking(counts, ranking.average_precision),
        "log_loss": _log_loss,
        "brier": _brier,
        "calibration_error": _calibration_error,
    }
)
_REGRESSION: Mapping[str, Callable[[_Errors], Floats]] = MappingProxyType(
    {
        "mse": lambda errors: errors.squared,
        "rmse": lambda errors: np.sqrt(errors.squared),
        "mae": lambda errors: errors.absolute,
        "mape": lambda errors: errors.relative,
        "r2": _r2,
    }
)
