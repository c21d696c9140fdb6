"""The count changes at any moment, by hand or by an autoscaler: what serves follows it, and no rollout suffers."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelloop.decide.bake import MIN_BAKE
from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType
from tests.unit.operator_tests.deployment_world import DeploymentWorld
from tests.unit.operator_tests.operator_states import SECOND, digest_of
from tests.unit.operator_tests.test_decide_deployment import BAKE, DEADLINE, condition, numbers, serving


def wanted(world: DeploymentWorld) -> list[int]:
    """The size of every server, by version."""
    return [server.wanted for _, server in sorted(world.servers.items())]


def let_some_be_ready(world: DeploymentWorld, number: int, ready: int) -> None:
    """Of a version's pods, `ready` are Ready and the others starting."""
    name = f"cancer-{number:010x}"
    size = world.servers[name].wanted
    pods = tuple(world._pod(name, index, ready=index < ready) for index in range(size))
    world.servers[name] = replace(
        world.servers[name], available=ready, updated=size, total=size, settled=True, pods=pods
    )


# -- the scale subresource ----------------------------------------------------------------------------------------


def test_the_selector_and_the_counts_are_those_of_the_version_that_serves_at_every_pass_of_a_rollout() -> None:
    world = serving(replicas=2)
    world.champion = 2
    for _ in range(6):
        world.reconcile()
        status = world.status
        assert status.stable is not None
        assert status.selector == f"digest={digest_of(status.stable.number).removeprefix('sha256:')[:16]}"
        assert (status.replicas, status.ready_replicas) == (2, 2)
        world.follow()
    assert numbers(world) == (2, None, 1)


def test_before_a_version_serves_there_is_no_selector() -> None:
    world = DeploymentWorld()
    world.make(1, "starting")
    world.settle()
    assert (world.status.selector, world.status.replicas) == ("", 0)


def test_a_server_that_somebody_deletes_leaves_the_selector_as_it_was() -> None:
    world = serving()
    before = world.status.selector
    world.servers.clear()
    world.reconcile()
    assert (world.status.selector, world.status.replicas) == (before, 0)


# -- another count in the middle of a rollout ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5])
def test_another_count_in_the_middle_of_a_rollout_is_for_both_versions(count: int) -> None:
    world = serving(replicas=2)
    world.champion = 2
    world.make(2, "starting")
    world.settle()
    world.edit(replicas=count)
    world.settle()
    assert numbers(world) == (1, 2, None)
    assert wanted(world) == [count, count]
    assert world.answering == count
    world.make(2, "good")
    world.settle()
    assert numbers(world) == (2, None, 1)
    assert world.answering == count


def test_a_version_takes_over_with_the_newest_count_only() -> None:
    world = serving(replicas=2)
    world.champion = 2
    world.reconcile()
    world.follow()
    world.edit(replicas=4)
    world.reconcile()
    assert numbers(world) == (1, 2, None)
    world.follow()
    world.reconcile()
    assert numbers(world) == (2, None, 1)
    assert world.answering == 4


def test_pods_that_are_added_to_a_version_that_works_get_time_of_their_own() -> None:
    world = serving(replicas=2)
    world.champion = 2
    world.reconcile()
    let_some_be_ready(world, 2, 1)
    world.wait(DEADLINE - SECOND)
    world.reconcile()
    assert numbers(world) == (1, 2, None)
    world.edit(replicas=6)
    world.reconcile()
    let_some_be_ready(world, 2, 2)
    world.wait(DEADLINE - SECOND)
    world.reconcile()
    assert numbers(world) == (1, 2, None)
    world.wait(SECOND)
    world.reconcile()
    assert numbers(world) == (1, None, None)
    assert world.status.failed[0].number == 2


def test_a_version_that_never_was_ready_is_given_up_in_time_however_the_count_changes() -> None:
    world = serving(replicas=2)
    world.champion = 2
    world.make(2, "crashing")
    world.settle()
    for count in (3, 4, 5, 6, 7):
        world.wait(DEADLINE / 5)
        world.edit(replicas=count)
        world.settle()
    assert numbers(world) == (1, None, None)
    assert world.answering == 7


def test_a_count_that_the_api_server_refuses_does_not_move_the_status_with_every_try() -> None:
    world = serving(replicas=2)
    world.champion = 2
    world.reconcile()
    let_some_be_ready(world, 2, 1)
    world.reconcile()
    world.apply_error = "quota exceeded"
    world.edit(replicas=6)
    world.reconcile()
    told = world.status
    world.wait(10 * SECOND)
    world.reconcile()
    assert world.status == told


# -- to zero and back ---------------------------------------------------------------------------------------------


def test_zero_replicas_are_ready_and_tell_that_nothing_answers() -> None:
    world = serving()
    world.edit(replicas=0)
    world.settle()
    for type_ in (ConditionType.READY, ConditionType.AVAILABLE):
        assert condition(world, type_) == (
            "True",
            "ScaledToZero",
            "version 1 is scaled to 0: nothing answers until spec.replicas is raised",
        )
    assert condition(world, ConditionType.ROLLED_OUT)[0] == "True"
    assert (world.answering, world.status.replicas) == (0, 0)
    world.edit(replicas=2)
    world.settle()
    assert world.answering == 2
    assert condition(world, ConditionType.READY)[:2] == ("True", "Serving")


def test_a_version_is_not_tried_while_there_are_no_pods_and_the_old_one_answers_first_after_that() -> None:
    world = serving()
    world.edit(replicas=0)
    world.champion = 2
    world.settle()
    world.wait(timedelta(days=3))
    world.settle()
    assert numbers(world) == (1, None, None)
    assert condition(world, ConditionType.ROLLED_OUT)[:2] == ("False", "ScaledToZero")
    assert condition(world, ConditionType.READY)[0] == "True"
    assert "version 2 waits for spec.replicas above 0" in condition(world, ConditionType.READY)[2]
    for type_ in (ConditionType.RECONCILING, ConditionType.STALLED):
        assert find_condition(world.status.conditions, type_) is None
    world.make(2, "refusing")
    world.edit(replicas=1)
    world.settle()
    assert numbers(world) == (1, None, None)
    assert world.status.failed[0].number == 2
    assert world.answering == 1


def test_a_candidate_goes_when_the_count_falls_to_zero_and_is_tried_again_after_that() -> None:
    world = serving()
    world.champion = 2
    world.make(2, "starting")
    world.settle()
    world.edit(replicas=0)
    world.settle()
    assert (numbers(world), len(world.servers)) == ((1, None, None), 1)
    assert world.status.failed == ()
    world.make(2, "good")
    world.edit(replicas=1)
    world.settle()
    assert numbers(world) == (2, None, 1)


def test_a_first_version_waits_for_a_pod() -> None:
    world = serving(replicas=0)
    assert numbers(world) == (None, None, None)
    assert condition(world, ConditionType.READY)[:2] == ("False", "ScaledToZero")
    assert condition(world, ConditionType.AVAILABLE)[0] == "False"
    world.edit(replicas=1)
    world.settle()
    assert numbers(world) == (1, None, None)
    assert condition(world, ConditionType.READY)[0] == "True"


def test_at_zero_the_previous_version_is_not_kept_warm() -> None:
    world = serving()
    world.champion = 2
    world.settle()
    assert numbers(world) == (2, None, 1)
    world.edit(replicas=0)
    world.settle()
    world.wait(MIN_BAKE)
    assert MIN_BAKE < BAKE
    world.settle()
    assert numbers(world) == (2, None, None)
    assert [server.wanted for server in world.servers.values()] == [0]
