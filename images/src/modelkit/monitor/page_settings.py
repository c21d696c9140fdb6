"""The end of report.html: what was looked at, and by which rules, in words."""

from collections.abc import Iterator
from html import escape

from modelkit.contract.codec import format_time
from modelkit.monitor.drift import max_distance
from modelkit.monitor.excess import SIGNIFICANCE
from modelkit.monitor.methods import configured_method
from modelkit.monitor.page_parts import MAX_SHOWN_NAME, View, build_facts
from modelkit.monitor.wording import format_number, format_share, plural, shorten


def looked_at(view: View) -> str:
    """Names, bounds, and every rule that was applied."""
    return build_facts((term, escape(fact)) for term, fact in (*_subject(view), *_rules(view), *_left_out(view)))


def _subject(view: View) -> Iterator[tuple[str, str]]:
    config, result = view.config, view.examination.result
    yield "Monitor", f"{config.namespace}/{config.name}"
    yield "Deployment", config.deployment
    yield "Version", f"{result.version}, {result.digest}"
    yield "Window", f"{format_time(result.start)} to {format_time(result.end)}"
    yield (
        "Rows",
        f"{result.rows:,} captured, {result.labels:,} with a label; at least {config.min_rows:,} rows and "
        f"{config.quality.min_labels:,} labels are needed",
    )


def _rules(view: View) -> Iterator[tuple[str, str]]:
    config = view.config
    share = config.drift.max_drifted_share
    drift, excess = config.drift, format_share(config.data_quality.max_excess)
    yield (
        "Data quality",
        f"a share of missing, mistyped, unknown or out-of-range values that is {excess} of the rows above the "
        "reference's own, beyond chance; a feature that has one value only",
    )
    yield (
        "Drift",
        f"{configured_method(drift).short} above {format_number(max_distance(drift))} over the bins of the training "
        f"data, and significant at a false discovery rate of {format_number(drift.false_discovery_rate)}"
        + (f"; more than {format_share(share)} of the features" if share else "; any feature"),
    )
    yield (
        "Quality",
        f"a drop beyond {format_number(config.quality.max_drop)} against the version's own test, beyond "
        f"chance (one-sided, {format_share(SIGNIFICANCE)})",
    )
    if config.estimated_quality is not None:
        yield (
            "Estimated quality",
            f"a drop of more than {format_number(config.estimated_quality.max_drop)} that is to be expected of the "
            "rows without labels",
        )
    if config.calibration is not None:
        yield (
            "Calibration",
            f"an expected calibration error {format_number(config.calibration.max_error)} above that of the version's "
            "own test",
        )
    if config.multivariate is not None:
        yield (
            "All features together",
            f"a classifier that tells the window's rows from the training's with an area under the ROC curve above "
            f"{format_number(config.multivariate.max_auc)}, on at most {config.multivariate.rows:,} rows of each",
        )
    if config.attribution is not None:
        yield (
            "Attribution drift",
            f"a similarity below {format_number(config.attribution.min_similarity)} of the order of the features by "
            f"mean absolute Shapley value, on {config.attribution.rows:,} rows",
        )
    if config.fairness is not None:
        columns = ", ".join(shorten(name, MAX_SHOWN_NAME) for name in config.fairness.columns)
        yield (
            "Fairness",
            f"groups of {columns} with at least {config.fairness.min_rows:,} rows whose shares of positive answers "
            f"differ by more than {format_number(config.fairness.max_parity_difference)}, or whose true positive rates "
            f"by more than {format_number(config.fairness.max_opportunity_difference)}",
        )
    if config.service is not None:
        latency = config.service.max_latency_seconds
        yield (
            "Service",
            f"more than {format_share(config.service.max_error_rate)} of the requests answered with a server's error"
            + (f", or a 99th percentile of more than {format_number(latency)} s" if latency is not None else ""),
        )


def _left_out(view: View) -> Iterator[tuple[str, str]]:
    examination, config = view.examination, view.config
    if examination.skipped_segments:
        yield "Left out", plural(examination.skipped_segments, "damaged capture segment")
    if examination.redacted:
        yield "Not looked at", f"{plural(len(examination.redacted), 'feature')} that captures don't hold as sent"
    yield "Not shown", f"numbers of fewer than {config.report.min_bin_rows} rows: they are shown with others, or as few"
    if config.report.retention_seconds is not None:
        days = format_number(config.report.retention_seconds / 86400)
        yield "Kept", f"for {days} days; report.json beside this page holds the same for programs"
