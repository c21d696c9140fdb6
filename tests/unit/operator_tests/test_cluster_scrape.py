"""What running pods say of their progress, asked over real sockets, and what becomes of it in status."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from modelkit.train.progress import STAGES, Progress
from modelloop.cluster.asking import CONCURRENCY
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.scrape import MAX_BYTES, ProgressScraper, find_targets, parse_progress
from modelloop.decide.progress import PROGRESS_INTERVAL
from modelloop.decide.runs import ScrapedProgress
from modelloop.desired.labels import COMPONENT, TRAINING
from tests.unit.operator_tests.operator_states import NOW
from tests.unit.operator_tests.training_world import TrainingWorld, begun

PAGE = """
modelloop_training_progress_ratio 0.42
modelloop_training_eta_seconds 90.0
modelloop_training_stage_info{stage="Searching"} 1.0
modelloop_training_stage_info{stage="Fitting"} 0.0
"""
KEY = Key("ModelTraining", "team", "cancer")


def running_pod(name: str = "pod-1", **status: Any) -> dict[str, Any]:
    labels = {COMPONENT: "trainer", TRAINING: "cancer", "batch.kubernetes.io/job-name": f"job-of-{name}"}
    return {
        "metadata": {"name": name, "namespace": "team", "uid": name, "resourceVersion": "5", "labels": labels},
        "spec": {"containers": [{"name": "trainer"}]},
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "containerStatuses": [{"name": "trainer", "state": {"running": {}}}],
            **status,
        },
    }


def cache_of(*pods: dict[str, Any]) -> Cache:
    cache = Cache()
    for pod in pods:
        cache.put("Pod", pod)
    return cache


class Pods:
    """A server that answers for every pod."""

    def __init__(self) -> None:
        self.page = PAGE
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self.delay = 0.0

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.delay)
        self.at_once -= 1
        return web.Response(text=self.page)


@asynccontextmanager
async def served(pods: Pods) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/metrics", pods.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def ask(scraper: ProgressScraper) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        await scraper.ask_all(session, asyncio.Semaphore(CONCURRENCY))


# -- asking ------------------------------------------------------------------------------------------------------------


async def test_news_of_a_running_pod_wake_its_training_and_the_same_again_does_not() -> None:
    pods, woken = Pods(), []
    async with served(pods) as port:
        scraper = ProgressScraper(cache_of(running_pod()), woken.append, port=port, every=0.0, clock=lambda: NOW)
        await ask(scraper)
        found = scraper.find("team/job-of-pod-1")
        assert found == ScrapedProgress(percent=42, stage="Searching", time=NOW, eta_seconds=90.0)
        assert woken == [KEY]
        pods.page = PAGE.replace("0.42", "0.4234").replace("90.0", "80.0")
        await ask(scraper)
        assert woken == [KEY], "less than a percent is no news"
        pods.page = PAGE.replace("0.42", "0.43")
        await ask(scraper)
        assert woken == [KEY, KEY]


async def test_a_pod_that_does_not_answer_is_asked_less_often_and_one_that_is_gone_is_forgotten() -> None:
    woken: list[Key] = []
    cache = cache_of(running_pod())
    scraper = ProgressScraper(cache, woken.append, port=1, every=30.0)
    await ask(scraper)
    pods = Pods()
    async with served(pods) as port:
        scraper.port = port
        await ask(scraper)
        assert (pods.asked, woken) == (0, [])
        cache.put("Pod", {**running_pod("pod-2"), "metadata": {**running_pod("pod-2")["metadata"]}})
        await ask(scraper)
        assert pods.asked == 1
    cache.forget(Key("Pod", "team", "pod-2"))
    await ask(scraper)
    assert scraper.find("team/job-of-pod-2") is None


async def test_many_pods_are_asked_a_few_at_a_time_and_each_not_too_often() -> None:
    pods, woken = Pods(), []
    pods.delay = 0.02
    cache = cache_of(*(running_pod(f"pod-{number}") for number in range(3 * CONCURRENCY)))
    async with served(pods) as port:
        scraper = ProgressScraper(cache, woken.append, port=port, every=60.0)
        await ask(scraper)
        await ask(scraper)
    assert pods.asked == len(woken) == 3 * CONCURRENCY
    assert pods.most_at_once <= CONCURRENCY


async def test_a_page_without_end_is_not_read_to_its_end() -> None:
    pods, woken = Pods(), []
    pods.page = PAGE + "#" * (3 * MAX_BYTES)
    async with served(pods) as port:
        scraper = ProgressScraper(cache_of(running_pod()), woken.append, port=port)
        await ask(scraper)
    assert (woken, scraper.find("team/job-of-pod-1")) == ([], None)


def test_only_trainers_that_run_are_asked() -> None:
    def labelled(name: str, **labels: str) -> dict[str, Any]:
        pod = running_pod(name)
        return {**pod, "metadata": {**pod["metadata"], "labels": {**pod["metadata"]["labels"], **labels}}}

    deleted = running_pod("deleted")
    deleted["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    waiting = [{"name": "trainer", "state": {"waiting": {}}}]
    cache = cache_of(
        running_pod("good"),
        labelled("worker", **{COMPONENT: "worker"}),
        labelled("server", **{COMPONENT: "server"}),
        running_pod("ended", phase="Succeeded"),
        running_pod("no-address", podIP=""),
        running_pod("starting", containerStatuses=waiting),
        deleted,
    )
    assert [target.pod for target in find_targets(cache)] == ["good"]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_what_our_own_trainer_serves_is_understood() -> None:
    registry = CollectorRegistry()
    progress = Progress(registry)
    for stage in STAGES:
        progress.enter(stage)
        found = parse_progress(generate_latest(registry).decode(), NOW)
        assert found is not None
        assert found.stage == stage
        assert 0 <= found.percent <= 100
    assert found.percent == 100


@pytest.mark.parametrize(
    "text", ["", "up 1", "modelloop_training_progress_ratio NaN", "modelloop_training_progress_ratio x"]
)
def test_a_page_without_a_ratio_says_nothing(text: str) -> None:
    assert parse_progress(text, NOW) is None


@pytest.mark.parametrize(("ratio", "percent"), [("-1", 0), ("0.999", 99), ("0.29", 29), ("1.0", 100), ("+Inf", 100)])
def test_a_ratio_becomes_a_whole_percent(ratio: str, percent: int) -> None:
    found = parse_progress(f"modelloop_training_progress_ratio {ratio}", NOW)
    assert found is not None
    assert (found.percent, found.stage, found.eta_seconds) == (percent, "", None)


@pytest.mark.parametrize("eta", ["NaN", "-1", "+Inf", "1e300", "soon"])
def test_an_end_that_cannot_be_is_left_out(eta: str) -> None:
    found = parse_progress(f"modelloop_training_progress_ratio 0.5\nmodelloop_training_eta_seconds {eta}", NOW)
    assert found is not None
    assert found.eta_seconds is None


# -- deciding ----------------------------------------------------------------------------------------------------------


def say(world: TrainingWorld, percent: int, stage: str = "Searching") -> None:
    world.progress = ScrapedProgress(percent=percent, stage=stage, time=world.now, eta_seconds=60.5)


def test_progress_is_written_when_a_percent_is_new_and_not_more_than_every_five_seconds() -> None:
    world = begun()
    say(world, 10)
    world.settle()
    assert world.status.run is not None
    progress = world.status.run.progress
    assert progress is not None
    assert (progress.percent, progress.stage) == (10, "Searching")
    assert progress.estimated_completion_time == world.now + timedelta(seconds=60)
    world.wait(timedelta(seconds=2))
    say(world, 11)
    plan = world.reconcile()
    assert world.status.run.progress == progress
    assert plan.check_again_after == PROGRESS_INTERVAL - timedelta(seconds=2)
    world.wait(plan.check_again_after)
    world.settle()
    assert world.status.run.progress is not None
    assert world.status.run.progress.percent == 11
    world.wait(timedelta(hours=1))
    say(world, 11)
    before = world.status
    world.settle()
    assert world.status == before, "the same percent writes nothing"
