"""The check of the candidate's quality against the stable version's, on compared rows whose truth is known.

Both versions predicted the same rows, so that only rows on which they differ carry evidence.
"""

import math

from modelloop.api.analysis import Analysis, Verdict
from modelloop.decide.analysis.confidence import MIN_FOR_MEAN, Difference, Interval, mean_bounds
from modelloop.decide.analysis.levels import OFF_FACTOR, OFF_SHARE
from modelloop.decide.analysis.measurements import Labels, Measurements
from modelloop.decide.analysis.result import CheckName, CheckResult, number, percent

_ROUNDING = 1 - 1e-6
_SUSPICION = 1.645
"""Standard errors beyond the limit at which a candidate isn't Successful any more, though it hasn't Failed: an equally
good one is there 5 % of the time, and leaves again when further labels come."""


def check_quality(measured: Measurements, settings: Analysis, alpha: float) -> CheckResult | None:
    """Whether the candidate is worse than the stable version by no more than allowed; None: labels don't decide."""
    labels, wanted = measured.labels, settings.quality
    is_off = wanted.max_loss >= OFF_SHARE if measured.is_classification else wanted.max_error_increase >= OFF_FACTOR
    if is_off:
        return None
    if labels.rows < wanted.min_labels:
        if not wanted.required:
            return None
        message = f"{labels.rows} labelled rows; {wanted.min_labels} are wanted"
        return CheckResult(
            name=CheckName.QUALITY,
            verdict="Inconclusive",
            samples=labels.rows,
            limit=wanted.min_labels,
            message=message,
        )
    return (
        _classification(labels, wanted.max_loss, alpha)
        if measured.is_classification
        else _regression(labels, wanted.max_error_increase, alpha)
    )


def _classification(labels: Labels, limit: float, alpha: float) -> CheckResult:
    loss = Difference(labels.stable_wins, labels.candidate_wins, labels.rows)
    is_suspect = _is_suspect(loss.value, loss.variance, labels.rows, limit)
    verdict: Verdict = "Failed" if loss.is_above(limit, alpha) else "Inconclusive" if is_suspect else "Successful"
    message = (
        f"accuracy is {_change(loss.value)} on {labels.rows} labelled rows, {100 * limit:.3g} points lower is allowed; "
        f"the candidate alone is right on {labels.candidate_wins}, the stable version alone on {labels.stable_wins}"
    )
    return _result(labels, verdict, loss.value, limit, loss.bounds(alpha), message)


def _regression(labels: Labels, limit: float, alpha: float) -> CheckResult:
    """In units of the stable version's mean absolute error, which is taken as known."""
    unit = labels.stable_loss / labels.rows
    mean = (labels.candidate_loss - labels.stable_loss) / labels.rows
    squares = labels.difference_squares / labels.rows
    sums = (labels.candidate_loss, labels.stable_loss, squares - mean * mean)
    if not all(map(math.isfinite, sums)) or labels.candidate_loss < 0 or unit <= 0 or squares < mean * mean * _ROUNDING:
        message = (
            f"errors can't be compared on {labels.rows} labelled rows: sums of {number(labels.candidate_loss)} and "
            f"{number(labels.stable_loss)}, of the differences squared {number(labels.difference_squares)}"
        )
        return CheckResult(
            name=CheckName.QUALITY, verdict="Inconclusive", limit=limit, samples=labels.rows, message=message
        )
    value, variance = mean / unit, max(squares - mean * mean, 0.0)
    bounds = mean_bounds(mean, variance, labels.rows, alpha)
    verdict: Verdict = "Successful"
    if bounds.low > limit * unit and labels.rows >= MIN_FOR_MEAN:
        verdict = "Failed"
    elif _is_suspect(mean, variance, labels.rows, limit * unit):
        verdict = "Inconclusive"
    word = "larger" if value > 0 else "smaller"
    message = (
        f"the mean absolute error is {percent(abs(value))} {word} on {labels.rows} labelled rows, {percent(limit)} "
        "larger is allowed"
    )
    return _result(labels, verdict, value, limit, Interval(bounds.low / unit, bounds.high / unit), message)


def _result(
    labels: Labels, verdict: Verdict, value: float, limit: float, bounds: Interval, message: str
) -> CheckResult:
    return CheckResult(
        name=CheckName.QUALITY,
        verdict=verdict,
        value=value,
        limit=limit,
        low=bounds.low,
        high=bounds.high,
        samples=labels.rows,
        message=message + ("; that may still be chance" if verdict == "Inconclusive" else ""),
    )


def _is_suspect(value: float, variance: float, rows: int, limit: float) -> bool:
    return value > limit and value - limit > _SUSPICION * math.sqrt(variance / rows)


def _change(loss: float) -> str:
    return f"{100 * abs(loss):.3g} points {'lower' if loss > 0 else 'higher'}" if loss else "the same"
