"""Tells the pods of a ModelDeployment how they share its traffic, and has them read it at once.

Everything follows from the plan and from what the cache holds, in every pass: a pod that was told of another route,
or of none, is told again. The kubelet refreshes a pod's mounts when the pod changes, and else only after a minute or
more; so every change of the route ends with an annotation on each pod.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from modelkit.contract.route import PeerConfig, RouteConfig
from modelloop.api.deployment import ModelDeploymentSpec, ServedVersion
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import Cluster, Object
from modelloop.cluster.parse import find_status, is_owned_by
from modelloop.decide.route import RoutePlan
from modelloop.desired.labels import DIGEST, ROUTE_REVISION_ANNOTATION
from modelloop.desired.names import digest_label, server_name
from modelloop.desired.route import build_peer, build_route, build_rule

_CONCURRENCY = 16


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
        rule.digest: build_rule(spec, rule.other, weight=rule.weight, compare=rule.compare, is_guarded=rule.is_guarded)
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


async def refresh_pods(cluster: Cluster, key: Key, revision: str) -> None:
    """Have the pods of every version read the route with `revision`, as far as they haven't been told of it.

    Raises what the API server refused of the first pod, when all have been tried.
    """
    limit = asyncio.Semaphore(_CONCURRENCY)

    async def tell(name: str) -> None:
        async with limit:
            metadata = {"annotations": {ROUTE_REVISION_ANNOTATION: revision}}
            await cluster.patch("Pod", key.namespace, name, {"metadata": metadata})

    stale = [
        pod["metadata"]["name"]
        for pod in cluster.cache.children(key, "Pod")
        if _has_mounts(pod) and pod["metadata"].get("annotations", {}).get(ROUTE_REVISION_ANNOTATION) != revision
    ]
    results = await asyncio.gather(*(tell(name) for name in stale), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
