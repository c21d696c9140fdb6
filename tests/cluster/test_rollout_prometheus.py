"""Checks of a user's own metrics against a real Prometheus: one that is dead pauses a rollout, and decides nothing."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelloop.api.analysis import PrometheusCheck
from modelloop.cluster.asking import CONCURRENCY
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.prometheus import PrometheusAsker, open_prometheus_session
from modelloop.decide.analysis import CustomMeasurement
from modelloop.decide.analysis.custom import check_custom
from modelloop.desired.labels import DIGEST
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import Api, Object, condition_of, wait_for
from tests.cluster.cluster_loop import NAME, containers, deployment, digest_of, is_ready, number_of, server_of
from tests.cluster.cluster_node import Background, Node
from tests.cluster.cluster_operator import OperatorProcess
from tests.cluster.cluster_prometheus import (
    QUERY_TIMEOUT,
    Exporter,
    PrometheusProcess,
    build_played_config,
    find_hindrance,
)
from tests.cluster.cluster_reports import Reporters
from tests.cluster.cluster_story import SHORT

KEY = Key("ModelDeployment", "team", NAME)
CHECK = PrometheusCheck(name="errors", query="1", max=1.0)
ENDLESS = f"count_over_time(({' + '.join(['vector(time())'] * 30)})[2d:1s])"
"""Takes Prometheus seconds, and not much memory."""
VALUES = {
    'value{pod="a"}': 0.25,
    'values{pod="a"}': 1.0,
    'values{pod="b"}': 2.0,
}


@pytest.fixture(scope="session")
def exporter(background: Background) -> Iterator[Exporter]:
    """What every Prometheus of the session scrapes."""
    made = Exporter(background)
    made.samples |= VALUES
    yield made
    made.close()


@pytest.fixture(scope="session")
def make_prometheus(
    exporter: Exporter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], PrometheusProcess]]:
    """Makes a Prometheus, which isn't started yet. All end with the session."""
    hindrance = find_hindrance()
    if hindrance and not os.environ.get("CI"):
        pytest.skip(hindrance)
    made: list[PrometheusProcess] = []
    config = build_played_config(exporter)

    def make() -> PrometheusProcess:
        made.append(PrometheusProcess(folder=tmp_path_factory.mktemp("prometheus"), config=config))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture(scope="session")
def prometheus(make_prometheus: Callable[[], PrometheusProcess]) -> PrometheusProcess:
    """One that nobody ends, with the values of the exporter."""
    made = make_prometheus().start()
    wait_for(lambda: made.read("value"), what="the first scrape")
    return made


@pytest.fixture
def mortal(make_prometheus: Callable[[], PrometheusProcess]) -> Iterator[PrometheusProcess]:
    """A test's own, to be started and ended by it."""
    made = make_prometheus()
    yield made
    made.kill()


# -- what the operator gets to know ---------------------------------------------------------------------------------


def rollout_of(address: str, query: str, timeout: str) -> Object:
    """A ModelDeployment whose step has one check."""
    check = {"name": CHECK.name, "query": query, "max": 1}
    analysis = {"interval": "1s", "prometheus": {"address": address, "timeout": timeout, "checks": [check]}}
    now = "2026-01-01T00:00:00Z"
    step = {
        "id": "x", "number": 2, "digest": digest_of(2), "strategy": "Canary", "state": "Stepping", "startTime": now,
        "since": now,
    }  # fmt: skip
    return {
        "metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "x", "resourceVersion": "1"},
        "spec": {"rollout": {"analysis": analysis}},
        "status": {"rollout": step},
    }


async def measure(address: str, query: str, timeout: str = "5s") -> CustomMeasurement:
    """What the operator finds when it asks once."""
    cache = Cache()
    cache.put(KEY.kind, {"kind": KEY.kind, **rollout_of(address, query, timeout)})
    asker = PrometheusAsker(cache)
    async with open_prometheus_session() as session:
        await asker.ask_all(session, asyncio.Semaphore(CONCURRENCY))
    return asker.find_measurements(KEY)[CHECK.name]


@pytest.mark.parametrize(
    ("query", "value", "verdict"),
    [
        pytest.param("scalar(value)", 0.25, "Successful", id="a scalar"),
        pytest.param("value", 0.25, "Successful", id="one series"),
        pytest.param("sum(values)", 3.0, "Failed", id="one series beyond the limit"),
        pytest.param("value > 9", None, "Inconclusive", id="no series"),
        pytest.param("missing", None, "Inconclusive", id="no such metric"),
        pytest.param("value * NaN", math.nan, "Inconclusive", id="NaN"),
        pytest.param("scalar(values)", math.nan, "Inconclusive", id="the scalar of two series"),
        pytest.param("value / 0", math.inf, "Inconclusive", id="more than any number"),
    ],
)
async def test_what_is_measured_is(
    prometheus: PrometheusProcess, query: str, value: float | None, verdict: str
) -> None:
    found = await measure(prometheus.address, query)
    assert found.error == ""
    assert found.value == (value if value is None else pytest.approx(value, nan_ok=True))
    assert check_custom(CHECK, found).verdict == verdict


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param("values", "the query must result in one number; found 2 series", id="several series"),
        pytest.param("value[1m]", "the query must result in one number; found a matrix", id="a range"),
        pytest.param('"value"', "the query must result in one number; found a string", id="a text"),
        pytest.param("sum(", "parse error: unclosed left parenthesis", id="a syntax error"),
        pytest.param("value{", "answers 400: bad_data: ", id="a selector without end"),
        pytest.param("value * on(pod) group_left values * on() values", "answers 422: execution: ", id="no match"),
    ],
)
async def test_what_is_no_number_is_an_error_that_says(prometheus: PrometheusProcess, query: str, told: str) -> None:
    found = await measure(prometheus.address, query)
    assert found.value is None
    assert found.error.startswith(f"{prometheus.address}/api/v1/query: ")
    assert told in found.error
    assert check_custom(CHECK, found).verdict == "Error"


@pytest.mark.parametrize("timeout", ["100ms", "1500ms", "1s250ms", "1s", "1m"])
async def test_any_timeout_that_may_be_stated_is_one_for_prometheus(
    prometheus: PrometheusProcess, timeout: str
) -> None:
    found = await measure(prometheus.address, "value", timeout)
    assert "timeout" not in found.error, found.error


async def test_a_query_over_its_timeout_is_an_error(prometheus: PrometheusProcess) -> None:
    found = await asyncio.wait_for(measure(prometheus.address, ENDLESS, "300ms"), 10)
    # Both of them look at the clock.
    assert "no answer within 0.3 s" in found.error or "answers 503: timeout: query timed out" in found.error
    assert (await measure(prometheus.address, "value")).value == 0.25


async def test_a_query_that_prometheus_gives_up_is_an_error(prometheus: PrometheusProcess) -> None:
    found = await measure(prometheus.address, ENDLESS, f"{20 * QUERY_TIMEOUT:g}s")
    assert "answers 503: timeout: query timed out" in found.error


async def test_one_that_hangs_one_that_dies_and_one_that_is_dead_are_errors(mortal: PrometheusProcess) -> None:
    mortal.start()
    assert (await measure(mortal.address, "1")).value == 1.0
    mortal.hang()
    assert "no answer within 0.5 s" in (await measure(mortal.address, "1", "500ms")).error
    asked = asyncio.create_task(measure(mortal.address, "1", "30s"))
    await asyncio.sleep(0.2)
    assert not asked.done()
    mortal.kill()
    assert (await asyncio.wait_for(asked, 10)).error
    assert "Cannot connect to host 127.0.0.1" in (await measure(mortal.address, "1")).error
    mortal.start()
    assert (await measure(mortal.address, "1")).value == 1.0


# -- what becomes of a rollout --------------------------------------------------------------------------------------

HOLD = 1.0
"""Seconds of the only step."""
MANY_HOLDS = 6 * HOLD
QUERY = 'max(played_errors{namespace="$namespace",deployment="$candidate"})'


class Canary:
    """Version 1 serves, and version 2 is tried on played traffic that nothing but the user's own check minds."""

    def __init__(self, api: Api, exporter: Exporter, namespace: str, address: str) -> None:
        self._api, self._exporter = api, exporter
        self.namespace, self._address = namespace, address

    def apply(self, number: int, *, hold: float = HOLD, bake: float = 1.0, errors: int = 4) -> None:
        """Ask for a version. errors: looks in a row without an answer that are borne with."""
        check = {"name": CHECK.name, "query": QUERY, "max": 0.1}
        prometheus = {"address": self._address, "timeout": "500ms", "checks": [check]}
        rollout = {
            "strategy": "Canary",
            "steps": [{"weight": 50, "hold": f"{hold:g}s"}],
            "analysis": {"interval": "1s", "consecutiveErrorLimit": errors, "prometheus": prometheus},
            "bakeTime": f"{bake:g}s",
        }
        uri = f"pvc://models/models/{self.namespace}/{NAME}/{number}-0a1b2c3d"
        model = {"uri": uri, "digest": digest_of(number)}
        body = deployment(self.namespace, model=model, rollout=rollout)
        del body["spec"]["trainingRef"]
        self._api.apply(body)

    def measures(self, *, stable: float, candidate: float) -> None:
        """What Prometheus gets to know of the two versions."""
        for number, value in ((1, stable), (2, candidate)):
            series = f'played_errors{{namespace="{self.namespace}",deployment="{server_of(number)}"}}'
            self._exporter.samples[series] = value

    def body(self) -> Object:
        """The ModelDeployment as it is now."""
        return self._api.get("ModelDeployment", self.namespace, NAME)

    def rollout(self) -> dict[str, Any]:
        """The rollout under way; empty without one."""
        return self.body().get("status", {}).get("rollout") or {}

    def history(self) -> list[tuple[int, str, str]]:
        """Number, result and reason of the rollouts that ended, newest first."""
        records = self.body().get("status", {}).get("history") or []
        return [(record["number"], record["result"], record["reason"]) for record in records]

    def selected(self) -> str:
        """The digest that the public Service selects."""
        return str(self._api.get("Service", self.namespace, NAME)["spec"]["selector"][DIGEST])

    def wait_for_pause(self) -> dict[str, Any]:
        """The rollout, once it is paused for want of a measurement."""
        wait_for(lambda: self.rollout().get("state") == "Paused", 30, what="the pause")
        rollout = self.rollout()
        assert rollout["paused"] == "Error"
        return rollout

    def require_promoted(self) -> None:
        """Version 2 serves, and the rollout is over; it was neither given up nor tried twice."""
        wait_for(lambda: len(self.history()) > 1, 60, what="the end of the rollout")
        assert self.history() == [(2, "Promoted", "Promoted"), (1, "Promoted", "Promoted")]
        assert self.selected() == digest_label(digest_of(2))
        assert not self.body()["status"].get("failed")

    def require_unchanged(self, seconds: float, *, before: dict[str, Any]) -> None:
        """The rollout stays paused as it was, and version 1 serves, for as long as that."""
        kept = ("id", "state", "paused", "weight", "step", "since", "pauseTime")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            body, rollout = self.body(), self.rollout()
            assert {name: rollout.get(name) for name in kept} == {name: before.get(name) for name in kept}
            assert number_of(body, "stable") == 1
            assert self.selected() == digest_label(digest_of(1))
            assert len(self.history()) == 1
            time.sleep(0.1)
        assert self.rollout()["lookTime"] > before["lookTime"], "it was looked at all the time"


@pytest.fixture
def begin(
    api: Api,
    node: Node,
    background: Background,
    exporter: Exporter,
    namespace: str,
    operator: Callable[..., OperatorProcess],
) -> Iterator[Callable[[str], Canary]]:
    """`begin(address)`: version 1 serves, and its analysis would ask the Prometheus at that address."""
    reporters = Reporters(api, background, namespace, NAME, [digest_of(1), digest_of(2)])

    def start(address: str) -> Canary:
        node.play(namespace, reporters.play(containers()))
        canary = Canary(api, exporter, namespace, address)
        canary.apply(1)
        operator(overrides=SHORT)
        wait_for(lambda: is_ready(canary.body()), what="version 1 serving")
        return canary

    yield start
    reporters.close()


def test_a_candidate_within_the_limits_is_promoted(
    prometheus: PrometheusProcess, begin: Callable[[str], Canary]
) -> None:
    canary = begin(prometheus.address)
    canary.measures(stable=0.9, candidate=0.05)
    wait_for(lambda: 0.05 in prometheus.read("played_errors"), what="a scrape")
    canary.apply(2)
    canary.require_promoted()
    record = canary.body()["status"]["history"][0]
    (check,) = [check for check in record["checks"] if check["name"] == CHECK.name]
    assert (check["verdict"], check["value"], check["limit"]) == ("Successful", 0.05, 0.1)


def test_a_candidate_beyond_a_limit_is_rolled_back_in_the_name_of_the_check(
    api: Api, prometheus: PrometheusProcess, begin: Callable[[str], Canary]
) -> None:
    canary = begin(prometheus.address)
    canary.measures(stable=0.05, candidate=0.5)
    wait_for(lambda: 0.5 in prometheus.read("played_errors"), what="a scrape")
    canary.apply(2, hold=60)
    wait_for(lambda: len(canary.history()) > 1, 60, what="the end of the rollout")
    assert canary.history()[0] == (2, "RolledBack", CHECK.name)
    (failed,) = canary.body()["status"]["failed"]
    assert (failed["digest"], failed["reason"]) == (digest_of(2), CHECK.name)
    assert "0.5 is above max 0.1" in failed["message"]
    assert number_of(canary.body(), "stable") == 1
    assert canary.selected() == digest_label(digest_of(1))
    assert condition_of(canary.body(), "RolledOut")["status"] == "False"


def test_a_candidate_that_gets_bad_in_the_bake_time_is_taken_back(
    prometheus: PrometheusProcess, begin: Callable[[str], Canary]
) -> None:
    canary = begin(prometheus.address)
    canary.measures(stable=0.05, candidate=0.06)
    wait_for(lambda: 0.06 in prometheus.read("played_errors"), what="a scrape")
    canary.apply(2, bake=120)
    wait_for(lambda: canary.rollout().get("state") == "Baking", 60, what="the bake time")
    wait_for(lambda: canary.selected() == digest_label(digest_of(2)), what="the Service to follow")
    canary.measures(stable=0.05, candidate=0.7)
    wait_for(lambda: len(canary.history()) > 1, 30, what="the end of the rollout")
    assert canary.history()[0] == (2, "RolledBack", CHECK.name)
    wait_for(lambda: canary.selected() == digest_label(digest_of(1)), what="the Service to come back")


def test_a_prometheus_that_is_dead_from_the_beginning_pauses_until_it_is_there(
    mortal: PrometheusProcess, begin: Callable[[str], Canary]
) -> None:
    canary = begin(mortal.address)
    canary.measures(stable=0.9, candidate=0.05)
    canary.apply(2)
    paused = canary.wait_for_pause()
    assert "errors couldn't be measured (5 > consecutiveErrorLimit 4)" in paused["message"]
    assert "Cannot connect to host 127.0.0.1" in paused["message"]
    canary.require_unchanged(MANY_HOLDS, before=paused)
    mortal.start()
    canary.require_promoted()


@pytest.mark.parametrize("end", [PrometheusProcess.kill, PrometheusProcess.hang], ids=["dies", "hangs"])
def test_a_prometheus_that_in_the_middle_of_a_step(
    mortal: PrometheusProcess, begin: Callable[[str], Canary], end: Callable[[PrometheusProcess], None]
) -> None:
    mortal.start()
    canary = begin(mortal.address)
    canary.measures(stable=0.9, candidate=0.05)
    wait_for(lambda: 0.05 in mortal.read("played_errors"), what="a scrape")
    canary.apply(2, hold=600)
    wait_for(lambda: canary.rollout().get("verdict") == "Successful", what="a verdict")
    end(mortal)
    wait_for(lambda: canary.rollout()["verdict"] != "Successful", what="the first look without an answer")
    # From now on nothing but the missing measurement holds it up: what was good once doesn't count.
    canary.apply(2)
    paused = canary.wait_for_pause()
    assert paused["weight"] == 50
    canary.require_unchanged(MANY_HOLDS, before=paused)
    if end is PrometheusProcess.hang:
        mortal.go_on()
    else:
        mortal.start()
    canary.require_promoted()


def test_a_prometheus_that_dies_in_the_bake_time_takes_nothing_back(
    mortal: PrometheusProcess, begin: Callable[[str], Canary]
) -> None:
    mortal.start()
    canary = begin(mortal.address)
    canary.measures(stable=0.9, candidate=0.05)
    wait_for(lambda: 0.05 in mortal.read("played_errors"), what="a scrape")
    canary.apply(2, bake=10, errors=1)
    wait_for(lambda: canary.rollout().get("state") == "Baking", 60, what="the bake time")
    mortal.kill()
    wait_for(lambda: canary.rollout().get("verdict") == "Error", what="looks without an answer", every=0.05)
    canary.require_promoted()
