"""Prometheus metrics of the server; the operator's analysis and dashboards read these names.

Children of labelled metrics are looked up once, because a look-up costs more than the increment.
"""

from collections import Counter as Counts
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MAX_CLASSES = 100
"""Classes with a time series of their own; further ones are counted together as `other`."""


class ServerMetrics:
    """One registry per server, so that tests can run several in a process."""

    def __init__(self, *, model: str, version: str, digest: str) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.registry = registry
        self._requests = Counter(
            "modelloop_requests", "Requests by route and HTTP status.", ["route", "code"], registry=registry
        )
        self._latency = Histogram(
            "modelloop_request_duration_seconds",
            "Time from the request's head to its answer.",
            ["route"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.rows = Counter("modelloop_rows", "Rows answered.", registry=registry)
        self.in_flight = Gauge("modelloop_requests_in_flight", "Inference requests being answered.", registry=registry)
        self._predictions = Counter(
            "modelloop_predictions", "Rows answered by predicted class.", ["class"], registry=registry
        )
        self.captured = Counter(
            "modelloop_captured_rows", "Rows and labels written to the store.", ["stream"], registry=registry
        )
        self.dropped = Counter(
            "modelloop_capture_dropped_rows", "Rows not captured because the queue was full.", registry=registry
        )
        self.lost = Counter(
            "modelloop_capture_lost_rows",
            "Rows and labels that were accepted but could not be written before the pod stopped.",
            ["stream"],
            registry=registry,
        )
        self.feedback = Counter("modelloop_feedback", "Labels accepted.", registry=registry)
        self.write_failures = Counter(
            "modelloop_capture_write_failures", "Failed attempts to write a segment.", ["stream"], registry=registry
        )
        self._queue = Gauge(
            "modelloop_capture_queue_rows", "Rows waiting to be written.", ["stream"], registry=registry
        )
        Gauge(
            "modelloop_model_info",
            "The version that is served; always 1.",
            ["model", "version", "digest"],
            registry=registry,
        ).labels(model, version, digest).set(1)
        self._request_children: dict[tuple[str, int], Counter] = {}
        self._latency_children: dict[str, Histogram] = {}
        self._prediction_children: dict[Any, Counter] = {}

    def observe_request(self, route: str, code: int, seconds: float) -> None:
        """Count one answered request. `route` is one of the server's own names, never a client's path."""
        counter = self._request_children.get((route, code))
        if counter is None:
            counter = self._request_children[route, code] = self._requests.labels(route, str(code))
            self._latency_children[route] = self._latency.labels(route)
        counter.inc()
        self._latency_children[route].observe(seconds)

    def declare_classes(self, classes: Sequence[Any] | None) -> None:
        """Give every class its counter; a regression has none."""
        for label in (classes or ())[:_MAX_CLASSES]:
            self._prediction_children[label] = self._predictions.labels(str(label))

    def observe_predictions(self, predictions: Sequence[Any]) -> None:
        """Count the rows of one answer, and by class for a classification."""
        self.rows.inc(len(predictions))
        children = self._prediction_children
        if not children:
            return
        if len(predictions) == 1:
            self._of_class(predictions[0]).inc()
            return
        for label, count in Counts(predictions).items():
            self._of_class(label).inc(count)

    def watch_queue(self, stream: str, waiting: Callable[[], int]) -> None:
        """Report the rows that `waiting()` counts."""
        self._queue.labels(stream).set_function(waiting)

    def _of_class(self, label: Any) -> Counter:
        child = self._prediction_children.get(label)
        return child if child is not None else self._predictions.labels("other")


class StreamMetrics:
    """What the writer of one stream counts (see capture.WriterMetrics)."""

    def __init__(self, metrics: ServerMetrics, stream: str) -> None:
        self._wrote = metrics.captured.labels(stream)
        self._lost = metrics.lost.labels(stream)
        self._failed = metrics.write_failures.labels(stream)

    def wrote(self, rows: int) -> None:
        """Rows that are in the store."""
        self._wrote.inc(rows)

    def lost(self, rows: int) -> None:
        """Rows that were accepted but can't be written."""
        self._lost.inc(rows)

    def failed(self) -> None:
        """An attempt to write that failed."""
        self._failed.inc()
