"""report.json: one window's verdicts and aggregates, for programs. Holds no value of any request."""

import json
from typing import Any

from modelkit.contract.codec import format_time, to_plain
from modelkit.contract.monitoring import MonitorConfig
from modelkit.monitor.bins import Bin, describe_bins
from modelkit.monitor.counts import Column
from modelkit.monitor.drift import ColumnDrift, max_distance
from modelkit.monitor.window import Examination

FORMAT = 1


def build_report(config: MonitorConfig, examination: Examination) -> bytes:
    """The content of report.json: the window as in the status, then every feature and output with its
    bins."""
    counts = examination.counts
    drifts = {drift.name: drift for drift in (*examination.drifts, *examination.output_drifts)}
    report = {
        "format": FORMAT,
        "namespace": config.namespace,
        "monitor": config.name,
        "deployment": config.deployment,
        "limits": {
            "minRows": config.min_rows,
            "maxDistance": max_distance(config.drift),
            "falseDiscoveryRate": config.drift.false_discovery_rate,
            "maxDriftedShare": config.drift.max_drifted_share,
            "maxDrop": config.quality.max_drop,
            "minLabels": config.quality.min_labels,
        },
        "window": to_plain(examination.result),
        "skippedSegments": examination.skipped_segments,
        "redactedFeatures": list(examination.redacted),
        "quality": _quality(examination),
        "service": _service(examination),
        "features": [_describe(column, drifts.get(column.name)) for column in counts.features],
        "outputs": [_describe(column, drifts.get(column.name), show_all=True) for column in counts.outputs],
    }
    return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False).encode()


def _quality(examination: Examination) -> dict[str, Any] | None:
    estimate = examination.estimate
    if estimate is None:
        return None
    return {
        "metric": estimate.metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "reference": estimate.reference,
        "drop": estimate.drop,
        "pValue": estimate.p_value,
        "labels": estimate.labels,
    }


def _service(examination: Examination) -> dict[str, Any] | None:
    evidence = examination.service
    if evidence is None:
        return None
    return {
        "requests": evidence.requests,
        "errors": evidence.errors,
        "errorRate": evidence.error_rate,
        "pValue": evidence.p_value,
        "codes": {str(status): count for status, count in evidence.codes.items()},
        "latencySeconds": to_plain(evidence.latency) | {"p99Low": evidence.p99_low},
        "perSecond": evidence.per_second,
        "busiestPerSecond": evidence.busiest_per_second,
        "busiest": None if evidence.busiest is None else format_time(evidence.busiest),
        "stepSeconds": evidence.step_seconds,
        "series": [
            {
                "start": format_time(point.start),
                "requests": point.requests,
                "errors": point.errors,
                "latencySeconds": to_plain(point.latency),
            }
            for point in evidence.series
        ],
        "skippedObjects": evidence.skipped,
    }


def _describe(column: Column, drift: ColumnDrift | None, show_all: bool = False) -> dict[str, Any]:
    return {
        "name": column.name,
        "kind": column.entry["kind"],
        "distance": None if drift is None else drift.distance,
        "pValue": None if drift is None else drift.p_value,
        "drifted": None if drift is None else drift.drifted,
        "rows": column.window.rows,
        "missing": column.window.nulls,
        "invalid": column.window.invalid,
        "outside": column.window.outside,
        "referenceRows": column.reference.rows,
        "referenceMissing": column.reference.nulls,
        # Not for a handful of rows, whose distribution might tell of one person.
        "bins": [] if drift is None else [_describe_bin(item) for item in describe_bins(column, show_all)],
    }


def _describe_bin(item: Bin) -> dict[str, Any]:
    return {"label": item.label, "reference": round(item.reference, 6), "window": round(item.window, 6)}
