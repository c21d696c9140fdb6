"""A schedule begins runs at its times, once each, and never makes up for more than one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelloop.api.training import ModelTrainingStatus
from modelloop.decide.reasons import ConditionType
from modelloop.decide.schedule import find_due, find_schedule_problem, follow_schedule, mark_begun
from modelloop.decide.training import decide_training
from tests.unit.operator_tests.operator_states import NOW, result, training_spec
from tests.unit.operator_tests.training_world import TrainingWorld, begun, condition, trained

HOUR = timedelta(hours=1)
DAILY = training_spec(schedule="0 3 * * *", timeZone="Europe/Berlin")


def test_a_new_training_begins_once_and_then_at_its_times() -> None:
    world = trained(spec=DAILY)
    assert world.status.runs == 1
    assert world.status.schedule is not None
    following = world.status.schedule.next_schedule_time
    assert following == datetime(2026, 3, 2, 2, tzinfo=UTC)
    plan = world.reconcile()
    assert plan.check_again_after == following - world.now
    world.now = following
    world.settle()
    assert world.status.run is not None
    assert world.status.run.trigger.reason == "Scheduled"
    assert world.status.run.trigger.id == "2026-03-02T02:00:00Z"
    assert world.status.schedule.last_schedule_time == following
    assert world.status.schedule.next_schedule_time == following + 24 * HOUR
    assert world.status.runs == 2


def test_times_that_were_missed_are_made_up_for_by_one_run_named_by_the_newest() -> None:
    world = trained(spec=DAILY)
    world.wait(timedelta(days=10))
    world.settle()
    assert world.status.run is not None
    assert world.status.run.trigger.id == "2026-03-11T02:00:00Z"
    world.complete(result())
    world.settle()
    assert (world.status.run, world.status.runs) == (None, 2)


def test_a_time_that_comes_during_a_run_is_answered_after_it() -> None:
    world = begun(spec=DAILY)
    world.wait(24 * HOUR)
    world.settle()
    assert world.status.runs == 1
    assert world.status.schedule is not None
    assert world.status.schedule.next_schedule_time < world.now, "due"
    world.complete(result())
    world.settle()
    assert world.status.runs == 2


def test_any_run_answers_the_times_until_it_begins() -> None:
    world = trained(spec=DAILY)
    world.wait(24 * HOUR)
    world.token = "now"
    world.settle()
    assert world.status.run is not None
    assert world.status.run.trigger.reason == "Requested"
    world.complete(result())
    world.settle()
    assert world.status.runs == 2


def test_a_schedule_that_is_added_or_changed_makes_up_for_nothing() -> None:
    world = trained()
    world.wait(100 * HOUR)
    world.edit(DAILY)
    world.settle()
    assert world.status.runs == 1
    world.wait(HOUR)
    world.edit(training_spec(schedule="* * * * *"))
    world.settle()
    assert world.status.runs == 1
    assert world.status.schedule is not None
    assert world.status.schedule.expression == "* * * * *"
    assert world.now < world.status.schedule.next_schedule_time <= world.now + timedelta(minutes=1)
    world.edit(training_spec())
    world.settle()
    assert world.status.schedule is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"schedule": "0 0 31 2 *"}, "never comes"),
        ({"schedule": "0 25 * * *"}, "hour must be within"),
        ({"schedule": "0 3 * * *", "timeZone": "Europe/Atlantis"}, "no time zone"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_told_and_no_run_begins(fields: dict[str, str], words: str) -> None:
    world = TrainingWorld(spec=training_spec(**fields))
    world.settle()
    assert world.status.runs == 0
    assert condition(world, ConditionType.STALLED)[1] == "InvalidSpec"
    assert words in condition(world, ConditionType.READY)[2]
    assert find_schedule_problem(world.spec).startswith("spec.")
    world.edit(DAILY)
    world.settle()
    assert world.status.runs == 1


@settings(max_examples=50, deadline=None)
@given(
    expression=st.sampled_from(["* * * * *", "*/7 * * * *", "0 3 * * *", "30 2 * * SUN", "@monthly"]),
    zone=st.sampled_from([None, "Europe/Berlin", "America/New_York"]),
    waits=st.lists(st.integers(0, 200_000), max_size=12),
)
def test_whatever_the_delays_every_time_is_answered_once_and_in_order(
    expression: str, zone: str | None, waits: list[int]
) -> None:
    spec = training_spec(schedule=expression, **({"timeZone": zone} if zone else {}))
    now = datetime(2026, 3, 20, 5, 30, 17, tzinfo=UTC)
    status = follow_schedule(spec, None, now)
    answered: list[datetime] = []
    for wait in waits:
        now += timedelta(seconds=wait)
        status = follow_schedule(spec, status, now)
        assert status is not None
        due = find_due(status, now)
        assert (due is not None) == (now >= status.next_schedule_time)
        if due is not None:
            assert status.next_schedule_time <= due <= now
            answered.append(due)
            status = mark_begun(status, now)
            assert status is not None
            assert status.last_schedule_time == due
        assert find_due(status, now) is None
        assert status == follow_schedule(spec, status, now) == mark_begun(status, now)
        assert status.next_schedule_time > now
    assert answered == sorted(set(answered))


def test_a_second_pass_at_a_due_time_changes_nothing() -> None:
    world = trained(spec=DAILY)
    world.wait(48 * HOUR)
    first = decide_training(world.observe(), world.now)
    assert decide_training(world.observe(), world.now) == first
    assert first.new_run is not None
    observed = replace(world.observe(), status=ModelTrainingStatus.model_validate(world.status.model_dump()))
    assert decide_training(observed, world.now) == first
    assert first.status.schedule is not None
    assert first.status.schedule.next_schedule_time > NOW
