"""Clocks that jump and windows that are read again: at most one retrain for a window, and none is held up for ever."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType
from tests.unit.operator_tests.monitor_world import MonitorWorld, alarmed, retraining
from tests.unit.operator_tests.operator_states import NOW, digest_of, monitor_spec, window

YEAR = 365 * 24 * 60


def test_windows_of_a_clock_that_ran_ahead_do_not_stay_the_newest() -> None:
    world = MonitorWorld()
    world.look(window(YEAR, state="OK"), window(YEAR + 15, state="OK"), is_clock_right=False)
    world.look(window(-30), window(-15))
    assert world.status.retrain is not None
    assert world.status.retrain.until == window(-15).end
    assert world.status.last_window_time == window(-15).end


def test_a_request_of_a_clock_that_ran_ahead_holds_nothing_up() -> None:
    spec = monitor_spec(retrain={"minLabels": 1, "cooldown": "1h", "budget": {"runs": 1, "window": "24h"}})
    world = MonitorWorld(spec=spec, now=NOW + timedelta(minutes=YEAR))
    world.look(window(YEAR - 30), window(YEAR - 15))
    assert world.status.retrains == 1
    world.answer()
    world.now = NOW
    world.look(window(-30), window(-15))
    assert world.status.retrains == 2, retraining(world)


def test_a_clock_set_back_by_less_than_the_tolerance_changes_nothing() -> None:
    world = alarmed()
    world.answer()
    world.now -= timedelta(minutes=5)
    world.look(window(-30), window(-15))
    assert world.status.retrains == 1
    assert retraining(world)[1] == "NoAlarm"


@settings(max_examples=100, deadline=None)
@given(
    jumps=st.lists(st.integers(-2 * YEAR, 2 * YEAR) | st.integers(-30, 30), min_size=1, max_size=12),
    again=st.booleans(),
)
def test_whatever_the_clock_does_no_window_counts_twice(jumps: list[int], again: bool) -> None:
    world, asked = MonitorWorld(), []
    for jump in jumps:
        world.now += timedelta(minutes=jump)
        minutes = int((world.now - NOW) / timedelta(minutes=1))
        looks = [window(minutes - 15), window(minutes)]
        for _ in range(2 if again else 1):
            plan = world.look(*looks, is_clock_right=False)
            asked += [plan.status.retrain.id] if plan.status.retrains > len(asked) and plan.status.retrain else []
        if world.status.retrain is not None:
            world.answer()
    assert len(asked) == len(set(asked)) == world.status.retrains


def test_windows_with_rows_and_without_any_label_are_told() -> None:
    world = MonitorWorld()
    plans = [world.look(window(minutes, state="OK", labels=0)) for minutes in (-45, -30, -15, 0)]
    told = [[event.reason for event in plan.events] for plan in plans]
    assert told == [[], [], ["FeedbackMissing"], []]
    hint = find_condition(world.status.conditions, ConditionType.FEEDBACK_MISSING)
    assert hint is not None
    assert "1,500 rows and no label" in hint.message
    world.look(window(5, state="OK", labels=1))
    assert find_condition(world.status.conditions, ConditionType.FEEDBACK_MISSING) is None


@pytest.mark.parametrize("rows", [0, 49])
def test_few_rows_are_no_reason_to_miss_feedback(rows: int) -> None:
    world = MonitorWorld()
    few = [window(minutes, labels=0).model_copy(update={"rows": rows}) for minutes in (-45, -30, -15)]
    assert world.look(*few).events == ()


def test_another_versions_windows_do_not_count_as_missing_feedback() -> None:
    world = MonitorWorld()
    old = [window(minutes, state="OK", labels=0, number=2) for minutes in (-45, -30, -15)]
    assert old[0].digest == digest_of(2)
    assert world.look(*old).events == ()
