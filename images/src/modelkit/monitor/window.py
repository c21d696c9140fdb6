"""Look at one window: counts in, checks out. Pure; what is read and written is decided in `__main__`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelkit.contract.files import REPORT_HTML, report_directory
from modelkit.contract.monitoring import MonitorConfig
from modelkit.contract.result import CheckResult, TimelinePoint, WindowResult
from modelkit.monitor.change import Change, Level, find_change, select_levels
from modelkit.monitor.counts import Counts, build_counts
from modelkit.monitor.data_quality import Problem, check_data_quality, find_problems
from modelkit.monitor.drift import ColumnDrift, check_drift, check_prediction_drift, compare_columns
from modelkit.monitor.labels import Labelled
from modelkit.monitor.quality import Estimate, check_quality, estimate_quality
from modelkit.monitor.reference import Reference
from modelkit.monitor.summary import Summary
from modelkit.monitor.wording import fit_status, mention_redacted, mention_skipped


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that the checks need of a window."""

    summary: Summary
    labelled: Labelled


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
    past: Sequence[TimelinePoint] = (),
) -> Examination:
    """Run every check on the counts and the labelled rows of [start, end). `past` are points of earlier windows.

    A feature that some rows hold as a hash or not at all is in no check: it would look missing or changed.
    """
    summary, labelled = gathered.summary, gathered.labelled
    redacted = tuple(name for name in reference.features if name in summary.redacted)
    counts = build_counts(reference, summary)
    drifts = compare_columns(counts.features, config.drift, config.min_rows)
    output_drifts = compare_columns(counts.outputs, config.drift, config.min_rows)
    problems = find_problems(counts.features)
    metric = config.quality.metric or reference.metric
    estimate = estimate_quality(labelled, metric, reference.metrics.get(metric), reference.test_rows, config.quality)
    change = None if estimate is None else _find_change(config, estimate, bounds[0], past)
    features, rows = len(counts.features), counts.rows
    quality_of_data = check_data_quality(problems, features, rows, config.min_rows)
    checks = (
        mention_redacted(mention_skipped(quality_of_data, summary.skipped_segments), len(redacted)),
        mention_redacted(check_drift(drifts, features, rows, config.drift, config.min_rows), len(redacted)),
        check_prediction_drift(output_drifts, rows, config.drift, config.min_rows),
        check_quality(labelled, rows, metric, estimate, config.quality, change),
    )
    return Examination(
        result=_build_result(config, bounds, rows, labelled, checks),
        counts=counts,
        drifts=drifts,
        output_drifts=output_drifts,
        problems=problems,
        estimate=estimate,
        skipped_segments=summary.skipped_segments,
        redacted=redacted,
    )


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
    checks: tuple[CheckResult, ...],
) -> WindowResult:
    start, end = bounds
    return WindowResult(
        start=start,
        end=end,
        version=config.version.number,
        digest=config.version.digest,
        rows=rows,
        labels=len(labelled),
        checks=tuple(fit_status(check) for check in checks),
        report=f"{report_directory(config.namespace, config.name, end)}/{REPORT_HTML}",
    )
