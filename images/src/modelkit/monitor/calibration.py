"""Calibration: do the model's probabilities still come true, judged by the labels that came back?

Expected calibration error (Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian
Binning, 2015; of the predicted class's probability: Guo et al., On Calibration of Modern Neural Networks, 2017): the
mean over the bins of |share of right answers - mean probability|, weighted by rows. Bins are frozen, of equal mass on
the version's own test rows; neighbours with few labelled rows are looked at together, in both samples.

The rule. Chance alone makes an error, a larger one in fewer rows: the value is the excess over the test rows' error,
freed from what chance adds to it. Chance is simulated (parametric bootstrap): in each bin both samples are drawn with
one gap, the pooled one, between probability and share. The check is Breached when the excess is above `max_error` and
comes in less than 5 % of such windows. A model that was always wrong by as much doesn't alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.monitoring import CalibrationConfig
from modelkit.contract.result import CheckResult
from modelkit.data.calibration import bin_confidences
from modelkit.evaluate.metrics import compute_metrics
from modelkit.monitor.excess import describe_excess, is_beyond
from modelkit.monitor.labels import Labelled
from modelkit.monitor.reference import Reference
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, plural

CALIBRATION = "Calibration"

RESAMPLES = 1000
MIN_BIN_LABELS = 10
"""Labelled rows of the window that a bin of the reliability curve has at least."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Rows whose predicted class had about the same probability, of the window and of the version's own test."""

    rows: int
    confidence: float
    """Mean probability of the predicted class."""
    right: float
    """Share of right answers."""
    reference_rows: int
    reference_confidence: float
    reference_right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How true the probabilities of the window's labelled rows are, beside those of the version's own test."""

    bins: tuple[ReliabilityBin, ...]
    """The reliability curve, by ascending probability."""
    error: float
    """Expected calibration error over `bins`, 0 to 1."""
    reference_error: float
    """The same of the test rows."""
    excess: float
    """`error` over `reference_error`, without what chance adds."""
    p_value: float
    """Chance of an excess like this of a model that is as calibrated as on its test."""
    brier: float | None
    """Brier score of the labelled rows, as in the version's metrics; and that of the test rows."""
    reference_brier: float | None
    labels: int


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Rows, sum of their probabilities and right answers of each bin."""

    rows: Floats
    confidence: Floats
    right: Floats

    def pool(self, starts: Sequence[int]) -> "_Sample":
        """Neighbouring bins together."""
        return _Sample(*(np.add.reduceat(values, starts) for values in (self.rows, self.confidence, self.right)))

    def error(self, right: Floats) -> Floats:
        """Expected calibration error for right answers [..., bins]."""
        return np.asarray(np.abs(right - self.confidence).sum(axis=-1) / self.rows.sum())

    def draw(self, generator: np.random.Generator, gap: Floats) -> Floats:
        """[RESAMPLES, bins] right answers when their share is the mean probability and `gap`."""
        share = np.clip(self.confidence / np.maximum(self.rows, 1) + gap, 0.0, 1.0)
        return generator.binomial(self.rows.astype(np.int64), share, (RESAMPLES, len(share))).astype(np.float64)


def measure_reliability(reference: Reference, labelled: Labelled, min_labels: int) -> Reliability | None:
    """Measure the labelled rows; None with too few of them or without probabilities. Seeded."""
    entry, answers = reference.calibration, labelled.answers
    if entry is None or answers.probabilities is None or len(labelled) < max(1, min_labels):
        return None
    window, test = _count_labelled(entry, labelled), _read_test(entry)
    starts = _find_starts(window.rows, test.rows)
    window, test = window.pool(starts), test.pool(starts)
    error, reference_error = float(window.error(window.right)), float(test.error(test.right))
    rows = window.rows + test.rows
    gap = (window.right + test.right - window.confidence - test.confidence) / rows
    generator = np.random.default_rng(0)
    chance = window.error(window.draw(generator, gap)) - test.error(test.draw(generator, gap))
    excess = error - reference_error
    return Reliability(
        bins=_build_bins(window, test),
        error=error,
        reference_error=reference_error,
        excess=excess - float(chance.mean()),
        p_value=float((1 + np.count_nonzero(chance >= excess - 1e-12)) / (1 + RESAMPLES)),
        brier=compute_metrics(answers, ("brier",)).get("brier"),
        reference_brier=reference.metrics.get("brier"),
        labels=len(labelled),
    )


def check_calibration(
    reference: Reference,
    labelled: Labelled,
    reliability: Reliability | None,
    config: CalibrationConfig,
    min_labels: int,
) -> CheckResult:
    """Judge a measurement; Unknown without one."""
    if reliability is None:
        reason = _why_unknown(reference, labelled, min_labels)
        return CheckResult(name=CALIBRATION, state=UNKNOWN, message=reason, limit=config.max_error, rows=len(labelled))
    excess = describe_excess("excess beyond chance", reliability.excess, config.max_error, reliability.p_value)
    message = (
        f"expected calibration error {format_number(reliability.error)} on {plural(reliability.labels, 'label')}, "
        f"{format_number(reliability.reference_error)} on the version's own test; "
        f"{excess}{_describe_brier(reliability)}"
    )
    if labelled.unusable:
        message += f"; {plural(labelled.unusable, 'label')} of no known class left out"
    return CheckResult(
        name=CALIBRATION,
        state=BREACHED if is_breached(reliability, config.max_error) else OK,
        message=message,
        value=round(reliability.excess, 6),
        limit=config.max_error,
        rows=reliability.labels,
    )


def is_breached(reliability: Reliability, max_error: float) -> bool:
    """Is the excess larger than allowed, beyond chance?"""
    return is_beyond(reliability.excess, max_error, reliability.p_value)


def _count_labelled(entry: Mapping[str, Any], labelled: Labelled) -> _Sample:
    answers = labelled.answers
    assert answers.probabilities is not None
    confidences = answers.probabilities[np.arange(len(labelled)), answers.predictions].astype(np.float64)
    bins, size = bin_confidences(entry, confidences), len(entry["confidence"]["rows"])
    weights = (np.ones(len(bins)), confidences, (answers.truth == answers.predictions).astype(np.float64))
    return _Sample(*(np.asarray(np.bincount(bins, weight, minlength=size), np.float64) for weight in weights))


def _read_test(entry: Mapping[str, Any]) -> _Sample:
    found = entry["confidence"]
    return _Sample(*(np.asarray(found[name], dtype=np.float64) for name in ("rows", "sum", "right")))


def _find_starts(window: Floats, test: Floats) -> list[int]:
    """First bins of groups of neighbours that hold MIN_BIN_LABELS rows of both samples; what is left over at the end
    joins the last group."""
    starts, held = [0], np.zeros(2)
    for position, rows in enumerate(np.column_stack([window, test])):
        if held.min() >= MIN_BIN_LABELS:
            starts.append(position)
            held = np.zeros(2)
        held = held + rows
    if held.min() < MIN_BIN_LABELS and len(starts) > 1:
        starts.pop()
    return starts


def _build_bins(window: _Sample, test: _Sample) -> tuple[ReliabilityBin, ...]:
    return tuple(
        ReliabilityBin(
            rows=int(rows),
            confidence=float(confidence / rows),
            right=float(right / rows),
            reference_rows=int(test_rows),
            reference_confidence=float(test_confidence / test_rows),
            reference_right=float(test_right / test_rows),
        )
        for rows, confidence, right, test_rows, test_confidence, test_right in zip(
            window.rows, window.confidence, window.right, test.rows, test.confidence, test.right, strict=True
        )
        if rows and test_rows
    )


def _describe_brier(reliability: Reliability) -> str:
    if reliability.brier is None or reliability.reference_brier is None:
        return ""
    window, test = format_number(reliability.brier), format_number(reliability.reference_brier)
    return f"; Brier score {window}, {test} on the test"


def _why_unknown(reference: Reference, labelled: Labelled, min_labels: int) -> str:
    if reference.scores is None:
        return "the version has no probabilities that could come true"
    if reference.calibration is None:
        return "the version doesn't tell how often its probabilities came true: train again with this release"
    if len(labelled) == 0 and labelled.unusable == 0:
        return "no feedback in the window: send true labels to the server's /feedback"
    if len(labelled) < min_labels:
        return f"{plural(len(labelled), 'label')} in the window; at least {min_labels:,} are needed"
    return f"some of the window's {plural(len(labelled), 'labelled row')} were captured without probabilities"
