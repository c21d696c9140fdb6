"""What Prometheus gets to see of a rollout in this pod. Counts go on over all measurements. On the event loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modelkit.serve.instruments import Buckets, build_counter, build_histogram
from modelkit.serve.metrics import LATENCY


@dataclass(frozen=True, slots=True)
class RouteState:
    """The route in effect."""

    revision: str = ""
    other: str = ""
    weight: float = 0.0


class RouteMetrics(Collector):
    """Plain numbers that are read when they are scraped, as in serve.metrics."""

    def __init__(self, registry: CollectorRegistry, read_state: Callable[[], RouteState] = RouteState) -> None:
        self._read_state = read_state
        self._requests: dict[tuple[str, ...], int] = {}
        self._copies: dict[tuple[str, ...], int] = {}
        self._labels: dict[tuple[str, ...], int] = {}
        self._latency: dict[tuple[str, ...], Buckets] = {}
        registry.register(self)

    def count_request(self, to: str, outcome: str) -> None:
        """A request that `to`, own or other, was the first to be asked."""
        key = (to, outcome)
        self._requests[key] = self._requests.get(key, 0) + 1

    def count_copy(self, outcome: str) -> None:
        """A request of the comparison."""
        self._copies[outcome,] = self._copies.get((outcome,), 0) + 1

    def count_labels(self, outcome: str, rows: int) -> None:
        """Labels of /feedback."""
        if rows:
            self._labels[outcome,] = self._labels.get((outcome,), 0) + rows

    def observe(self, to: str, seconds: float) -> None:
        """How long one's answer took."""
        buckets = self._latency.get((to,))
        if buckets is None:
            buckets = self._latency[to,] = Buckets(LATENCY)
        buckets.observe(seconds)

    def collect(self) -> Iterator[Any]:
        """See prometheus_client.registry.Collector."""
        state = self._read_state()
        yield build_counter(
            "modelloop_route_requests",
            "Requests under a rule by the version that was asked first and what became of that.",
            ["to", "outcome"],
            self._requests.items(),
        )
        yield build_counter(
            "modelloop_route_copies",
            "Requests of the comparison between versions.",
            ["outcome"],
            self._copies.items(),
        )
        yield build_counter("modelloop_route_labels", "Labels of compared rows.", ["outcome"], self._labels.items())
        yield build_histogram(
            "modelloop_route_duration_seconds", "Time of a version's answer under a rule.", ["to"], self._latency
        )
        weight = GaugeMetricFamily("modelloop_route_weight", "Share of requests for the other version, in per cent.")
        weight.add_metric([], state.weight)
        yield weight
        info = GaugeMetricFamily(
            "modelloop_route_info", "The route in effect; 1 while there is one.", labels=["revision", "other"]
        )
        info.add_metric([state.revision, state.other], 1.0 if state.revision else 0.0)
        yield info
