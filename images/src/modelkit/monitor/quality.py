"""Quality: is the model still as good as on its own test rows, judged by the labels that came back?

The rule. Both numbers are samples: the window's metric of its labelled rows, the reference of the version's
test rows. The check is Breached when a drop of no more than `max_drop` would show itself as large as the one
seen in less than 5 % of windows: a one-sided score test of two independent samples, with the variances that
hold if the drop is exactly `max_drop` (Farrington and Manning 1990 for proportions). So on unchanged data
about one window in twenty alarms even with `max_drop: 0`, and far fewer with the usual allowance.

The standard error of the window's metric is bootstrapped over its rows (Efron 1979) and carried to the tested
levels, and to the reference, by how a metric's variance depends on its level and on the number of rows.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from modelkit.contract.metrics import LOWER_IS_BETTER, improvement
from modelkit.contract.monitoring import QualityConfig
from modelkit.contract.result import CheckResult
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics, weighted_metrics
from modelkit.monitor.change import Change
from modelkit.monitor.excess import describe_excess, is_beyond
from modelkit.monitor.labels import Labelled
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, format_p_value, plural

QUALITY = "Quality"

Z = 1.6449
"""Standard normal quantile of 95 %: the shown interval is two-sided at 90 %."""
RESAMPLES = 300
MAX_RESAMPLED_ROWS = 5000
"""More labelled rows are resampled from a part; the standard error shrinks with the square root of the
rows."""
MIN_CLASS_LABELS = 3
"""Metrics of single classes say nothing about a class with fewer labelled rows."""

_OVER_ALL_ROWS = frozenset({"accuracy", "log_loss"})
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The metric of the window's labelled rows beside the version's own test metric."""

    metric: str
    value: float
    low: float
    """Two-sided 90 % interval of `value`."""
    high: float
    reference: float
    drop: float
    """How much worse than the reference; negative when better; in the metric's unit."""
    p_value: float
    """Chance of a drop like this when the real one is `max_drop`."""
    labels: int
    error: float
    """Standard error of `value`, positive: no metric is certain."""
    reference_error: float
    """The same of `reference`."""


def estimate_quality(
    labelled: Labelled, metric: str, reference: float | None, reference_rows: int, config: QualityConfig
) -> Estimate | None:
    """Measure the window; None with too few labels or where the metric isn't defined.

    `reference` is the metric on the version's `reference_rows` test rows, None when it has no such metric.
    """
    if reference is None or len(labelled) < config.min_labels or not _has_each_class(labelled.answers, metric):
        return None
    value = compute_metrics(labelled.answers, (metric,)).get(metric)
    error = None if value is None else bootstrap_error(labelled.answers, metric)
    if value is None or error is None:
        return None
    unit = error * sqrt(len(labelled)) / spread(metric, value, len(labelled)) or 1.0
    return Estimate(
        metric=metric,
        value=value,
        low=_clip(metric, value - Z * error),
        high=_clip(metric, value + Z * error),
        reference=reference,
        drop=-improvement(metric, value, reference),
        p_value=drop_p_value(metric, (value, len(labelled)), (reference, reference_rows), error, config.max_drop),
        labels=len(labelled),
        error=max(error, spread(metric, value, len(labelled)) / sqrt(len(labelled)) * unit),
        reference_error=spread(metric, reference, reference_rows) / sqrt(max(1, reference_rows)) * unit,
    )


def bootstrap_error(answers: Answers, metric: str) -> float | None:
    """Standard error of the metric by resampling rows with replacement; None when most resamples have no
    metric.

    Seeded, so that reading a window twice gives the same answer.
    """
    generator = np.random.default_rng(0)
    rows = len(answers.truth)
    base = min(rows, MAX_RESAMPLED_ROWS)
    part = answers if base == rows else _take(answers, generator.choice(rows, size=base, replace=False))
    drawn = generator.integers(0, base, (RESAMPLES, base)) + np.arange(RESAMPLES)[:, None] * base
    weights = np.bincount(drawn.ravel(), minlength=RESAMPLES * base).reshape(RESAMPLES, base).astype(np.float64)
    values = weighted_metrics(part, (metric,), weights)[metric]
    defined = values[np.isfinite(values)]
    if len(defined) < RESAMPLES // 2:
        return None
    return float(np.std(defined, ddof=1)) * sqrt(base / rows)


def drop_p_value(
    metric: str, window: tuple[float, int], reference: tuple[float, int], error: float, max_drop: float
) -> float:
    """p-value that the real drop from `reference` to `window` (value, rows) is at most `max_drop`.

    `error` is the standard error of the window's value.
    """
    (value, rows), (base, base_rows) = window, reference
    excess = -improvement(metric, value, base) - max_drop
    # Under the tested hypothesis both samples tell of one level; `worse` is the side of a drop.
    worse = max_drop if metric in LOWER_IS_BETTER else -max_drop
    level = (base_rows * base + rows * (value - worse)) / (base_rows + rows)
    unit = error * sqrt(rows) / spread(metric, value, rows)
    window_variance = spread(metric, level + worse, rows) ** 2 / rows
    reference_variance = spread(metric, level, base_rows) ** 2 / max(1, base_rows)
    deviation = unit * sqrt(window_variance + reference_variance)
    return float(ndtr(-excess / deviation)) if deviation > 0 else float(excess <= 0)


def spread(metric: str, value: float, rows: int) -> float:
    """How a metric's standard deviation scales with its level, up to a factor that cancels out.

    A share p varies like sqrt(p (1 - p)), with one success and one failure added so that a perfect score
    isn't taken for certainty; an error varies in proportion to itself, and so does 1 - r2.
    """
    if metric in LOWER_IS_BETTER:
        return max(abs(value), _TINY)
    if metric == "r2":
        return max(1 - value, _TINY)
    share = (min(1.0, max(0.0, value)) * rows + 1) / (rows + 2)
    return sqrt(share * (1 - share))


def check_quality(
    labelled: Labelled,
    rows: int,
    metric: str,
    estimate: Estimate | None,
    config: QualityConfig,
    change: Change | None = None,
) -> CheckResult:
    """Judge an estimate, and a change over the version's windows; Unknown without an estimate.

    `rows` is the window's, labelled or not.
    """
    if estimate is None:
        reason = _why_unknown(labelled, metric, config)
        return CheckResult(name=QUALITY, state=UNKNOWN, message=reason, limit=config.max_drop, rows=len(labelled))
    interval = f"{format_number(estimate.low)} to {format_number(estimate.high)}"
    message = (
        f"{metric} {format_number(estimate.value)} ({interval}) on {plural(estimate.labels, 'label')} of "
        f"{plural(rows, 'row')}, {format_number(estimate.reference)} on the version's own test; "
        f"{describe_excess('drop', estimate.drop, config.max_drop, estimate.p_value)}"
    )
    if labelled.unusable:
        message += f"; {plural(labelled.unusable, 'label')} of no known class or no number left out"
    declined = change is not None and change.is_clear
    if change is not None and declined:
        message = f"{_describe_change(metric, change)}; {message}"
    return CheckResult(
        name=QUALITY,
        state=BREACHED if declined or is_breached(estimate, config.max_drop) else OK,
        since=change.since if change is not None and declined else None,
        message=message,
        value=round(estimate.drop, 6),
        limit=config.max_drop,
        rows=estimate.labels,
    )


def is_breached(estimate: Estimate, max_drop: float) -> bool:
    """Is the drop larger than allowed, beyond chance?"""
    return is_beyond(estimate.drop, max_drop, estimate.p_value)


def _describe_change(metric: str, change: Change) -> str:
    return (
        f"{metric} declined from {format_number(change.before)} to {format_number(change.after)} since "
        f"{change.since.isoformat()}, over {plural(change.labels, 'label')} "
        f"(p {format_p_value(change.p_value, sign=True)})"
    )


def _why_unknown(labelled: Labelled, metric: str, config: QualityConfig) -> str:
    if len(labelled) == 0 and labelled.unusable == 0:
        return "no feedback in the window: send true labels to the server's /feedback"
    if len(labelled) < config.min_labels:
        found = f"{plural(len(labelled), 'label')} in the window; at least {config.min_labels:,} are needed"
        unusable = f"; {plural(labelled.unusable, 'label')} of no known class or no number"
        return found + (unusable if labelled.unusable else "")
    return (
        f"{metric} can't be compared on the window's {plural(len(labelled), 'label')}: it must be among the "
        f"version's test metrics, and may need probabilities or at least {MIN_CLASS_LABELS} labels of each class"
    )


def _has_each_class(answers: Answers, metric: str) -> bool:
    if answers.classes is None or metric in _OVER_ALL_ROWS:
        return True
    counts = np.bincount(answers.truth, minlength=len(answers.classes))
    return bool(counts.min() >= MIN_CLASS_LABELS)


def _take(answers: Answers, index: NDArray[np.int64]) -> Answers:
    return Answers(
        task=answers.task,
        truth=answers.truth[index],
        predictions=answers.predictions[index],
        probabilities=None if answers.probabilities is None else answers.probabilities[index],
        classes=answers.classes,
    )


def _clip(metric: str, value: float) -> float:
    low = -np.inf if metric == "r2" else 0.0
    high = np.inf if metric in LOWER_IS_BETTER else 1.0
    return float(min(high, max(low, value)))
