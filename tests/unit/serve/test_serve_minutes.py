"""What pods tell a monitor of their requests: each once, under the version that is served, whatever happens."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import loads
from modelkit.contract.config import CaptureConfig, LimitsConfig, StoreConfig
from modelkit.contract.files import SERVICE_STREAM, captures_directory
from modelkit.contract.service import BOUNDS_RATIO, LATENCY_BOUNDS, ServiceHour, http_status, is_server_error, kind_of
from modelkit.errors import StoreError
from modelkit.serve.metrics import COUNTED_ROUTES, LATENCY, ServerMetrics
from modelkit.serve.minutes import MAX_HOURS, SUFFIX, MinuteBook, MinuteWriter, Times
from modelkit.serve.rollout.verdict import ANSWERED, judge_counted
from modelkit.store.segments import SegmentNames
from modelkit.store.store import Store
from tests.unit.serve.conftest import Serve, slow_down
from tests.unit.serve.serve_models import iris, store_example
from tests.unit.serve.serve_process import running_pod, server_config

START = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64
ROW = iris().records(1)[0]


def names(started: datetime = START, pod: str = "pod-0") -> SegmentNames:
    return SegmentNames("team", "iris", SERVICE_STREAM, pod, started, SUFFIX)


def read_hours(store: Store, deployment: str = "iris") -> dict[str, ServiceHour]:
    found = store.list(captures_directory("team", deployment, SERVICE_STREAM))
    return {entry.path: loads(ServiceHour, store.read(entry.path)) for entry in found}


def count_codes(store: Store, deployment: str = "iris") -> Counter[str]:
    codes: Counter[str] = Counter()
    for hour in read_hours(store, deployment).values():
        for minute in hour.minutes.values():
            codes.update(minute.codes)
    return codes


def wait_for(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Failing(Store):
    """A real store that refuses to be written to, for as long as it is told to."""

    is_down = True

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        if Failing.is_down:
            raise StoreError("the volume is full")
        super().write(path, data, private=private)


class Counted:
    """How often writing failed."""

    failures = 0

    def failed(self) -> None:
        self.failures += 1


class Bench:
    """A writer without its thread, over a real store, with a clock that is set by hand."""

    def __init__(self, store: Store, started: datetime = START) -> None:
        self.now = started
        self.requests: dict[int | str, list[int]] = {}
        self.metrics = Counted()
        self.writer = MinuteWriter(
            store,
            MinuteBook(names(started), DIGEST, 3),
            lambda: {code: counts[:] for code, counts in self.requests.items()},
            self.metrics,
            flush_seconds=10.0,
            clock=lambda: self.now,
        )

    def answer(self, count: int = 1, code: int | str = 200, bucket: int = 0) -> None:
        self.requests.setdefault(code, [0] * (len(LATENCY_BOUNDS) + 1))[bucket] += count

    def move(self, **by: float) -> None:
        """Let time pass, then look and write as the thread does."""
        self.now += timedelta(**by)
        self.writer.look()
        self.writer.flush()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{tmp_path}"), {})


# -- the contract ---------------------------------------------------------------------------------------------------


def test_the_bounds_of_the_written_times_hold_those_of_metrics_and_are_close_to_each_other() -> None:
    assert set(LATENCY) <= set(LATENCY_BOUNDS)
    ratios = [high / low for low, high in pairwise(LATENCY_BOUNDS)]
    assert min(ratios) > 1
    assert max(ratios) <= BOUNDS_RATIO
    assert (LATENCY_BOUNDS[0], LATENCY_BOUNDS[-1]) == (0.0001, 60.0)


GRPC = ("OK", "CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED")
GRPC += ("FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED")
GRPC += ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS")


@pytest.mark.parametrize("code", [200, 202, 204, *range(400, 430), *range(500, 512), *GRPC])
def test_monitors_and_rollouts_agree_on_what_is_the_server_s_fault(code: int | str) -> None:
    judged = judge_counted(code)
    assert is_server_error(http_status(code)) is (judged not in (None, ANSWERED))


def test_statuses_have_kinds() -> None:
    kinds = {status: kind_of(status) for status in (200, 302, 404, 429, 499, 500, 501, 502, 503, 504)}
    assert list(kinds.values()) == [
        "answered",
        "answered",
        "request",
        "refused",
        "request",
        "failed",
        "request",
        "failed",
        "refused",
        "timed out",
    ]


# -- the book and the writer ----------------------------------------------------------------------------------------


def test_an_object_holds_the_minutes_of_its_hour_and_is_written_over(store: Store) -> None:
    bench = Bench(store)
    bench.answer(3, 200, 20)
    bench.answer(1, "INVALID_ARGUMENT", 5)
    bench.move(minutes=1)
    bench.answer(2, 200, 21)
    bench.answer(1, "OK", 21)
    bench.answer(4, 504, 110)
    bench.move(seconds=10)
    ((path, hour),) = read_hours(store).items()
    assert path == f"captures/team/iris/service/2026-03-01T14/pod-0-{int(START.timestamp() * 1e6)}-000000.json"
    assert (hour.digest, hour.version, hour.hour) == (DIGEST, 3, START)
    assert {name: (dict(found.codes), dict(found.latency)) for name, found in hour.minutes.items()} == {
        "0": ({"200": 3, "400": 1}, {"20": 3}),
        "1": ({"200": 3, "504": 4}, {"21": 3, "110": 4}),
    }


def test_nothing_is_written_while_nothing_changes(store: Store) -> None:
    bench = Bench(store)
    bench.move(seconds=10)
    assert read_hours(store) == {}
    bench.answer()
    bench.move(seconds=10)
    ((path, _),) = read_hours(store).items()
    store.delete(path)
    bench.move(seconds=10)
    bench.move(hours=2)
    assert read_hours(store) == {}


def test_an_hour_that_turns_is_written_to_its_end(store: Store) -> None:
    bench = Bench(store, START + timedelta(minutes=59, seconds=55))
    bench.answer(5)
    bench.move(seconds=5)
    bench.answer(7)
    bench.move(seconds=5)
    found = {
        hour.hour: dict(hour.minutes["59" if hour.hour == START else "0"].codes) for hour in read_hours(store).values()
    }
    assert found == {START: {"200": 5}, START + timedelta(hours=1): {"200": 7}}


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([200, 503, "OK"]), st.integers(-7200, 7200)), max_size=30))
def test_every_request_is_counted_once_wherever_the_clock_jumps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int | str, int]]
) -> None:
    store = Store.open(StoreConfig(uri=f"file://{tmp_path_factory.mktemp('store')}"), {})
    bench, expected = Bench(store), Counter[str]()
    for count, code, seconds in steps:
        bench.answer(count, code)
        expected[str(http_status(code))] += count
        bench.move(seconds=seconds)
    assert +count_codes(store) == +expected


def test_a_clock_that_returns_to_a_written_hour_never_writes_over_it(store: Store) -> None:
    bench = Bench(store, START + timedelta(minutes=30))
    bench.answer(5)
    bench.move(hours=1)
    bench.answer(6)
    bench.move(hours=-1)
    bench.answer(7)
    bench.move(minutes=1)
    first = [hour for hour in read_hours(store).values() if hour.hour == START]
    assert sorted(hour.minutes["30"].codes["200"] for hour in first) == [5, 7]
    assert count_codes(store) == {"200": 18}


def test_a_restarted_container_of_the_same_pod_leaves_the_earlier_counts(store: Store) -> None:
    for seconds in (0, 20):
        bench = Bench(store, START + timedelta(seconds=seconds))
        bench.answer(4)
        bench.move(seconds=5)
    assert len(read_hours(store)) == 2
    assert count_codes(store) == {"200": 8}


def test_a_store_that_fails_loses_nothing(tmp_path: Path) -> None:
    store = Failing.open(StoreConfig(uri=f"file://{tmp_path}"), {})
    bench = Bench(store)
    Failing.is_down = True
    for _ in range(3):
        bench.answer(5)
        bench.move(minutes=45)
    assert read_hours(store) == {}
    assert bench.metrics.failures == 3
    Failing.is_down = False
    bench.answer(1)
    bench.move(seconds=1)
    assert count_codes(store) == {"200": 16}
    assert len(read_hours(store)) == 3


def test_a_store_that_never_comes_back_costs_a_bounded_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Failing.open(StoreConfig(uri=f"file://{tmp_path}"), {})
    Failing.is_down = True
    bench = Bench(store)
    for _ in range(MAX_HOURS + 3):
        bench.answer()
        bench.move(hours=1)
    assert len(bench.writer._book.changed()) == MAX_HOURS
    assert "counts of requests could not be written and are lost" in caplog.text
    Failing.is_down = False
    bench.move(seconds=1)
    assert min(hour.hour for hour in read_hours(store).values()) == START + timedelta(hours=3)


def test_the_thread_goes_on_after_a_failure_and_writes_the_rest_when_it_ends(tmp_path: Path) -> None:
    store = Failing.open(StoreConfig(uri=f"file://{tmp_path}"), {})
    Failing.is_down = True
    metrics, counted = ServerMetrics(model="iris", version="3", digest=DIGEST), Counted()

    def read() -> Times:
        return metrics.read_times(COUNTED_ROUTES)

    writer = MinuteWriter(
        store,
        MinuteBook(names(datetime.now(UTC)), DIGEST, 3),
        read,
        counted,
        flush_seconds=0.01,
        clock=lambda: datetime.now(UTC),
    )
    writer.start()
    metrics.observe_request("predict", 200, 0.003)
    wait_for(lambda: counted.failures > 1)
    Failing.is_down = False
    wait_for(lambda: count_codes(store) == {"200": 1})
    metrics.observe_request("infer", 503, 0.003)
    metrics.observe_request("metrics", 200, 0.003)
    writer.close(5)
    assert count_codes(store) == {"200": 1, "503": 1}


@given(
    st.lists(st.tuples(st.sampled_from(["predict", "infer", "live"]), st.sampled_from([200, 422]), st.floats(0, 99)))
)
def test_times_are_counted_by_code_over_the_routes_of_inference(
    requests: list[tuple[str, int, float]],
) -> None:
    metrics = ServerMetrics(model="iris", version="3", digest=DIGEST)
    for route, code, seconds in requests:
        metrics.observe_request(route, code, seconds)
    times = metrics.read_times(COUNTED_ROUTES)
    assert {code: sum(counts) for code, counts in times.items()} == Counter(
        code for route, code, _ in requests if route != "live"
    )
    for bucket, bound in enumerate(LATENCY_BOUNDS):
        expected = sum(seconds <= bound for route, _, seconds in requests if route != "live")
        assert sum(sum(counts[: bucket + 1]) for counts in times.values()) == expected


# -- the server -----------------------------------------------------------------------------------------------------


async def test_the_server_tells_what_its_clients_got_and_nothing_of_probes_metrics_and_feedback(serve: Serve) -> None:
    served = serve(iris(), capture=CaptureConfig(sample_percent=0, flush_seconds=0.02))
    for _ in range(3):
        assert (await served.predict([ROW])).status_code == 200
    name = served.example.signature.model
    assert (await served.predict([dict.fromkeys(ROW, "wide")])).status_code == 400
    assert (await served.client.post(f"/v1/models/{name}:predict", json={"instances": [ROW]})).status_code == 200
    await served.client.get("/v2/health/ready")
    await served.client.get("/metrics")
    await served.client.get("/nothing")
    await served.client.post("/feedback", json={"labels": []})
    expected = {"200": 4, "400": 1}
    await asyncio.to_thread(wait_for, lambda: count_codes(served.store, name) == expected)
    ((_, hour),) = read_hours(served.store, name).items()
    assert hour.digest == served.version.service._capture._format.digest
    timed = sum(sum(minute.latency.values()) for minute in hour.minutes.values())
    assert timed == 4  # a refusal is quick whatever the model does


async def test_overload_and_time_outs_are_told_as_the_client_saw_them(serve: Serve) -> None:
    limits = LimitsConfig(max_concurrent=1, inference_seconds=0.3)
    served = serve(iris(), limits=limits, capture=CaptureConfig(flush_seconds=0.02))
    name, release = served.example.signature.model, slow_down(served)
    slow = asyncio.create_task(served.predict([ROW]))
    await asyncio.to_thread(wait_for, lambda: served.app.engine.load == 1)
    assert (await served.predict([ROW])).status_code == 503
    assert (await slow).status_code == 504
    release.set()
    await asyncio.to_thread(wait_for, lambda: count_codes(served.store, name) == {"503": 1, "504": 1})


def test_a_pod_that_is_stopped_writes_its_last_counts_and_a_killed_one_loses_an_interval_at_most(
    tmp_path: Path,
) -> None:
    root = tmp_path / "store"
    store = Store.open(StoreConfig(uri=f"file://{root}"), {})
    config = server_config(root, store_example(store, iris()), "iris")
    with running_pod(config, tmp_path) as pod:
        for _ in range(5):
            assert httpx.post(f"{pod.url}/predict", json={"features": [ROW]}).status_code == 200
        assert pod.stop() == 0
    assert count_codes(store) == {"200": 5}
    with running_pod(config, tmp_path) as pod:  # the same pod's next container
        for _ in range(3):
            assert httpx.post(f"{pod.url}/predict", json={"features": [ROW]}).status_code == 200
        wait_for(lambda: count_codes(store) == {"200": 8})
        os.kill(pod.process.pid, signal.SIGKILL)
        pod.process.wait()
    assert count_codes(store) == {"200": 8}
