"""Bootstrap intervals of metrics: how much of a number, or of a difference, is luck of the rows.

Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). The paired form draws
the same rows for both models, so that what both find hard cancels out.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.metrics import improvement
from modelkit.contract.result import Difference
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics, weighted_class_scores, weighted_metrics

Floats = NDArray[np.float64]

_MOST_RESAMPLES = 2000
_FEWEST_RESAMPLES = 200
_WORK = 20_000_000
"""Resamples times rows that are affordable (about 3 s on one core): more rows get fewer resamples."""
_CHUNK = 2_000_000
"""Weights held in memory at once (16 MB)."""


def metric_intervals(
    answers: Answers, confidence: float, seed: int, names: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    """(low, high) per metric that can be computed, at `confidence` (0 to 1); the same seed gives the same bounds.

    A calibration error is biased upwards, in a resample more than in the rows themselves: its resamples are moved so
    that their median is the rows' own value.
    """
    known = compute_metrics(answers, names)
    values = _resample((answers,), list(known), seed)[0]
    if "calibration_error" in values:
        resampled, value = values["calibration_error"], known["calibration_error"]
        values["calibration_error"] = np.maximum(resampled - np.median(resampled) + value, 0.0)
    bounds = {name: _bounds(values[name], confidence) for name in known}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def class_intervals(answers: Answers, confidence: float, seed: int) -> dict[str, list[tuple[float, float]]]:
    """(low, high) of precision, recall and f1 of each class, in the order of `weighted_class_scores`."""
    chunks = [weighted_class_scores(answers, weights) for weights in _draws(len(answers.truth), seed)]
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


def _resample(models: Sequence[Answers], names: Sequence[str], seed: int) -> list[dict[str, Floats]]:
    """[resamples] values of each metric for each model, over the same draws."""
    chunks: list[list[dict[str, Floats]]] = [[] for _ in models]
    for weights in _draws(len(models[0].truth), seed):
        for model, collected in zip(models, chunks, strict=True):
            collected.append(weighted_metrics(model, names, weights))
    return [{name: np.concatenate([chunk[name] for chunk in collected]) for name in names} for collected in chunks]


def _draws(rows: int, seed: int) -> Iterator[Floats]:
    """Counts [b, rows] of rows drawn with replacement, in chunks that fit in memory."""
    generator = np.random.default_rng(seed)
    resamples = int(np.clip(_WORK // max(rows, 1), _FEWEST_RESAMPLES, _MOST_RESAMPLES))
    at_once = int(np.clip(_CHUNK // max(rows, 1), 1, resamples))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
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
