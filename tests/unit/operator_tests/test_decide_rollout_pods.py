"""What a candidate's pods do, and mean, while it is rolled out."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelloop.decide.reasons import Reason
from modelloop.decide.rollout import SILENCE_GRACE
from tests.unit.operator_tests.operator_states import SECOND, digest_of
from tests.unit.operator_tests.rollout_world import Behaviour, RolloutWorld, begin, canary, last, stable, state, told


def test_a_candidate_gets_as_many_pods_as_its_share_needs_before_it_gets_the_share() -> None:
    world = canary(steps=[{"weight": 25, "hold": "5s"}, {"weight": 100, "hold": "5s"}], comparePercent=0)
    world.edit(replicas=4)
    world.settle()
    begin(world)
    candidate = world.status.candidate
    assert candidate is not None
    assert world.servers[candidate.deployment].wanted == 1
    world.make(2, "starting")
    for _ in range(20):
        world.run(1)
    rollout = world.status.rollout
    assert rollout is not None
    assert (rollout.state, rollout.step, rollout.weight) == ("Scaling", 1, 25)
    assert world.servers[candidate.deployment].wanted == 4


def test_a_candidate_without_a_ready_pod_gets_no_request() -> None:
    world = canary()
    begin(world)
    world.run(15)
    candidate = world.status.candidate
    assert candidate is not None
    assert world.plan is not None
    assert world.plan.route.rules[0].weight == 10
    server = world.servers[candidate.deployment]
    world.servers[candidate.deployment] = replace(server, available=0, pods=())
    plan = world.reconcile()
    assert plan.route.rules == ()
    assert state(world) == "Scaling"
    world.wait(3 * SECOND)
    world.settle()
    rollout = world.status.rollout
    assert rollout is not None
    assert (rollout.state, rollout.position, rollout.since) == ("Stepping", "2/3", world.now), "the step begins anew"


def pods_not_seen_ready(world: RolloutWorld, number: int) -> None:
    """The Deployment counts its pods as Ready, and what is known of them says otherwise."""
    name = world.target_of(number).deployment
    server = world.servers[name]
    world.servers[name] = replace(server, pods=tuple(replace(item, ready=False) for item in server.pods))


def test_a_step_begins_anew_only_when_a_pod_is_seen_to_be_ready() -> None:
    world = canary(steps=[{"weight": 20, "hold": "10s"}])
    begin(world)
    world.run(3)
    assert state(world) == "Stepping"
    pods_not_seen_ready(world, 2)
    for _ in range(6):
        world.wait(SECOND)
        world.reconcile()
    assert (state(world), told(world).count(Reason.STEP_BEGUN)) == ("Scaling", 1)
    world.settle()
    assert (state(world), told(world).count(Reason.STEP_BEGUN)) == ("Stepping", 2)
    world.run_until_over()
    assert last(world) == (2, "Promoted", "Promoted")


def test_a_version_without_a_pod_that_is_seen_to_be_ready_is_not_promoted() -> None:
    world = canary(strategy="BlueGreen")
    world.champion = 2
    world.reconcile()
    world.follow()
    pods_not_seen_ready(world, 2)
    for _ in range(3):
        world.reconcile()
    assert (stable(world), state(world)) == (1, "Preparing")
    world.settle()
    assert (stable(world), state(world)) == (2, "Baking")


def test_a_step_that_begins_anew_again_and_again_ends_at_its_deadline() -> None:
    world = canary()
    begin(world)
    candidate = world.status.candidate
    assert candidate is not None
    for _ in range(200):
        if world.status.candidate is None:
            break
        world.run(1)
        if candidate.deployment in world.servers:
            server = world.servers[candidate.deployment]
            world.servers[candidate.deployment] = replace(server, available=0, pods=())
            world.reconcile()
    assert last(world)[:2] == (2, "RolledBack")
    assert last(world)[2] in ("NoTraffic", "Inconclusive")


def crash(world: RolloutWorld, number: int) -> None:
    """The only pod of a version is out of memory."""
    name = world.target_of(number).deployment
    server = world.servers[name]
    dead = replace(
        server.pods[0],
        ready=False,
        running=False,
        exit_code=137,
        terminated_reason="OOMKilled",
        memory_limit="512Mi",
        finished=world.now,
        restarts=1,
    )
    world.servers[name] = replace(server, available=0, pods=(dead,))


def test_a_crash_under_traffic_ends_the_rollout_with_its_reason() -> None:
    world = canary()
    begin(world)
    world.run(15)
    crash(world, 2)
    world.reconcile()
    assert last(world) == (2, "RolledBack", "OutOfMemory")
    assert stable(world) == 1


@pytest.mark.parametrize("failure", ["Unreachable", "Timeout"])
@pytest.mark.parametrize("weight", [0, 20])
def test_answers_that_do_not_come_take_the_traffic_away_and_the_pods_say_why(failure: str, weight: int) -> None:
    step = {"weight": weight} if weight else {"shadow": 100}
    world = canary(steps=[step | {"hold": "10s"}])
    world.behaviours[2] = Behaviour(errors=60, failure=failure)
    begin(world)
    world.run(2)
    assert (state(world), stable(world)) == ("Failing", 1)
    assert world.plan is not None
    assert world.plan.route.rules == ()
    crash(world, 2)
    world.reconcile()
    assert last(world) == (2, "RolledBack", "OutOfMemory")


@pytest.mark.parametrize(
    ("behaviour", "check"),
    [
        (Behaviour(errors=60, failure="Unreachable"), "SuccessRatio"),
        (Behaviour(errors=60, failure="Timeout"), "Latency"),
    ],
    ids=["lost", "late"],
)
def test_a_candidate_whose_pods_say_nothing_fails_by_what_was_measured(behaviour: Behaviour, check: str) -> None:
    world = canary(steps=[{"weight": 20, "hold": "10s"}])
    world.behaviours[2] = behaviour
    begin(world)
    world.run(2)
    world.annotations["pause"] = "1"
    failing = world.now
    world.run_until_over()
    assert last(world) == (2, "RolledBack", check)
    assert str(60) in world.status.history[0].message
    assert world.now - failing <= SILENCE_GRACE + SECOND


def test_a_candidate_that_answers_with_errors_is_rolled_back_at_once() -> None:
    world = canary(steps=[{"weight": 20, "hold": "10s"}])
    world.behaviours[2] = Behaviour(errors=60)
    begin(world)
    world.run(2)
    assert (state(world), last(world)) == ("", (2, "RolledBack", "SuccessRatio"))


def test_a_crash_before_there_was_traffic_is_forgiven() -> None:
    world = canary()
    begin(world)
    candidate = world.status.candidate
    assert candidate is not None
    server = world.servers[candidate.deployment]
    world.wait(60 * SECOND)
    restarted = replace(server.pods[0], exit_code=1, restarts=1, started=world.now - timedelta(minutes=5))
    world.servers[candidate.deployment] = replace(server, pods=(restarted,))
    world.reconcile()
    assert world.status.candidate is not None


def test_a_deadline_names_the_crash_of_a_container_that_was_just_started_again() -> None:
    world = canary(progressDeadline="40s")
    world.make(2, "starting")
    begin(world)
    name = world.target_of(2).deployment
    server = world.servers[name]
    again = replace(
        server.pods[0], ready=False, running=True, exit_code=136, restarts=3, started=world.now + 39 * SECOND
    )
    world.servers[name] = replace(server, pods=(again,))
    world.wait(41 * SECOND)
    world.reconcile()
    assert last(world) == (2, "Failed", "CrashLoop")


@pytest.mark.parametrize("phase", ["Preparing", "Scaling"])
def test_an_operator_that_was_away_before_it_asked_for_pods_gives_them_their_time(phase: str) -> None:
    world = canary(steps=[{"weight": 25, "hold": "5s"}, {"weight": 100, "hold": "5s"}], comparePercent=0)
    world.edit(replicas=4)
    world.settle()
    world.champion = 2
    for _ in range(20):
        world.wait(SECOND)
        world.follow()
        world._serve()
        before = len(world.servers)
        world.reconcile(crash_after_status=True)
        if state(world) == phase:
            break
        world.settle()
    assert (state(world), len(world.servers)) == (phase, before)
    world.wait(timedelta(hours=1))
    world.reconcile()
    world.reconcile()
    assert (state(world), world.status.history[0].number) == (phase, 1)
    world.make(2, "starting")
    world.run_until_over(1200)
    assert last(world)[:2] == (2, "Failed" if phase == "Preparing" else "RolledBack")


def test_a_candidate_that_the_api_server_refuses_for_ever_is_given_up() -> None:
    world = canary(progressDeadline="40s")
    world.apply_error = "exceeded quota: pods"
    world.champion = 2
    world.run(39, settle=False)
    assert (state(world), stable(world)) == ("Preparing", 1)
    world.run(2, settle=False)
    assert last(world) == (2, "Failed", "ApplyFailed")
    assert "exceeded quota: pods" in world.status.history[0].message
    assert [entry.digest for entry in world.status.failed] == [digest_of(2)]
