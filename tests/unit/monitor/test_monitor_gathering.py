"""A window is read hour by hour: what was summarised isn't read again, and what comes of it is the same."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelkit.contract.files import REQUESTS_STREAM
from modelkit.contract.monitoring import AttributionConfig, FairnessConfig, MultivariateConfig
from modelkit.errors import StorePermissionError
from modelkit.monitor.archive import hash_profile
from modelkit.monitor.gathering import gather_window
from modelkit.monitor.reference import read_reference
from modelkit.monitor.summary import summary_to_plain
from modelkit.store.backend import Backend
from modelkit.store.store import Store

END = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
Rows = Callable[..., list[dict[str, Any]]]


class Counting:
    """A store's backend that notes what is read of it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.paths: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def read(self, segments: tuple[str, ...]) -> bytes:
        self.paths.append("/".join(segments))
        return self._backend.read(segments)


@dataclass
class Monitor:
    """Looks at windows of the world's traffic."""

    world: Any

    def look(self, hours: float, end: datetime = END, now: datetime = END + HOUR) -> tuple[dict[str, Any], list[str]]:
        """What was found in the hours before `end`, and the files that were read below the stream of requests."""
        store, config = self.world.store, self.world.config
        counting = Counting(store._backend)
        reference = read_reference(store, config.version)
        found = gather_window(Store(store.uri, counting), config, reference, (end - hours * HOUR, end), now)
        answers = found.labelled.answers
        plain = {
            "summary": summary_to_plain(found.summary),
            "labels": answers.truth.tolist(),
            "groups": None if found.labelled.groups is None else found.labelled.groups.tolist(),
            "duplicates": (found.summary.sketch.rows, found.summary.sketch.share),
            "predictions": answers.predictions.tolist(),
            "sample": None if found.sample is None else found.sample.to_pydict(),
            "probabilities": [] if answers.probabilities is None else answers.probabilities.tolist(),
        }
        return plain, [path.rpartition("/")[2] for path in counting.paths if f"/{REQUESTS_STREAM}/" in path]

    def forget(self) -> None:
        """Remove what was stored of finished hours."""
        for entry in self.world.store.list():
            if entry.path.startswith("summaries/") or entry.path.endswith(".arrow"):
                self.world.store.delete(entry.path)

    def find(self, ending: str) -> list[str]:
        """Paths in the store, in order."""
        return [entry.path for entry in self.world.store.list() if entry.path.endswith(ending)]


@pytest.fixture
def monitor(world: Any, rows: Rows) -> Monitor:
    """Three hours of traffic, 60 rows each, of which 20 have labels."""
    for hour in range(3):
        labels = [index % 2 for index in range(20)]
        world.send(rows(60, seed=hour), labels, ago=3600 * hour + 1800, pod=f"pod-{hour}")
    return Monitor(world)


def is_segment(name: str) -> bool:
    return name.endswith(".jsonl.gz")


def test_an_hour_that_was_summarised_is_not_read_again(monitor: Monitor) -> None:
    first, read = monitor.look(3)
    assert (first["summary"]["rows"], len(first["labels"])) == (180, 60)
    assert list(map(is_segment, read)) == [True] * 3
    second, read = monitor.look(3)
    assert second == first
    assert sorted(name.partition("-")[0] for name in read) == ["answers"] * 3 + ["sketch"] * 3


def test_without_feedback_the_answers_are_not_read_either(world: Any, rows: Rows) -> None:
    world.send(rows(60, seed=1), ago=1800)
    assert len(Monitor(world).look(1)[1]) == 1
    assert [name.partition("-")[0] for name in Monitor(world).look(1)[1]] == ["sketch"]


def test_a_later_window_reads_the_new_hour_only(monitor: Monitor, rows: Rows) -> None:
    monitor.look(3)
    monitor.world.send(rows(60, seed=9), ago=-1800, pod="pod-9")
    found, read = monitor.look(3, END + HOUR, END + 2 * HOUR)
    assert [name.partition("-1")[0] for name in read if is_segment(name)] == ["pod-9"]
    monitor.forget()
    assert monitor.look(3, END + HOUR, END + 2 * HOUR)[0] == found


def test_the_hours_at_the_ends_of_a_window_are_read_each_time(monitor: Monitor) -> None:
    end = END - timedelta(minutes=15)
    first, read = monitor.look(2, end)
    assert len(read) == 3
    second, read = monitor.look(2, end)
    assert second == first
    assert sum(map(is_segment, read)) == 2
    summaries = [path for path in monitor.find(".json") if path.startswith("summaries/")]
    assert summaries == monitor.find("/2026-03-01T10.json")


@pytest.mark.parametrize(("minutes", "stored"), [(0, 0), (4, 0), (5, 1)])
def test_an_hour_is_finished_when_writers_had_the_time_to_flush(monitor: Monitor, minutes: int, stored: int) -> None:
    monitor.look(1, END, END + timedelta(minutes=minutes))
    assert len(monitor.find("/2026-03-01T11.json")) == stored


def test_feedback_that_comes_after_the_hour_was_summarised_counts(monitor: Monitor) -> None:
    monitor.look(3)
    monitor.world.send([], [1] * 60, ago=-1800, pod="pod-2")
    found, read = monitor.look(3)
    assert (len(found["labels"]), sum(found["labels"])) == (100, 80)
    assert not any(map(is_segment, read))
    monitor.forget()
    assert monitor.look(3)[0] == found


def test_a_segment_that_comes_late_has_its_hour_read_again(monitor: Monitor, rows: Rows) -> None:
    monitor.look(3)
    monitor.world.send(rows(40, seed=9), ago=1700, pod="late")
    found, read = monitor.look(3)
    assert found["summary"]["rows"] == 220
    assert sum(map(is_segment, read)) == 2
    assert not any(map(is_segment, monitor.look(3)[1]))


def test_counts_outlive_the_captures_and_labelled_rows_do_not(monitor: Monitor) -> None:
    first, _ = monitor.look(3)
    hour = f"captures/shop/churn/{REQUESTS_STREAM}/2026-03-01T09"
    for entry in list(monitor.world.store.list(hour)):
        monitor.world.store.delete(entry.path)
    found, _ = monitor.look(3)
    assert found["summary"] == first["summary"]
    assert len(found["labels"]) == 40


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format": 99, "segments": 1, "answers": 0, "summary": {}}', b"[1]"])
def test_a_summary_that_can_not_be_used_is_computed_anew(monitor: Monitor, damage: bytes) -> None:
    first, _ = monitor.look(3)
    path = monitor.find("T10.json")[0]
    good = monitor.world.store.read(path)
    monitor.world.store.write(path, damage)
    found, read = monitor.look(3)
    assert found == first
    assert sum(map(is_segment, read)) == 1
    assert monitor.world.store.read(path) == good


def test_answers_that_are_damaged_have_their_hour_read_again(monitor: Monitor) -> None:
    first, _ = monitor.look(3)
    monitor.world.store.write(monitor.find(".arrow")[0], b"damaged")
    found, read = monitor.look(3)
    assert found == first
    assert sum(map(is_segment, read)) == 1


def test_a_store_that_can_only_be_read_costs_time_and_not_the_window(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = monitor.look(3)
    monitor.forget()

    def refuse(*_: object, **__: object) -> None:
        raise StorePermissionError("read only")

    monkeypatch.setattr(type(monitor.world.store._backend), "write", refuse)
    assert monitor.look(3)[0] == first


def test_another_version_and_other_bins_have_summaries_of_their_own(monitor: Monitor) -> None:
    config, store = monitor.world.config, monitor.world.store
    reference = read_reference(store, config.version)
    gather_window(store, config, reference, (END - HOUR, END), END + HOUR)
    entry = reference.features["age"]
    other = replace(reference, features={**reference.features, "age": {**entry, "edges": entry["edges"][:-1]}})
    assert hash_profile(other) != hash_profile(reference)
    digest = config.version.digest.removeprefix("sha256:")[:16]
    assert monitor.find("T11.json") == [f"summaries/shop/churn/{digest}/{hash_profile(reference)}/2026-03-01T11.json"]


def test_the_columns_whose_groups_are_compared_have_summaries_and_answers_of_their_own(monitor: Monitor) -> None:
    monitor.look(3)
    config = monitor.world.config
    for columns in (("city",), ("city", "age"), ("city",)):
        fair = Monitor(replace(monitor.world, config=replace(config, fairness=FairnessConfig(columns=columns))))
        first, _ = fair.look(3)
        second, read = fair.look(3)
        assert second == first
        assert not any(map(is_segment, read))
        assert first["summary"]["groups"].keys() == set(columns)
        assert sum(map(sum, first["summary"]["groups"]["city"])) == 180
        assert [len(groups) for groups in first["groups"]] == [len(columns)] * 60
    assert monitor.look(3)[0]["groups"] is None


def test_repeated_rows_are_counted_over_hours_as_long_as_their_captures_are_there(world: Any, rows: Rows) -> None:
    for hour in range(2):
        world.send(rows(60, seed=1), ago=3600 * hour + 1800, pod=f"pod-{hour}")
    monitor = Monitor(world)
    assert [monitor.look(2)[0]["duplicates"] for _ in range(2)] == [(120, 0.5)] * 2
    monitor.world.store.write(next(path for path in monitor.find(".arrow") if "/sketch-" in path), b"damaged")
    assert monitor.look(2)[0]["duplicates"] == (60, 0.0)
    for entry in list(monitor.world.store.list("captures")):
        monitor.world.store.delete(entry.path)
    found, _ = monitor.look(2)
    assert (found["summary"]["rows"], found["duplicates"]) == (120, (0, 0.0))


def test_a_repeated_row_counts_once_in_an_hour(world: Any, rows: Rows) -> None:
    world.send(rows(60, seed=1), [1] * 60, ago=1800)
    world.send(rows(60, seed=2), ago=1700)
    world.send(rows(60, seed=3), ago=1800 + 3600)
    found, _ = Monitor(world).look(2)
    assert (found["summary"]["rows"], len(found["labels"])) == (120, 60)


def test_a_damaged_segment_is_counted_now_and_later(monitor: Monitor) -> None:
    monitor.world.store.write_new(f"captures/shop/churn/{REQUESTS_STREAM}/2026-03-01T10/x.jsonl.gz", b"damaged")
    first, _ = monitor.look(3)
    assert first["summary"]["skipped_segments"] == 1
    assert monitor.look(3)[0] == first


def test_labels_beyond_the_limit_are_a_part_chosen_by_key(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelkit.monitor.labels.MAX_LABELS", 25)
    first, _ = monitor.look(3)
    assert len(first["labels"]) == 25
    monitor.forget()
    assert monitor.look(3)[0] == first


def with_rows(monitor: Monitor, rows: int) -> Monitor:
    """A monitor of the same traffic that looks at so many rows, too."""
    config = replace(monitor.world.config, multivariate=MultivariateConfig(rows=rows))
    return Monitor(replace(monitor.world, config=config))


def test_rows_are_kept_only_where_a_check_looks_at_them(monitor: Monitor) -> None:
    assert monitor.look(3)[0]["sample"] is None
    assert not [path for path in monitor.find(".arrow") if "/sample-" in path]
    config = replace(monitor.world.config, attribution=AttributionConfig(rows=50))
    found, _ = Monitor(replace(monitor.world, config=config)).look(3)
    assert len(found["sample"]["age"]) == 50
    assert len([path for path in monitor.find(".arrow") if "/sample-" in path]) == 3


def test_an_hour_whose_rows_were_sampled_is_not_read_again(monitor: Monitor) -> None:
    sampling = with_rows(monitor, 100)
    first, read = sampling.look(3)
    assert len(first["sample"]["age"]) == 100
    assert list(map(is_segment, read)) == [True] * 3
    second, read = sampling.look(3)
    assert second == first
    assert not any(map(is_segment, read))
    assert sum(name.startswith("sample-") for name in read) == 3


def test_rows_of_stored_hours_and_of_segments_are_the_same_sample(monitor: Monitor) -> None:
    sampling, end = with_rows(monitor, 70), END - timedelta(minutes=15)
    first, _ = sampling.look(2.5, end)
    sampling.look(3)
    second, read = sampling.look(2.5, end)
    assert second == first
    assert 0 < sum(map(is_segment, read)) < 3


@pytest.mark.parametrize(("before", "after", "read_again"), [(None, 40, 3), (20, 40, 3), (40, 20, 0), (60, 100, 0)])
def test_hours_are_read_again_only_where_their_samples_are_too_small(
    monitor: Monitor, before: int | None, after: int, read_again: int
) -> None:
    (monitor if before is None else with_rows(monitor, before)).look(3)
    found, read = with_rows(monitor, after).look(3)
    assert sum(map(is_segment, read)) == read_again
    monitor.forget()
    assert with_rows(monitor, after).look(3)[0] == found


def test_a_monitor_that_wants_fewer_rows_leaves_the_other_its_own(monitor: Monitor, rows: Rows) -> None:
    with_rows(monitor, 40).look(3)
    monitor.world.send(rows(40, seed=9), ago=1700, pod="late")
    monitor.look(3)
    assert not any(map(is_segment, with_rows(monitor, 40).look(3)[1]))


@pytest.mark.parametrize("damage", [b"", b"damaged", None])
def test_a_sample_that_can_not_be_used_has_its_hour_read_again(monitor: Monitor, damage: bytes | None) -> None:
    sampling = with_rows(monitor, 100)
    first, _ = sampling.look(3)
    path = next(path for path in monitor.find(".arrow") if "/sample-" in path)
    if damage is None:
        monitor.world.store.delete(path)
    else:
        monitor.world.store.write(path, damage)
    found, read = sampling.look(3)
    assert found == first
    assert sum(map(is_segment, read)) == 1
    assert not any(map(is_segment, sampling.look(3)[1]))


def test_rows_go_with_the_captures_and_the_counts_stay(monitor: Monitor) -> None:
    sampling = with_rows(monitor, 1000)
    first, _ = sampling.look(3)
    hour = f"captures/shop/churn/{REQUESTS_STREAM}/2026-03-01T09"
    for entry in list(monitor.world.store.list(hour)):
        monitor.world.store.delete(entry.path)
    found, _ = sampling.look(3)
    assert found["summary"] == first["summary"]
    assert (len(first["sample"]["age"]), len(found["sample"]["age"])) == (180, 120)


def test_a_sample_that_went_before_its_hour_is_not_worth_the_counts(monitor: Monitor, rows: Rows) -> None:
    monitor.world.send(rows(40, seed=9), ago=1700 + 7200, pod="more")
    sampling = with_rows(monitor, 1000)
    first, _ = sampling.look(3)
    for path in monitor.find(".jsonl.gz") + monitor.find(".arrow"):
        if "T09/more" in path or "T09/sample-" in path:
            monitor.world.store.delete(path)
    found, read = sampling.look(3)
    assert found["summary"] == first["summary"]
    assert len(found["sample"]["age"]) == 120
    assert not any(map(is_segment, read))


def test_a_store_that_can_only_be_read_still_gives_rows(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = with_rows(monitor, 100)
    first, _ = sampling.look(3)
    monitor.forget()

    def refuse(*_: object, **__: object) -> None:
        raise StorePermissionError("read only")

    monkeypatch.setattr(type(monitor.world.store._backend), "write", refuse)
    assert sampling.look(3)[0] == first
