"""The model metrics of `modelkit.contract.metrics`, equal to scikit-learn's on unweighted rows.

Every metric is a function of row weights, and is computed for many weightings at once: a bootstrap resample is a
weighting by counts. A metric that can't be computed (one class in the truth, no probabilities) is NaN here and left
out by `compute_metrics`.

Definitions are scikit-learn's: precision, recall and F1 of the positive class (the last of the sorted classes) for two
classes, their macro average over the classes that occur for more; 0 where a denominator is 0; ROC AUC by rank with
ties counted half, one class against the rest and macro for more than two; log loss in nats.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS
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
    """[B] values of each metric for B weightings [B, n] of the rows; NaN where it can't be computed."""
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
    return _average(counts, counts.hits, counts.predicted)


def _recall(counts: _Counts) -> Floats:
    return _average(counts, counts.hits, counts.support)


def _f1(counts: _Counts) -> Floats:
    return _average(counts, 2 * counts.hits, counts.predicted + counts.support)


def _average(counts: _Counts, numerator: Floats, denominator: Floats) -> Floats:
    """Of the positive class for two classes, macro over the classes that occur for more."""
    scores = np.where(denominator > 0, numerator / denominator, 0.0)
    if scores.shape[1] == 2:
        return np.asarray(scores[:, 1])
    return _macro(scores, counts.support + counts.predicted > 0)


def _macro(scores: Floats, present: NDArray[np.bool_]) -> Floats:
    return np.asarray(np.where(present, scores, 0.0).sum(axis=1) / present.sum(axis=1))


def _log_loss(counts: _Counts) -> Floats:
    if counts.probabilities is None or counts.truth.max() >= counts.classes:
        return np.full(len(counts.weights), np.nan)
    chosen = counts.probabilities[np.arange(len(counts.truth)), counts.truth]
    chosen = chosen / counts.probabilities.sum(axis=1)
    smallest = np.finfo(np.float64).eps
    return np.asarray(counts.weights @ -np.log(np.clip(chosen, smallest, 1 - smallest)) / counts.total)


def _roc_auc(counts: _Counts) -> Floats:
    if counts.probabilities is None or counts.truth.max() >= counts.classes:
        return np.full(len(counts.weights), np.nan)
    if counts.classes == 2:
        return _binary_auc(counts.truth == 1, counts.probabilities[:, 1], counts.weights)
    each = [
        _binary_auc(counts.truth == index, counts.probabilities[:, index], counts.weights)
        for index in range(counts.classes)
    ]
    return np.asarray(np.mean(each, axis=0))


def _binary_auc(positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """The probability that a positive row scores above a negative one, ties half (Mann-Whitney U); [B]."""
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranked = weights[:, order]
    positives = np.add.reduceat(ranked * positive, starts, axis=1)
    negatives = np.add.reduceat(ranked * ~positive, starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.asarray((positives * below).sum(axis=1) / pairs)


@dataclass(frozen=True, slots=True, eq=False)
class _Errors:
    """Weighted means of the residuals, [B]."""

    squared: Floats
    absolute: Floats
    variance: Floats
    """Of the truth around its weighted mean."""


def _measure(answers: Answers, weights: Floats) -> _Errors:
    truth = answers.truth.astype(np.float64)
    residuals = truth - answers.predictions.astype(np.float64)
    total = weights.sum(axis=1)
    centred = truth - truth.mean()  # or the difference of two large sums would lose the variance
    return _Errors(
        squared=weights @ residuals**2 / total,
        absolute=weights @ np.abs(residuals) / total,
        variance=np.maximum(weights @ centred**2 / total - (weights @ centred / total) ** 2, 0.0),
    )


def _r2(errors: _Errors) -> Floats:
    return np.where(errors.variance > 0, 1 - errors.squared / errors.variance, np.nan)


_CLASSIFICATION: Mapping[str, Callable[[_Counts], Floats]] = MappingProxyType(
    {
        "accuracy": _accuracy,
        "balanced_accuracy": _balanced_accuracy,
        "precision": _precision,
        "recall": _recall,
        "f1": _f1,
        "roc_auc": _roc_auc,
        "log_loss": _log_loss,
    }
)
_REGRESSION: Mapping[str, Callable[[_Errors], Floats]] = MappingProxyType(
    {
        "mse": lambda errors: errors.squared,
        "rmse": lambda errors: np.sqrt(errors.squared),
        "mae": lambda errors: errors.absolute,
        "r2": _r2,
    }
)
