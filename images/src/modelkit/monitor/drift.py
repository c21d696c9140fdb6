"""Drift and PredictionDrift: do the window's values come from the distribution that the version learned?

A column drifted when the difference is significant *and* large. Significant: the test of the method (`methods`)
over the frozen bins, with the false-discovery rate controlled over all columns of the check. Large: the method's
distance above its limit. Either alone misleads: at fifty rows chance makes large distances, at a million rows a
difference that matters to nobody is significant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelkit.contract.monitoring import DriftConfig
from modelkit.contract.result import CheckResult, FeatureFinding
from modelkit.monitor.counts import Column
from modelkit.monitor.methods import METHODS, choose_method, configured_method, limit_of, measure
from modelkit.monitor.statistics import discoveries
from modelkit.monitor.wording import (
    BREACHED,
    OK,
    UNKNOWN,
    format_number,
    format_p_value,
    format_share,
    plural,
    too_few_rows,
)

DRIFT, PREDICTION_DRIFT = "Drift", "PredictionDrift"


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How one column of the window differs from the reference."""

    name: str
    distance: float
    """By `method`; 0 and up."""
    p_value: float
    """Of the method's test."""
    rows: int
    """Window rows with a value."""
    drifted: bool
    method: str
    """One of the contract's METHODS but Auto: the one that was used for this column."""
    limit: float
    """The distance above which a significant difference is drift."""


def compare_columns(columns: Sequence[Column], config: DriftConfig, min_rows: int) -> tuple[ColumnDrift, ...]:
    """Test every column that has at least `min_rows` values in the window; the others are left out."""
    tested = [column for column in columns if column.window.valid >= min_rows and column.reference.valid > 0]
    methods = [choose_method(config, column) for column in tested]
    measured = [measure(column, method) for column, method in zip(tested, methods, strict=True)]
    significant = discoveries([p_value for _, p_value in measured], config.false_discovery_rate)
    return tuple(
        ColumnDrift(
            name=column.name,
            distance=distance,
            p_value=p_value,
            rows=column.window.valid,
            drifted=is_real and distance > limit_of(config, method),
            method=method.name,
            limit=limit_of(config, method),
        )
        for column, method, (distance, p_value), is_real in zip(tested, methods, measured, significant, strict=True)
    )


def check_drift(
    drifts: Sequence[ColumnDrift], features: int, rows: int, config: DriftConfig, min_rows: int
) -> CheckResult:
    """Breached when more than `max_drifted_share` of the tested features drifted; Unknown when none was
    tested."""
    if rows < min_rows:
        return too_few_rows(DRIFT, rows, min_rows)
    if not drifts:
        return CheckResult(
            name=DRIFT, state=UNKNOWN, message=f"no feature has {min_rows:,} values in the window", rows=rows
        )
    drifted = sum(drift.drifted for drift in drifts)
    share = drifted / len(drifts)
    breached = share > config.max_drifted_share
    message = f"{drifted} of {plural(len(drifts), 'feature')} drifted; {_describe_worst(drifts)}"
    if config.max_drifted_share > 0:
        message += f"; at most {format_share(config.max_drifted_share)} of the features may drift"
    if features > len(drifts):
        message += f"; {plural(features - len(drifts), 'feature')} with too few values not tested"
    return CheckResult(
        name=DRIFT,
        state=BREACHED if breached else OK,
        message=message,
        value=round(share, 6),
        limit=config.max_drifted_share,
        rows=rows,
        worst=find_worst(drifts),
    )


def check_prediction_drift(drifts: Sequence[ColumnDrift], rows: int, min_rows: int) -> CheckResult:
    """Breached when the predictions' or the scores' distribution drifted."""
    if rows < min_rows or not drifts:
        return too_few_rows(PREDICTION_DRIFT, rows, min_rows)
    breached = any(drift.drifted for drift in drifts)
    verb = "drifted" if breached else "did not drift"
    return CheckResult(
        name=PREDICTION_DRIFT,
        state=BREACHED if breached else OK,
        message=f"the predictions {verb}; {_describe_worst(drifts)}",
        value=round(rank(drifts)[0].distance, 6),
        limit=rank(drifts)[0].limit,
        rows=rows,
        worst=find_worst(drifts),
    )


def max_distance(config: DriftConfig) -> float:
    """The effect-size floor of the columns that the configured method fits."""
    return limit_of(config, configured_method(config))


def rank(drifts: Sequence[ColumnDrift]) -> list[ColumnDrift]:
    """Worst first: drifted ones, then by distance. Two methods are compared by their usual limits."""
    return sorted(
        drifts, key=lambda drift: (not drift.drifted, -drift.distance / METHODS[drift.method].limit, drift.name)
    )


def find_worst(drifts: Sequence[ColumnDrift]) -> tuple[FeatureFinding, ...]:
    """The five largest distances above 0."""
    return tuple(
        FeatureFinding(name=drift.name, value=round(drift.distance, 6))
        for drift in rank(drifts)[:5]
        if drift.distance > 0
    )


def _describe_worst(drifts: Sequence[ColumnDrift]) -> str:
    worst = rank(drifts)[0]
    if worst.drifted:
        sign, why = ">", ""
    elif worst.distance > worst.limit:
        sign, why = ">", f", which chance explains (p {format_p_value(worst.p_value, sign=True)})"
    else:
        sign, why = "≤", ""
    distance, limit = format_number(worst.distance), format_number(worst.limit)
    return f"worst: {worst.name!r} {METHODS[worst.method].short} {distance} {sign} {limit}{why}"
