"""Plays what the servers of a rollout report: they follow the route that they are told, and answer well or badly.

A version's pods have an address of the loopback network, at which the operator finds them at the port that real ones
have. Pods of one version share it: they are asked with the same question.
"""

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha256

from aiohttp import web

from modelkit.contract.codec import dumps, loads
from modelkit.contract.environment import HTTP_PORT
from modelkit.contract.route import (
    ROUTE_FILE,
    ROUTE_REPORT_PATH,
    LatencyReport,
    PairReport,
    RouteConfig,
    RouteReport,
    SideReport,
)
from modelloop.desired.labels import DIGEST
from modelloop.desired.names import digest_label, route_name
from tests.cluster.cluster_api import Api, Object
from tests.cluster.cluster_node import Background, Program

RATE = 400
"""Requests a second to each version's pods."""
BOUNDS = (0.01, 0.1, 1.0)


class Reporters:
    """The servers of one ModelDeployment, by the digest of their version."""

    def __init__(self, api: Api, background: Background, namespace: str, name: str, digests: Sequence[str]) -> None:
        self._api, self._background = api, background
        self._namespace, self._name = namespace, name
        self._addresses = {digest_label(digest): _address(f"{namespace}/{digest}") for digest in digests}
        self._begun: dict[tuple[str, str], float] = {}
        self.failing: set[str] = set()
        """Digests of the versions that answer every second request with an error. May be changed at any time."""
        self._runners = [
            background.run(self._serve(digest, self._addresses[digest_label(digest)])) for digest in digests
        ]

    def play(self, program: Program) -> Program:
        """`program`, with the pods at the addresses of their versions."""

        def run(pod: Object) -> Sequence[Object]:
            address = self._addresses[pod["metadata"]["labels"][DIGEST]]
            return [status | {"podIP": address, "podIPs": [{"ip": address}]} for status in program(pod)]

        return run

    def close(self) -> None:
        """Answer no more."""
        for runner in self._runners:
            self._background.run(runner.cleanup())

    async def _serve(self, digest: str, address: str) -> web.AppRunner:
        async def tell(_: web.Request) -> web.Response:
            loop = asyncio.get_running_loop()
            route = await loop.run_in_executor(None, self._read_route)
            return web.json_response(text=dumps(self._report(digest, route)))

        app = web.Application()
        app.router.add_get(ROUTE_REPORT_PATH, tell)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, HTTP_PORT).start()
        except OSError as exc:
            raise AssertionError(f"played pods need port {HTTP_PORT}, and something has it at all addresses") from exc
        return runner

    def _read_route(self) -> RouteConfig | None:
        body = self._api.find("ConfigMap", self._namespace, route_name(self._name))
        return None if body is None else loads(RouteConfig, body["data"][ROUTE_FILE])

    def _report(self, digest: str, route: RouteConfig | None) -> RouteReport:
        if route is None:
            return RouteReport(digest=digest)
        began = self._begun.setdefault((digest, route.measurement), time.monotonic())
        seconds = time.monotonic() - began
        rule = route.rules.get(digest)
        total = int(seconds * RATE)
        given = 0 if rule is None else int(total * rule.weight / 100)
        compared = 0 if rule is None else int(total * rule.compare / 100)
        failed = compared // 2 if rule is not None and rule.other in self.failing else 0
        scored = compared - failed
        return RouteReport(
            digest=digest,
            revision=route.revision,
            measurement=route.measurement,
            other="" if rule is None else rule.other,
            seconds=seconds,
            own_side=self._answered(total - given, digest),
            other_side=self._answered(given, "" if rule is None else rule.other),
            pairs=PairReport(
                requests=compared, failed=failed, rows=scored, own_counts={"0": scored}, other_counts={"0": scored}
            ),
        )

    def _answered(self, count: int, digest: str) -> SideReport:
        """How a version answered, quickly at any rate."""
        failed = count // 2 if digest in self.failing else 0
        answered = count - failed
        return SideReport(
            asked=count,
            answered=answered,
            failures={"Error": failed} if failed else {},
            latency=LatencyReport(bounds=BOUNDS, counts=(answered, 0, 0, 0)),
        )


def _address(of: str) -> str:
    """An address of 127.0.0.0/8, another one for every version and test: they all need the same port."""
    first, second, third = sha256(of.encode()).digest()[:3]
    return f"127.{first % 254 + 1}.{second}.{third % 254 + 1}"
