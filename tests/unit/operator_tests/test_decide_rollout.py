"""Rollouts by steps: a candidate proves itself on the traffic, or goes without having hurt anybody."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from modelloop.decide.analysis import CustomMeasurement
from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType, Reason
from tests.unit.operator_tests.operator_states import SECOND, digest_of
from tests.unit.operator_tests.rollout_world import Behaviour, RolloutWorld, canary


def begin(world: RolloutWorld, number: int = 2) -> None:
    world.champion = number
    world.settle()


def state(world: RolloutWorld) -> str:
    return "" if world.status.rollout is None else world.status.rollout.state


def told(world: RolloutWorld) -> list[str]:
    return [str(event.reason) for plan in world.plans for event in plan.events]


def last(world: RolloutWorld) -> tuple[int, str, str]:
    record = world.status.history[0]
    return record.number, record.result, record.reason


def stable(world: RolloutWorld) -> int | None:
    return world.status.stable.number if world.status.stable is not None else None


def test_a_good_candidate_goes_through_all_steps_and_is_promoted() -> None:
    world = canary()
    begin(world)
    rollout = world.status.rollout
    assert rollout is not None
    assert (rollout.state, rollout.position, rollout.weight, rollout.compare) == ("Stepping", "1/3", 0, 100)
    shares = []
    for _ in range(200):
        world.run(1)
        rollout = world.status.rollout
        if rollout is None:
            break
        if (rollout.state, rollout.weight) not in shares:
            shares.append((rollout.state, rollout.weight))
        if rollout.state != "Baking":
            assert stable(world) == 1
    assert shares == [("Stepping", 0.0), ("Stepping", 10.0), ("Stepping", 50.0), ("Baking", 100.0)]
    assert (stable(world), world.status.previous, last(world)) == (2, None, (2, "Promoted", "Promoted"))
    assert world.served_wrong == 0
    assert told(world)[-5:] == ["RollingOut", "StepBegun", "StepBegun", "StepBegun", "Promoted"]


def test_every_step_lasts_its_hold() -> None:
    world = canary()
    begin(world)
    begun = {}
    while state(world) == "Stepping":
        rollout = world.status.rollout
        assert rollout is not None
        begun.setdefault(rollout.position, world.now)
        world.run(1)
    begun["end"] = world.now
    times = list(begun.values())
    assert list(begun) == ["1/3", "2/3", "3/3", "end"]
    assert [after - before for before, after in pairwise(times)] == [10 * SECOND] * 3


@pytest.mark.parametrize(
    ("behaviour", "check"),
    [
        (Behaviour(errors=20), "SuccessRatio"),
        (Behaviour(disagreements=80), "Disagreement"),
        (Behaviour(is_slow=True), "LatencyRatio"),
    ],
    ids=["errors", "wrong answers", "slow"],
)
def test_a_bad_candidate_is_rolled_back_for_what_it_did(behaviour: Behaviour, check: str) -> None:
    world = canary(steps=[{"weight": 10, "hold": "10s"}, {"weight": 50, "hold": "10s"}])
    world.behaviours[2] = behaviour
    begin(world)
    world.run_until_over()
    assert stable(world) == 1
    assert last(world) == (2, "RolledBack", check)
    assert [entry.digest for entry in world.status.failed] == [digest_of(2)]
    assert len(world.servers) == 1
    assert Reason.ROLLED_BACK in told(world)
    found = find_condition(world.status.conditions, ConditionType.ROLLED_OUT)
    assert found is not None
    assert (found.status, found.reason) == ("False", check)
    world.wait(timedelta(days=30))
    world.run(5)
    assert (stable(world), world.status.candidate) == (1, None), "a digest that failed is blocked"


def test_a_new_digest_is_tried_after_one_that_failed() -> None:
    world = canary()
    world.behaviours[2] = Behaviour(errors=50)
    begin(world)
    world.run_until_over()
    begin(world, 3)
    world.run_until_over()
    assert stable(world) == 3


def test_a_person_may_have_a_blocked_digest_tried_again() -> None:
    world = canary()
    world.behaviours[2] = Behaviour(errors=50)
    begin(world)
    world.run_until_over()
    del world.behaviours[2]
    world.annotations["promote"] = "again-1"
    world.settle()
    assert state(world) == "Stepping"
    world.run_until_over()
    assert stable(world) == 2


def test_without_traffic_nothing_is_promoted() -> None:
    world = canary()
    world.rate = 0
    begin(world)
    world.run(125)
    assert (stable(world), state(world)) == (1, "Stepping")
    world.run_until_over()
    assert stable(world) == 1
    assert last(world) == (2, "RolledBack", "NoTraffic")


def test_without_traffic_it_may_pause_and_goes_on_when_traffic_comes() -> None:
    world = canary(analysis={"onNoTraffic": "Pause"})
    world.rate = 0
    begin(world)
    world.run(140)
    assert state(world) == "Paused"
    world.rate = 400
    world.run_until_over()
    assert stable(world) == 2


@pytest.mark.parametrize("command", ["abort", "rollback"])
@pytest.mark.parametrize("seconds", [0, 5, 15, 25])
def test_a_person_ends_a_rollout_in_any_step(command: str, seconds: int) -> None:
    world = canary()
    begin(world)
    world.run(seconds)
    world.annotations[command] = "now"
    world.settle()
    assert (stable(world), world.status.candidate, world.status.rollout) == (1, None, None)
    assert last(world) == (2, "Aborted", "Aborted")
    world.run(60)
    assert stable(world) == 1


def test_an_operator_that_was_away_beyond_a_deadline_asks_the_pods_before_it_decides() -> None:
    world = canary(steps=[{"weight": 10, "hold": "10s"}])
    begin(world)
    world.run(5)
    world.wait(timedelta(hours=1))
    world.is_deaf = True
    world.settle()
    assert (state(world), stable(world)) == ("Stepping", 1), "no pod has been asked yet"
    world.is_deaf = False
    world.run_until_over()
    assert stable(world) == 2


def test_a_manual_step_waits_for_a_person() -> None:
    world = canary(steps=[{"weight": 10, "hold": "5s", "promotion": "Manual"}, {"weight": 50, "hold": "5s"}])
    begin(world)
    world.run(30)
    rollout = world.status.rollout
    assert rollout is not None
    assert (rollout.state, rollout.paused, rollout.weight) == ("Paused", "Manual", 10)
    world.annotations["promote"] = "1"
    world.settle()
    assert world.status.rollout is not None
    assert world.status.rollout.position == "2/2"
    world.run_until_over()
    assert stable(world) == 2


def test_a_candidate_that_goes_bad_while_it_waits_is_rolled_back() -> None:
    world = canary(steps=[{"weight": 10, "hold": "5s", "promotion": "Manual"}])
    begin(world)
    world.run(15)
    assert state(world) == "Paused"
    world.behaviours[2] = Behaviour(errors=100)
    world.run_until_over()
    assert (stable(world), last(world)[2]) == (1, "SuccessRatio")


def test_a_blue_green_rollout_waits_for_a_person_when_told_to() -> None:
    world = canary(strategy="BlueGreen", promotion="Manual")
    begin(world)
    world.run(60)
    assert (stable(world), state(world)) == (1, "Paused")
    world.annotations["promote"] = "1"
    world.settle()
    assert (stable(world), state(world)) == (2, "Baking")


def test_pause_and_resume() -> None:
    world = canary()
    begin(world)
    world.run(15)
    world.annotations["pause"] = "1"
    world.run(500)
    rollout = world.status.rollout
    assert rollout is not None
    assert (rollout.state, rollout.paused, rollout.weight) == ("Paused", "Requested", 10)
    world.annotations["resume"] = "1"
    world.settle()
    assert state(world) == "Stepping"
    world.run_until_over()
    assert stable(world) == 2


def test_a_pause_ends_at_its_deadline() -> None:
    world = canary(pauseDeadline="1h")
    begin(world)
    world.annotations["pause"] = "1"
    world.settle()
    world.wait(timedelta(hours=1))
    world.settle()
    assert (stable(world), last(world)) == (1, (2, "RolledBack", "PauseDeadlineExceeded"))


def test_promote_skips_the_rest_of_a_step_and_full_all_steps() -> None:
    world = canary()
    begin(world)
    world.run(2)
    world.annotations["promote"] = "1"
    world.settle()
    assert world.status.rollout is not None
    assert world.status.rollout.position == "2/3"
    world.annotations["promote"] = "full-1"
    world.settle()
    assert (stable(world), state(world)) == (2, "Baking")


def test_a_failed_check_may_pause_instead_and_takes_the_traffic_away() -> None:
    world = canary(steps=[{"weight": 10, "hold": "10s"}], analysis={"onFailure": "Pause"})
    world.behaviours[2] = Behaviour(errors=50)
    begin(world)
    world.run(20)
    rollout = world.status.rollout
    assert rollout is not None
    assert (rollout.state, rollout.paused, rollout.weight) == ("Paused", "Failed", 0)
    world.run(100)
    assert state(world) == "Paused"
    del world.behaviours[2]
    world.annotations["resume"] = "1"
    world.settle()
    assert world.status.rollout is not None
    assert (world.status.rollout.state, world.status.rollout.weight) == ("Stepping", 10)


def test_the_newest_version_wins_and_the_one_before_is_recorded() -> None:
    world = canary()
    begin(world)
    world.run(15)
    begin(world, 3)
    assert last(world) == (2, "Superseded", "Superseded")
    assert world.status.candidate is not None
    assert world.status.candidate.number == 3
    assert world.status.failed == ()
    assert len(world.servers) == 2
    world.run_until_over()
    assert stable(world) == 3


def test_a_dry_run_tells_everything_and_decides_nothing() -> None:
    world = canary(analysis={"dryRun": True})
    world.behaviours[2] = Behaviour(errors=100)
    begin(world)
    verdicts = set()
    for _ in range(80):
        world.run(1)
        if world.status.rollout is not None:
            verdicts.add(world.status.rollout.verdict)
    assert "Failed" in verdicts
    assert stable(world) == 2


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


def test_a_crash_under_traffic_ends_the_rollout_with_its_reason() -> None:
    world = canary()
    begin(world)
    world.run(15)
    candidate = world.status.candidate
    assert candidate is not None
    server = world.servers[candidate.deployment]
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
    world.servers[candidate.deployment] = replace(server, available=0, pods=(dead,))
    world.reconcile()
    assert last(world) == (2, "RolledBack", "OutOfMemory")
    assert stable(world) == 1


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


def test_errors_of_the_measurement_pause_and_never_promote() -> None:
    prometheus = {"address": "http://prometheus:9090", "checks": [{"name": "errors", "query": "up", "max": 1}]}
    world = canary(steps=[{"weight": 10, "hold": "5s"}], analysis={"prometheus": prometheus})
    begin(world)
    for _ in range(60):
        world.custom["errors"] = CustomMeasurement(time=world.now, error="no answer")
        world.run(1)
    rollout = world.status.rollout
    assert rollout is not None
    assert (stable(world), rollout.state, rollout.paused, rollout.weight) == (1, "Paused", "Error", 10)
    for _ in range(60):
        world.custom["errors"] = CustomMeasurement(time=world.now, value=0.5)
        world.run(1)
    assert stable(world) == 2, "what was missing has come"


def test_without_a_value_of_its_own_check_nothing_is_promoted() -> None:
    prometheus = {"address": "http://prometheus:9090", "checks": [{"name": "errors", "query": "up", "max": 1}]}
    world = canary(analysis={"prometheus": prometheus})
    begin(world)
    world.run_until_over()
    assert (stable(world), last(world)) == (1, (2, "RolledBack", "Inconclusive"))
