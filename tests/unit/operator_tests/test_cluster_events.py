"""Events inform; they never hold anything up."""

import asyncio
from typing import Any

from modelloop.cluster.events import MAX_MESSAGE, QUEUE_SIZE, EventRecorder
from modelloop.cluster.resources import Resource
from modelloop.decide.plan import Event
from modelloop.errors import ClusterError
from tests.unit.operator_tests.fake_clock import run

BODY = {"metadata": {"name": "cancer", "namespace": "team", "uid": "u"}}


class Posts:
    """Takes Events, or refuses them."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.down = False

    async def create(self, _resource: Resource, _namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.down:
            raise ClusterError("connection refused")
        self.posted.append(body)
        return body


def recorder(posts: Posts) -> EventRecorder:
    return EventRecorder(posts, "modelloop-0" * 20)  # type: ignore[arg-type]


def test_an_event_is_posted_about_its_custom_resource_within_the_limits() -> None:
    async def scenario(_loop: asyncio.AbstractEventLoop) -> None:
        posts = Posts()
        events = recorder(posts)
        posting = asyncio.create_task(events.run())
        events.record("ModelTraining", BODY, Event(reason="R" * 500, message="ü" * 5000, warning=True))
        await events.drain(5)
        (posted,) = posts.posted
        assert posted["involvedObject"]["uid"] == "u"
        assert posted["type"] == "Warning"
        assert len(posted["message"]) <= MAX_MESSAGE
        assert len(posted["reason"]) <= 128
        assert len(posted["reportingInstance"]) <= 128
        assert not posting.done()

    run(scenario)


def test_a_full_queue_drops_and_counts() -> None:
    events = recorder(Posts())
    for _ in range(QUEUE_SIZE + 7):
        events.record("ModelTraining", BODY, Event(reason="Approved", message=""))
    assert events.dropped == 7


def test_an_api_server_that_is_away_costs_events_and_nothing_else() -> None:
    async def scenario(_loop: asyncio.AbstractEventLoop) -> None:
        posts = Posts()
        posts.down = True
        events = recorder(posts)
        posting = asyncio.create_task(events.run())
        events.record("ModelTraining", BODY, Event(reason="Approved", message="lost"))
        await events.drain(5)
        posts.down = False
        events.record("ModelTraining", BODY, Event(reason="Approved", message="kept"))
        await events.drain(5)
        assert [posted["message"] for posted in posts.posted] == ["kept"]
        assert not posting.done()

    run(scenario)


def test_draining_does_not_wait_longer_than_it_may() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        events = recorder(Posts())
        events.record("ModelTraining", BODY, Event(reason="Approved", message=""))
        await events.drain(3)
        assert 3.0 <= loop.time() <= 3.1

    run(scenario)
