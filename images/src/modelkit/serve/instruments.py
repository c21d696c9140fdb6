"""Counters and histograms for the hot path: plain numbers that Prometheus' client reads when it is scraped.

A request makes half a dozen observations. The client's own instruments take about a microsecond each, because each
has a lock of its own and keeps its value behind a method call; these take a fraction of it. Whoever counts holds the
one lock of the owner (see `metrics.ServerMetrics`), so that a scrape sees all numbers of one moment.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString


class Buckets:
    """One histogram's counts over fixed upper bounds; a value belongs to the first bound that isn't below it."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        """Ascending and finite; the last bucket, up to infinity, is added."""
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one finite value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: NDArray[np.float64]) -> None:
        """Count finite values [n]."""
        found = np.bincount(np.searchsorted(self.bounds, values), minlength=len(self.counts))
        self.counts = [old + new for old, new in zip(self.counts, found.tolist(), strict=True)]
        self.sum += float(values.sum())

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def add_to(self, coarser: "Buckets") -> None:
        """Count the same values in `coarser`, all of whose bounds must be bounds of this one."""
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            if count:
                coarser.counts[bisect_left(coarser.bounds, bound)] += count
        coarser.sum += self.sum

    def cumulative(self) -> list[tuple[str, int]]:
        """Each upper bound and how many values are at most that, as Prometheus wants them."""
        below, result = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            result.append((floatToGoString(bound), below))  # type: ignore[no-untyped-call]
        return result


def build_histogram(
    name: str, text: str, labels: Sequence[str], series: Mapping[tuple[str, ...], Buckets]
) -> HistogramMetricFamily:
    """What a scrape shows of a histogram: its buckets by label values."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, buckets in series.items():
        family.add_metric(values, buckets.cumulative(), buckets.sum)
    return family


def build_counter(
    name: str, text: str, labels: Sequence[str], series: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily:
    """What a scrape shows of a counter: its values by label values; Prometheus' `_total` is added to the name."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in series:
        family.add_metric(values, count)
    return family
