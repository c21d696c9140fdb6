"""Registers with kopf what is watched. An event only updates the cache, which wakes the keys that depend on it.

kopf's create and update handlers are not used: they are edge-triggered, and a lost event would be a lost change.
"""

import logging
from typing import Any

import kopf

from modelloop.cluster.cluster import Cluster
from modelloop.cluster.resources import CHILDREN, CUSTOM, Resource
from modelloop.cluster.telemetry import WATCH_EVENTS
from modelloop.desired.labels import SELECTOR


def build_registry(cluster: Cluster) -> kopf.OperatorRegistry:
    """One event watcher per kind."""
    registry = kopf.OperatorRegistry()
    for resource in (*CUSTOM, *CHILDREN):
        _watch(registry, resource, cluster)
    kopf.on.login(registry=registry, retries=5)(_login)
    return registry


def _watch(registry: kopf.OperatorRegistry, resource: Resource, cluster: Cluster) -> None:
    counter = WATCH_EVENTS.labels(resource.kind)

    async def on_event(event: Any, **_: Any) -> None:
        counter.inc()
        if event["type"] == "DELETED":
            cluster.observe_deletion(resource.kind, event["object"])
        else:
            cluster.observe(resource.kind, event["object"])

    kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=f"watch-{resource.plural}")(
        on_event
    )


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing: kopf would copy and compare every object of every event for handlers that don't exist here."""

    def build(self, **_: object) -> kopf.BodyEssence:
        """An essence in which nothing ever differs."""
        return kopf.BodyEssence({})

    def fetch(self, **_: object) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None

    def store(self, **_: object) -> None:
        """Stores nothing."""


def build_kopf_settings() -> kopf.OperatorSettings:
    """kopf's settings for production use."""
    settings = kopf.OperatorSettings()
    settings.process.ultimate_exiting_timeout = None  # __main__ bounds the stop
    settings.peering.standalone = True  # the Lease decides who is active
    settings.posting.level = logging.WARNING
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 630
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.persistence.finalizer = "modelloop.dev/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="modelloop.dev")
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.queueing.idle_timeout = 0.2
    settings.queueing.exit_timeout = 1.0
    for resource in CHILDREN:
        settings.watching.label_selectors[resource.group, resource.version, resource.plural] = SELECTOR
    return settings
