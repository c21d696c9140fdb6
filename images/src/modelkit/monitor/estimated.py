"""EstimatedQuality: how good the answers are to be expected to be, before any label is there.

The rule. Window and test rows are estimated in the same way, so that what binning does to one it does to the other.
The check is Breached when the expected drop exceeds `max_drop` by more than chance explains in 5 % of windows
(one-sided), where chance is of the window's rows and of the test rows that the estimate was calibrated on.

It tells what a change of the rows does. That the same rows now have other answers, only labels tell (Quality).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtr

from modelkit.contract.metrics import LOWER_IS_BETTER, NEEDS_PROBABILITIES, improvement
from modelkit.contract.monitoring import EstimatedQualityConfig
from modelkit.contract.result import CheckResult
from modelkit.data.losses import FOLDS
from modelkit.evaluate.answers import CLASSIFICATION
from modelkit.monitor.additive import expect_loss
from modelkit.monitor.confidences import expect_metric
from modelkit.monitor.excess import describe_excess, is_beyond
from modelkit.monitor.reference import Reference
from modelkit.monitor.summary import Summary
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, plural, too_few_rows

ESTIMATED_QUALITY = "EstimatedQuality"

Z = 1.6449
"""Standard normal quantile of 95 %: the shown interval is two-sided at 90 %."""
MIN_TEST_ROWS = 50
CONFIDENCE_BASED, DIRECT_LOSS = "ConfidenceBased", "DirectLoss"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedQuality:
    """The metric that is to be expected of all rows of the window, without their labels."""

    method: str
    """ConfidenceBased or DirectLoss."""
    metric: str
    value: float
    low: float
    """Two-sided 90 % interval of `value`."""
    high: float
    reference: float
    """The same estimate of the version's own test rows."""
    drop: float
    """How much worse than the reference; negative when better; in the metric's unit."""
    p_value: float
    """Chance of a drop like this when the real one is `max_drop`."""
    rows: int
    """Of the window that the estimate rests on."""
    left_out: int = 0
    """Redacted features that the estimate takes as unchanged."""


def estimate_expected(
    reference: Reference, summary: Summary, metric: str, config: EstimatedQualityConfig
) -> ExpectedQuality | None:
    """Estimate `metric` for the rows of the window; None where that can't be done (see `check_estimated_quality`)."""
    if reference.task == CLASSIFICATION:
        return _from_confidences(reference, summary, metric, config)
    return _from_losses(reference, summary, metric, config)


def _from_confidences(
    reference: Reference, summary: Summary, metric: str, config: EstimatedQualityConfig
) -> ExpectedQuality | None:
    entry, counted = reference.calibration, summary.confidences
    if entry is None or counted is None or _test_rows(reference) < MIN_TEST_ROWS:
        return None
    rows = _usable_rows(reference, summary)
    compared = expect_metric(entry, counted, metric) if rows else None
    if compared is None or not np.isfinite(compared.value + compared.reference_value):
        return None
    error, value_error = compared.error, compared.value_error
    if error is None or value_error is None:
        return None
    drop = -improvement(metric, compared.value, compared.reference_value)
    return ExpectedQuality(
        method=CONFIDENCE_BASED,
        metric=metric,
        value=compared.value,
        low=_clip(metric, compared.value - Z * value_error),
        high=_clip(metric, compared.value + Z * value_error),
        reference=compared.reference_value,
        drop=drop,
        p_value=float(ndtr((config.max_drop - drop) / error)) if error > 0 else float(drop <= config.max_drop),
        rows=rows,
    )


def _from_losses(
    reference: Reference, summary: Summary, metric: str, config: EstimatedQualityConfig
) -> ExpectedQuality | None:
    found = None if reference.losses is None or summary.rows == 0 else expect_loss(reference.losses, summary, metric)
    if found is None:
        return None
    drop = -improvement(metric, found.value, found.reference)
    excess = drop - config.max_drop
    return ExpectedQuality(
        method=DIRECT_LOSS,
        metric=metric,
        value=found.value,
        low=_clip(metric, found.value - Z * found.error),
        high=_clip(metric, found.value + Z * found.error),
        reference=found.reference,
        drop=drop,
        # So few refits leave the error itself uncertain: Student's distribution instead of the normal one.
        p_value=float(stdtr(FOLDS - 1, -excess / found.error)) if found.error > 0 else float(excess <= 0),
        rows=summary.rows,
        left_out=found.left_out,
    )


def check_estimated_quality(
    reference: Reference,
    summary: Summary,
    metric: str,
    expected: ExpectedQuality | None,
    config: EstimatedQualityConfig,
    min_rows: int,
) -> CheckResult:
    """Judge an estimate; Unknown without one, or with fewer than `min_rows` rows."""
    rows = _usable_rows(reference, summary)
    if summary.rows < min_rows:
        return too_few_rows(ESTIMATED_QUALITY, summary.rows, min_rows)
    if expected is None or rows < min_rows:
        reason = _why_unknown(reference, summary, metric, min_rows)
        return CheckResult(
            name=ESTIMATED_QUALITY, state=UNKNOWN, message=reason, limit=config.max_drop, rows=summary.rows
        )
    drop = describe_excess("drop", expected.drop, config.max_drop, expected.p_value)
    interval = f"{format_number(expected.low)} to {format_number(expected.high)}"
    message = (
        f"{metric} {format_number(expected.value)} ({interval}) is to be expected of {plural(expected.rows, 'row')}, "
        f"{format_number(expected.reference)} of the version's own test; {drop}; "
        "as long as the same rows have the same answers, which only labels tell"
    )
    if expected.left_out:
        message += f"; {plural(expected.left_out, 'redacted feature')} taken as unchanged"
    return CheckResult(
        name=ESTIMATED_QUALITY,
        state=BREACHED if is_breached(expected, config.max_drop) else OK,
        message=message,
        value=round(expected.drop, 6),
        limit=config.max_drop,
        rows=expected.rows,
    )


def is_breached(expected: ExpectedQuality, max_drop: float) -> bool:
    """Is the expected drop larger than allowed, beyond chance?"""
    return is_beyond(expected.drop, max_drop, expected.p_value)


def _why_unknown(reference: Reference, summary: Summary, metric: str, min_rows: int) -> str:
    again = "train again with this release"
    if reference.task != CLASSIFICATION:
        if reference.losses is None:
            return f"the version doesn't tell what its errors depend on: {again}"
        if metric not in ("mae", "mse", "rmse"):
            return f"{metric} can't be estimated without labels; spec.quality.metric may be rmse, mse or mae"
        return (
            f"{metric} can't be estimated: on the version's own test rows the size of the errors didn't depend on any "
            "feature beyond chance"
        )
    if reference.scores is None:
        return "the version has no probabilities, from which quality without labels is estimated"
    if reference.calibration is None:
        return f"the version doesn't tell how often its probabilities came true: {again}"
    if _test_rows(reference) < MIN_TEST_ROWS:
        found = plural(_test_rows(reference), "test row")
        return f"the version had {found}; at least {MIN_TEST_ROWS} are needed to trust its probabilities"
    rows = _usable_rows(reference, summary)
    if rows < min_rows:
        return f"{plural(rows, 'row')} in the window with probabilities; at least {min_rows:,} are needed"
    if metric == "calibration_error" or metric not in NEEDS_PROBABILITIES:
        return f"{metric} can't be estimated without labels for this version; spec.quality.metric may be accuracy"
    return f"{metric} can't be estimated of the window's rows: a class is missing, or there are too many"


def _usable_rows(reference: Reference, summary: Summary) -> int:
    """Rows that an estimate can rest on."""
    entry, counted = reference.calibration, summary.confidences
    if reference.task != CLASSIFICATION or entry is None or counted is None:
        return summary.rows
    # Every class's bins hold every row.
    return counted.valid // len(entry["classes"])


def _test_rows(reference: Reference) -> int:
    return 0 if reference.calibration is None else sum(reference.calibration["confidence"]["rows"])


def _clip(metric: str, value: float) -> float:
    high = np.inf if metric in LOWER_IS_BETTER else 1.0
    return float(min(high, max(0.0, value)))
