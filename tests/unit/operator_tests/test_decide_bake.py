"""After a promotion: the version before stays warm, and is one flip away."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelkit.contract.codec import dumps
from modelkit.contract.result import TrainingResult
from modelloop.decide.bake import MIN_BAKE
from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType
from tests.unit.operator_tests.operator_states import digest_of
from tests.unit.operator_tests.rollout_world import Behaviour, RolloutWorld, begin, canary, last, stable, state


def baking(**fields: object) -> RolloutWorld:
    """A world in which version 2 was promoted a moment ago."""
    world = canary(strategy="BlueGreen", **{"bakeTime": "1m"} | fields)
    begin(world)
    assert (stable(world), state(world)) == (2, "Baking")
    return world


def test_the_promoted_version_is_guarded_by_the_one_before_and_old_connections_are_led_on() -> None:
    world = baking()
    assert world.plan is not None
    guard, handover = world.plan.route.rules
    assert (guard.digest, guard.other, guard.weight, guard.is_guarded) == (digest_of(2), digest_of(1), 0, True)
    assert (handover.digest, handover.other, handover.weight) == (digest_of(1), digest_of(2), 100)
    assert (guard.is_leaving, handover.is_leaving) == (False, True)


def test_the_bake_time_ends_in_a_record() -> None:
    world = baking()
    world.run(59)
    assert state(world) == "Baking"
    world.run(2)
    assert (state(world), world.status.previous, last(world)) == ("", None, (2, "Promoted", "Promoted"))
    assert world.plan is not None
    assert world.plan.route.rules == ()
    assert len(world.servers) == 1


@pytest.mark.parametrize("bad", [Behaviour(errors=30), Behaviour(disagreements=90)], ids=["errors", "wrong answers"])
def test_what_goes_bad_in_the_bake_time_is_taken_back_by_one_flip(bad: Behaviour) -> None:
    world = baking(comparePercent=50)
    world.behaviours[2] = bad
    for _ in range(60):
        world.run(1)
        if stable(world) == 1:
            break
    assert (stable(world), state(world)) == (1, "RollingBack")
    assert world.answering == 2, "no pod had to start"
    assert last(world)[:2] == (2, "RolledBack")
    assert world.plan is not None
    assert [(rule.digest, rule.other, rule.weight) for rule in world.plan.route.rules] == [
        (digest_of(2), digest_of(1), 100)
    ], "clients that kept a connection are led back"
    world.wait(MIN_BAKE)
    world.settle()
    assert (state(world), len(world.servers)) == ("", 1)
    world.run(100)
    assert stable(world) == 1, "the digest is blocked"
    found = find_condition(world.status.conditions, ConditionType.READY)
    assert found is not None
    assert "version 2 was given up" in found.message


def test_a_crash_in_the_bake_time_is_one() -> None:
    world = baking()
    world.run(5)
    name = world.status.stable.deployment if world.status.stable is not None else ""
    server = world.servers[name]
    dead = replace(
        server.pods[0], ready=False, running=False, exit_code=139, terminated_reason="Error", finished=world.now
    )
    world.servers[name] = replace(server, pods=(dead, *server.pods[1:]))
    world.reconcile()
    assert (stable(world), last(world)) == (1, (2, "RolledBack", "Exited"))


def test_a_further_pod_that_can_not_start_takes_nothing_back() -> None:
    world = baking()
    world.run(5)
    name = world.status.stable.deployment if world.status.stable is not None else ""
    server = world.servers[name]
    said = dumps(TrainingResult(outcome="Refused", reason="DigestMismatch", message="model.onnx isn't what it was"))
    refused = replace(
        server.pods[0], ready=False, running=False, exit_code=2, finished=world.now, terminated_message=said
    )
    world.servers[name] = replace(server, pods=(*server.pods, refused))
    world.reconcile()
    assert (stable(world), state(world)) == (2, "Baking")


def test_a_person_takes_it_back_in_one_pass() -> None:
    world = baking()
    world.annotations["rollback"] = "now"
    world.reconcile()
    assert (stable(world), world.answering) == (1, 2)
    assert last(world) == (2, "RolledBack", "Aborted")
    world.run(60)
    assert (stable(world), world.status.candidate) == (1, None)


def test_a_person_ends_the_bake_time() -> None:
    world = baking(bakeTime="24h")
    world.annotations["promote"] = "good"
    world.settle()
    assert state(world) == "Baking", "endpoints need a moment"
    world.wait(MIN_BAKE)
    world.settle()
    assert (state(world), last(world)[1]) == ("", "Promoted")


def test_a_rollback_at_rest_starts_the_version_before_and_blocks_this_one() -> None:
    world = canary()
    begin(world)
    world.run_until_over()
    assert (stable(world), len(world.servers)) == (2, 1)
    world.annotations["rollback"] = "late"
    world.reconcile()
    assert stable(world) == 2, "it serves until the other is Ready"
    world.settle()
    assert stable(world) == 1
    world.wait(timedelta(minutes=10))
    world.settle()
    assert (stable(world), world.status.candidate, len(world.servers)) == (1, None, 1)
    begin(world, 3)
    world.run_until_over()
    assert stable(world) == 3


def test_a_rollback_without_a_version_before_is_told() -> None:
    world = canary()
    world.annotations["rollback"] = "1"
    world.settle()
    assert stable(world) == 1
    assert [event.reason for plan in world.plans for event in plan.events][-1] == "NothingToDo"


def test_what_is_lost_with_the_pods_before_is_started_again() -> None:
    world = baking()
    world.run(5)
    previous = world.status.previous
    assert previous is not None
    world.servers[previous.deployment] = replace(world.servers[previous.deployment], available=0, pods=())
    world.make(1, "starting")
    world.annotations["rollback"] = "now"
    world.reconcile()
    assert stable(world) == 2, "a version without a Ready pod isn't flipped to"
    world.make(1, "good")
    world.settle()
    assert stable(world) == 1
    assert world.answering == 2


def test_with_the_strategy_recreate_the_old_version_makes_room_first() -> None:
    world = canary(strategy="Recreate")
    world.make(2, "starting")
    begin(world)
    old = world.status.stable
    assert old is not None
    assert world.servers[old.deployment].wanted == 0
    assert len(world.servers) == 2
    found = find_condition(world.status.conditions, ConditionType.AVAILABLE)
    assert found is not None
    assert (found.status, found.reason) == ("False", "Recreating")
    world.make(2, "good")
    world.settle()
    assert (stable(world), world.answering) == (2, 2)


def test_a_recreated_version_that_does_not_start_gives_the_room_back() -> None:
    world = canary(strategy="Recreate")
    world.make(2, "refusing")
    begin(world)
    world.settle()
    assert (stable(world), world.answering) == (1, 2)
    assert [entry.number for entry in world.status.failed] == [2]
