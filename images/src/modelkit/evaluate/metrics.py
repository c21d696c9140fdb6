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
from dataclasses import dataclass, field
from types import MappingProxyType

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

    The rows' own weights are multiplied in.
    """
    weights = _own(answers, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        if answers.task == CLASSIFICATION:
            counts = _count(answers, weights)
            return {name: _CLASSIFICATION[name](counts) for name in names}
        errors = _measure(answers, weights)
        return {name: _REGRESSION[name](errors) for name in names}


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Weighted counts per class, [B, k]; the classes are the model's, then those that only the truth has."""

    truth: NDArray[np.int64]
    probabilities: Floats | None
    classes: int
    """Classes of the model."""
    weights: Floats
    total: Floats
    hits: Floats
    support: Floats
    predicted: Floats
    rankings: dict[int, ranking.Ranking] = field(default_factory=dict)
    """By class, each made once: several metrics need it and making it is what costs time."""


def _count(answers: Answers, weights: Floats) -> _Counts:
    known = list(answers.classes or ())
    unknown = sorted(set(answers.truth.tolist()) - set(known), key=str)
    truth = encode(answers.truth, [*known, *unknown])
    predicted = encode(answers.predictions, [*known, *unknown])
    every = np.arange(len(known) + len(unknown))
    is_class, says_class = truth[:, None] == every, predicted[:, None] == every
    return _Counts(
        truth=truth,
        probabilities=None if answers.probabilities is None else answers.probabilities.astype(np.float64),
        classes=len(known),
        weights=weights,
        total=weights.sum(axis=1),
        hits=weights @ (is_class & says_class),
        support=weights @ is_class,
        predicted=weights @ says_class,
    )


def _accuracy(counts: _Counts) -> Floats:
    return np.asarray(counts.hits.sum(axis=1) / counts.total)


def _balanced_accuracy(counts: _Counts) -> Floats:
    return _macro(counts.hits / counts.support, counts.support > 0)


def _precision(counts: _Counts) -> Floats:
    return _share(counts.hits, counts.predicted)


def _recall(counts: _Counts) -> Floats:
    return _share(counts.hits, counts.support)


def _f1(counts: _Counts) -> Floats:
    return _share(2 * counts.hits, counts.predicted + counts.support)


def _share(numerator: Floats, denominator: Floats) -> Floats:
    return np.where(denominator > 0, numerator / denominator, 0.0)


_PER_CLASS: Mapping[str, Callable[[_Counts], Floats]] = MappingProxyType(
    {"precision": _precision, "recall": _recall, "f1": _f1}
)


def weighted_class_scores(answers: Answers, weights: Floats) -> dict[str, Floats]:
    """precision, recall and f1 of each class, [B, k], for B weightings [B, n] of the rows.

    The rows' own weights are multiplied in. The classes are the model's, then those that only the truth has, sorted as
    text.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = _count(answers, _own(answers, weights))
        return {name: score(counts) for name, score in _PER_CLASS.items()}


def _own(answers: Answers, weights: Floats) -> Floats:
    return weights if answers.weights is None else weights * answers.weights


def _usual(counts: _Counts, scores: Floats) -> Floats:
    """Of the positive class for two classes, macro over the classes that occur for more."""
    return np.asarray(scores[:, 1]) if scores.shape[1] == 2 else _over_classes(counts, scores)


def _over_classes(counts: _Counts, scores: Floats) -> Floats:
    return _macro(scores, counts.support + counts.predicted > 0)


def _by_support(counts: _Counts, scores: Floats) -> Floats:
    return np.asarray((scores * counts.support).sum(axis=1) / counts.support.sum(axis=1))


def _macro(scores: Floats, present: NDArray[np.bool_]) -> Floats:
    return np.asarray(np.where(present, scores, 0.0).sum(axis=1) / present.sum(axis=1))


def _log_loss(counts: _Counts) -> Floats:
    if counts.probabilities is None or counts.truth.max() >= counts.classes:
        return _undefined(counts)
    chosen = counts.probabilities[np.arange(len(counts.truth)), counts.truth]
    chosen = chosen / counts.probabilities.sum(axis=1)
    smallest = np.finfo(np.float64).eps
    return np.asarray(counts.weights @ -np.log(np.clip(chosen, smallest, 1 - smallest)) / counts.total)


def _brier(counts: _Counts) -> Floats:
    if counts.probabilities is None or counts.truth.max() >= counts.classes:
        return _undefined(counts)
    distances = (counts.probabilities - (counts.truth[:, None] == np.arange(counts.classes))) ** 2
    each = distances[:, 1] if counts.classes == 2 else distances.sum(axis=1)
    return np.asarray(counts.weights @ each / counts.total)


def _calibration_error(counts: _Counts) -> Floats:
    if counts.probabilities is None or counts.truth.max() >= counts.classes:
        return _undefined(counts)
    if counts.classes == 2:
        return ranking.calibration_error(_ranking(counts, 1))
    right = counts.probabilities.argmax(axis=1) == counts.truth
    return ranking.calibration_error(ranking.rank(right, counts.probabilities.max(axis=1), counts.weights))


def _of_ranking(counts: _Counts, measure: Callable[[ranking.Ranking], Floats]) -> Floats:
    """Of the positive class for two classes, the mean of each against the rest for more."""
    if counts.probabilities is None or counts.truth.max() >= counts.classes:
        return _undefined(counts)
    if counts.classes == 2:
        return measure(_ranking(counts, 1))
    return np.asarray(np.mean([measure(_ranking(counts, index)) for index in range(counts.classes)], axis=0))


def _ranking(counts: _Counts, index: int) -> ranking.Ranking:
    if index not in counts.rankings:
        assert counts.probabilities is not None
        scores = counts.probabilities[:, index]
        counts.rankings[index] = ranking.rank(counts.truth == index, scores, counts.weights)
    return counts.rankings[index]


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


def _measure(answers: Answers, weights: Floats) -> _Errors:
    truth = answers.truth.astype(np.float64)
    residuals = truth - answers.predictions.astype(np.float64)
    total = weights.sum(axis=1)
    shares = np.abs(residuals / truth) if np.all(truth) else np.full(len(truth), np.nan)
    centred = truth - truth.mean()  # or the difference of two large sums would lose the variance
    return _Errors(
        squared=weights @ residuals**2 / total,
        absolute=weights @ np.abs(residuals) / total,
        relative=weights @ shares / total,
        variance=np.maximum(weights @ centred**2 / total - (weights @ centred / total) ** 2, 0.0),
    )


def _r2(errors: _Errors) -> Floats:
    return np.where(errors.variance > 0, 1 - errors.squared / errors.variance, np.nan)


_CLASSIFICATION: Mapping[str, Callable[[_Counts], Floats]] = MappingProxyType(
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
