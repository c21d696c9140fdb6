"""A run that is tried again looks at the window that it was scheduled for."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.errors import RefusedError
from modelkit.monitor.__main__ import read_window_end
from modelkit.monitor.schedule import decide_window_end, parse_scheduled_time

NOW = datetime(2026, 3, 1, 12, 0, 37, 500, tzinfo=UTC)
SCHEDULED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTES = 29539440


def name(moment: datetime) -> str:
    return f"churn-{int(moment.timestamp()) // 60}"


def test_the_name_is_the_one_that_the_cronjob_controller_gives() -> None:
    assert name(SCHEDULED) == f"churn-{MINUTES}"
    assert parse_scheduled_time(f"churn-{MINUTES}") == SCHEDULED


def test_every_attempt_of_a_run_looks_at_the_same_window() -> None:
    attempts = [NOW, NOW + timedelta(minutes=4), NOW + timedelta(hours=3)]
    assert {decide_window_end(name(SCHEDULED), now) for now in attempts} == {SCHEDULED}


@pytest.mark.parametrize(
    "job",
    [
        "",
        "look-now",
        "churn",
        "churn-",
        "churn-1",
        "churn-0029539440",
        "churn-29539440x",
        "churn29539440",
        "churn-29539440\n",
        "churn-٢٩٥٣٩٤٤٠",
        "churn-99999999999999999999",
        "churn-9999999999",
        "churn--29539440-2",
    ],
)
def test_another_name_means_now(job: str) -> None:
    assert decide_window_end(job, NOW) == NOW


@pytest.mark.parametrize(
    ("ago", "is_used"),
    [
        (timedelta(seconds=-61), False),
        (timedelta(seconds=-60), True),
        (timedelta(0), True),
        (timedelta(days=1), True),
        (timedelta(days=1, seconds=1), False),
    ],
    ids=str,
)
def test_a_clock_that_jumped_is_not_believed(ago: timedelta, is_used: bool) -> None:
    assert decide_window_end(name(SCHEDULED), SCHEDULED + ago) == (SCHEDULED if is_used else SCHEDULED + ago)


@given(st.text(max_size=20), st.integers(0, 10**12))
def test_any_name_gives_a_time_that_is_not_ahead(prefix: str, number: int) -> None:
    end = decide_window_end(f"{prefix}-{number}", NOW)
    assert NOW - timedelta(days=1) <= end <= NOW + timedelta(minutes=1)


def test_a_time_that_is_asked_for_counts_before_the_schedule() -> None:
    environ = {"MODELLOOP_WINDOW_END": "2026-02-01T10:00:00+01:00", "MODELLOOP_JOB_NAME": name(datetime.now(UTC))}
    assert read_window_end(environ) == datetime(2026, 2, 1, 9, tzinfo=UTC)


def test_the_job_s_name_comes_from_the_environment() -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=7)
    assert read_window_end({"MODELLOOP_JOB_NAME": name(minute)}) == minute
    assert abs(read_window_end({}) - datetime.now(UTC)) < timedelta(seconds=10)


def test_a_time_of_the_future_is_refused() -> None:
    with pytest.raises(RefusedError, match="in the future"):
        read_window_end({"MODELLOOP_WINDOW_END": "2999-01-01T00:00:00Z"})
