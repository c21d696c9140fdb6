"""What is answered and what is told ends in the store, and comes back from the reader."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelkit.contract.config import CaptureConfig, StoreConfig
from modelkit.errors import StoreError, StoreObjectExistsError
from modelkit.serve import capture
from modelkit.serve.capture import SegmentWriter
from modelkit.store.captures import CapturedRows, read_captured
from modelkit.store.segments import SegmentNames
from modelkit.store.store import Store
from tests.unit.serve.conftest import Serve, Served
from tests.unit.serve.serve_models import cancer, diabetes, iris, native, people

NOW = datetime(2026, 3, 1, 14, 59, 59, tzinfo=UTC)


def read(served: Served, **changes: Any) -> CapturedRows:
    now = datetime.now(UTC)
    window = {"since": now - timedelta(minutes=5), "until": now + timedelta(minutes=5)} | changes
    return read_captured(served.store, "team", served.example.signature.model, **window)


async def test_answered_rows_are_captured_with_their_answers(serve: Serve) -> None:
    example = people()
    served = serve(example)
    answer = (await served.predict(example.records(20), **{"X-Request-Id": "order-1"})).json()
    served.version.close()
    rows = read(served)
    assert rows.features.to_pylist() == example.records(20)
    meta = rows.meta.to_pydict()
    assert (set(meta["id"]), meta["row"]) == ({"order-1"}, list(range(20)))
    assert (meta["prediction"], meta["probabilities"]) == (answer["predictions"], answer["probabilities"])
    assert set(meta["version"]) == {3}
    assert read(served, digest=meta["digest"][0]).meta.num_rows == 20
    assert read(served, digest="sha256:other").meta.num_rows == 0


@pytest.mark.parametrize(
    "example", [cancer, diabetes, lambda: native("cancer")], ids=["binary", "regression", "native"]
)
async def test_every_kind_of_model_is_captured(serve: Serve, example: Any) -> None:
    served = serve(example())
    answer = (await served.predict(example().values(3))).json()
    served.version.close()
    rows = read(served)
    assert rows.features.to_pylist() == example().records(3)
    assert rows.meta["prediction"].to_pylist() == answer["predictions"]
    assert rows.meta["probabilities"].to_pylist() == answer.get("probabilities", [None] * 3)


async def test_feedback_joins_its_request(serve: Serve) -> None:
    served = serve(iris())
    answer = (await served.predict(iris().values(2))).json()
    single = (await served.predict(iris().values(1))).json()
    response = await served.client.post(
        "/feedback",
        json=[
            {"id": answer["id"], "label": [None, "virginica"]},
            {"id": single["id"], "label": "unheard of", "time": "2026-03-01T12:00:00+01:00"},
        ],
    )
    assert (response.status_code, response.json()) == (202, {"accepted": 2})
    assert await served.metric("modelloop_feedback_total") == 2
    served.version.close()
    labels = {(row["id"], row["row"]): row["label"] for row in read(served).meta.to_pylist()}
    assert labels == {(answer["id"], 0): None, (answer["id"], 1): "virginica", (single["id"], 0): "unheard of"}


@pytest.mark.parametrize(
    ("example", "label", "status"),
    [
        (cancer, 1, 202),
        (cancer, 1.0, 202),
        (cancer, 1.5, 400),
        (cancer, "1", 400),
        (cancer, True, 400),
        (cancer, None, 400),
        (cancer, {"a": 1}, 400),
        (cancer, [[1]], 400),
        (cancer, [], 400),
        (cancer, [None], 400),
        (iris, "setosa", 202),
        (iris, 1, 400),
        (diabetes, 151, 202),
        (diabetes, "high", 400),
    ],
)
async def test_a_label_must_be_of_the_models_own_kind(shared: Serve, example: Any, label: Any, status: int) -> None:
    response = await shared(example()).client.post("/feedback", json={"id": "a", "label": label})
    assert response.status_code == status


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "at least one row"),
        (5, "item 0: expected {"),
        ({"label": 1}, "item 0: expected {"),
        ([{"id": "a", "label": 1}, {"id": "a"}], "item 1: expected {"),
        ({"id": "", "label": 1}, "item 0: the field 'id'"),
        ({"id": "a", "label": 1, "row": 2}, "item 0: unknown field 'row'"),
        ({"id": "a", "label": 1, "time": "yesterday"}, "item 0: the field 'time'"),
        ({"id": "a", "label": 1, "time": "2026-03-01T12:00:00"}, "item 0: the field 'time'"),
        ({"id": "a", "label": 1, "time": 5}, "item 0: the field 'time'"),
    ],
)
async def test_bad_feedback_is_a_400_that_names_the_field(shared: Serve, body: Any, message: str) -> None:
    response = await shared(cancer()).client.post("/feedback", json=body)
    assert response.status_code == 400
    assert message in response.json()["error"]


async def test_feedback_that_finds_no_room_is_a_503_and_not_lost_silently(serve: Serve) -> None:
    served = serve(cancer(), capture=CaptureConfig(max_queue=2, flush_seconds=60))
    response = await served.client.post("/feedback", json={"id": "a", "label": [1, 0, 1]})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_sampling_keeps_the_asked_share_and_whole_requests(serve: Serve) -> None:
    served = serve(iris(), capture=CaptureConfig(sample_percent=20, flush_seconds=0.1))
    for index in range(300):
        await served.predict(iris().values(2), **{"X-Request-Id": f"request-{index}"})
    served.version.close()
    ids = read(served).meta["id"].to_pylist()
    assert 30 <= len(set(ids)) <= 90
    assert len(ids) == 2 * len(set(ids))


async def test_nothing_is_captured_at_0_percent(serve: Serve) -> None:
    served = serve(iris(), capture=CaptureConfig(sample_percent=0, flush_seconds=0.1))
    await served.predict(iris().values(5))
    served.version.close()
    assert read(served).meta.num_rows == 0


class Line:
    """A queued line."""

    def __init__(self, number: int, time: datetime = NOW, rows: int = 1) -> None:
        self.number, self.time, self.rows = number, time, rows

    def lines(self) -> Iterator[bytes]:
        return iter([json.dumps({"number": self.number}).encode() + b"\n"] * self.rows)


class Counts:
    """What the writer reports."""

    def __init__(self) -> None:
        self.written = self.missing = self.failures = 0

    def wrote(self, rows: int) -> None:
        self.written += rows

    def lost(self, rows: int) -> None:
        self.missing += rows

    def failed(self) -> None:
        self.failures += 1


class UnreliableStore(Store):
    """A real store whose writes fail until they are allowed."""

    def write_new(self, path: str, data: bytes) -> None:
        if not allowed.is_set():
            raise StoreError("the volume is full")
        super().write_new(path, data)


allowed = threading.Event()


def open_writer(tmp_path: Path, counts: Counts, kind: type[Store] = Store, **changes: Any) -> SegmentWriter:
    store = kind.open(StoreConfig(uri=f"file://{tmp_path}"), {})
    names = SegmentNames("team", "cancer", "requests", "pod-0", NOW)
    writer = SegmentWriter(store, names, counts, **({"max_rows": 1000, "flush_seconds": 0.02} | changes))
    writer.start()
    return writer


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def numbers(tmp_path: Path) -> list[int]:
    segments = sorted(tmp_path.rglob("*.jsonl.gz"))
    return [json.loads(line)["number"] for path in segments for line in gzip.open(path)]


def test_many_threads_offer_at_once_and_every_line_is_written_once(tmp_path: Path) -> None:
    counts = Counts()
    writer = open_writer(tmp_path, counts, max_rows=100_000)

    def offer(start: int) -> None:
        assert all(writer.offer(Line(start + index), 100) for index in range(200))

    threads = [threading.Thread(target=offer, args=(start * 200,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(5)
    assert sorted(numbers(tmp_path)) == list(range(1600))
    assert (counts.written, counts.missing, writer.waiting()) == (1600, 0, 0)


def test_lines_go_to_the_hour_of_their_own_time(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, Counts(), flush_seconds=60)
    for number in range(4):
        writer.offer(Line(number, NOW + timedelta(seconds=number)), 1)
    writer.close(5)
    hours = sorted(path.parent.name for path in tmp_path.rglob("*.jsonl.gz"))
    assert hours == ["2026-03-01T14", "2026-03-01T15"]
    assert numbers(tmp_path) == [0, 1, 2, 3]


def test_a_quarter_full_queue_is_written_without_waiting(tmp_path: Path) -> None:
    counts = Counts()
    writer = open_writer(tmp_path, counts, max_rows=8, flush_seconds=3600)
    assert writer.offer(Line(0, rows=2), 1)
    wait_until(lambda: counts.written == 2)
    writer.close(5)


def test_a_full_queue_says_no(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, Counts(), max_rows=10, flush_seconds=3600)
    assert not writer.offer(Line(0, rows=11), 1)
    assert not writer.offer(Line(0), capture.MAX_QUEUE_BYTES + 1)
    assert writer.offer(Line(0), 1)
    writer.close(5)


def test_a_failing_store_is_retried_and_counted_while_the_queue_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_FIRST_RETRY", 0.01)
    allowed.clear()
    counts = Counts()
    writer = open_writer(tmp_path, counts, UnreliableStore, max_rows=10)
    assert writer.offer(Line(0), 1)
    wait_until(lambda: counts.failures >= 3)
    accepted = 1
    while writer.offer(Line(accepted), 1):
        accepted += 1
    assert accepted == writer.waiting() == 10
    allowed.set()
    writer.close(5)
    assert numbers(tmp_path) == list(range(10))
    assert (counts.written, counts.missing) == (10, 0)


def test_what_can_not_be_written_in_time_is_counted_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capture, "_FIRST_RETRY", 0.01)
    allowed.clear()
    counts = Counts()
    writer = open_writer(tmp_path, counts, UnreliableStore)
    writer.offer(Line(0, rows=7), 1)
    writer.close(0.05)
    assert (counts.written, counts.missing) == (0, 7)
    assert "rows could not be written" in caplog.text


def test_a_write_whose_answer_was_lost_counts_as_written(tmp_path: Path) -> None:
    class Repeating(Store):
        def write_new(self, path: str, data: bytes) -> None:
            super().write_new(path, data)
            raise StoreObjectExistsError(path)

    counts = Counts()
    writer = open_writer(tmp_path, counts, Repeating)
    writer.offer(Line(1), 1)
    writer.close(5)
    assert (numbers(tmp_path), counts.written, counts.failures) == ([1], 1, 0)
