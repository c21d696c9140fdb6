"""Look at one window: counts in, checks out. Pure; what is read and written is decided in `__main__`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from modelkit.contract.files import REPORT_HTML, report_directory
from modelkit.contract.monitoring import MonitorConfig
from modelkit.contract.result import CHECKS, CheckResult, TimelinePoint, WindowResult
from modelkit.evaluate.answers import CLASSIFICATION
from modelkit.monitor.attribution import AttributionComparison
from modelkit.monitor.calibration import Reliability, check_calibration, measure_reliability
from modelkit.monitor.change import Change, Level, find_change, select_levels
from modelkit.monitor.counts import Counts, build_counts
from modelkit.monitor.data_quality import Duplicates, Problem, check_data_quality, find_duplicates, find_problems
from modelkit.monitor.drift import ColumnDrift, check_drift, check_prediction_drift, compare_columns
from modelkit.monitor.estimated import ExpectedQuality, check_estimated_quality, estimate_expected
from modelkit.monitor.explaining import OwnRows
from modelkit.monitor.fairness import Fairness, check_fairness, measure_fairness
from modelkit.monitor.labels import Labelled
from modelkit.monitor.minutes import RequestCounts
from modelkit.monitor.multivariate import Separation
from modelkit.monitor.quality import Estimate, check_quality, estimate_quality
from modelkit.monitor.reference import Reference
from modelkit.monitor.row_checks import examine_rows
from modelkit.monitor.service import ServiceEvidence, check_service, measure_service
from modelkit.monitor.summary import Summary
from modelkit.monitor.wording import fit_status, mention_redacted, mention_skipped


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that the checks need of a window."""

    summary: Summary
    labelled: Labelled
    service: RequestCounts | None = None
    """What servers told of their requests; None where nobody asks for it."""
    sample: pa.Table | None = None
    """Some of the rows as the model sees them, without redacted columns; None when no check needs them."""


@dataclass(frozen=True, slots=True)
class Examination:
    """One window's verdicts and the aggregates behind them, for the report."""

    result: WindowResult
    counts: Counts
    drifts: tuple[ColumnDrift, ...]
    """Of the features that had enough values."""
    output_drifts: tuple[ColumnDrift, ...]
    problems: tuple[Problem, ...]
    estimate: Estimate | None
    skipped_segments: int
    redacted: tuple[str, ...] = ()
    """Features that weren't looked at, because captured rows don't hold them as they were sent."""
    duplicates: Duplicates | None = None
    """None without rows, and where some rows don't hold every feature as it was sent."""
    expected: ExpectedQuality | None = None
    """The quality that is to be expected of all rows, where it is asked for and can be estimated."""
    reliability: Reliability | None = None
    """How true the probabilities of labelled rows are, where it is asked for and can be measured."""
    fairness: Fairness | None = None
    """None where it isn't asked for."""
    service: ServiceEvidence | None = None
    """None where it isn't asked for."""
    separation: Separation | None = None
    """Of the window's rows from the version's own; None where that isn't configured or can't be said."""
    attributions: AttributionComparison | None = None
    """None where it isn't asked for or can't be said."""


def window_bounds(config: MonitorConfig, now: datetime) -> tuple[datetime, datetime]:
    """Start and end of the window that ends now, in whole seconds; never before the version began to
    serve."""
    end = now.replace(microsecond=0)
    start = max(end - timedelta(seconds=config.window_seconds), config.version_since.replace(microsecond=0))
    return min(start, end), end


def examine_window(
    config: MonitorConfig,
    reference: Reference,
    gathered: Gathered,
    bounds: tuple[datetime, datetime],
    own: OwnRows = OwnRows(),  # noqa: B008 - frozen
    past: Sequence[TimelinePoint] = (),
) -> Examination:
    """Run every check on the counts, the labelled rows and the sampled rows of [start, end). `past`: earlier windows.

    A feature that some rows hold as a hash or not at all is in no check: it would look missing or changed.
    """
    summary, labelled = gathered.summary, gathered.labelled
    redacted = tuple(name for name in reference.features if name in summary.redacted)
    counts = build_counts(reference, summary)
    drifts = compare_columns(counts.features, config.drift, config.min_rows)
    output_drifts = compare_columns(counts.outputs, config.drift, config.min_rows)
    problems = find_problems(counts.features, config.data_quality, config.min_rows)
    # Without a feature that isn't captured rows look more alike than they were.
    duplicates = None if summary.redacted else find_duplicates(summary.sketch, reference, config.data_quality)
    metric = config.quality.metric or reference.metric
    estimate = estimate_quality(labelled, metric, reference.metrics.get(metric), reference.test_rows, config.quality)
    change = None if estimate is None else _find_change(config, estimate, bounds[0], past)
    expected, expected_check = _examine_expected(config, reference, summary, metric)
    reliability, reliability_check = _examine_calibration(config, reference, labelled)
    fairness, fairness_check = _examine_fairness(config, reference, gathered)
    service, service_check = _examine_service(config, gathered.service, summary.rows)
    features, rows = len(counts.features), counts.rows
    quality_of_data = check_data_quality(problems, duplicates, features, rows, config.data_quality, config.min_rows)
    found = examine_rows(config, reference, gathered.sample, redacted, own)
    checks = (
        mention_redacted(mention_skipped(quality_of_data, summary.skipped_segments), len(redacted)),
        mention_redacted(check_drift(drifts, features, rows, config.drift, config.min_rows), len(redacted)),
        check_prediction_drift(output_drifts, rows, config.min_rows),
        check_quality(labelled, rows, metric, estimate, config.quality, change),
        expected_check,
        reliability_check,
        fairness_check,
        service_check,
        *found.checks,
    )
    return Examination(
        result=_build_result(config, bounds, rows, labelled, [check for check in checks if check is not None]),
        counts=counts,
        drifts=drifts,
        output_drifts=output_drifts,
        problems=problems,
        duplicates=duplicates,
        estimate=estimate,
        expected=expected,
        reliability=reliability,
        fairness=fairness,
        service=service,
        skipped_segments=summary.skipped_segments,
        redacted=redacted,
        separation=found.separation,
        attributions=found.attributions,
    )


def _examine_expected(
    config: MonitorConfig, reference: Reference, summary: Summary, metric: str
) -> tuple[ExpectedQuality | None, CheckResult | None]:
    asked = config.estimated_quality
    if asked is None:
        return None, None
    expected = estimate_expected(reference, summary, metric, asked)
    return expected, check_estimated_quality(reference, summary, metric, expected, asked, config.min_rows)


def _examine_calibration(
    config: MonitorConfig, reference: Reference, labelled: Labelled
) -> tuple[Reliability | None, CheckResult | None]:
    if config.calibration is None or reference.task != CLASSIFICATION:
        return None, None
    min_labels = config.quality.min_labels
    reliability = measure_reliability(reference, labelled, min_labels)
    return reliability, check_calibration(reference, labelled, reliability, config.calibration, min_labels)


def _examine_fairness(
    config: MonitorConfig, reference: Reference, gathered: Gathered
) -> tuple[Fairness | None, CheckResult | None]:
    asked, shown = config.fairness, config.report.min_bin_rows
    if asked is None:
        return None, None
    fairness = measure_fairness(asked, reference, gathered.summary, gathered.labelled, shown)
    return fairness, check_fairness(fairness, gathered.summary.rows, asked, config.min_rows)


def _examine_service(
    config: MonitorConfig, counts: RequestCounts | None, rows: int
) -> tuple[ServiceEvidence | None, CheckResult | None]:
    if config.service is None or counts is None:
        return None, None
    evidence = measure_service(counts, config.service)
    return evidence, check_service(evidence, config.service, rows, config.min_rows)


def _find_change(
    config: MonitorConfig, estimate: Estimate, start: datetime, past: Sequence[TimelinePoint]
) -> Change | None:
    """The clearest decline over the version's windows; None when none is looked for."""
    if config.quality.max_decline is None:
        return None
    own_test = Level(start=None, value=estimate.reference, error=estimate.reference_error, rows=0)
    window = timedelta(seconds=config.window_seconds)
    earlier = select_levels(past, config.version.number, config.version_since, start, window)
    newest = Level(start=start, value=estimate.value, error=estimate.error, rows=estimate.labels)
    levels = (own_test, *earlier, newest)
    return find_change(estimate.metric, levels, config.quality.max_decline, config.quality.false_alarms)


def _build_result(
    config: MonitorConfig,
    bounds: tuple[datetime, datetime],
    rows: int,
    labelled: Labelled,
    checks: Sequence[CheckResult],
) -> WindowResult:
    start, end = bounds
    return WindowResult(
        start=start,
        end=end,
        version=config.version.number,
        digest=config.version.digest,
        rows=rows,
        labels=len(labelled),
        checks=tuple(fit_status(check) for check in sorted(checks, key=lambda check: CHECKS.index(check.name))),
        report=f"{report_directory(config.namespace, config.name, end)}/{REPORT_HTML}",
    )
