"""What the status tells of earlier windows, whoever wrote it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import format_time
from modelkit.monitor.history import History, read_history

END = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STATUS: dict[str, Any] = {
    "observedGeneration": 2,
    "windows": [
        {
            "end": "2026-03-01T11:00:00Z",
            "version": 3,
            "digest": "sha256:abc",
            "checks": [
                {"name": "Drift", "state": "Breached", "message": ""},
                {"name": "Quality", "state": "OK", "message": ""},
            ],
        },
        {"end": "2026-03-01T10:00:00Z", "version": 2, "digest": "sha256:old", "checks": []},
        {"end": "2026-03-01T12:00:00Z", "version": 3, "digest": "sha256:abc", "checks": []},
    ],
    "timeline": [
        {"end": "2026-03-01T11:00:00Z", "version": 3, "state": "OK", "rows": 5, "labels": 1, "quality": 0.9},
        {"end": "2026-03-01T13:00:00Z", "version": 3, "state": "OK", "rows": 5, "labels": 1},
    ],
    "conditions": [
        {
            "type": "Retraining",
            "status": "False",
            "reason": "CoolingDown",
            "message": "wait",
            "lastTransitionTime": "2026-03-01T09:00:00Z",
        }
    ],
    "retrain": {
        "id": "a",
        "training": "churn",
        "deployment": "churn",
        "time": "2026-03-01T09:00:00Z",
        "reason": "2 of 3",
        "since": "2026-03-01T07:00:00Z",
        "until": "2026-03-01T09:00:00Z",
        "policy": "Append",
    },
    "retrains": 4,
    "requests": [
        {"time": "2026-03-01T09:00:00Z", "until": "2026-03-01T08:59:00Z"},
        {"time": "2026-02-01T09:00:00Z", "until": "2026-02-01T08:59:00Z"},
    ],
    "rollback": {"digest": "sha256:bad", "reason": "alarm", "time": "2026-02-01T10:00:00Z"},
}


def test_only_the_time_before_the_window_counts() -> None:
    history = read_history(STATUS, END)
    assert [window.end.hour for window in history.windows] == [10, 11]
    assert [point.end.hour for point in history.points] == [11]
    assert history.points[0].quality == 0.9


def test_the_operator_s_decisions_are_read() -> None:
    history = read_history(STATUS, END)
    assert history.windows[-1].breached == {"Drift"}
    condition = history.conditions["Retraining"]
    assert (condition.status, condition.reason, condition.message) == ("False", "CoolingDown", "wait")
    assert condition.since == END - timedelta(hours=3)
    assert history.retrain is not None
    assert (history.retrain.reason, history.retrain.policy) == ("2 of 3", "Append")
    assert history.request_times == (datetime(2026, 2, 1, 9, tzinfo=UTC), END - timedelta(hours=3))
    assert history.retrains == 4
    assert history.rollback is not None
    assert history.rollback.digest == "sha256:bad"


def test_a_status_that_nobody_has_written_is_an_empty_history() -> None:
    assert read_history({}, END) == History()


def test_points_of_another_release_are_left_out() -> None:
    later = {"end": "2026-03-01T11:00:00Z", "version": 3, "state": "OK", "rows": 5, "labels": 1, "novelty": 1}
    assert read_history({"timeline": [later, {"end": "soon"}, {}]}, END).points == ()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(format_time(END)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["end", "time", "checks"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(STATUS)), JUNK))
def test_whatever_stands_there_spoils_no_window(status: dict[str, Any]) -> None:
    read_history(status, END)
