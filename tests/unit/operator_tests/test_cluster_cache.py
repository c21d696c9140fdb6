"""The cache: newest state wins, children follow labels and references, and what is gone leaves nothing behind."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelloop.cluster.cache import MAX_TOMBSTONES, Cache, Key, key_of, owners_of

Object = dict[str, Any]
TRAINING = Key("ModelTraining", "team", "cancer")


def job(name: str = "job", version: int = 1, owner: str | None = "cancer", **metadata: Any) -> Object:
    labels = {"modelloop.dev/training": owner} if owner else {}
    return {
        "kind": "Job",
        "metadata": {"name": name, "namespace": "team", "resourceVersion": str(version), "labels": labels, **metadata},
        "spec": {},
        "status": {},
    }


def custom(kind: str, name: str, version: int = 1, spec: Object | None = None, status: Object | None = None) -> Object:
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "team", "resourceVersion": str(version)},
        "spec": spec or {},
        "status": status or {},
    }


def names(cache: Cache, owner: Key, kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in cache.children(owner, kind)]


def test_an_older_or_repeated_state_is_dropped() -> None:
    cache = Cache()
    assert cache.put("Job", job(version=5))
    assert not cache.put("Job", job(version=5))
    assert not cache.put("Job", job(version=4))
    assert cache.put("Job", job(version=6))


def test_a_deleted_object_does_not_come_back_by_a_late_event_but_does_when_made_again() -> None:
    cache = Cache()
    cache.put("Job", job(version=5))
    assert cache.remove("Job", job(version=7))
    assert not cache.put("Job", job(version=6))
    assert not cache.put("Job", job(version=7))
    assert cache.get(key_of("Job", job())) is None
    assert cache.put("Job", job(version=8))


def test_the_late_deletion_of_an_earlier_object_does_not_remove_the_one_made_since() -> None:
    cache = Cache()
    cache.put("Job", job(version=9))
    assert not cache.remove("Job", job(version=7))
    assert cache.get(key_of("Job", job())) is not None


def test_a_deletion_that_arrives_before_the_object_holds_back_its_older_states() -> None:
    cache = Cache()
    cache.remove("Job", job(version=7))
    assert not cache.put("Job", job(version=6))


def test_children_follow_the_label() -> None:
    cache = Cache()
    cache.put("Job", job("b"))
    cache.put("Job", job("a"))
    assert names(cache, TRAINING, "Job") == ["a", "b"]
    cache.put("Job", job("a", 2, owner="other"))
    assert names(cache, TRAINING, "Job") == ["b"]
    assert names(cache, Key("ModelTraining", "team", "other"), "Job") == ["a"]
    assert names(cache, Key("ModelTraining", "elsewhere", "cancer"), "Job") == []


def test_children_follow_the_references_of_custom_resources() -> None:
    cache = Cache()
    cache.put("ModelDeployment", custom("ModelDeployment", "md", 1, {"trainingRef": {"name": "cancer"}}))
    assert names(cache, TRAINING, "ModelDeployment") == ["md"]
    cache.put("ModelDeployment", custom("ModelDeployment", "md", 2, {"trainingRef": {"name": "other"}}))
    assert names(cache, TRAINING, "ModelDeployment") == []
    monitor = {"deploymentRef": {"name": "md"}}
    cache.put("ModelMonitor", custom("ModelMonitor", "mm", 1, monitor))
    assert names(cache, Key("ModelDeployment", "team", "md"), "ModelMonitor") == ["mm"]
    assert names(cache, TRAINING, "ModelMonitor") == []
    cache.put("ModelMonitor", custom("ModelMonitor", "mm", 2, monitor, {"retrain": {"training": "cancer"}}))
    assert names(cache, TRAINING, "ModelMonitor") == ["mm"]


def test_nothing_stays_behind_when_everything_is_deleted() -> None:
    cache = Cache()
    for number in range(50):
        cache.put("Job", job(f"job-{number}"))
        cache.put("ModelDeployment", custom("ModelDeployment", f"md-{number}", 1, {"trainingRef": {"name": "x"}}))
    for number in range(50):
        cache.remove("Job", job(f"job-{number}", 2))
        cache.forget(Key("ModelDeployment", "team", f"md-{number}"))
    assert cache.count("Job") == cache.count("ModelDeployment") == 0
    assert cache._children == {}


def test_tombstones_are_bounded() -> None:
    cache = Cache()
    for number in range(MAX_TOMBSTONES + 10):
        cache.remove("Job", job(f"job-{number}"))
    assert len(cache._tombstones) == MAX_TOMBSTONES
    assert not cache.put("Job", job(f"job-{MAX_TOMBSTONES + 9}", 1))


def test_what_is_held_does_not_change_with_what_was_put() -> None:
    cache, body = Cache(), job()
    cache.put("Job", body)
    body["metadata"]["labels"]["modelloop.dev/training"] = "other"
    assert names(cache, TRAINING, "Job") == ["job"]


def test_an_object_without_labels_or_references_has_no_owner() -> None:
    assert owners_of(job(owner=None)) == ()
    assert owners_of({"metadata": {"name": "x", "labels": None}}) == ()


class CacheLife(RuleBasedStateMachine):
    """Events in any order leave exactly the newest state of each object and the right children."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()
        self.newest: dict[str, tuple[int, str | None]] = {}

    @rule(name=st.sampled_from("ab"), version=st.integers(1, 20), owner=st.sampled_from(["x", "y", None]))
    def put(self, name: str, version: int, owner: str | None) -> None:
        self.cache.put("Job", job(name, version, owner))
        if version > self.newest.get(name, (0, None))[0]:
            self.newest[name] = (version, owner or "")

    @rule(name=st.sampled_from("ab"), version=st.integers(1, 20))
    def remove(self, name: str, version: int) -> None:
        self.cache.remove("Job", job(name, version))
        if version >= self.newest.get(name, (0, None))[0]:
            self.newest[name] = (version, None)

    @invariant()
    def it_holds_the_newest_state(self) -> None:
        expected = {name: owner for name, (_, owner) in self.newest.items() if owner is not None}
        assert {key.name for key in self.cache.keys("Job")} == set(expected)
        for owner in "xy":
            found = names(self.cache, Key("ModelTraining", "team", owner), "Job")
            assert found == sorted(name for name, value in expected.items() if value == owner)


CacheLife.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestCacheLife = CacheLife.TestCase


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=20))
def test_the_order_of_events_does_not_matter(events: list[tuple[str, int]]) -> None:
    forwards, backwards = Cache(), Cache()
    for name, version in events:
        forwards.put("Job", job(name, version))
    for name, version in reversed(events):
        backwards.put("Job", job(name, version))
    assert dict(forwards.all("Job")) == dict(backwards.all("Job"))
