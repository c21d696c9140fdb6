"""Asks a Prometheus the queries of a rollout's analysis, beside the passes: one that is dead holds up nothing.

Addresses come from users' specs. So nothing is sent along but the query, redirects aren't followed, the addresses at
which clouds hand out credentials aren't asked, and of an answer only a number or Prometheus' own error gets out.
"""

import asyncio
import ipaddress
import json
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from modelloop.api.analysis import Prometheus
from modelloop.api.common import parse_duration
from modelloop.api.deployment import ModelDeploymentStatus
from modelloop.cluster.asking import CONCURRENCY, FAILURES, Turns, keep_asking, open_session, read_body
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import Object, utc_now
from modelloop.cluster.rollout_scrape import find_rollouts, read_interval
from modelloop.cluster.telemetry import PROMETHEUS_QUERIES
from modelloop.decide.analysis import CustomMeasurement, fill_query
from modelloop.decide.shares import measurement_of

PATH = "/api/v1/query"
LONGEST = 60.0
"""Seconds for an answer at most, as the API's schema says."""
PAUSE = 0.5
MAX_BYTES = 262_144
MAX_ERROR = 300


@dataclass(frozen=True, slots=True)
class Query:
    """One check of a rollout."""

    url: str
    text: str
    timeout: float
    interval: float
    measurement: str
    """Another one for every step, whose results count anew."""


class _AnswerError(ValueError):
    """An answer that isn't one number; the message may be shown to users."""


class PrometheusAsker:
    """Knows what the queries of every rollout under way result in."""

    def __init__(self, cache: Cache, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._cache = cache
        self._clock = clock
        self._turns: Turns[tuple[Key, str], Query] = Turns(
            self._ask, PROMETHEUS_QUERIES, lambda query: query.interval, slowest=0.0
        )
        self._results: dict[Key, dict[str, tuple[Query, CustomMeasurement]]] = {}

    def find_measurements(self, key: Key) -> Mapping[str, CustomMeasurement]:
        """The last result of each check of a ModelDeployment, by name."""
        return {name: measurement for name, (_, measurement) in self._results.get(key, {}).items()}

    async def run(self) -> None:
        """Ask, forever."""
        limit = asyncio.Semaphore(CONCURRENCY)
        await keep_asking(open_prometheus_session(), PAUSE, lambda session: self._begin(session, limit))

    async def ask_all(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore) -> None:
        """Ask every query whose turn it is, and forget those that are gone."""
        await asyncio.gather(*self._begin(session, limit))

    def _begin(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore) -> list[Coroutine[Any, Any, None]]:
        queries = {
            (key, name): query for key, body in find_rollouts(self._cache) for name, query in find_queries(key, body)
        }
        for key, results in list(self._results.items()):
            for name, (query, _) in list(results.items()):
                if queries.get((key, name)) != query:
                    del results[name]
            if not results:
                del self._results[key]
        return self._turns.begin(session, limit, queries)

    async def _ask(self, session: aiohttp.ClientSession, check: tuple[Key, str], query: Query) -> None:
        key, name = check
        try:
            measurement = CustomMeasurement(time=self._clock(), value=await ask_prometheus(session, query))
        except FAILURES as exc:
            error = f"{query.url}: {_describe(exc, query)}"[:MAX_ERROR]
            self._keep(key, name, query, CustomMeasurement(time=self._clock(), error=error))
            raise
        self._keep(key, name, query, measurement)

    def _keep(self, key: Key, name: str, query: Query, measurement: CustomMeasurement) -> None:
        self._results.setdefault(key, {})[name] = (query, measurement)


def open_prometheus_session() -> aiohttp.ClientSession:
    """A session that looks up no link-local address."""
    return open_session(LONGEST, aiohttp.TCPConnector(resolver=_GuardedResolver()))


class _GuardedResolver(AbstractResolver):
    """Looks names up, as far as they may be asked."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name; raises OSError for one that must not be asked."""
        found = await self._resolver.resolve(host, port, family)
        for item in found:
            _refuse_link_local(item["host"])
        return found

    async def close(self) -> None:
        """Let go of the resolver."""
        await self._resolver.close()


def _refuse_link_local(host: str) -> None:
    """Raises OSError for an address at which a cloud's metadata is found."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if address.is_link_local:
        raise OSError("a link-local address, which isn't asked")


async def ask_prometheus(session: aiohttp.ClientSession, query: Query) -> float | None:
    """The number that a query results in, None for an empty result; raises one of FAILURES."""
    parts = urlsplit(query.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _AnswerError("not an http(s) address")
    _refuse_link_local(parts.hostname)
    timeout = aiohttp.ClientTimeout(total=query.timeout)
    # In whole numbers: "0.5s" is no duration to Prometheus.
    form = {"query": query.text, "timeout": f"{round(query.timeout * 1000)}ms"}
    async with session.post(query.url, data=form, timeout=timeout, allow_redirects=False) as answer:
        if 300 <= answer.status < 400:
            raise _AnswerError(f"answers {answer.status}; redirects aren't followed")
        body = await read_body(answer, MAX_BYTES)
        status = answer.status
    return parse_result(status, body)


def parse_result(status: int, body: bytes) -> float | None:
    """What Prometheus' HTTP API says (https://prometheus.io/docs/prometheus/latest/querying/api/).

    A scalar, or an instant vector of one series; None for one of no series. Raises ValueError for anything else.
    """
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict) or plain.get("status") not in ("success", "error"):
        raise _AnswerError(f"answers {status}, and not as a Prometheus does")
    if plain["status"] == "error":
        raise _AnswerError(f"answers {status}: {plain.get('errorType')}: {plain.get('error')}")
    data = plain.get("data")
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind == "scalar":
        return _number(result)
    if kind != "vector" or not isinstance(result, list):
        raise _AnswerError(f"the query must result in one number; found a {kind}")
    if len(result) > 1:
        raise _AnswerError(f"the query must result in one number; found {len(result)} series")
    if not result:
        return None
    return _number(result[0].get("value") if isinstance(result[0], dict) else None)


def _number(sample: Any) -> float:
    """Of `[<time>, "<value>"]`."""
    if not isinstance(sample, list) or len(sample) != 2 or not isinstance(sample[1], str):
        raise _AnswerError("the query must result in one number; found a histogram or something else")
    try:
        return float(sample[1])
    except ValueError as exc:
        raise _AnswerError("the query must result in one number; found a text") from exc


def _describe(exc: BaseException, query: Query) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {query.timeout:g} s"
    return str(exc) or type(exc).__name__


def find_queries(key: Key, body: Object) -> Iterator[tuple[str, Query]]:
    """The queries of a rollout under way, by the check's name."""
    plain = ((body["spec"].get("rollout") or {}).get("analysis") or {}).get("prometheus")
    if not plain:
        return
    prometheus = Prometheus.model_validate(plain)
    status = ModelDeploymentStatus.model_validate(body["status"])
    if status.rollout is None:
        return
    variables = _find_variables(key, status)
    for check in prometheus.checks:
        yield (
            check.name,
            Query(
                url=prometheus.address.rstrip("/") + PATH,
                text=fill_query(check.query, variables),
                timeout=min(parse_duration(prometheus.timeout).total_seconds(), LONGEST),
                interval=read_interval(body),
                measurement=measurement_of(status.rollout),
            ),
        )


def _find_variables(key: Key, status: ModelDeploymentStatus) -> dict[str, str]:
    """What a query may name. After the promotion the candidate is what serves, and stable what served before it."""
    digest = status.rollout.digest if status.rollout is not None else ""
    versions = [version for version in (status.stable, status.candidate, status.previous) if version is not None]
    tried = [version.deployment for version in versions if version.digest == digest]
    others = [version.deployment for version in versions if version.digest != digest]
    return {
        "namespace": key.namespace,
        "name": key.name,
        "candidate": tried[0] if tried else "",
        "stable": others[0] if others else "",
    }
