"""What was true of the traffic at every moment of a rollout, whoever died meanwhile.

All kinds share the versions of one store, so that what their watches tell can be put into the order in which it
happened. Nothing is asked again and again: no moment is too short to be seen.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import aiohttp

from modelkit.contract.codec import loads
from modelkit.contract.route import ROUTE_FILE, RouteConfig
from modelloop.cluster.parse import find_status
from modelloop.desired.labels import DIGEST, ROUTE_REVISION_ANNOTATION
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import Object
from tests.cluster.cluster_node import Background, watch_objects

KINDS = ("Service", "ConfigMap", "Pod")


@dataclass(frozen=True, slots=True)
class PodFact:
    """A pod."""

    digest: str
    """The label."""
    ready: bool
    revision: str
    """Of the route that it was told of last; empty: of none yet."""


@dataclass(frozen=True, slots=True)
class ServiceFact:
    """A Service."""

    digest: str
    """In its selector."""
    address: str


Fact = PodFact | ServiceFact | RouteConfig | None


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """An object changed; `fact` is None when it is gone."""

    version: int
    kind: str
    name: str
    fact: Fact = field(compare=False)


class Timeline:
    """Watches all namespaces."""

    def __init__(self, background: Background, server: str, context: ssl.SSLContext) -> None:
        self._background = background
        self._moments: dict[str, list[Moment]] = defaultdict(list)
        background.run(self._start(server, context))

    def close(self) -> None:
        """Watch no more."""
        self._background.run(self._stop())

    def find_breaches(self, namespace: str, name: str) -> list[str]:
        """When requests to a ModelDeployment had nobody to answer them."""
        moments = sorted(self._moments[namespace])
        unseen = set(KINDS) - {moment.kind for moment in moments}
        return [f"no {kind} was ever seen" for kind in sorted(unseen)] or find_breaches(moments, name)

    async def _start(self, server: str, context: ssl.SSLContext) -> None:
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._session = aiohttp.ClientSession(server, connector=connector)
        self._watches = [asyncio.create_task(self._watch(kind)) for kind in KINDS]

    async def _stop(self) -> None:
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self._session.close()

    async def _watch(self, kind: str) -> None:
        async for type_, body in watch_objects(self._session, kind):
            metadata = body["metadata"]
            fact = None if type_ == "DELETED" else _read(kind, body)
            moment = Moment(int(metadata["resourceVersion"]), kind, metadata["name"], fact)
            self._moments[metadata["namespace"]].append(moment)


def _read(kind: str, body: Object) -> Fact:
    metadata = body["metadata"]
    if kind == "Service":
        return ServiceFact(body["spec"].get("selector", {}).get(DIGEST, ""), body["spec"].get("clusterIP", ""))
    if kind == "ConfigMap":
        return loads(RouteConfig, body["data"][ROUTE_FILE]) if ROUTE_FILE in body["data"] else None
    told = metadata.get("annotations", {}).get(ROUTE_REVISION_ANNOTATION, "").partition(".")[0]
    conditions = body.get("status", {}).get("conditions", [])
    ready = find_status(conditions, "Ready").get("status") == "True" and "deletionTimestamp" not in metadata
    return PodFact(metadata["labels"].get(DIGEST, ""), ready, told)


def find_breaches(moments: Iterable[Moment], name: str) -> list[str]:
    """When requests had nobody to answer them, by what happened in this order."""
    return list(dict.fromkeys(_replay(moments, name)))


def _replay(moments: Iterable[Moment], name: str) -> Iterator[str]:
    held: dict[tuple[str, str], Fact] = {}
    routes: dict[str, RouteConfig] = {}
    has_served = False
    for moment in moments:
        held[moment.kind, moment.name] = moment.fact
        if isinstance(moment.fact, RouteConfig):
            routes[moment.fact.revision] = moment.fact
        pods = [fact for fact in held.values() if isinstance(fact, PodFact) and fact.ready]
        addresses = {fact.address for fact in held.values() if isinstance(fact, ServiceFact)}
        ready = {pod.digest for pod in pods}
        public = held.get(("Service", name))
        if isinstance(public, ServiceFact):
            has_served = has_served or public.digest in ready
            if has_served and public.digest not in ready:
                yield f"{moment.version}: the Service selects {public.digest[:10]}, which has no Ready pod"
        elif has_served:
            yield f"{moment.version}: the Service is gone"
        newest = [fact for fact in held.values() if isinstance(fact, RouteConfig)]
        # A pod follows what it was told of last, however old that is by now.
        followed = [routes[pod.revision] for pod in pods if pod.revision in routes]
        for route in (*newest, *followed):
            yield from _find_dead_ends(moment.version, route, ready, addresses)


def _find_dead_ends(version: int, route: RouteConfig, ready: set[str], addresses: set[str]) -> Iterator[str]:
    """Rules that lead to nobody."""
    for digest, rule in route.rules.items():
        if digest_label(digest) not in ready:
            continue
        told = f"{version}: route {route.revision[:8]} leads {digest[7:17]} to {rule.other[7:17]}"
        if digest_label(rule.other) not in ready:
            yield f"{told}, which has no Ready pod"
        if route.peers[rule.other].http.rpartition(":")[0].strip("[]") not in addresses:
            yield f"{told}, whose Service is gone"
