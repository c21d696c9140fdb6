"""report.json: one window's verdicts and aggregates, for programs. Holds no value of any request.

Its fields are told in docs/monitoring/report.md.
"""

import json
from typing import Any

from modelkit.contract.codec import to_plain
from modelkit.contract.monitoring import MonitorConfig
from modelkit.monitor.bins import Bin, describe_bins, describe_counts
from modelkit.monitor.counts import Column
from modelkit.monitor.drift import ColumnDrift, max_distance
from modelkit.monitor.history import History
from modelkit.monitor.timeline import build_point
from modelkit.monitor.window import Examination
from modelkit.monitor.wording import overall_state

FORMAT = 2
"""1 had neither `state`, `timeline`, `decided` nor `evidence`, nor some of the limits."""
_PARTS = {
    "dataQuality": "data_quality",
    "drift": "drift",
    "multivariate": "multivariate",
    "quality": "quality",
    "estimatedQuality": "estimated_quality",
    "calibration": "calibration",
    "service": "service",
    "fairness": "fairness",
    "attribution": "attribution",
}
"""Of the configuration: what is told of each is its fields in camelCase."""
_EVIDENCE = {
    "estimatedQuality": "expected",
    "calibration": "reliability",
    "multivariate": "separation",
    "attribution": "attributions",
    "fairness": "fairness",
    "service": "service",
    "duplicates": "duplicates",
}
"""Of the examination: what each check has measured, its fields in camelCase; null where it wasn't looked at."""


def build_report(config: MonitorConfig, examination: Examination, history: History | None = None) -> bytes:
    """The content of report.json: the window as in the status, every feature and output with its bins, the timeline
    that ends with this window, and what the operator had decided by then."""
    history = history or History()
    counts, min_bin_rows = examination.counts, config.report.min_bin_rows
    drifts = {drift.name: drift for drift in (*examination.drifts, *examination.output_drifts)}
    report = {
        "format": FORMAT,
        "namespace": config.namespace,
        "monitor": config.name,
        "deployment": config.deployment,
        "state": overall_state(examination.result.checks),
        "limits": {
            "minRows": config.min_rows,
            "driftMethod": config.drift.method,
            "maxDistance": max_distance(config.drift),
            **{
                part: _camel_keys(to_plain(getattr(config, attribute)))
                for part, attribute in _PARTS.items()
                if getattr(config, attribute) is not None
            },
            "minBinRows": min_bin_rows,
        },
        "window": to_plain(examination.result),
        "skippedSegments": examination.skipped_segments,
        "redactedFeatures": list(examination.redacted),
        "quality": _quality(examination),
        "features": [_describe(column, drifts.get(column.name), min_bin_rows) for column in counts.features],
        "outputs": [_describe(column, drifts.get(column.name), min_bin_rows, True) for column in counts.outputs],
        "evidence": {
            part: _camel_keys(to_plain(getattr(examination, attribute))) for part, attribute in _EVIDENCE.items()
        },
        "timeline": [to_plain(point) for point in (*history.points, build_point(examination))],
        "decided": _decided(history),
    }
    return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False).encode()


def _camel_keys(plain: Any) -> Any:
    """Plain JSON types with the names of fields as this file writes them."""
    if isinstance(plain, dict):
        return {_camel(key): _camel_keys(value) for key, value in plain.items()}
    return [_camel_keys(item) for item in plain] if isinstance(plain, list) else plain


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _decided(history: History) -> dict[str, Any]:
    """What the operator had decided before it saw this window."""
    return {
        "conditions": [{"type": kind, **to_plain(found)} for kind, found in history.conditions.items()],
        "retrain": None if history.retrain is None else to_plain(history.retrain),
        "retrains": history.retrains,
        "requests": [to_plain(time) for time in history.request_times],
        "rollback": None if history.rollback is None else to_plain(history.rollback),
    }


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
