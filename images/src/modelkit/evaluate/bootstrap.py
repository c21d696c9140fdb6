"""Bootstrap intervals of metrics: how much of a number, or of a difference, is luck of the rows.

Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). The paired form draws
the same rows for both models, so that what both find hard cancels out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.metrics import CLASSIFICATION_METRICS, NEEDS_PROBABILITIES, improvement
from modelkit.contract.result import Difference
from modelkit.evaluate.answers import Answers, Array
from modelkit.evaluate.metrics import Meter, compute_metrics

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_BY_LABEL = frozenset(CLASSIFICATION_METRICS) - NEEDS_PROBABILITIES

_MOST_RESAMPLES = 2000
_FEWEST_RESAMPLES = 200
_WORK = 10_000_000
"""Resamples times rows that are affordable (under 2 s on one core): more rows get fewer resamples."""
_RANKED_CLASSES = 10
"""More classes get fewer resamples too, where a metric ranks the rows once for each class."""
_CHUNK = 250_000
"""Weights held in memory at once (2 MB): more leave the processor's cache, and everything takes longer."""


def metric_intervals(
    answers: Answers, confidence: float, seed: int, names: Sequence[str] | None = None, share: float = 1.0
) -> dict[str, tuple[float, float]]:
    """(low, high) per metric that can be computed, at `confidence` (0 to 1); the same seed gives the same bounds.

    `share` (0 to 1) of the usual work is spent, where there are many such calls; at least 200 resamples are drawn.
    A calibration error is biased upwards, in a resample more than in the rows themselves: its resamples are moved so
    that their median is the rows' own value.
    """
    known = compute_metrics(answers, names)
    values = _resample((answers,), list(known), seed, share)[0]
    if "calibration_error" in values:
        resampled, value = values["calibration_error"], known["calibration_error"]
        values["calibration_error"] = np.maximum(resampled - np.median(resampled) + value, 0.0)
    bounds = {name: _bounds(values[name], confidence) for name in known}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def class_intervals(answers: Answers, confidence: float, seed: int) -> dict[str, list[tuple[float, float]]]:
    """(low, high) of precision, recall and f1 of each class, in the order of `weighted_class_scores`."""
    (cells,), counts = _labelled_cells((answers,))
    meter = Meter(cells)
    chunks = [meter.class_scores(weights) for weights in _draws(counts, seed)]
    tail = (1 - confidence) / 2
    bounds = {}
    for name in chunks[0]:
        low, high = np.quantile(np.concatenate([chunk[name] for chunk in chunks]), [tail, 1 - tail], axis=0)
        bounds[name] = list(zip(low.tolist(), high.tolist(), strict=True))
    return bounds


def paired_differences(
    new: Answers, old: Answers, confidences: Mapping[str, float], seed: int
) -> dict[str, Difference]:
    """How much better `new` is than `old` on the same rows, per metric of `confidences` (0 to 1).

    Positive is better for every metric, in its own unit. A metric that can't be computed for both is left out.
    Raises ValueError when the two don't answer the same rows.
    """
    if not np.array_equal(new.truth, old.truth):
        raise ValueError("a paired comparison needs the same rows for both models")
    ours, theirs = compute_metrics(new, tuple(confidences)), compute_metrics(old, tuple(confidences))
    names = [name for name in confidences if name in ours and name in theirs]
    resampled_new, resampled_old = _resample((new, old), names, seed)
    differences = {}
    for name in names:
        sign = improvement(name, 1.0, 0.0)
        bounds = _bounds(sign * (resampled_new[name] - resampled_old[name]), confidences[name])
        if bounds is not None:
            value = improvement(name, ours[name], theirs[name])
            differences[name] = Difference(value=value, low=bounds[0], high=bounds[1])
    return differences


def _resample(
    models: Sequence[Answers], names: Sequence[str], seed: int, share: float = 1.0
) -> list[dict[str, Floats]]:
    """[resamples] values of each metric for each model, over the same draws."""
    by_label = [name for name in names if name in _BY_LABEL]
    by_row = [name for name in names if name not in _BY_LABEL]
    values: list[dict[str, Floats]] = [{} for _ in models]
    if by_label:
        cells, counts = _labelled_cells(models)
        _collect(values, cells, by_label, _draws(counts, seed))
    if by_row:
        effort = max(1, max(len(model.classes or ()) for model in models) // _RANKED_CLASSES) / share
        _collect(values, models, by_row, _draws(np.ones(len(models[0].truth), np.int64), seed, effort))
    return values


def _collect(
    values: list[dict[str, Floats]], models: Sequence[Answers], names: Sequence[str], draws: Iterable[Floats]
) -> None:
    meters = [Meter(model) for model in models]
    chunks: list[list[dict[str, Floats]]] = [[] for _ in models]
    for weights in draws:
        for meter, collected in zip(meters, chunks, strict=True):
            collected.append(meter.values(names, weights))
    for found, collected in zip(values, chunks, strict=True):
        found.update({name: np.concatenate([chunk[name] for chunk in collected]) for name in names})


def _labelled_cells(models: Sequence[Answers]) -> tuple[list[Answers], Counts]:
    """The answers without probabilities, equal rows as one, and how many rows each is.

    Metrics of labels can't tell equal rows apart, so that drawing how often each kind of row comes is the same
    bootstrap: a few cells (25 of a confusion matrix of 5 classes) instead of all rows.
    """
    first = models[0]
    keys = [_codes(first.truth), *(_codes(model.predictions) for model in models)]
    if first.weights is not None:
        keys.append(_codes(first.weights))
    _, positions, counts = np.unique(np.column_stack(keys), axis=0, return_index=True, return_counts=True)
    cells = [
        Answers(
            model.task,
            model.truth[positions],
            model.predictions[positions],
            None,
            model.classes,
            None if model.weights is None else model.weights[positions],
        )
        for model in models
    ]
    return cells, counts


def _codes(values: Array) -> NDArray[np.int64]:
    positions: dict[Any, int] = {}
    return np.array([positions.setdefault(value, len(positions)) for value in values.tolist()], np.int64)


def _draws(counts: Counts, seed: int, effort: float = 1.0) -> Iterator[Floats]:
    """How often each of the kinds of row, of which there are `counts` [m], comes when as many rows as there are are
    drawn with replacement: [b, m], in chunks that fit in memory. `effort`: what a row costs, for the work's limit."""
    generator = np.random.default_rng(seed)
    kinds, rows = len(counts), int(counts.sum())
    resamples = int(np.clip(_WORK / max(kinds * effort, 1), _FEWEST_RESAMPLES, _MOST_RESAMPLES))
    at_once = int(np.clip(_CHUNK // max(kinds, 1), 1, resamples))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        if kinds < rows:
            yield generator.multinomial(rows, counts / rows, size=count).astype(np.float64)
        else:
            drawn = generator.integers(0, rows, (count, rows)) + np.arange(count)[:, None] * rows
            yield np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)


def _bounds(values: Floats, confidence: float) -> tuple[float, float] | None:
    # A resample may have lost a class; half of them must remain for the interval to mean anything.
    finite = values[np.isfinite(values)]
    if len(finite) * 2 < len(values) or len(finite) == 0:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)
