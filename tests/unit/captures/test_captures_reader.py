"""Reading a window of captures and joining it with feedback, over real files."""

import json
import logging
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelkit.contract.codec import format_time
from modelkit.contract.config import StoreConfig
from modelkit.contract.files import capture_hour
from modelkit.store.captures import CapturedRows, read_captured
from modelkit.store.segments import SegmentNames, compress_segment
from modelkit.store.store import Store

START = datetime(2026, 3, 1, 14, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{tmp_path}"), {})


class Writer:
    """Writes segments as a pod does."""

    def __init__(self, store: Store, pod: str = "pod-0") -> None:
        self.store = store
        self.names = {stream: SegmentNames("team", "cancer", stream, pod, START) for stream in ("requests", "feedback")}

    def write(self, stream: str, records: Iterable[dict[str, Any]], time: datetime = START) -> str:
        path = self.names[stream].next_path(capture_hour(time))
        self.store.write_new(path, compress_segment(json.dumps(record).encode() + b"\n" for record in records))
        return path


def answered(id: str = "a", row: int = 0, time: datetime = START, **changes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "row": row,
        "time": format_time(time),
        "digest": "sha256:1",
        "version": 1,
        "features": {"x": 1.5, "y": 2.0},
        "prediction": 1,
        "probabilities": [0.25, 0.75],
    } | changes


def told(id: str = "a", row: int = 0, label: Any = 1, received: datetime = START) -> dict[str, Any]:
    moment = format_time(received)
    return {"id": id, "row": row, "label": label, "time": moment, "received": moment}


def read(store: Store, **changes: Any) -> CapturedRows:
    window = {"since": START - HOUR, "until": START + HOUR} | changes
    return read_captured(store, "team", "cancer", **window)


def test_rows_come_back_with_features_and_meta_and_without_labels(store: Store) -> None:
    Writer(store).write("requests", [answered("a"), answered("b", time=START + timedelta(seconds=1))])
    rows = read(store)
    assert rows.features.to_pylist() == [{"x": 1.5, "y": 2.0}] * 2
    assert rows.meta.column_names == [
        "id", "row", "time", "digest", "version", "prediction", "probabilities", "redacted", "label",
    ]  # fmt: skip
    first = rows.meta.to_pylist()[0]
    assert first["time"] == START
    assert (first["id"], first["prediction"], first["probabilities"], first["label"]) == ("a", 1, [0.25, 0.75], None)
    assert rows.meta.schema.field("label").type == pa.int64()
    assert (rows.segments, rows.skipped_segments) == (1, 0)


def test_nothing_captured_gives_empty_tables(store: Store) -> None:
    rows = read(store)
    assert (rows.features.num_rows, rows.meta.num_rows, rows.segments) == (0, 0, 0)
    assert rows.meta.schema.field("time").type == pa.timestamp("us", "UTC")


def test_the_window_includes_its_start_and_not_its_end(store: Store) -> None:
    moments = [START - timedelta(microseconds=1), START, START + HOUR - timedelta(microseconds=1), START + HOUR]
    writer = Writer(store)
    for index, moment in enumerate(moments):
        writer.write("requests", [answered(str(index), time=moment)], moment)
    assert read(store, since=START, until=START + HOUR).meta["id"].to_pylist() == ["1", "2"]


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="time-zone aware"):
        read(store, since=START.replace(tzinfo=None))


def test_only_the_hours_of_the_window_are_read(store: Store) -> None:
    writer = Writer(store)
    for offset in range(-3, 4):
        moment = START + offset * HOUR
        writer.write("requests", [answered(str(offset), time=moment)], moment)
    rows = read(store, since=START, until=START + HOUR)
    assert rows.meta["id"].to_pylist() == ["0"]
    assert rows.segments == 2


def test_a_window_of_months_lists_the_stream_once_and_finds_the_same(store: Store) -> None:
    writer = Writer(store)
    for days in (0, 50, 100):
        moment = START + timedelta(days=days)
        writer.write("requests", [answered(str(days), time=moment)], moment)
    rows = read(store, since=START, until=START + timedelta(days=90))
    assert rows.meta["id"].to_pylist() == ["0", "50"]
    assert rows.segments == 2


def test_labels_join_by_id_and_row_whenever_they_arrived(store: Store) -> None:
    writer = Writer(store)
    writer.write("requests", [answered("a", 0), answered("a", 1), answered("b")])
    late = START + 30 * HOUR
    writer.write("feedback", [told("a", 1, label=0, received=late), told("nobody")], late)
    assert read(store).meta["label"].to_pylist() == [None, 0, None]


def test_the_label_that_was_received_last_wins(store: Store) -> None:
    writer = Writer(store)
    writer.write("requests", [answered()])
    later = START + timedelta(minutes=1)
    writer.write("feedback", [told(label=5, received=later), told(label=6, received=later)])
    writer.write("feedback", [told(label=7)])
    assert read(store).meta["label"].to_pylist() == [6]


def test_a_repeated_row_is_kept_once_and_it_is_the_oldest(store: Store) -> None:
    later = START + timedelta(seconds=5)
    Writer(store, "pod-0").write("requests", [answered(time=later, prediction=2)])
    Writer(store, "pod-1").write("requests", [answered(prediction=3), answered("b")])
    assert read(store).meta.select(["id", "prediction"]).to_pylist() == [
        {"id": "a", "prediction": 3},
        {"id": "b", "prediction": 1},
    ]


def test_a_digest_selects_the_rows_of_one_version(store: Store) -> None:
    Writer(store).write("requests", [answered("a"), answered("b", digest="sha256:2")])
    assert read(store, digest="sha256:2").meta["id"].to_pylist() == ["b"]


def test_damaged_segments_are_skipped_counted_and_logged(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(store)
    good, cut, broken = (writer.write("requests", [answered(id)]) for id in "abc")
    content = (tmp_path / cut).read_bytes()
    (tmp_path / cut).write_bytes(content[: len(content) // 2])
    (tmp_path / broken).write_bytes(compress_segment([b'{"id": "c", "row": tru\n']))
    (tmp_path / good).with_name("notes.txt").write_text("not a segment")
    with caplog.at_level(logging.WARNING):
        rows = read(store)
    assert rows.meta["id"].to_pylist() == ["a"]
    assert (rows.segments, rows.skipped_segments) == (1, 2)
    assert "skipped damaged capture segments" in caplog.text


def test_lines_without_id_row_or_time_are_left_out(store: Store) -> None:
    Writer(store).write("requests", [answered(), answered(None), {"features": {"x": 1.0}}])  # type: ignore[arg-type]
    assert read(store).meta["id"].to_pylist() == ["a"]


def test_whole_numbers_and_nulls_in_one_segment_become_the_floats_of_another(store: Store) -> None:
    writer = Writer(store)
    writer.write("requests", [answered("a", features={"x": 1, "y": None})])
    writer.write("requests", [answered("b", features={"x": 2.5, "y": 3.5})])
    writer.write("requests", [answered("c", features={"x": None, "y": None, "z": True})])
    features = read(store).features
    assert features.schema.field("x").type == pa.float64()
    assert features.to_pylist() == [
        {"x": 1.0, "y": None, "z": None},
        {"x": 2.5, "y": 3.5, "z": None},
        {"x": None, "y": None, "z": True},
    ]


def test_types_that_have_nothing_in_common_become_text(store: Store) -> None:
    writer = Writer(store)
    writer.write("requests", [answered("a", prediction="yes", features={"x": "red"})])
    writer.write("requests", [answered("b", prediction=1, features={"x": 2})])
    rows = read(store)
    assert rows.features["x"].to_pylist() == ["red", "2"]
    assert rows.meta["prediction"].to_pylist() == ["yes", "1"]


def test_text_that_looks_like_a_time_stays_text(store: Store) -> None:
    Writer(store).write("requests", [answered(prediction="2026-03-01", features={"x": "2026-03-01T10:00:00"})])
    rows = read(store)
    assert rows.features["x"].to_pylist() == ["2026-03-01T10:00:00"]
    assert rows.meta["prediction"].to_pylist() == ["2026-03-01"]


def test_a_row_longer_than_a_megabyte_is_read(store: Store) -> None:
    Writer(store).write("requests", [answered(features={"x": "long" * 600_000}), answered("b", features={"x": ""})])
    assert [len(text) for text in read(store).features["x"].to_pylist()] == [2_400_000, 0]


def test_feature_names_may_be_anything(store: Store) -> None:
    names = {"features": 1.0, "id": 2.0, "a.b": 3.0, "mean radius (µm)": 4.0, "label": 5.0}
    Writer(store).write("requests", [answered(features=names)])
    assert read(store).features.to_pylist() == [names]


def test_rows_of_many_pods_written_at_once_are_all_there(store: Store) -> None:
    def write(pod: int) -> None:
        writer = Writer(store, f"pod-{pod}")
        for segment in range(10):
            writer.write("requests", [answered(f"{pod}-{segment}", row) for row in range(20)])

    threads = [threading.Thread(target=write, args=(pod,)) for pod in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read(store)
    assert rows.meta.num_rows == 6 * 10 * 20
    assert rows.segments == 60
