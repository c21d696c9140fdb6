"""Queries to a Prometheus: one number or an error that says what was found, and nothing that a dead one can hold up."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import format_time
from modelloop.cluster.asking import CONCURRENCY, FAILURES
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.prometheus import (
    MAX_BYTES,
    MAX_ERROR,
    PrometheusAsker,
    find_queries,
    open_prometheus_session,
    parse_result,
)
from modelloop.decide.analysis import CustomMeasurement
from tests.unit.operator_tests.fake_pods import Answer, endless, serving
from tests.unit.operator_tests.operator_states import NOW, digest_of, served

Object = dict[str, Any]
KEY = Key("ModelDeployment", "team", "cancer")
STABLE, CANDIDATE = served(1), served(2)


def vector(*values: str) -> bytes:
    result = [{"metric": {"pod": str(index)}, "value": [1_700_000_000.1, value]} for index, value in enumerate(values)]
    return success("vector", result)


def success(kind: str, result: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()


def deployment(
    address: str = "http://127.0.0.1:1", *, version: int = 5, queries: tuple[str, ...] = ("up",), **rollout: Any
) -> Object:
    checks = [{"name": f"check-{index}", "query": query, "max": 1} for index, query in enumerate(queries)]
    status = {
        "id": "x", "number": 2, "digest": digest_of(2), "strategy": "Canary", "state": "Stepping",
        "startTime": format_time(NOW), "since": format_time(NOW),
    }  # fmt: skip
    analysis = {"interval": "1s", "prometheus": {"address": address, "timeout": "500ms", "checks": checks}}
    versions = {"stable": STABLE, "candidate": CANDIDATE}
    return {
        "kind": "ModelDeployment",
        "metadata": {"name": "cancer", "namespace": "team", "uid": "md", "resourceVersion": str(version)},
        "spec": {"trainingRef": {"name": "cancer"}, "rollout": {"analysis": analysis}},
        "status": {
            "rollout": status | rollout,
            **{name: item.model_dump(mode="json", by_alias=True) for name, item in versions.items()},
        },
    }


def cache_of(body: Object) -> Cache:
    cache = Cache()
    cache.put("ModelDeployment", body)
    return cache


async def ask(asker: PrometheusAsker) -> None:
    async with open_prometheus_session() as session:
        await asker.ask_all(session, asyncio.Semaphore(CONCURRENCY))


async def measure(prometheus: Answer, **fields: Any) -> CustomMeasurement:
    """What one question to it comes to."""
    async with serving(prometheus.answer) as port:
        asker = PrometheusAsker(cache_of(deployment(f"http://127.0.0.1:{port}", **fields)), clock=lambda: NOW)
        await ask(asker)
    (found,) = asker.find_measurements(KEY).values()
    return found


# -- answers --------------------------------------------------------------------------------------------------------


async def test_one_number_is_the_value() -> None:
    prometheus = Answer(vector("0.25"))
    assert await measure(prometheus) == CustomMeasurement(time=NOW, value=0.25)
    assert prometheus.asked == [{"path": "/api/v1/query", "method": "POST", "query": "up", "timeout": "500ms"}]
    assert (await measure(Answer(success("scalar", [1.0, "3"])))).value == 3.0


async def test_an_empty_result_is_no_error() -> None:
    assert await measure(Answer(vector())) == CustomMeasurement(time=NOW)


async def test_a_path_before_the_api_is_kept() -> None:
    prometheus = Answer(vector("1"))
    async with serving(prometheus.answer) as port:
        await ask(PrometheusAsker(cache_of(deployment(f"http://127.0.0.1:{port}/thanos/"))))
    assert prometheus.asked[0]["path"] == "/thanos/api/v1/query"


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (vector("1", "2"), 200, "found 2 series"),
        (success("matrix", []), 200, "found a matrix"),
        (success("string", [1, "x"]), 200, "found a string"),
        (vector("x"), 200, "found a text"),
        (success("vector", [{"metric": {}, "histogram": []}]), 200, "found a histogram"),
        (success("vector", [7]), 200, "found a histogram or something else"),
        (b'{"status": "success"}', 200, "found a None"),
        (b'{"status":"error","errorType":"bad_data","error":"parse error"}', 400, "answers 400: bad_data: parse error"),
        (b"<html>secret page</html>", 200, "answers 200, and not as a Prometheus does"),
        (b"", 503, "answers 503, and not as a Prometheus does"),
        (b"[" * 100_000, 200, "not as a Prometheus does"),
        (vector("1"), 307, "answers 307; redirects aren't followed"),
        (b" " * (MAX_BYTES + 1), 200, f"more than {MAX_BYTES} bytes"),
    ],
)
async def test_anything_else_is_an_error_that_says_what_was_found(body: bytes, status: int, told: str) -> None:
    prometheus = Answer(body, status, headers={"Location": "http://169.254.169.254/latest/meta-data"})
    found = await measure(prometheus)
    assert found.value is None
    assert told in found.error
    assert "/api/v1/query: " in found.error
    assert "secret" not in found.error
    assert len(found.error) <= MAX_ERROR
    assert len(prometheus.asked) == 1


async def test_a_prometheus_that_hangs_is_an_error_after_its_time() -> None:
    found = await asyncio.wait_for(measure(Answer(vector("1"), delay=60)), 10)
    assert "no answer within 0.5 s" in found.error


async def test_a_dead_prometheus_is_an_error() -> None:
    asker = PrometheusAsker(cache_of(deployment()), clock=lambda: NOW)
    await ask(asker)
    assert "annot connect" in asker.find_measurements(KEY)["check-0"].error


async def test_an_answer_without_end_is_an_error() -> None:
    async with serving(endless) as port:
        asker = PrometheusAsker(cache_of(deployment(f"http://127.0.0.1:{port}")), clock=lambda: NOW)
        await asyncio.wait_for(ask(asker), 10)
    assert asker.find_measurements(KEY)["check-0"].error


@pytest.mark.parametrize("address", ["http://169.254.169.254", "ftp://prometheus", "file:///etc/passwd"])
async def test_where_no_prometheus_can_be_is_not_asked(address: str) -> None:
    asker = PrometheusAsker(cache_of(deployment(address)), clock=lambda: NOW)
    await ask(asker)
    error = asker.find_measurements(KEY)["check-0"].error
    assert "isn't asked" in error or "not an http(s) address" in error


async def test_a_name_that_leads_to_a_link_local_address_is_not_asked() -> None:
    async with open_prometheus_session() as session:
        connector = session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        with pytest.raises(OSError, match="link-local"):
            await connector._resolver.resolve("169.254.169.254", 80)
        assert await connector._resolver.resolve("127.0.0.1", 80)


# -- turns ----------------------------------------------------------------------------------------------------------


async def test_every_query_is_asked_once_in_an_interval_however_it_fails() -> None:
    prometheus = Answer(b"", 500)
    now = NOW
    async with serving(prometheus.answer) as port, open_prometheus_session() as session:
        cache = cache_of(deployment(f"http://127.0.0.1:{port}", queries=("a", "b")))
        asker = PrometheusAsker(cache, clock=lambda: now)
        limit = asyncio.Semaphore(4)
        for _ in range(3):
            await asker.ask_all(session, limit)
        assert sorted(item["query"] for item in prometheus.asked) == ["a", "b"]
        prometheus.body, prometheus.status = vector("1"), 200
        now += timedelta(seconds=1)
        async with asyncio.timeout(10):
            while any(item.error for item in asker.find_measurements(KEY).values()):
                await asker.ask_all(session, limit)
                await asyncio.sleep(0.02)
    assert len(prometheus.asked) == 4
    found = asker.find_measurements(KEY)
    assert {name: (item.value, item.time) for name, item in found.items()} == {
        "check-0": (1.0, now),
        "check-1": (1.0, now),
    }


async def test_another_step_is_measured_anew_and_the_end_of_a_rollout_forgets() -> None:
    prometheus = Answer(vector("1"))
    async with serving(prometheus.answer) as port, open_prometheus_session() as session:
        address = f"http://127.0.0.1:{port}"
        cache = cache_of(deployment(address))
        asker = PrometheusAsker(cache, clock=lambda: NOW)
        limit = asyncio.Semaphore(4)
        await asker.ask_all(session, limit)
        cache.put("ModelDeployment", deployment(address, version=6, step=1))
        await asker.ask_all(session, limit)
        assert len(prometheus.asked) == 2, "at once, not after the interval"
        cache.put("ModelDeployment", deployment(address, version=7, state="Scaling"))
        await asker.ask_all(session, limit)
    assert asker.find_measurements(KEY) == {}
    assert asker._results == {}


async def test_what_the_last_step_had_is_not_passed_for_the_next() -> None:
    prometheus = Answer(vector("1"))
    async with serving(prometheus.answer) as port, open_prometheus_session() as session:
        cache = cache_of(deployment(f"http://127.0.0.1:{port}"))
        asker = PrometheusAsker(cache, clock=lambda: NOW)
        await asker.ask_all(session, asyncio.Semaphore(4))
        cache.put("ModelDeployment", deployment(f"http://127.0.0.1:{port}", version=6, step=1))
        questions = asker._begin(session, asyncio.Semaphore(4))
        assert asker.find_measurements(KEY) == {}
        await asyncio.gather(*questions)
    assert len(asker.find_measurements(KEY)) == 1


# -- queries --------------------------------------------------------------------------------------------------------


def test_queries_name_the_versions() -> None:
    text = 'rate(x{ns="$namespace", md="$name", pod=~"$candidate-.*"}) / rate(x{pod=~"$stable-.*"}) > $other'
    ((name, query),) = find_queries(KEY, deployment(queries=(text,)))
    assert name == "check-0"
    assert query.text == (
        f'rate(x{{ns="team", md="cancer", pod=~"{CANDIDATE.deployment}-.*"}}) / '
        f'rate(x{{pod=~"{STABLE.deployment}-.*"}}) > $other'
    )


def test_after_the_promotion_the_candidate_is_what_serves() -> None:
    body = deployment(queries=("$candidate $stable",), state="Baking")
    status = body["status"]
    status["stable"], status["previous"] = status.pop("candidate"), status["stable"]
    ((_, query),) = find_queries(KEY, body)
    assert query.text == f"{CANDIDATE.deployment} {STABLE.deployment}"


def test_without_checks_nothing_is_asked() -> None:
    body = deployment()
    del body["spec"]["rollout"]["analysis"]["prometheus"]
    assert list(find_queries(KEY, body)) == []


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.one_of(
        st.binary(max_size=50),
        JSON.map(lambda plain: json.dumps(plain).encode()),
        JSON.map(lambda plain: success("vector", plain)),
        JSON.map(lambda plain: success("scalar", plain)),
        JSON.map(lambda plain: success("vector", [{"value": plain}])),
    )
)
def test_any_answer_is_a_number_nothing_or_an_error(body: bytes) -> None:
    try:
        found = parse_result(200, body)
    except FAILURES:
        return
    assert found is None or isinstance(found, float)
