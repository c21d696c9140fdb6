"""Tells the pods of a ModelDeployment how they share its traffic, and has them read it at once.

Everything follows from the plan and from what the cache holds, in every pass: a pod that was told of another route,
or of none, is told again. The kubelet refreshes a pod's mounts when the pod changes, and else only after a minute or
more; so every change of the route ends with an annotation on each pod.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from modelkit.contract.route import PeerConfig, RouteConfig
from modelloop.api.deployment import ModelDeploymentSpec, ServedVersion
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import Cluster, Object
from modelloop.cluster.parse import find_status, is_owned_by
from modelloop.decide.route import ObservedReport, RoutePlan
from modelloop.desired.labels import DIGEST, ROUTE_REVISION_ANNOTATION
from modelloop.desired.names import digest_label, server_name
from modelloop.desired.route import build_peer, build_route, build_rule

_CONCURRENCY = 16
_PATIENCE = 2.0
"""Seconds after which a pod that still follows another route is told again; then twice as long."""
_MOST_AGAIN = 6
_AGAIN = "."
"""Between the revision and how often the pod was told of it again."""


def read_route(
    cache: Cache,
    key: Key,
    body: Object,
    spec: ModelDeploymentSpec,
    plan: RoutePlan,
    served: Iterable[ServedVersion],
) -> RouteConfig:
    """The plan with the addresses that the cache holds."""
    rules = {
        rule.digest: build_rule(
            spec,
            rule.other,
            weight=rule.weight,
            compare=rule.compare,
            is_guarded=rule.is_guarded,
            is_leaving=rule.is_leaving,
        )
        for rule in plan.rules
    }
    return build_route(plan.measurement, rules, _read_peers(cache, key, body, served), _read_pods(cache, key, rules))


def _read_peers(cache: Cache, key: Key, body: Object, served: Iterable[ServedVersion]) -> dict[str, PeerConfig]:
    """The versions whose Service has an address, by digest."""
    peers = {}
    for version in served:
        service = cache.get(Key("Service", key.namespace, server_name(key.name, version.digest)))
        if service is None or not is_owned_by(service, body):
            continue
        address = service.get("spec", {}).get("clusterIP")
        if address and address != "None":
            peers[version.digest] = build_peer(version.number, address)
    return peers


def _read_pods(cache: Cache, key: Key, digests: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Addresses of the Ready pods, by digest."""
    by_label = {digest_label(digest): digest for digest in digests}
    pods: dict[str, list[str]] = defaultdict(list)
    for pod in cache.children(key, "Pod") if by_label else ():
        status = pod.get("status", {})
        digest = by_label.get(pod["metadata"].get("labels", {}).get(DIGEST, ""))
        is_ready = find_status(status.get("conditions", []), "Ready").get("status") == "True"
        if digest is not None and is_ready and _has_mounts(pod):
            pods[digest].append(status["podIP"])
    return pods


def _has_mounts(pod: Object) -> bool:
    """Whether a pod is there whose mounts can be refreshed: those of one without an address are made yet."""
    status = pod.get("status", {})
    is_live = "deletionTimestamp" not in pod["metadata"] and status.get("phase") in ("Pending", "Running")
    return is_live and bool(status.get("podIP"))


@dataclass(slots=True)
class _Told:
    revision: str
    time: float
    again: int = 0


class RouteTeller:
    """Has the pods of a ModelDeployment read a route."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        # Only of pods that report, and only so that they aren't told again too often.
        self._told: dict[Key, dict[str, _Told]] = {}

    async def tell(self, key: Key, revision: str, reports: Iterable[ObservedReport]) -> None:
        """Have the pods of every version read the route with `revision`, as far as they haven't been told of it.

        A kubelet that hears of the pod before it hears of the ConfigMap refreshes the mount with what it was before.
        So a pod that reports that it still follows another route is told again. Raises what the API server refused of
        a pod, when all have been tried.
        """
        limit = asyncio.Semaphore(_CONCURRENCY)

        async def patch(name: str, value: str) -> None:
            async with limit:
                metadata = {"annotations": {ROUTE_REVISION_ANNOTATION: value}}
                await self._cluster.patch("Pod", key.namespace, name, {"metadata": metadata})

        behind = {item.pod for item in reports if item.report.revision != revision and not item.report.problem}
        values = self._find_values(key, revision, behind)
        results = await asyncio.gather(*(patch(*item) for item in values.items()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def forget(self, key: Key) -> None:
        """Let go of what is remembered of a ModelDeployment."""
        self._told.pop(key, None)

    def _find_values(self, key: Key, revision: str, behind: Set[str]) -> dict[str, str]:
        """The annotation's new value by the pod's name; only of pods that are to be told."""
        values = {}
        told: dict[str, _Told] = {}
        for pod in self._cluster.cache.children(key, "Pod"):
            name = pod["metadata"]["name"]
            if not _has_mounts(pod):
                continue
            value = pod["metadata"].get("annotations", {}).get(ROUTE_REVISION_ANNOTATION, "")
            if value.partition(_AGAIN)[0] != revision:
                values[name] = revision
            elif name in behind:
                told[name] = entry = self._recall(key, name, revision)
                if entry.again < _MOST_AGAIN and self._clock() - entry.time >= _PATIENCE * 2**entry.again:
                    entry.again += 1
                    values[name] = f"{revision}{_AGAIN}{entry.again}"
        self._told[key] = told
        if not told:
            self.forget(key)
        return {name: value for name, value in values.items() if value}

    def _recall(self, key: Key, name: str, revision: str) -> _Told:
        entry = self._told.get(key, {}).get(name)
        return entry if entry is not None and entry.revision == revision else _Told(revision, self._clock())
