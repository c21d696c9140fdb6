"""How far a column's window is from its reference, by the method that the monitor asks for, with the method's own test.

Over cells (PopulationStability, JensenShannon, ChiSquared) the test is Pearson's chi-squared; over the order of the
values (KolmogorovSmirnov, Wasserstein) it is that of Kolmogorov and Smirnov. A column to which a method doesn't apply
gets JensenShannon.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

from numpy.typing import NDArray

from modelkit.contract.monitoring import DriftConfig
from modelkit.monitor.counts import Column
from modelkit.monitor.distances import (
    cramers_v,
    entry_positions,
    expected_by_chance,
    jensen_shannon,
    kolmogorov_smirnov,
    wasserstein,
)
from modelkit.monitor.statistics import chi_square_p_value, pool_cells, stability_index

Counts = NDArray[Any]

AUTO = "Auto"
POPULATION_STABILITY, JENSEN_SHANNON = "PopulationStability", "JensenShannon"
KOLMOGOROV_SMIRNOV, CHI_SQUARED, WASSERSTEIN = "KolmogorovSmirnov", "ChiSquared", "Wasserstein"


@dataclass(frozen=True, slots=True)
class Method:
    """One way to measure, in words."""

    name: str
    short: str
    """Before a distance, in a message."""
    limit: float
    """The usual one."""


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(POPULATION_STABILITY, "PSI", 0.2),
        Method(JENSEN_SHANNON, "Jensen-Shannon distance", 0.1),
        Method(KOLMOGOROV_SMIRNOV, "Kolmogorov-Smirnov D", 0.1),
        Method(CHI_SQUARED, "Cramér's V", 0.1),
        Method(WASSERSTEIN, "Wasserstein distance in standard deviations", 0.1),
    )
}
"""By name; all of the contract's but Auto."""


def configured_method(config: DriftConfig) -> Method:
    """The method for the columns that it fits.

    Auto is the population stability index with the chi-squared test for every column and any number of rows: pooling
    the cells already follows the number of rows, and in simulations nothing finds all kinds of change better (the table
    is in docs/monitoring/drift.md).
    """
    return METHODS[POPULATION_STABILITY if config.method == AUTO else config.method]


def choose_method(config: DriftConfig, column: Column) -> Method:
    """The method for one column: the configured one, or where it doesn't fit the Jensen-Shannon distance."""
    method = configured_method(config)
    needs_order = method.name in (KOLMOGOROV_SMIRNOV, WASSERSTEIN)
    # A constant of the reference has no standard deviation to measure in.
    fits = column.ordered and (method.name != WASSERSTEIN or bool(column.entry["std"]))
    return METHODS[JENSEN_SHANNON] if needs_order and not fits else method


def limit_of(config: DriftConfig, method: Method) -> float:
    """The effect-size floor: as configured, or the usual one of the method."""
    return method.limit if config.max_distance is None else config.max_distance


def measure(column: Column, method: Method) -> tuple[float, float]:
    """Distance and p-value; (0, 1) when there is nothing to compare."""
    return _MEASURES[method.name](column)


def _population_stability(column: Column) -> tuple[float, float]:
    cells = _pool(column)
    return stability_index(*cells), chi_square_p_value(*cells)


def _jensen_shannon(column: Column) -> tuple[float, float]:
    cells = _pool(column)
    if len(cells[0]) < 2:
        return 0.0, 1.0
    chance = expected_by_chance(*cells) / (8 * log(2))
    return sqrt(max(0.0, jensen_shannon(*cells) ** 2 - chance)), chi_square_p_value(*cells)


def _chi_squared(column: Column) -> tuple[float, float]:
    reference, window = _pool(column)
    if len(reference) < 2:
        return 0.0, 1.0
    # Of shares: V of the counts is small whenever one side has far more rows.
    v = cramers_v(reference / reference.sum(), window / window.sum())
    chance = expected_by_chance(reference, window) / 4
    return sqrt(max(0.0, v**2 - chance)), chi_square_p_value(reference, window)


def _kolmogorov_smirnov(column: Column) -> tuple[float, float]:
    return kolmogorov_smirnov(column.reference.counts, column.window.counts)


def _wasserstein(column: Column) -> tuple[float, float]:
    positions = entry_positions(column.entry) / column.entry["std"]
    distance = wasserstein(column.reference.counts, column.window.counts, positions)
    return distance, kolmogorov_smirnov(column.reference.counts, column.window.counts)[1]


def _pool(column: Column) -> tuple[Counts, Counts]:
    return pool_cells(column.reference.counts, column.window.counts, column.ordered)


_MEASURES: Mapping[str, Callable[[Column], tuple[float, float]]] = {
    POPULATION_STABILITY: _population_stability,
    JENSEN_SHANNON: _jensen_shannon,
    KOLMOGOROV_SMIRNOV: _kolmogorov_smirnov,
    CHI_SQUARED: _chi_squared,
    WASSERSTEIN: _wasserstein,
}
