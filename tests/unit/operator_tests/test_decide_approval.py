"""Who decides which version is the champion."""

from datetime import timedelta

import pytest

from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType
from tests.unit.operator_tests.operator_states import digest_of, result, training_spec
from tests.unit.operator_tests.training_world import TrainingWorld, begun, condition, trained

MANUAL = training_spec(approval="Manual")
MINUTE = timedelta(minutes=1)


def run_again(world: TrainingWorld, **fields: object) -> None:
    """One more run, asked for by annotation."""
    world.wait(MINUTE)
    world.token = f"run-{world.status.runs + 1}"
    world.settle()
    number = world.status.runs
    world.complete(result(digest=digest_of(number), path=f"models/team/cancer/{number}-x", **fields))
    world.settle()


def champion_of(world: TrainingWorld) -> int | None:
    return world.status.champion.number if world.status.champion is not None else None


def approve(world: TrainingWorld, token: str) -> list[str]:
    """Set the annotation; reasons of the events that follow."""
    world.wait(MINUTE)
    world.approve = token
    count = len(world.plans)
    world.settle()
    return [event.reason for plan in world.plans[count:] for event in plan.events]


def test_a_version_waits_for_a_person_and_says_how() -> None:
    world = trained(spec=MANUAL)
    assert champion_of(world) is None
    status, reason, message = condition(world, ConditionType.APPROVED)
    assert (status, reason) == ("Unknown", "AwaitingApproval")
    assert "modelloop.dev/approve=1" in message
    assert condition(world, ConditionType.READY)[:2] == ("False", "AwaitingApproval")
    assert approve(world, "1") == ["Approved"]
    assert champion_of(world) == 1
    assert world.status.champion is not None
    assert world.status.champion.digest == digest_of(1)
    assert condition(world, ConditionType.APPROVED)[:2] == ("True", "Approved")
    assert condition(world, ConditionType.READY)[0] == "True"
    assert approve(world, "1") == [], "once"


def test_the_champion_serves_on_while_a_better_one_waits() -> None:
    world = trained(spec=MANUAL)
    approve(world, "1")
    run_again(world)
    assert champion_of(world) == 1
    assert condition(world, ConditionType.APPROVED)[1] == "AwaitingApproval"
    assert condition(world, ConditionType.READY)[0] == "True"
    approve(world, "2")
    assert champion_of(world) == 2


@pytest.mark.parametrize("approval", ["Manual", "Automatic"])
def test_an_older_version_can_be_chosen_and_stays(approval: str) -> None:
    world = trained(spec=training_spec(approval=approval))
    approve(world, "1")
    run_again(world)
    approve(world, "2")
    assert approve(world, "1") == ["Approved"]
    assert champion_of(world) == 1
    assert condition(world, ConditionType.APPROVED)[:2] == ("False", "NotChosen")
    world.wait(timedelta(days=1))
    world.settle()
    assert champion_of(world) == 1, "nothing takes the choice back by itself"
    run_again(world)
    assert champion_of(world) == (3 if approval == "Automatic" else 1), "a later version is a new question"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("2", "its verdict is Rejected"),
        ("3", "its verdict is Failed"),
        ("9", "has no run of that number"),
        ("yes", "must be the number of a run"),
        ("-1", "must be the number of a run"),
        ("1" * 400, "must be the number of a run"),
    ],
)
def test_what_cannot_be_approved_is_refused_once_and_said_until_it_is_corrected(token: str, words: str) -> None:
    world = trained(spec=MANUAL)
    run_again(world, metrics={"f1": 0.1})
    world.token = "again"
    world.settle()
    world.fail('{"outcome":"Failed","reason":"ColumnNotFound","message":"no"}')
    world.settle()
    assert approve(world, token) == ["NotApprovable"]
    assert champion_of(world) is None
    status, reason, message = condition(world, ConditionType.APPROVAL_REFUSED)
    assert (status, reason) == ("True", "NotApprovable")
    assert words in message
    assert "versions that may be: 1" in message
    assert approve(world, token) == []
    assert condition(world, ConditionType.APPROVAL_REFUSED)[2] == message
    approve(world, "1")
    assert champion_of(world) == 1
    assert find_condition(world.status.conditions, ConditionType.APPROVAL_REFUSED) is None


def test_a_number_that_is_to_come_is_not_approved_in_advance() -> None:
    world = trained(spec=MANUAL)
    assert approve(world, "2") == ["NotApprovable"]
    run_again(world)
    assert champion_of(world) is None
    approve(world, "")
    assert approve(world, "2") == ["Approved"], "asked for again after the annotation was taken away"
    assert champion_of(world) == 2


def test_what_waits_is_approved_when_nobody_has_to_ask_any_more() -> None:
    world = trained(spec=MANUAL)
    world.edit(training_spec())
    world.settle()
    assert champion_of(world) == 1


def test_a_failed_run_does_not_hide_the_version_that_waits() -> None:
    world = trained(spec=MANUAL)
    world.token = "again"
    world.settle()
    world.fail("Traceback", 1)
    world.settle()
    assert condition(world, ConditionType.APPROVED)[1] == "AwaitingApproval"


def test_a_run_under_way_is_compared_with_the_champion_that_it_was_told_of() -> None:
    world = begun(spec=MANUAL)
    world.approve = "1"
    world.settle()
    world.complete(result())
    world.settle()
    assert champion_of(world) is None, "the annotation was there before the version"
