"""The statistics behind the checks: pure functions of counts, no thresholds and no opinion.

Every function takes counts, so that it doesn't matter how and where they were counted. p-values equal scipy's
on the same counts; they are computed here because `scipy.stats` takes longer to import than a window to
check.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaln, chdtrc, gammaln

Counts = NDArray[Any]

MIN_EXPECTED = 4.0
"""Cells are pooled until the window is expected to have this many rows in each: below it the chi-squared
distribution describes the statistic badly (Cochran 1954)."""
CHANCE = 1e-6
"""A rare cell is kept apart from the others only when its count is less probable than this without drift: so
small that it holds over the cells of hundreds of features."""


def pool_cells(reference: Counts, window: Counts, ordered: bool) -> tuple[Counts, Counts]:
    """Pool cells in which too few window rows are expected; returns the pooled counts of both samples.

    `ordered` cells (bins of a number) are pooled with their neighbours, others (categories) from the rarest
    on. A rare cell that the window fills far beyond chance stays apart: pooled, the drift in it would be
    hidden.
    """
    total, rows = reference.sum(), window.sum()
    if total == 0 or rows == 0:
        return reference[:0], window[:0]
    expected = reference * (rows / total)
    # Without drift, a cell's rows fall into the two samples in proportion to their sizes.
    chance = bdtrc(window - 1.0, reference + window, rows / (rows + total))
    surprising = (expected < MIN_EXPECTED) & (window > 0) & (chance < CHANCE)
    usual = np.flatnonzero(~surprising)
    if not ordered:
        usual = usual[np.argsort(expected[usual], kind="stable")]
    groups = _accumulate(expected, usual) + [[int(cell)] for cell in np.flatnonzero(surprising)]
    return _sum_groups(reference, groups), _sum_groups(window, groups)


def _sum_groups(counts: Counts, groups: Sequence[Sequence[int]]) -> Counts:
    numbers = counts.tolist()
    return np.array([sum(numbers[cell] for cell in group) for group in groups], dtype=np.int64)


def _accumulate(expected: Counts, cells: Counts) -> list[list[int]]:
    groups: list[list[int]] = []
    current: list[int] = []
    gathered = 0.0
    sizes = expected.tolist()
    for cell in cells.tolist():
        current.append(cell)
        gathered += sizes[cell]
        if gathered >= MIN_EXPECTED:
            groups.append(current)
            current, gathered = [], 0.0
    if current and groups:
        groups[-1] += current
    elif current:
        groups.append(current)
    return groups


def chi_square_p_value(reference: Counts, window: Counts) -> float:
    """p-value of Pearson's chi-squared test that two samples of counts come from one distribution.

    Equals `scipy.stats.chi2_contingency([reference, window], correction=False)`; cells that are empty in both
    are left out. 1.0 when there is nothing to compare.
    """
    used = (reference + window) > 0
    table = np.stack([reference[used], window[used]]).astype(np.float64)
    totals = table.sum(axis=1)
    if table.shape[1] < 2 or (totals == 0).any():
        return 1.0
    expected = totals[:, None] * table.sum(axis=0)[None, :] / totals.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return float(chdtrc(table.shape[1] - 1, statistic))


def stability_index(reference: Counts, window: Counts) -> float:
    """Population stability index of two samples of counts, freed from what chance alone adds; at least 0.

    `sum((p - q) * ln(p / q))` over the shares p and q, half a row added to each cell so that empty ones stay
    finite. Two samples of n and m rows of one distribution over k cells have the index `(k - 1) * (1/n +
    1/m)` on average (Yurdakul 2018), 0.2 at 50 rows against 455 in 10 bins; it is subtracted.
    """
    rows, total, cells = window.sum(), reference.sum(), len(reference)
    if cells < 2 or rows == 0 or total == 0:
        return 0.0
    actual = (window + 0.5) / (rows + 0.5 * cells)
    expected = (reference + 0.5) / (total + 0.5 * cells)
    index = float(((actual - expected) * np.log(actual / expected)).sum())
    return max(0.0, index - float((cells - 1) * (1 / rows + 1 / total)))


def discoveries(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which hypotheses are rejected at the false-discovery rate `rate` (Benjamini and Hochberg 1995).

    When none of them is true, the chance of any rejection is at most `rate`.
    """
    if not p_values:
        return []
    ordered = np.sort(np.asarray(p_values, dtype=np.float64))
    passed = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / len(ordered))
    limit = float(ordered[passed[-1]]) if len(passed) else -1.0
    return [p_value <= limit for p_value in p_values]


def excess_p_value(count: int, rows: int, reference_count: int, reference_rows: int) -> float:
    """One-sided p-value of Fisher's exact test that the window's share isn't above the reference's.

    Equals `scipy.stats.fisher_exact([[count, rows - count], …], alternative="greater")`.
    """
    if rows == 0 or reference_rows == 0 or count == 0:
        return 1.0
    marked, everything = count + reference_count, rows + reference_rows
    possible = np.arange(count, min(marked, rows) + 1)
    logs = (
        _log_binomial(marked, possible)
        + _log_binomial(everything - marked, rows - possible)
        - _log_binomial(everything, np.asarray(rows))
    )
    return float(min(1.0, np.exp(logs).sum()))


def recurrence_p_value(marked: int, rows: int, again: int) -> float:
    """Chance that the next `again` rows are all marked, when `marked` of `rows` were.

    The share of marked rows isn't taken for known: this is the beta-binomial chance after a flat prior (Laplace's rule
    of succession), `B(marked + 1 + again, rows - marked + 1) / B(marked + 1, rows - marked + 1)`.
    """
    others = rows - marked + 1
    return float(np.exp(betaln(marked + 1 + again, others) - betaln(marked + 1, others)))


def _log_binomial(total: int, chosen: Counts) -> NDArray[np.float64]:
    result: NDArray[np.float64] = gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1)
    return result
