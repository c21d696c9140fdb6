"""Drift and PredictionDrift: do the window's values come from the distribution that the version learned?

A column drifted when the difference is significant *and* large. Significant: Pearson's chi-squared test over
the frozen bins, with the false-discovery rate controlled over all columns of the check. Large: the population
stability index, corrected for chance, above the limit. Either alone misleads: at fifty rows chance makes
large distances, at a million rows a difference that matters to nobody is significant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelkit.contract.monitoring import DriftConfig
from modelkit.contract.result import CheckResult, FeatureFinding
from modelkit.monitor.counts import Column
from modelkit.monitor.statistics import chi_square_p_value, discoveries, pool_cells, stability_index
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

MAX_STABILITY_INDEX = 0.2
"""Usual limit of the population stability index."""


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How one column of the window differs from the reference."""

    name: str
    distance: float
    """Population stability index, corrected for chance; 0 and up."""
    p_value: float
    rows: int
    """Window rows with a value."""
    drifted: bool


def compare_columns(columns: Sequence[Column], config: DriftConfig, min_rows: int) -> tuple[ColumnDrift, ...]:
    """Test every column that has at least `min_rows` values in the window; the others are left out."""
    tested = [column for column in columns if column.window.valid >= min_rows and column.reference.valid > 0]
    pooled = [pool_cells(column.reference.counts, column.window.counts, column.ordered) for column in tested]
    p_values = [chi_square_p_value(*cells) for cells in pooled]
    distances = [stability_index(*cells) for cells in pooled]
    significant = discoveries(p_values, config.false_discovery_rate)
    return tuple(
        ColumnDrift(column.name, distance, p_value, column.window.valid, is_real and distance > max_distance(config))
        for column, distance, p_value, is_real in zip(tested, distances, p_values, significant, strict=True)
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
    message = f"{drifted} of {plural(len(drifts), 'feature')} drifted; {_describe_worst(drifts, config)}"
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


def check_prediction_drift(drifts: Sequence[ColumnDrift], rows: int, config: DriftConfig, min_rows: int) -> CheckResult:
    """Breached when the predictions' or the scores' distribution drifted."""
    if rows < min_rows or not drifts:
        return too_few_rows(PREDICTION_DRIFT, rows, min_rows)
    breached = any(drift.drifted for drift in drifts)
    verb = "drifted" if breached else "did not drift"
    return CheckResult(
        name=PREDICTION_DRIFT,
        state=BREACHED if breached else OK,
        message=f"the predictions {verb}; {_describe_worst(drifts, config)}",
        value=round(max(drift.distance for drift in drifts), 6),
        limit=max_distance(config),
        rows=rows,
        worst=find_worst(drifts),
    )


def max_distance(config: DriftConfig) -> float:
    """The effect-size floor: as configured, or the usual one."""
    return MAX_STABILITY_INDEX if config.max_distance is None else config.max_distance


def rank(drifts: Sequence[ColumnDrift]) -> list[ColumnDrift]:
    """Worst first: drifted ones, then by distance."""
    return sorted(drifts, key=lambda drift: (not drift.drifted, -drift.distance, drift.name))


def find_worst(drifts: Sequence[ColumnDrift]) -> tuple[FeatureFinding, ...]:
    """The five largest distances above 0."""
    return tuple(
        FeatureFinding(name=drift.name, value=round(drift.distance, 6))
        for drift in rank(drifts)[:5]
        if drift.distance > 0
    )


def _describe_worst(drifts: Sequence[ColumnDrift], config: DriftConfig) -> str:
    worst = rank(drifts)[0]
    if worst.drifted:
        sign, why = ">", ""
    elif worst.distance > max_distance(config):
        sign, why = ">", f", which chance explains (p {format_p_value(worst.p_value, sign=True)})"
    else:
        sign, why = "≤", ""
    distance, limit = format_number(worst.distance), format_number(max_distance(config))
    return f"worst: {worst.name!r} PSI {distance} {sign} {limit}{why}"
