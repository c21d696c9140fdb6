"""report.json: one window's verdicts and aggregates, for programs. Holds no value of any request."""

import json
from typing import Any

from modelkit.contract.codec import to_plain
from modelkit.contract.monitoring import MonitorConfig
from modelkit.monitor.bins import Bin, describe_bins, describe_counts
from modelkit.monitor.counts import Column
from modelkit.monitor.drift import ColumnDrift, max_distance
from modelkit.monitor.window import Examination

FORMAT = 1


def build_report(config: MonitorConfig, examination: Examination) -> bytes:
    """The content of report.json: the window as in the status, then every feature and output with its
    bins."""
    counts, min_bin_rows = examination.counts, config.report.min_bin_rows
    drifts = {drift.name: drift for drift in (*examination.drifts, *examination.output_drifts)}
    report = {
        "format": FORMAT,
        "namespace": config.namespace,
        "monitor": config.name,
        "deployment": config.deployment,
        "limits": {
            "minRows": config.min_rows,
            "driftMethod": config.drift.method,
            "maxDistance": max_distance(config.drift),
            "falseDiscoveryRate": config.drift.false_discovery_rate,
            "maxDriftedShare": config.drift.max_drifted_share,
            "maxDrop": config.quality.max_drop,
            "minLabels": config.quality.min_labels,
            "minBinRows": min_bin_rows,
        },
        "window": to_plain(examination.result),
        "skippedSegments": examination.skipped_segments,
        "redactedFeatures": list(examination.redacted),
        "quality": _quality(examination),
        "features": [_describe(column, drifts.get(column.name), min_bin_rows) for column in counts.features],
        "outputs": [_describe(column, drifts.get(column.name), min_bin_rows, True) for column in counts.outputs],
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


def _describe(column: Column, drift: ColumnDrift | None, min_bin_rows: int, show_all: bool = False) -> dict[str, Any]:
    shown = describe_counts(column, show_all, min_bin_rows)
    return {
        "name": column.name,
        "kind": column.entry["kind"],
        "method": None if drift is None else drift.method,
        "distance": None if drift is None else drift.distance,
        "limit": None if drift is None else drift.limit,
        "pValue": None if drift is None else drift.p_value,
        "drifted": None if drift is None else drift.drifted,
        "rows": column.window.rows,
        # Null where they are some, but fewer than `minBinRows`.
        "missing": shown.missing,
        "invalid": shown.invalid,
        "outside": shown.outside,
        "referenceRows": column.reference.rows,
        "referenceMissing": shown.reference_missing,
        # Not for a handful of rows, whose distribution might tell of one person.
        "bins": []
        if drift is None
        else [_describe_bin(item) for item in describe_bins(column, show_all, min_bin_rows)],
    }


def _describe_bin(item: Bin) -> dict[str, Any]:
    return {"label": item.label, "reference": round(item.reference, 6), "window": round(item.window, 6)}
