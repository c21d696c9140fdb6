"""Whole hours that are older than the retention go, and nothing else."""

import os
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.config import CaptureConfig, StoreConfig
from modelkit.contract.files import capture_hour
from modelkit.errors import StoreError
from modelkit.serve import retention
from modelkit.serve.retention import Retention, Stream
from modelkit.store.store import Store
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import iris

NOW = datetime(2026, 3, 1, 14, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIRECTORY = "captures/team/iris/requests"


class Counted:
    """What was reported."""

    def __init__(self) -> None:
        self.removed = self.failures = 0

    def expired(self, segments: int) -> None:
        self.removed += segments

    def expiry_failed(self) -> None:
        self.failures += 1


class Broken(Store):
    """A real store that lets nothing be deleted."""

    def delete(self, path: str) -> None:  # noqa: ARG002
        raise StoreError("the volume is mounted read-only")


def open_store(root: Path, kind: type[Store] = Store) -> Store:
    return kind.open(StoreConfig(uri=f"file://{root}"), {})


def fill(store: Store, ages: Iterable[int], stream: str = "requests") -> None:
    """Two segments for each hour so long ago."""
    for age in ages:
        for number in range(2):
            store.write(f"captures/team/iris/{stream}/{capture_hour(NOW - age * HOUR)}/pod-{number}.jsonl.gz", b"x")


def build(store: Store, hours: float, counted: Counted, *streams: str) -> Retention:
    found = [Stream("team", "iris", stream, counted) for stream in streams or ("requests",)]
    return Retention(store, found, hours * 3600, lambda: NOW)


def kept(root: Path) -> list[str]:
    folder = root / DIRECTORY
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_hours_that_are_wholly_older_go_with_their_folders(tmp_path: Path) -> None:
    store, counted = open_store(tmp_path), Counted()
    fill(store, range(6))
    build(store, 2.0, counted).remove_expired()
    # 12:30 is two hours ago: the hour that begins at 12:00 still holds rows that are kept.
    assert kept(tmp_path) == ["2026-03-01T12", "2026-03-01T13", "2026-03-01T14"]
    assert (counted.removed, counted.failures) == (6, 0)
    build(store, 2.0, counted).remove_expired()
    assert counted.removed == 6


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(-3, 60), max_size=8), st.floats(0.01, 50))
def test_no_row_younger_than_the_retention_is_removed_and_every_older_hour_is(
    tmp_path_factory: pytest.TempPathFactory, ages: set[int], hours: float
) -> None:
    root = tmp_path_factory.mktemp("store")
    fill(open_store(root), ages)
    build(open_store(root), hours, Counted()).remove_expired()
    limit = NOW - timedelta(seconds=hours * 3600)
    starts = {(NOW - age * HOUR).replace(minute=0) for age in ages}
    assert kept(root) == sorted(capture_hour(start) for start in starts if start + HOUR > limit)


def test_both_streams_are_looked_at_and_others_are_left_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for stream in ("requests", "feedback", "other"):
        fill(store, [100], stream)
    store.write("captures/team/iris-2/requests/2020-01-01T00/pod.jsonl.gz", b"x")
    store.write(f"{DIRECTORY}/notes/2020-01-01T00/keep.txt", b"x")
    build(store, 1, Counted(), "requests", "feedback").remove_expired()
    assert sorted(entry.path for entry in store.list("captures")) == [
        "captures/team/iris-2/requests/2020-01-01T00/pod.jsonl.gz",
        "captures/team/iris/other/2026-02-25T10/pod-0.jsonl.gz",
        "captures/team/iris/other/2026-02-25T10/pod-1.jsonl.gz",
        "captures/team/iris/requests/notes/2020-01-01T00/keep.txt",
    ]


def test_nothing_captured_yet_is_no_error(tmp_path: Path) -> None:
    counted = Counted()
    build(open_store(tmp_path), 1, counted).remove_expired()
    assert (counted.removed, counted.failures) == (0, 0)


def test_a_store_that_fails_is_counted_and_the_next_stream_is_looked_at(tmp_path: Path) -> None:
    store, counted = open_store(tmp_path, Broken), Counted()
    fill(store, [5])
    fill(store, [5], "feedback")
    build(store, 1, counted, "requests", "feedback").remove_expired()
    assert (counted.removed, counted.failures) == (0, 2)
    assert len(list(store.list("captures"))) == 4


def test_several_pods_at_once_do_each_other_no_harm(tmp_path: Path) -> None:
    counted = Counted()
    fill(open_store(tmp_path), range(40))
    pods = [build(open_store(tmp_path), 1, counted) for _ in range(6)]
    threads = [threading.Thread(target=pod.remove_expired) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(tmp_path) == ["2026-03-01T13", "2026-03-01T14"]
    assert counted.failures == 0


def test_a_folder_that_was_swapped_for_a_symlink_is_not_followed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    fill(store, [1])
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.jsonl.gz").write_bytes(b"x")
    (tmp_path / "store" / DIRECTORY / "2020-01-01T00").symlink_to(outside)
    build(store, 1, Counted()).remove_expired()
    assert os.listdir(outside) == ["precious.jsonl.gz"]


async def test_a_server_removes_what_is_old_and_counts_it(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_FIRST_SECONDS", 0.0)
    store = open_store(tmp_path / "store")
    fill(store, [5])
    served = serve(iris(), capture=CaptureConfig(retention_seconds=3600, flush_seconds=0.01))
    deadline = time.monotonic() + 10
    while kept(tmp_path / "store"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    served.version.close()
    assert await served.metric('modelloop_capture_expired_segments_total{stream="requests"}') == 2
    assert await served.metric('modelloop_capture_expiry_failures_total{stream="requests"}') == 0


def test_without_a_retention_nothing_looks(serve: Serve) -> None:
    assert serve(iris()).version.retention is None


def test_closing_ends_the_thread(tmp_path: Path) -> None:
    waiting = build(open_store(tmp_path), 1, Counted())
    waiting.start()
    waiting.close()
    assert not any(thread.name == "capture-retention" and thread.is_alive() for thread in threading.enumerate())
