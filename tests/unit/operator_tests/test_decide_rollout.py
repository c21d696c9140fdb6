"""Rollouts by steps: a candidate proves itself on the traffic, or goes without having hurt anybody."""

from datetime import timedelta
from itertools import pairwise

import pytest

from modelloop.decide.analysis import CustomMeasurement
from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType, Reason
from tests.unit.operator_tests.operator_states import SECOND, digest_of
from tests.unit.operator_tests.rollout_world import Behaviour, begin, canary, last, stable, state, told


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
