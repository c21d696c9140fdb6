"""What an alarm leads to: a retrain, a suggestion, a rollback, or nothing, and never more than the budget."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from modelloop.api.monitor import RetrainRequest, Window
from modelloop.decide.monitor import MonitorPlan
from modelloop.decide.reasons import ConditionType
from modelloop.decide.retrain import OtherMonitor
from tests.unit.operator_tests.monitor_world import MonitorWorld, alarmed, condition, retraining
from tests.unit.operator_tests.operator_states import NOW, digest_of, monitor_spec, window

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def test_a_suggested_retrain_is_told_once_and_done_when_a_person_asks() -> None:
    world = alarmed(spec=monitor_spec(retrain={"mode": "Suggest"}))
    assert world.status.retrain is None
    assert retraining(world)[:2] == ("False", "Suggested")
    assert "kubectl annotate mm drift modelloop.dev/retrain=" in retraining(world)[2]
    for _ in range(3):
        world.reconcile()
    assert [event.reason for plan in world.plans for event in plan.events] == ["Suggested"]
    world.token = "yes"
    world.reconcile()
    assert world.status.retrain is not None
    assert world.status.retrain.id == f"drift/{window(-15).end.isoformat()}/yes"
    world.answer()
    for _ in range(3):
        world.now += HOUR
        world.reconcile()
    assert world.status.retrains == 1


def test_a_person_need_not_wait_for_an_alarm_a_cooldown_or_the_budget() -> None:
    world = MonitorWorld(spec=monitor_spec(retrain={"budget": {"runs": 1}, "cooldown": "24h"}))
    world.look(window(-30), window(-15))
    world.answer()
    world.look(window(0, state="OK"))
    world.token = "again"
    plan = world.reconcile()
    assert plan.status.retrains == 2
    assert plan.status.retrain is not None
    assert "a person asked for it" in plan.status.retrain.reason


def test_what_a_person_asks_for_waits_for_the_run_that_is_at_work() -> None:
    world = alarmed()
    world.answer(running=True)
    world.token = "again"
    world.reconcile()
    assert (world.status.retrains, world.status.handled_token) == (1, "")
    world.answer(running=False)
    world.reconcile()
    assert (world.status.retrains, world.status.handled_token) == (2, "again")


def test_a_person_who_asks_before_any_window_is_told_so() -> None:
    world = MonitorWorld(token="now")
    world.reconcile()
    assert retraining(world)[:2] == ("False", "NoWindowYet")
    world.look(window(-15, state="OK"))
    assert world.status.retrains == 1


def fail(world: MonitorWorld, minutes: int) -> None:
    """The run of the last request made nothing better, and new rows have come since."""
    world.answer()
    world.now = NOW + minutes * MINUTE
    world.look(window(minutes - 15), window(minutes))


def test_after_retrains_that_did_not_help_the_monitor_gives_up_until_it_recovers() -> None:
    world = alarmed(spec=monitor_spec(retrain={"giveUpAfter": 2, "cooldown": "0s"}))
    fail(world, 100)
    assert (world.status.retrains, world.status.fruitless) == (2, 2)
    fail(world, 200)
    assert world.status.retrains == 2
    assert retraining(world)[:2] == ("False", "GaveUp")
    assert "2 retrains in a row didn't help" in retraining(world)[2]
    world.look(window(215, state="Unknown"))
    world.look(window(230), window(245))
    assert world.status.retrains == 2, "unknown is no recovery"
    world.look(window(260, state="OK"))
    assert world.status.fruitless == 0
    world.look(window(330), window(345))
    assert world.status.retrains == 3


@pytest.mark.parametrize("way", ["spec", "person", "version"])
def test_who_has_given_up_begins_anew(way: str) -> None:
    world = alarmed(spec=monitor_spec(retrain={"giveUpAfter": 1, "cooldown": "0s"}))
    fail(world, 100)
    assert retraining(world)[1] == "GaveUp"
    if way == "spec":
        world.generation = 2
    elif way == "person":
        world.token = "try"
    else:
        assert world.model is not None
        world.model = replace(world.model, digest=digest_of(2), champion_digest=digest_of(2))
        world.look(window(200, state="OK", number=2), window(215, number=2), window(230, number=2))
    world.reconcile()
    assert world.status.retrains == 2


def test_a_recovery_may_need_several_windows() -> None:
    world = alarmed(spec=monitor_spec(alarm={"recovery": 2}, retrain={"giveUpAfter": 1, "cooldown": "0s"}))
    world.answer()
    world.look(window(60, state="OK"), window(75))
    assert world.status.fruitless == 1
    world.look(window(90, state="OK"), window(105, state="OK"))
    assert world.status.fruitless == 0


def test_the_same_rows_are_not_learned_from_again() -> None:
    world = alarmed(spec=monitor_spec(retrain={"cooldown": "0s"}))
    world.answer()
    world.now += HOUR
    world.look(window(30))
    assert world.status.retrains == 1
    assert retraining(world)[1] == "WaitingForLabels"
    assert "spec.retrain.requireNewLabels" in retraining(world)[2]
    world.look(window(45))
    assert world.status.retrains == 2, "it begins where the last one's rows end"


def test_the_budget_is_of_the_model_whoever_asks() -> None:
    spec = monitor_spec(retrain={"budget": {"runs": 2, "window": "10h"}, "cooldown": "0s"})
    world = MonitorWorld(spec=spec)
    other = RetrainRequest(
        id="quality/1", training="cancer", deployment="cancer", time=NOW - HOUR, reason="x",
        since=NOW - 3 * HOUR, until=NOW - 2 * HOUR, policy="Append",
    )  # fmt: skip
    assert world.model is not None
    world.model = replace(
        world.model,
        others=(OtherMonitor(name="quality", request=other, is_handled=True, times=(NOW - 11 * HOUR, NOW - HOUR)),),
    )
    world.look(window(-30), window(-15))
    assert world.status.retrains == 1
    fail(world, 100)
    assert world.status.retrains == 1
    assert retraining(world)[1] == "BudgetExhausted"
    assert world.plans[-1].check_again_after == NOW + 9 * HOUR - world.now
    world.now = NOW + 9 * HOUR
    world.reconcile()
    assert world.status.retrains == 2


def test_only_one_monitor_of_a_model_asks_at_a_time() -> None:
    world = MonitorWorld()
    request = RetrainRequest(
        id="quality/1", training="cancer", deployment="cancer", time=NOW - 9 * HOUR, reason="x",
        since=NOW - 11 * HOUR, until=NOW - 10 * HOUR, policy="Append",
    )  # fmt: skip
    asked = OtherMonitor(name="quality", request=request, is_handled=False)
    assert world.model is not None
    world.model = replace(world.model, others=(asked,))
    world.look(window(-30), window(-15))
    assert world.status.retrain is None
    assert "ModelMonitor 'quality' has asked training 'cancer' already" in retraining(world)[2]
    world.model = replace(world.model, others=(replace(asked, is_handled=True),))
    world.reconcile()
    assert world.status.retrains == 1


def test_in_the_bake_time_the_version_before_comes_back_instead() -> None:
    world = MonitorWorld()
    assert world.model is not None
    world.model = replace(world.model, is_baking=True)
    world.look(window(-30), window(-15))
    assert world.status.retrain is None
    assert world.status.rollback is not None
    assert world.status.rollback.digest == digest_of(1)
    assert [event.reason for plan in world.plans for event in plan.events] == ["RollbackRequested"]
    before = world.status
    world.look(window(0))
    assert world.status.rollback == before.rollback, "it is asked once"
    world.spec = monitor_spec(retrain={"duringBake": "Retrain"})
    world.reconcile()
    assert world.status.retrains == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_storm_of_alarms_with_kills_keeps_to_the_budget_and_asks_for_nothing_twice(seed: int) -> None:
    """2,000 alarms each; any pass may die before or after its status is written, or be repeated."""
    rng = random.Random(seed)
    runs, hours = rng.randint(1, 6), rng.randint(1, 24)
    retrain = {
        "budget": {"runs": runs, "window": f"{hours}h"},
        "cooldown": rng.choice(["0s", "10m", "2h"]),
        "giveUpAfter": 100,
        "requireNewLabels": rng.random() < 0.5,
    }
    world = MonitorWorld(spec=monitor_spec(retrain=retrain))
    ids, times = [], []
    for minutes in range(2_000):
        world.now = NOW + minutes * MINUTE
        known = world.status
        world.look(window(minutes))
        if rng.random() < 0.2:  # dead before the write
            world.status = known.model_copy(update={"windows": world.status.windows})
            continue
        for _ in range(rng.randrange(3)):
            world.reconcile()
        if world.status.retrains > known.retrains:
            assert world.status.retrains == known.retrains + 1
            assert world.status.retrain is not None
            ids.append(world.status.retrain.id)
            times.append(world.now)
        if world.status.retrain is not None and rng.random() < 0.3:
            world.answer(running=rng.random() < 0.5)
    assert len(ids) == len(set(ids)) == world.status.retrains > 0
    span = hours * HOUR
    assert all(sum(later - span < time <= later for time in times) <= runs for later in times)
    assert condition(world, ConditionType.RETRAINING)[1]


def changed(minutes: int, since: int) -> Window:
    """A breached window whose check says since when the world is another one: minutes after NOW."""
    found = window(minutes, check="Quality")
    check = found.checks[0].model_copy(update={"since": NOW + since * MINUTE})
    return found.model_copy(update={"checks": (check,)})


def test_a_retrain_learns_from_the_rows_since_the_change_that_the_check_dates() -> None:
    world = MonitorWorld(spec=monitor_spec(alarm={"breaches": 1, "windows": 1}))
    plan = world.look(changed(0, since=-200))
    assert plan.status.retrain is not None
    assert plan.status.retrain.since == NOW - 200 * MINUTE
    assert plan.status.retrain.until == NOW


FOLLOWED = {
    "alarm": {"breaches": 1, "windows": 1},
    "retrain": {"cooldown": "0s", "followUps": {"runs": 1, "growth": 4}},
}


def retrained(**fields: object) -> MonitorWorld:
    """An alarm after an hour of a changed world, and the version that was made of it serves."""
    world = MonitorWorld(spec=monitor_spec(**FOLLOWED, **fields))
    world.look(changed(0, since=-60))
    world.answer()
    assert world.model is not None
    world.model = replace(world.model, digest=digest_of(2), champion_digest=digest_of(2))
    return world


def well(world: MonitorWorld, minutes: int) -> MonitorPlan:
    world.now = NOW + minutes * MINUTE
    return world.look(window(minutes, state="OK", number=2, check="Quality"))


def test_a_follow_up_is_asked_for_once_when_the_new_world_was_seen_four_times_as_long() -> None:
    world = retrained()
    assert well(world, 60).status.retrains == 1
    assert well(world, 120).status.retrains == 1
    plan = well(world, 180)
    assert plan.status.retrains == 2
    assert plan.status.retrain is not None
    assert (plan.status.retrain.since, plan.status.retrain.until) == (NOW - HOUR, NOW + 3 * HOUR)
    assert plan.status.retrain.follow_up == 1
    assert "follow-up 1 of 1" in plan.status.retrain.reason
    world.answer()
    assert world.model is not None
    world.model = replace(world.model, digest=digest_of(3), champion_digest=digest_of(3))
    for minutes in range(1200, 3000, 60):
        world.now = NOW + minutes * MINUTE
        world.look(window(minutes, state="OK", number=3, check="Quality"))
    assert world.status.retrains == 2


def test_a_follow_up_obeys_the_budget_and_a_mode_that_only_suggests() -> None:
    world = retrained()
    world.spec = monitor_spec(**FOLLOWED | {"retrain": FOLLOWED["retrain"] | {"budget": {"runs": 1}}})
    well(world, 180)
    assert (world.status.retrains, retraining(world)[1]) == (1, "BudgetExhausted")
    world.spec = monitor_spec(**FOLLOWED | {"retrain": FOLLOWED["retrain"] | {"mode": "Suggest"}})
    well(world, 240)
    assert (world.status.retrains, retraining(world)[1]) == (1, "Suggested")


def test_without_follow_ups_only_another_alarm_leads_to_another_retrain() -> None:
    world = retrained()
    world.spec = monitor_spec(**FOLLOWED | {"retrain": {"cooldown": "0s"}})
    well(world, 600)
    assert world.status.retrains == 1


def test_while_the_old_version_serves_on_an_alarm_waits_for_twice_the_rows() -> None:
    world = MonitorWorld(spec=monitor_spec(**FOLLOWED))
    world.look(changed(0, since=-120))
    world.answer()
    world.now = NOW + HOUR
    world.look(changed(60, since=-120))
    assert (world.status.retrains, retraining(world)[1]) == (1, "WaitingForLabels")
    world.now = NOW + 2 * HOUR
    world.look(changed(120, since=-120))
    assert world.status.retrains == 2


def test_another_change_waits_for_nothing() -> None:
    world = MonitorWorld(spec=monitor_spec(**FOLLOWED))
    world.look(changed(0, since=-600))
    world.answer()
    world.now = NOW + HOUR
    world.look(changed(60, since=0))
    assert world.status.retrains == 2
