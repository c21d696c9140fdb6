"""Segments end by size and by time, whatever is offered, and no answer fails or waits for its capture."""

import gzip
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkit.contract.config import CaptureConfig, StoreConfig
from modelkit.contract.files import capture_hour
from modelkit.serve import capture
from modelkit.serve.batch import Batch, Features
from modelkit.serve.capture import Capture, RowFormat, SegmentWriter
from modelkit.serve.model import Answer
from modelkit.serve.question import Question, Reply
from modelkit.store.segments import SegmentNames
from modelkit.store.store import Store
from tests.unit.serve.serve_models import iris
from tests.unit.serve.test_serve_capture import Counts, wait_until

FORMAT = RowFormat("sha256:0", 3, Features.of(iris().signature))
NOW = datetime(2026, 3, 1, 14, 59, 59, 999_999, tzinfo=UTC)


class World:
    """A writer on a real store, and a capture in front of it."""

    def __init__(self, root: Path, *, percent: int = 100, **changes: Any) -> None:
        self.root = root
        self.counts = Counts()
        self.dropped = 0
        self.now = NOW
        store = Store.open(StoreConfig(uri=f"file://{root}"), {})
        names = SegmentNames("team", "iris", "requests", "pod-0", NOW)
        settings = {"max_rows": 100_000, "flush_seconds": 3600} | changes
        self.writer = SegmentWriter(store, names, self.counts, **settings)
        self.capture = Capture(CaptureConfig(sample_percent=percent), FORMAT, self.writer, self._drop, lambda: self.now)

    def _drop(self, rows: int) -> None:
        self.dropped += rows

    def ask(self, rows: int, name: str = "a", prediction: Any = "setosa", moment: datetime = NOW) -> None:
        batch = Batch(rows, np.zeros((rows, 4)), ())
        question = Question(name, batch, 100, lambda _: Reply(b""))
        self.now = moment
        self.capture.offer(question, Answer([prediction] * rows, np.zeros((rows, 3))))

    def segments(self) -> list[list[dict[str, Any]]]:
        paths = sorted(self.root.rglob("*.jsonl.gz"))
        return [[json.loads(line) for line in gzip.open(path)] for path in paths]


@pytest.mark.parametrize("rows", [1, 4, 5, 1000])
def test_no_segment_is_larger_than_it_may_be_by_more_than_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(capture, "_SEGMENT_BYTES", 10_000)
    world = World(tmp_path)
    for number in range(1000 // rows):
        world.ask(rows, f"request-{number}")
    world.writer.start()
    world.writer.close(10)
    found = world.segments()
    sizes = [sum(len(json.dumps(row)) for row in segment) for segment in found]
    assert 5 < len(found) < 100
    assert max(sizes) < 12_000
    assert min(sizes[:-1]) > 9_000
    assert sum(map(len, found)) == 1000 // rows * rows
    keys = [(row["id"], row["row"]) for segment in found for row in segment]
    assert len(set(keys)) == len(keys)


def test_a_row_is_written_when_its_time_is_up_though_more_keep_coming(tmp_path: Path) -> None:
    world = World(tmp_path, flush_seconds=0.05)
    world.writer.start()
    start = time.monotonic()
    number = 0
    while world.counts.written == 0:
        world.ask(1, f"request-{number}")
        number += 1
        assert time.monotonic() < start + 10
        time.sleep(0.001)
    world.writer.close(10)
    assert sum(map(len, world.segments())) == number


def test_rows_of_the_hours_last_moment_and_of_the_next_hours_first_are_kept_apart(tmp_path: Path) -> None:
    world = World(tmp_path)
    later = datetime(2026, 3, 1, 15, tzinfo=UTC)
    world.ask(2, "next", moment=later)
    world.ask(2, "last")
    world.writer.start()
    world.writer.close(10)
    folders = sorted(path.parent.name for path in tmp_path.rglob("*.jsonl.gz"))
    assert folders == [capture_hour(NOW), capture_hour(later)] == ["2026-03-01T14", "2026-03-01T15"]
    assert [[row["id"] for row in segment] for segment in world.segments()] == [["last"] * 2, ["next"] * 2]


@pytest.mark.parametrize("rows", [1, 100])
def test_a_row_that_can_not_be_written_fails_no_answer_and_is_counted(
    tmp_path: Path, rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    world.ask(3, "before")
    world.ask(rows, prediction={"secret", "value"})
    world.ask(3, "after")
    world.writer.start()
    world.writer.close(10)
    assert (world.counts.missing, world.counts.written, world.dropped) == (rows, 6, 0)
    assert [[row["id"] for row in segment] for segment in world.segments()] == [["before"] * 3 + ["after"] * 3]
    assert "secret" not in caplog.text


def test_what_finds_no_room_is_reported_row_by_row(tmp_path: Path) -> None:
    world = World(tmp_path, max_rows=10)
    for _ in range(4):
        world.ask(4)
    assert (world.writer.waiting(), world.dropped) == (8, 8)


@pytest.mark.parametrize("percent", [0, 1, 20, 99, 100])
def test_the_sample_is_settled_by_the_id_alone(tmp_path: Path, percent: int) -> None:
    worlds = [World(tmp_path / str(number), percent=percent) for number in range(2)]
    for world in worlds:
        for number in range(2000):
            world.ask(1, f"request-{number}")
    kept = [world.writer.waiting() for world in worlds]
    assert kept[0] == kept[1]
    assert kept[0] == pytest.approx(20 * percent, abs=0 if percent in (0, 100) else 80)


def test_offering_takes_no_time_while_the_store_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    hangs, release = threading.Event(), threading.Event()

    def write_new(self: Store, path: str, data: bytes) -> None:
        hangs.set()
        release.wait(30)

    monkeypatch.setattr(Store, "write_new", write_new)
    world = World(tmp_path, max_rows=100, flush_seconds=0.01)
    world.writer.start()
    world.ask(1)
    assert hangs.wait(10)
    start = time.perf_counter()
    for number in range(1000):
        world.ask(1, f"request-{number}")
    assert time.perf_counter() - start < 5
    assert world.dropped == 1000 - 99
    release.set()
    world.writer.close(10)
    wait_until(lambda: world.counts.written == 100)
