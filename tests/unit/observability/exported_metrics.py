"""The names of all series that the operator, a server and a trainer export, read from their registries."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from modelkit.serve.metrics import ServerMetrics, StreamMetrics
from modelkit.serve.rollout.metrics import RouteMetrics
from modelkit.train.progress import Progress
from modelloop.cluster import telemetry
from modelloop.cluster.state_metrics import StateCollector

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def find_exported() -> frozenset[str]:
    """Of all three."""
    return _operator() | _names(_build_server().collect()) | _names(Progress().registry.collect())


def _operator() -> frozenset[str]:
    # Metrics with labels have no samples before they are used, so that each is asked what it is.
    ours = [item for item in vars(telemetry).values() if isinstance(item, MetricWrapperBase)]
    described = [family for item in ours for family in item.describe()]
    states = StateCollector({}, datetime.now(UTC)).collect()
    return _names(REGISTRY.collect()) | _names(described) | _names(states)


def _build_server() -> CollectorRegistry:
    metrics = ServerMetrics(model="iris", version="1", digest="sha256:0")
    metrics.declare_bins([1.0])
    StreamMetrics(metrics, "requests")
    RouteMetrics(metrics.registry)
    return metrics.registry


def _names(families: Iterable[Any]) -> frozenset[str]:
    return frozenset(f"{family.name}{suffix}" for family in families for suffix in _SUFFIXES.get(family.type, ()))
