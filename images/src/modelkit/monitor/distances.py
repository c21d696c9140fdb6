"""How far two samples of counts over the same bins are apart: pure functions of counts.

Each equals scipy's on the binned data, where a bin stands for one position. What chance alone adds is
for the caller to judge: by a test's p-value, or by a limit well above it.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[Any]


def expected_by_chance(reference: Counts, window: Counts) -> float:
    """What chance makes of `sum((p - q)**2 / p)` over the shares p and q of two samples of one distribution.

    `(k - 1) * (1/n + 1/m)` for n and m rows over k cells (Yurdakul 2018). The squared Jensen-Shannon distance to base 2
    is 1/8 of the sum over ln 2 when the samples are close, and the squared V of the shares a quarter of it.
    """
    return (len(reference) - 1) * (1 / float(reference.sum()) + 1 / float(window.sum()))


def jensen_shannon(reference: Counts, window: Counts) -> float:
    """Jensen-Shannon distance, the square root of the divergence to base 2, from 0 to 1; 0 without rows.

    Equals `scipy.spatial.distance.jensenshannon(reference, window, base=2)` (Endres and Schindelin 2003).
    """
    if not reference.sum() or not window.sum():
        return 0.0
    p, q = reference / reference.sum(), window / window.sum()
    middle = (p + q) / 2
    divergence = (_entropy_to(p, middle) + _entropy_to(q, middle)) / 2
    return sqrt(max(0.0, divergence))


def kolmogorov_smirnov(reference: Counts, window: Counts) -> tuple[float, float]:
    """Largest difference of the two distribution functions over ordered bins, and its p-value.

    Equals `scipy.stats.ks_2samp(…, method="asymp")` on the binned data. Values within a bin count as equal, which makes
    the p-value larger than that of the values themselves, never smaller by more than chance. (0, 1) without rows.
    """
    total, rows = int(reference.sum()), int(window.sum())
    if not total or not rows:
        return 0.0, 1.0
    difference = float(np.abs(np.cumsum(reference) / total - np.cumsum(window) / rows).max())
    from scipy.stats import kstwo  # late: it takes longer to import than most windows to check

    larger, smaller = max(total, rows), min(total, rows)
    size = larger * smaller / (larger + smaller)
    return difference, float(np.clip(kstwo.sf(difference, max(1.0, np.round(size))), 0.0, 1.0))


def wasserstein(reference: Counts, window: Counts, positions: NDArray[np.float64]) -> float:
    """Earth mover's distance between two samples over ordered bins at ascending `positions` [bins], in their unit.

    Equals `scipy.stats.wasserstein_distance(positions, positions, reference, window)`; 0 without rows.
    """
    if not reference.sum() or not window.sum():
        return 0.0
    apart = np.abs(np.cumsum(reference) / reference.sum() - np.cumsum(window) / window.sum())
    return float((apart[:-1] * np.diff(positions)).sum())


def cramers_v(reference: Counts, window: Counts) -> float:
    """Cramér's V of the table of two samples, from 0 to 1: 0 without rows or with fewer than two used cells.

    Equals `scipy.stats.contingency.association([reference, window], "cramer")`. Of unequal samples it can't reach 1,
    however far they are apart: compare shares, which makes it a property of the distributions alone.
    """
    used = (reference + window) > 0
    table = np.stack([reference[used], window[used]]).astype(np.float64)
    totals = table.sum(axis=1)
    if table.shape[1] < 2 or (totals == 0).any():
        return 0.0
    expected = totals[:, None] * table.sum(axis=0)[None, :] / totals.sum()
    return sqrt(float(((table - expected) ** 2 / expected).sum()) / float(totals.sum()))


def entry_positions(entry: Mapping[str, Any]) -> NDArray[np.float64]:
    """Where the bins of a numeric profile entry stand: at the mean of the reference's values in each, which of a skewed
    outer bin is far from its middle; in a profile of an older release in their middle."""
    if entry.get("means"):
        return np.asarray(entry["means"], dtype=np.float64)
    return bin_positions(entry["edges"], entry["min"], entry["max"])


def bin_positions(edges: Sequence[float], low: float, high: float) -> NDArray[np.float64]:
    """Where the bins between ascending `edges` stand: in their middle, the outer ones reaching to `low` and `high`."""
    bounds = np.array([min(low, edges[0]) if len(edges) else low, *edges, max(high, edges[-1]) if len(edges) else high])
    return np.asarray((bounds[:-1] + bounds[1:]) / 2)


def _entropy_to(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Relative entropy of p to q in bits."""
    used = p > 0
    return float((p[used] * np.log2(p[used] / q[used])).sum())
