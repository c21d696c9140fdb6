"""What the pods of a rollout report, asked over real sockets: fresh, bounded, and told of in time."""

import asyncio
import itertools
import ssl
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import dumps
from modelkit.contract.route import ROUTE_REPORT_PATH, LabelReport, PairReport, RouteReport, SideReport
from modelloop.cluster.asking import CONCURRENCY, open_session
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.rollout_scrape import (
    MAX_BYTES,
    MEASURED_STATES,
    ReportScraper,
    find_rollouts,
    find_targets,
    parse_report,
)
from modelloop.desired.labels import DEPLOYMENT, DIGEST, ROUTE_REVISION_ANNOTATION
from modelloop.desired.names import digest_label
from tests.unit.operator_tests.fake_pods import Answer, endless, serving
from tests.unit.operator_tests.operator_states import NOW, digest_of
from tests.unit.serve.serve_certificates import write_pair

Object = dict[str, Any]
KEY = Key("ModelDeployment", "team", "cancer")


def deployment(state: str = "Stepping", version: int = 5, interval: str = "10s", **spec: Any) -> Object:
    return {
        "kind": "ModelDeployment",
        "metadata": {"name": "cancer", "namespace": "team", "uid": "md", "resourceVersion": str(version)},
        "spec": {"trainingRef": {"name": "cancer"}, "rollout": {"analysis": {"interval": interval}}, **spec},
        "status": {"stable": {"digest": digest_of(1)}, "rollout": {"state": state}},
    }


def pod(name: str = "pod-1", number: int = 1, *, ready: bool = True, ip: str = "127.0.0.1", version: int = 5) -> Object:
    labels = {DEPLOYMENT: "cancer", DIGEST: digest_label(digest_of(number))}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team", "uid": name, "resourceVersion": str(version), "labels": labels},
        "spec": {"containers": [{"name": "server"}]},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def route_map(revision: str = "r1", version: int = 5) -> Object:
    metadata = {
        "name": "cancer-route", "namespace": "team", "resourceVersion": str(version),
        "annotations": {ROUTE_REVISION_ANNOTATION: revision},
    }  # fmt: skip
    return {"kind": "ConfigMap", "metadata": metadata, "data": {}}


def cache_of(*bodies: Object) -> Cache:
    cache = Cache()
    for body in bodies:
        cache.put(body["kind"], body)
    return cache


def report(
    asked: int = 0, failed: int = 0, revision: str = "r1", measurement: str = "1", number: int = 1
) -> RouteReport:
    side = SideReport(asked=asked, answered=asked - failed, failures={"Error": failed} if failed else {})
    return RouteReport(digest=digest_of(number), revision=revision, measurement=measurement, other_side=side)


def said(**fields: Any) -> bytes:
    return dumps(report(**fields)).encode()


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


async def ask(scraper: ReportScraper, times: int = 1) -> None:
    async with open_session(2.0) as session:
        for _ in range(times):
            await scraper.ask_all(session, asyncio.Semaphore(CONCURRENCY))


def scraper_of(cache: Cache, port: int, **fields: Any) -> tuple[ReportScraper, list[Key], Clock]:
    woken: list[Key] = []
    clock = Clock()
    scraper = ReportScraper(cache, woken.append, port=port, every=fields.pop("every", 0.0), clock=clock, **fields)
    return scraper, woken, clock


# -- who is asked ---------------------------------------------------------------------------------------------------


def test_only_ready_pods_of_the_stable_version_are_asked() -> None:
    deleted = pod("deleted")
    deleted["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    body = deployment()
    cache = cache_of(
        body, pod("good"), pod("six", ip="fd00::1"), pod("candidate", 2), pod("starting", ready=False),
        pod("no-address", ip=""), deleted,
    )  # fmt: skip
    urls = {target.pod: target.url for target in find_targets(cache, KEY, body)}
    assert urls == {
        "good": f"http://127.0.0.1:8080{ROUTE_REPORT_PATH}",
        "six": f"http://[fd00::1]:8080{ROUTE_REPORT_PATH}",
    }


@pytest.mark.parametrize("state", ["Preparing", "Scaling", "Stepping", "Paused", "Promoting", "Baking", "RollingBack"])
def test_pods_are_asked_while_versions_are_measured(state: str) -> None:
    found = [key for key, _ in find_rollouts(cache_of(deployment(state)))]
    assert found == ([KEY] if state in MEASURED_STATES else [])


def test_without_a_rollout_nobody_is_asked() -> None:
    body = deployment()
    assert list(find_rollouts(cache_of(body | {"status": {}}))) == []
    assert list(find_rollouts(cache_of(body | {"status": {"rollout": None}}))) == []
    assert list(find_targets(cache_of(), KEY, body | {"status": {"rollout": {"state": "Stepping"}}})) == []


# -- asking ---------------------------------------------------------------------------------------------------------


async def test_reports_are_found_as_long_as_they_are_fresh() -> None:
    pods = Answer(said(asked=3))
    async with serving(pods.answer) as port:
        scraper, _, clock = scraper_of(cache_of(deployment(), pod("b"), pod("a")), port)
        await ask(scraper)
    assert {item["path"] for item in pods.asked} == {ROUTE_REPORT_PATH}
    found = scraper.find_reports(KEY)
    assert [(item.pod, item.time, item.report) for item in found] == [
        ("a", NOW, report(asked=3)),
        ("b", NOW, report(asked=3)),
    ]
    clock.now += timedelta(seconds=9)
    assert len(scraper.find_reports(KEY)) == 2
    clock.now += timedelta(seconds=1)
    assert scraper.find_reports(KEY) == ()


async def test_what_a_pod_said_is_forgotten_with_it_and_with_the_rollout() -> None:
    pods = Answer(said())
    cache = cache_of(deployment(), pod("a"), pod("b"))
    async with serving(pods.answer) as port:
        scraper, _, _ = scraper_of(cache, port)
        await ask(scraper)
        cache.put("Pod", pod("b", ready=False, version=6))
        await ask(scraper)
        assert [item.pod for item in scraper.find_reports(KEY)] == ["a"]
        cache.put("ModelDeployment", deployment("Preparing", version=6))
        await ask(scraper)
    assert scraper.find_reports(KEY) == ()
    assert (scraper._reports, scraper._news, scraper._turns.turns) == ({}, {}, {})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"nonsense", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b"[" * 200_000, 200),
        (b" " * MAX_BYTES + b"{}", 200),
        (said(), 500),
        (said(), 302),
        (said(number=2), 200),
        (said().replace(b'"seconds":0.0', b'"seconds":NaN'), 200),
        (said().replace(b'"seconds":0.0', b'"seconds":1e999'), 200),
        (said(asked=7).replace(b'"asked":7', b'"asked":-7'), 200),
        (said()[:-1] + b',"later":1}', 200),
    ],
    ids=[
        "empty", "no JSON", "a list", "no digest", "deep", "huge", "an error", "a redirect", "another version", "NaN",
        "infinite", "negative", "unknown key",
    ],
)  # fmt: skip
async def test_what_is_no_report_is_not_held(body: bytes, status: int) -> None:
    pods = Answer(body, status, headers={"Location": "/elsewhere"})
    async with serving(pods.answer) as port:
        scraper, woken, _ = scraper_of(cache_of(deployment(), pod()), port)
        await ask(scraper)
    assert len(pods.asked) == 1
    assert scraper.find_reports(KEY) == ()
    assert woken == []


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    async with serving(endless) as port:
        scraper, woken, _ = scraper_of(cache_of(deployment(), pod()), port)
        await asyncio.wait_for(ask(scraper), 5)
    assert (scraper.find_reports(KEY), woken) == ((), [])


async def test_a_pod_that_hangs_holds_up_no_other() -> None:
    slow, quick = Answer(said(), delay=30.0), Answer(said(asked=1))
    cache = cache_of(deployment(), pod("hangs", ip="127.0.0.2"), pod("answers"))
    async with serving(quick.answer) as port, serving(slow.answer, host="127.0.0.2", port=port):
        scraper, woken, _ = scraper_of(cache, port, every=0.05)
        running = asyncio.create_task(scraper.run())
        async with asyncio.timeout(10):
            while len(quick.asked) < 5:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(slow.asked) == 1
    assert [item.pod for item in scraper.find_reports(KEY)] == ["answers"]
    assert woken == [KEY]


async def test_a_pod_that_fails_is_left_alone_for_a_while() -> None:
    pods = Answer(b"", 500)
    async with serving(pods.answer) as port:
        scraper, _, _ = scraper_of(cache_of(deployment(), pod()), port, every=30.0)
        await ask(scraper, times=3)
    assert len(pods.asked) == 1


async def test_encrypted_pods_are_asked_whatever_their_certificate_is_for(tmp_path: Path) -> None:
    write_pair(tmp_path, "churn.team.svc")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    pods = Answer(said(asked=1))
    cache = cache_of(deployment(tls={"secretName": "cert"}), pod())
    async with serving(pods.answer, context) as port:
        scraper, _, _ = scraper_of(cache, port)
        await ask(scraper)
    assert len(scraper.find_reports(KEY)) == 1


# -- telling --------------------------------------------------------------------------------------------------------


async def wakes(*reports: bytes, interval: str = "1h", every: float = 0.0) -> list[int]:
    """How often the ModelDeployment was woken by the time of each report."""
    pods = Answer()
    async with serving(pods.answer) as port, aiohttp.ClientSession() as session:
        scraper, woken, _ = scraper_of(cache_of(deployment(interval=interval), pod(), route_map()), port, every=every)
        counts = []
        for body in reports:
            pods.body = body
            await scraper.ask_all(session, asyncio.Semaphore(1))
            counts.append(len(woken))
    return counts


async def test_counts_wake_at_most_once_in_an_interval() -> None:
    assert await wakes(*(said(asked=number) for number in range(6))) == [1, 1, 1, 1, 1, 1]
    assert await wakes(*(said(asked=number) for number in range(4)), interval="0s") == [1, 2, 3, 4]
    assert await wakes(said(asked=1), said(asked=1), interval="0s") == [1, 1], "the same again is no news"


async def test_failures_and_another_route_wake_at_once() -> None:
    assert await wakes(said(), said(asked=5, failed=1), said(asked=9, failed=1)) == [1, 2, 2]
    assert await wakes(said(), said(measurement="2"), said(measurement="2")) == [1, 2, 2]


async def test_a_pod_that_follows_another_route_than_it_should_wakes_at_every_question_until_it_does() -> None:
    behind, problem = said(revision="r0"), dumps(replace(report(revision="r0"), problem="it doesn't fit")).encode()
    assert await wakes(behind, behind, said(), said()) == [1, 2, 3, 3]
    assert await wakes(problem, problem) == [1, 1], "telling it again doesn't help"


async def test_news_that_came_too_soon_is_told_by_the_next_report() -> None:
    pods = Answer()
    cache = cache_of(deployment(), pod(), route_map())
    async with serving(pods.answer) as port, open_session(2.0) as session:
        scraper, woken, _ = scraper_of(cache, port, every=0.2)
        pods.body = said(revision="r1")
        await scraper.ask_all(session, asyncio.Semaphore(1))
        cache.put("Pod", pod("other"))
        pods.body = said(revision="r2", asked=1)
        cache.put("ConfigMap", route_map("r2", version=6))
        await scraper.ask_all(session, asyncio.Semaphore(1))
        assert len(woken) == 1, "another pod's first report, at once after the last"
        async with asyncio.timeout(10):
            while len(woken) < 2:
                await scraper.ask_all(session, asyncio.Semaphore(1))
                await asyncio.sleep(0.01)


async def test_a_candidate_that_always_fails_wakes_no_more_often_than_pods_are_asked() -> None:
    pods = Answer()
    woken: list[float] = []
    cache = cache_of(deployment(), route_map(), *(pod(f"pod-{number}") for number in range(20)))
    async with serving(pods.answer) as port:
        scraper = ReportScraper(cache, lambda _: woken.append(time.monotonic()), port=port, every=0.2, clock=Clock())
        async with open_session(2.0) as session:
            for number in range(1, 60):
                pods.body = said(asked=number, failed=number)
                await scraper.ask_all(session, asyncio.Semaphore(32))
                await asyncio.sleep(0.01)
    assert len(woken) >= 2
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(woken))


# -- parsing --------------------------------------------------------------------------------------------------------

COUNTS = st.integers(0, 2**40)
CLASSES = st.dictionaries(st.text(max_size=4), COUNTS, max_size=3)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
REPORTS = st.builds(
    RouteReport,
    digest=st.text(max_size=9),
    seconds=NUMBERS,
    other_side=st.builds(SideReport, asked=COUNTS, failures=CLASSES),
    pairs=st.builds(PairReport, requests=COUNTS, shift_sum=NUMBERS, own_counts=CLASSES),
    labels=st.builds(LabelReport, rows=COUNTS, own_loss=NUMBERS),
)


@given(REPORTS)
def test_every_report_of_a_pod_of_ours_is_understood(report: RouteReport) -> None:
    assert parse_report(dumps(report).encode()) == report


@given(st.binary(max_size=60))
def test_anything_else_is_a_value_error(text: bytes) -> None:
    try:
        parse_report(text)
    except (ValueError, RecursionError):
        return
    raise AssertionError(text)
