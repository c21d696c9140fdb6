"""Rollouts: what serves goes on serving, and what takes over has proven itself."""

from datetime import timedelta

import pytest

from modelloop.api.common import parse_duration
from modelloop.decide.conditions import find_condition
from modelloop.decide.play import FAILED_LIMIT
from modelloop.decide.reasons import ConditionType
from tests.unit.operator_tests.deployment_world import DeploymentWorld
from tests.unit.operator_tests.operator_states import SECOND, deployment_spec, digest_of

DEADLINE = parse_duration("5m")
BAKE = parse_duration("1m")


def serving(number: int = 1, **fields: object) -> DeploymentWorld:
    """A world where a version has been rolled out and nothing is left to do."""
    world = DeploymentWorld(champion=number, spec=deployment_spec(**fields))
    world.settle()
    world.wait(BAKE)
    world.settle()
    return world


def condition(world: DeploymentWorld, type_: ConditionType) -> tuple[str, str, str]:
    found = find_condition(world.status.conditions, type_)
    assert found is not None, f"no condition {type_}"
    return found.status, found.reason, found.message


def numbers(world: DeploymentWorld) -> tuple[int | None, int | None, int | None]:
    """Numbers of the stable version, the candidate and the previous one."""
    status = world.status
    stable, candidate, previous = (
        version.number if version else None for version in (status.stable, status.candidate, status.previous)
    )
    return stable, candidate, previous


def test_the_first_version_becomes_stable_once_it_is_ready() -> None:
    world = DeploymentWorld()
    world.reconcile()
    assert numbers(world) == (None, 1, None)
    assert condition(world, ConditionType.READY)[0] == "False"
    world.settle()
    assert numbers(world) == (1, None, None)
    assert condition(world, ConditionType.READY)[0] == "True"
    assert world.answering == 1


def test_all_known_conditions_are_there_after_the_first_pass() -> None:
    world = DeploymentWorld()
    world.reconcile()
    assert {item.type for item in world.status.conditions} == {"Available", "Ready", "Reconciling", "RolledOut"}


def test_a_new_champion_takes_over_only_when_it_is_ready_and_the_old_one_stays_warm() -> None:
    world = serving()
    world.champion = 2
    world.make(2, "starting")
    world.settle()
    assert numbers(world) == (1, 2, None)
    assert world.answering == 1
    world.make(2, "good")
    world.settle()
    assert numbers(world) == (2, None, 1)
    assert world.service_digest == digest_of(2).removeprefix("sha256:")[:16]
    assert len(world.servers) == 2
    world.wait(BAKE - SECOND)
    world.settle()
    assert numbers(world) == (2, None, 1)
    world.wait(SECOND)
    world.settle()
    assert numbers(world) == (2, None, None)
    assert len(world.servers) == 1


@pytest.mark.parametrize("health", ["refusing", "crashing", "unpullable", "starting"])
def test_a_version_that_never_gets_ready_is_given_up_and_the_stable_one_serves_on(health: str) -> None:
    world = serving()
    world.champion = 2
    world.make(2, health)  # type: ignore[arg-type]
    world.settle()
    assert numbers(world) == ((1, None, None) if health == "refusing" else (1, 2, None))
    world.wait(DEADLINE)
    world.settle()
    assert numbers(world) == (1, None, None)
    assert [entry.number for entry in world.status.failed] == [2]
    assert world.answering == 1
    assert len(world.servers) == 1
    status, _, message = condition(world, ConditionType.READY)
    assert status == "False"
    assert "version 2 was given up" in message
    assert "version 1 answers meanwhile" in message
    assert condition(world, ConditionType.AVAILABLE)[0] == "True"


def test_a_version_that_was_given_up_is_not_tried_again_until_its_template_changes() -> None:
    world = serving()
    world.champion = 2
    world.make(2, "refusing")
    world.settle()
    world.wait(timedelta(days=1))
    world.settle()
    assert numbers(world) == (1, None, None)
    world.edit(image="example/other:1")
    world.settle()
    assert numbers(world) == (2, None, 1)
    assert world.status.failed == ()


def test_going_back_to_a_template_that_failed_does_not_condemn_what_serves_meanwhile() -> None:
    world = serving()
    world.champion = 2
    world.make(2, "refusing")
    world.settle()
    world.edit(image="example/other:1")
    world.settle()
    world.wait(BAKE)
    world.make(2, "good")
    world.edit(image=None)
    world.settle()
    assert condition(world, ConditionType.READY)[0] == "True"


def test_a_spec_that_is_mended_late_gets_its_own_time() -> None:
    world = serving(image="example/typo:1")
    world.champion = 2
    world.make(2, "unpullable", "example/typo:1")
    world.make(2, "starting")
    world.settle()
    world.wait(DEADLINE - SECOND)
    world.edit(image=None)
    world.settle()
    world.wait(2 * SECOND)
    world.settle()
    assert numbers(world)[1] == 2, "the pods of the mended template had only two seconds"
    world.wait(DEADLINE)
    world.settle()
    assert [entry.number for entry in world.status.failed] == [2]


def test_pods_of_the_old_template_do_not_condemn_the_mended_one() -> None:
    world = serving(image="example/typo:1")
    world.champion = 2
    world.make(2, "crashing", "example/typo:1")
    world.settle()
    world.wait(timedelta(minutes=1))
    server = world.servers[world.status.candidate.deployment]  # type: ignore[union-attr]
    world.make(2, "refusing", "example/typo:1")
    world.follow()
    assert any(item.exit_code == 2 for item in world.servers[server.name].pods)
    world.edit(image=None)
    world.reconcile()
    world.reconcile()  # the old pods are still there
    assert numbers(world)[1] == 2
    world.settle()
    assert numbers(world) == (2, None, 1)


def test_a_version_whose_secret_is_missing_gets_all_its_time() -> None:
    world = serving()
    world.champion = 2
    world.make(2, "keyless")
    world.settle()
    world.wait(DEADLINE - SECOND)
    world.settle()
    assert numbers(world) == (1, 2, None)
    world.make(2, "good")
    world.settle()
    assert numbers(world) == (2, None, 1)
    assert world.status.failed == ()


def test_a_template_that_the_api_server_refuses_does_not_keep_the_status_moving() -> None:
    world = serving()
    world.champion = 2
    world.make(2, "starting")
    world.settle()
    world.apply_error = "the API server refused an object: limits"
    world.edit(resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}})
    world.settle()
    changes = 0
    for _ in range(600):
        world.wait(SECOND)
        before = world.status
        world.reconcile()
        changes += world.status != before
    assert changes <= 4
    assert numbers(world) == (1, 2, None)
    world.edit(resources={})
    world.reconcile()
    world.apply_error = ""
    world.settle()
    world.wait(DEADLINE / 2 - SECOND)
    world.settle()
    assert numbers(world)[1] == 2, "the mended template had only half its time"


def test_the_previous_version_stays_while_the_service_still_selects_it() -> None:
    world = serving()
    world.champion = 2
    world.service_refused = True
    world.settle()
    assert numbers(world) == (2, None, 1)
    world.wait(timedelta(days=1))
    world.settle()
    assert numbers(world) == (2, None, 1)
    assert world.answering == 1
    assert condition(world, ConditionType.READY)[0] == "False"
    world.service_refused = False
    world.settle()
    assert numbers(world) == (2, None, None)
    assert world.answering == 1


def test_a_third_version_does_not_displace_the_one_that_the_service_still_selects() -> None:
    world = serving()
    world.champion = 2
    world.service_refused = True
    world.settle()
    world.champion = 3
    world.wait(BAKE)
    world.settle()
    assert world.answering == 1
    assert numbers(world) == (2, None, 1)
    world.service_refused = False
    world.settle()
    assert numbers(world)[0] == 3
    assert world.answering == 1


def test_a_third_version_waits_until_the_bake_time_of_the_second_is_over() -> None:
    world = serving()
    world.champion = 2
    world.settle()
    world.champion = 3
    world.settle()
    assert numbers(world) == (2, None, 1)
    assert "waits until the bake time of version 2 is over" in condition(world, ConditionType.READY)[2]
    world.wait(BAKE)
    world.settle()
    assert numbers(world) == (3, None, 2)


def test_a_version_that_comes_back_while_warm_takes_over_at_once() -> None:
    world = serving()
    world.champion = 2
    world.settle()
    world.champion = 1
    world.reconcile()
    assert numbers(world) == (1, None, 2)
    assert world.answering == 1


def test_a_warm_version_of_another_size_is_scaled_before_it_takes_over() -> None:
    world = serving()
    world.champion = 2
    world.settle()
    world.edit(replicas=3)
    world.settle()
    assert numbers(world) == (2, None, 1)
    world.edit(replicas=5)
    world.champion = 1
    world.reconcile()
    assert numbers(world) == (2, None, 1), "it has three pods of five"
    world.settle()
    assert numbers(world) == (1, None, 2)
    assert world.answering == 5


@pytest.mark.parametrize("lost", ["champion", "training"])
def test_without_a_champion_what_serves_goes_on_serving(lost: str) -> None:
    world = serving()
    if lost == "champion":
        world.champion = None
    else:
        world.training_found = False
    world.settle()
    assert numbers(world) == (1, None, None)
    assert world.answering == 1
    expected = "NoChampion" if lost == "champion" else "TrainingNotFound"
    assert condition(world, ConditionType.READY)[:2] == ("False", expected)


def test_a_missing_training_is_stalled_and_not_reconciling() -> None:
    world = serving()
    world.training_found = False
    world.settle()
    assert condition(world, ConditionType.STALLED)[1] == "TrainingNotFound"
    assert "'cancer'" in condition(world, ConditionType.STALLED)[2]
    assert find_condition(world.status.conditions, ConditionType.RECONCILING) is None


def test_a_bad_image_for_the_stable_version_takes_no_pod_away() -> None:
    world = serving()
    world.make(1, "unpullable", "example/typo:1")
    world.edit(image="example/typo:1")
    world.settle()
    world.wait(timedelta(days=1))
    world.settle()
    assert numbers(world) == (1, None, None)
    assert world.answering == 1
    assert condition(world, ConditionType.READY)[:2] == ("False", "ImagePullFailed")


def test_a_deployment_that_somebody_deletes_is_wanted_again() -> None:
    world = serving()
    world.servers.clear()
    assert [version.number for version in world.reconcile().served] == [1]
    world.settle()
    assert world.answering == 1


def test_the_scale_subresource_selects_the_stable_pods() -> None:
    world = serving()
    world.champion = 2
    world.settle()
    assert world.status.selector == f"digest={digest_of(2).removeprefix('sha256:')[:16]}"
    assert (world.status.replicas, world.status.ready_replicas) == (1, 1)


def test_failures_are_bounded_and_newest_first() -> None:
    world = serving()
    for number in range(2, 15):
        world.champion = number
        world.make(number, "refusing")
        world.settle()
    assert [entry.number for entry in world.status.failed] == list(range(14, 14 - FAILED_LIMIT, -1))


@pytest.mark.parametrize("length", [100, 3000, 40_000])
def test_messages_of_any_length_fit_the_status(length: int) -> None:
    world = serving()
    world.champion = 2
    world.make(2, "refusing")
    world.reconcile()
    world.follow()
    for name, server in world.servers.items():
        pods = tuple(_with_message(item, "ü" * length) for item in server.pods)
        world.servers[name] = type(server)(**{**_fields(server), "pods": pods})
    world.reconcile()
    assert len(world.status.failed[0].message) <= 2048
    world.follow()
    world.apply_error = "ü" * length
    world.settle()
    assert all(len(item.message) <= 2048 for item in world.status.conditions)


def _fields(item: object) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__slots__}  # type: ignore[attr-defined]


def _with_message(item: object, text: str) -> object:
    return type(item)(**{**_fields(item), "terminated_message": text, "waiting_message": text})


def test_what_the_service_selects_is_kept_until_it_has_turned_even_when_the_status_does_not_know_it() -> None:
    world = serving()
    world.champion = 2
    world.settle()
    # As after a restored backup: the status is of before the promotion, the cluster of after it.
    status = world.status
    world.status = status.model_copy(update={"stable": status.previous, "previous": None})
    world.champion = 1
    world.service_refused = True
    for _ in range(3):
        world.reconcile()
        assert world.answering == 1
    world.service_refused = False
    world.settle()
    assert world.answering == 1
    assert len(world.servers) == 1


def test_a_candidate_that_the_api_server_refuses_is_not_looked_at_every_second() -> None:
    world = serving()
    world.champion = 2
    world.apply_error = "quota"
    world.settle()
    world.wait(2 * DEADLINE)
    assert world.reconcile().check_again_after is None
