"""Plays what an autoscaler asks for the pods' metrics: the metrics server, or an adapter of custom metrics.

The API server passes the autoscaler's questions on, as it does with the real ones: an APIService names a Service whose
endpoint is a small HTTPS server of the test. One of each at a time in a cluster.
"""

import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from modelkit.contract.environment import IN_FLIGHT_METRIC
from tests.cluster.cluster_api import Api, Object, condition_of
from tests.cluster.cluster_node import Background
from tests.unit.store.store_servers import make_certificate

CPU = ("metrics.k8s.io", "v1beta1")
CUSTOM = ("custom.metrics.k8s.io", "v1beta2")
NAME = "played-metrics"


def host_address() -> str:
    """An address of this machine that isn't the loopback's, which endpoints may not have. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return str(probe.getsockname()[0])


@dataclass(kw_only=True)
class Metrics:
    """A load that is shared evenly by the pods that the question selects, in one namespace."""

    api: Api
    background: Background
    namespace: str
    folder: Path
    group: tuple[str, str]
    load: int = 0
    """In thousandths: of a CPU, or of a request in flight."""
    asked: list[str] = field(default_factory=list)
    """The label selectors of all questions."""

    def __enter__(self) -> "Metrics":
        self._port = self.background.run(self._start())
        for body in self._objects():
            self.api.create(body)
        return self

    def __exit__(self, *_: object) -> None:
        # First the APIService: nobody may find a group that doesn't answer.
        self.api.delete("APIService", None, self._service_name)
        self.background.run(self._runner.cleanup())

    @property
    def _service_name(self) -> str:
        group, version = self.group
        return f"{version}.{group}"

    def is_available(self) -> bool:
        """Whether the API server has found it."""
        body = self.api.get("APIService", None, self._service_name)
        return condition_of(body, "Available").get("status") == "True"

    def _objects(self) -> list[Object]:
        metadata = {"name": NAME, "namespace": self.namespace}
        port = {"name": "https", "port": self._port, "protocol": "TCP"}
        group, version = self.group
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port]}},
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**metadata, "labels": {"kubernetes.io/service-name": NAME}},
                "addressType": "IPv4",
                "ports": [port],
                "endpoints": [{"addresses": [host_address()], "conditions": {"ready": True}}],
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": self._service_name},
                "spec": {
                    "group": group,
                    "version": version,
                    "service": {**metadata, "port": self._port},
                    "insecureSkipTLSVerify": True,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            },
        ]

    # -- what it answers --------------------------------------------------------------------------------------------

    async def _start(self) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(make_certificate(self.folder)[0])
        base = f"/apis/{'/'.join(self.group)}"
        app = web.Application()
        app.router.add_get(base, self._discover)
        app.router.add_get(f"{base}/namespaces/{{namespace}}/pods", self._tell_cpu)
        app.router.add_get(f"{base}/namespaces/{{namespace}}/pods/*/{IN_FLIGHT_METRIC}", self._tell_in_flight)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host_address(), 0, ssl_context=context)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _discover(self, _: web.Request) -> web.Response:
        name, kind = ("pods", "PodMetrics") if self.group == CPU else (f"pods/{IN_FLIGHT_METRIC}", "MetricValueList")
        resource = {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
        body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "/".join(self.group)}
        return web.json_response({**body, "resources": [resource]})

    async def _tell_cpu(self, request: web.Request) -> web.Response:
        pods = await self._select(request)
        items = [
            {
                "metadata": {"name": pod["metadata"]["name"], "namespace": self.namespace},
                "timestamp": _now(),
                "window": "1s",
                "containers": [{"name": "server", "usage": {"cpu": f"{self.load // len(pods)}m", "memory": "1Mi"}}],
            }
            for pod in pods
        ]
        return self._list("PodMetricsList", items)

    async def _tell_in_flight(self, request: web.Request) -> web.Response:
        pods = await self._select(request)
        items = [
            {
                "describedObject": {
                    "kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "namespace": self.namespace,
                },
                "metric": {"name": IN_FLIGHT_METRIC},
                "timestamp": _now(),
                "value": f"{self.load // len(pods)}m",
            }
            for pod in pods
        ]  # fmt: skip
        return self._list("MetricValueList", items)

    def _list(self, kind: str, items: list[Object]) -> web.Response:
        return web.json_response({"kind": kind, "apiVersion": "/".join(self.group), "metadata": {}, "items": items})

    async def _select(self, request: web.Request) -> list[Object]:
        """The running pods that a question is about; none in a namespace of another test."""
        if request.match_info["namespace"] != self.namespace:
            return []
        selector = request.query.get("labelSelector", "")
        self.asked.append(selector)
        pods = await self.background.loop.run_in_executor(None, self.api.list, "Pod", self.namespace, selector)
        return [pod for pod in pods if condition_of(pod, "Ready").get("status") == "True"]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
