"""Prometheus metrics of the server; the operator's analysis and dashboards read these names.

What is counted at every request is counted in plain numbers (see `instruments`) and read by a collector; what is
rare uses the client's own instruments. Every method may be called from any thread.
"""

from collections import Counter as Counts
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import add
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from modelkit.contract.environment import IN_FLIGHT_METRIC
from modelkit.contract.files import PROFILE
from modelkit.contract.service import LATENCY_BOUNDS
from modelkit.serve.instruments import Buckets, build_counter, build_histogram

LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds of a whole request: from an answer on the event loop to the default limit."""
_INFERENCE = (0.0001, 0.00025, *LATENCY)
"""Seconds of a model's call, or of the wait for one: the quickest models take less than the request around them."""
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
_REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128)
COUNTED_ROUTES = frozenset({"predict", "infer", "v1_predict", "grpc_infer", "raw"})
"""Clients' inference, as /metrics names it."""
MAX_CLASSES = 100
"""Classes with a time series of their own; further ones are counted together as `other`."""
OTHER_CLASSES = "other"
_MAX_BINS = 50
"""Of a regression's predictions."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Counted requests."""

    codes: Counts[int | str]
    latency: tuple[int, ...]
    """By bucket of LATENCY, whatever the code."""

    def since(self, before: "Answers") -> "Answers":
        """What came after `before`."""
        latency = tuple(now - old for now, old in zip(self.latency, before.latency, strict=True))
        return Answers(self.codes - before.codes, latency)


class ServerMetrics:
    """One registry per server, so that tests can run several in a process."""

    def __init__(self, *, model: str, version: str, digest: str) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.registry = registry
        self._lock = Lock()
        self._rows = 0
        self._requests: dict[tuple[str, int | str], Buckets] = {}
        """Times by route and code, over LATENCY_BOUNDS: everything else that is told of requests follows from it."""
        self._batch_rows = Buckets(_ROWS)
        self._batch_requests = Buckets(_REQUESTS)
        self._inference = Buckets(_INFERENCE)
        self._waited = Buckets(_INFERENCE)
        self._rejected: dict[str, int] = {}
        self._classes: dict[Any, int] = {}
        self._others = 0
        self._values: Buckets | None = None
        registry.register(_HotPath(self))
        self.in_flight = Gauge(IN_FLIGHT_METRIC, "Inference requests being answered.", registry=registry)
        self.queued = Gauge(
            "modelloop_queue_requests", "Inference requests that wait for the model.", registry=registry
        )
        self.connections = Gauge("modelloop_connections", "Open client connections.", registry=registry)
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
        self.expired = Counter(
            "modelloop_capture_expired_segments",
            "Segments removed because they were older than the retention.",
            ["stream"],
            registry=registry,
        )
        self.expiry_failures = Counter(
            "modelloop_capture_expiry_failures",
            "Failed attempts to remove old segments.",
            ["stream"],
            registry=registry,
        )
        self._capture_queue = Gauge(
            "modelloop_capture_queue_rows", "Rows waiting to be written.", ["stream"], registry=registry
        )
        Gauge(
            "modelloop_model_info",
            "The version that is served; always 1.",
            ["model", "version", "digest"],
            registry=registry,
        ).labels(model, version, digest).set(1)

    def observe_request(self, route: str, code: int | str, seconds: float) -> None:
        """Count one answered request: an HTTP status, or a gRPC code's name such as `OK`.

        `route` is one of the server's own names, never a client's path.
        """
        key = (route, code)
        with self._lock:
            found = self._requests.get(key)
            if found is None:
                found = self._requests[key] = Buckets(LATENCY_BOUNDS)
            found.observe(seconds)

    def read_answers(self, routes: Collection[str]) -> "Answers":
        """What was counted of `routes` so far."""
        codes: Counts[int | str] = Counts()
        latency = Buckets(LATENCY)
        with self._lock:
            for (route, code), found in self._requests.items():
                if route in routes:
                    codes[code] += found.count
                    found.add_to(latency)
        return Answers(codes, tuple(latency.counts))

    def read_times(self, routes: Collection[str]) -> dict[int | str, list[int]]:
        """How many requests of `routes` there were so far, by code and by bucket of LATENCY_BOUNDS."""
        times: dict[int | str, list[int]] = {}
        with self._lock:
            for (route, code), found in self._requests.items():
                if route in routes:
                    before = times.get(code)
                    counts = found.counts
                    times[code] = counts[:] if before is None else list(map(add, before, counts))
        return times

    def observe_batch(self, rows: int, requests: int, seconds: float) -> None:
        """Count one call of the model, that took `seconds` for `rows` of so many `requests`."""
        with self._lock:
            self._batch_rows.observe(rows)
            self._batch_requests.observe(requests)
            self._inference.observe(seconds)

    def observe_wait(self, seconds: float) -> None:
        """Count how long a request waited between being parsed and its model's call."""
        with self._lock:
            self._waited.observe(seconds)

    def observe_rejection(self, reason: str) -> None:
        """Count a request that was refused; `reason` is an error class's name without `Error`, or of a fixed set."""
        with self._lock:
            self._rejected[reason] = self._rejected.get(reason, 0) + 1

    def declare_classes(self, classes: Sequence[Any] | None) -> None:
        """Give every class its counter; a regression has none."""
        self._classes = dict.fromkeys((classes or ())[:MAX_CLASSES], 0)

    def declare_bins(self, edges: Sequence[float]) -> None:
        """Give a regression's predictions their histogram, over finite `edges` that never change for the version."""
        bounds = sorted({float(edge) for edge in edges if isfinite(edge)})[:_MAX_BINS]
        self._values = Buckets(bounds) if bounds else None

    def observe_predictions(self, predictions: Sequence[Any]) -> None:
        """Count the rows of one answer: by class for a classification, over the declared bins for a regression."""
        with self._lock:
            self._rows += len(predictions)
            if self._classes:
                self._count_classes(predictions)
            elif self._values is not None:
                if len(predictions) == 1:
                    self._values.observe(predictions[0])
                else:
                    self._values.observe_all(np.asarray(predictions, dtype=np.float64))

    def watch_queue(self, stream: str, waiting: Callable[[], int]) -> None:
        """Report the rows that `waiting()` counts."""
        self._capture_queue.labels(stream).set_function(waiting)

    def _count_classes(self, predictions: Sequence[Any]) -> None:
        counted = self._classes
        if len(predictions) == 1:
            label = predictions[0]
            if label in counted:
                counted[label] += 1
            else:
                self._others += 1
            return
        for label, count in Counts(predictions).items():
            if label in counted:
                counted[label] += count
            else:
                self._others += count


def prediction_edges(directory: Path) -> list[float]:
    """The bins of a regression's predictions in a verified version: those of its profile; none without a profile."""
    try:
        edges = orjson.loads((directory / PROFILE).read_bytes())["predictions"]["edges"]
        return [float(edge) for edge in edges]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return []  # A custom training may have written another profile or none: the server doesn't need it.


class _HotPath(Collector):
    """Shows the plain numbers of a ServerMetrics to a scrape."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        """See prometheus_client.registry.Collector."""
        with self._metrics._lock:
            families = list(self._families())
        yield from families

    def _families(self) -> Iterator[Any]:
        found = self._metrics
        yield build_counter(
            "modelloop_requests",
            "Requests by route and HTTP status or gRPC code.",
            ["route", "code"],
            (((route, str(code)), times.count) for (route, code), times in found._requests.items()),
        )
        yield build_histogram(
            "modelloop_request_duration_seconds",
            "Time from the request's head to its answer.",
            ["route"],
            self._latency(),
        )
        yield build_histogram(
            "modelloop_inference_duration_seconds", "Time of one call of the model.", [], {(): found._inference}
        )
        yield build_histogram("modelloop_batch_rows", "Rows in one call of the model.", [], {(): found._batch_rows})
        yield build_histogram(
            "modelloop_batch_requests", "Requests answered by one call of the model.", [], {(): found._batch_requests}
        )
        yield build_histogram(
            "modelloop_queue_duration_seconds", "Time that a request waited for the model.", [], {(): found._waited}
        )
        yield build_counter(
            "modelloop_rejected_requests",
            "Requests refused by reason.",
            ["reason"],
            (((reason,), count) for reason, count in found._rejected.items()),
        )
        yield build_counter("modelloop_rows", "Rows answered.", [], [((), found._rows)])
        classes = [((str(label),), count) for label, count in found._classes.items()]
        if found._others:
            classes.append(((OTHER_CLASSES,), found._others))
        yield build_counter("modelloop_predictions", "Rows answered by predicted class.", ["class"], classes)
        if found._values is not None:
            yield build_histogram(
                "modelloop_prediction_value",
                "Predictions of a regression, over bins that are frozen in the version.",
                [],
                {(): found._values},
            )

    def _latency(self) -> dict[tuple[str, ...], Buckets]:
        """By route, whatever the code."""
        latency: dict[tuple[str, ...], Buckets] = {}
        for (route, _), times in self._metrics._requests.items():
            times.add_to(latency.setdefault((route,), Buckets(LATENCY)))
        return latency


class StreamMetrics:
    """What the writer of one stream counts (see capture.WriterMetrics)."""

    def __init__(self, metrics: ServerMetrics, stream: str) -> None:
        self._wrote = metrics.captured.labels(stream)
        self._lost = metrics.lost.labels(stream)
        self._failed = metrics.write_failures.labels(stream)
        self._expired = metrics.expired.labels(stream)
        self._expiry_failed = metrics.expiry_failures.labels(stream)

    def wrote(self, rows: int) -> None:
        """Rows that are in the store."""
        self._wrote.inc(rows)

    def lost(self, rows: int) -> None:
        """Rows that were accepted but can't be written."""
        self._lost.inc(rows)

    def failed(self) -> None:
        """An attempt to write that failed."""
        self._failed.inc()

    def expired(self, segments: int) -> None:
        """Old segments that were removed."""
        self._expired.inc(segments)

    def expiry_failed(self) -> None:
        """An attempt to remove old segments that failed."""
        self._expiry_failed.inc()
