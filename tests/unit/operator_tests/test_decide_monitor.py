"""When a monitor asks for a retrain, and how often."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelloop.api.monitor import Check, Window
from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType
from modelloop.decide.retrain import ObservedModel
from tests.unit.operator_tests.monitor_world import MonitorWorld, alarmed, condition, retraining
from tests.unit.operator_tests.operator_states import NOW, digest_of, monitor_spec, pod, window

HOUR = timedelta(hours=1)


def test_two_breached_windows_of_three_ask_for_one_retrain() -> None:
    world = MonitorWorld()
    assert world.look(window(-30)).status.retrain is None
    plan = world.look(window(-15))
    assert plan.status.retrain is not None
    assert plan.status.retrain.id == f"drift/{window(-15).end.isoformat()}"
    assert plan.status.retrains == 1
    assert plan.status.retrain.since == window(-30).start
    assert plan.status.retrain.until == window(-15).end
    assert [event.reason for event in plan.events] == ["Requested"]
    assert retraining(world)[:2] == ("True", "Requested")


def test_a_repeated_pass_and_a_window_written_twice_ask_once() -> None:
    world = alarmed()
    world.look(window(-15))
    world.answer()
    world.now += timedelta(days=7)
    for _ in range(3):
        world.look(window(-15))
        world.now += timedelta(days=7)
    assert world.status.retrains == 1
    assert retraining(world)[:2] == ("False", "NoAlarm")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_below_k_of_n_nothing_is_asked(count: int) -> None:
    world = MonitorWorld(spec=monitor_spec(alarm={"breaches": 3, "windows": 5}))
    windows = [window(minutes, state="Breached" if minutes < count else "OK") for minutes in range(5)]
    assert world.look(*windows).status.retrain is None


def test_an_alarm_is_over_when_the_newest_window_is_well_again() -> None:
    world = MonitorWorld()
    assert world.look(window(-45), window(-30), window(-15, state="OK")).status.retrain is None


def test_breaches_older_than_n_windows_do_not_count() -> None:
    world = MonitorWorld()
    windows = [window(-60), window(-45, state="OK"), window(-30, state="OK"), window(-15)]
    assert world.look(*windows).status.retrain is None


def test_unknown_is_never_an_alarm() -> None:
    world = MonitorWorld()
    world.look(*(window(minutes, state="Unknown") for minutes in range(10)))
    assert world.status.retrain is None
    assert condition(world, ConditionType.HEALTHY)[:2] == ("Unknown", "NotEnoughRows")


def test_checks_that_spec_retrain_on_does_not_name_are_reported_only() -> None:
    world = MonitorWorld(spec=monitor_spec(retrain={"checks": ["Quality"]}))
    world.look(window(-30), window(-15))
    assert world.status.retrain is None
    assert condition(world, ConditionType.HEALTHY)[:2] == ("False", "Breached")
    world.look(window(0, check="Quality"), window(15, check="Quality"))
    assert world.status.retrain is not None


def test_windows_of_another_version_do_not_count() -> None:
    world = MonitorWorld()
    world.look(window(-30, number=2), window(-15, number=2))
    assert world.status.retrain is None
    assert condition(world, ConditionType.HEALTHY)[:2] == ("Unknown", "NoWindowYet")


def test_without_spec_retrain_alarms_are_reported_only() -> None:
    world = alarmed(spec=monitor_spec(retrain=None))
    assert world.status.retrain is None
    assert retraining(world)[:2] == ("False", "NotDecided")


def test_without_labels_nothing_is_asked_and_the_message_says_what_to_send() -> None:
    world = MonitorWorld()
    world.look(window(-30), window(-15, labels=29))
    assert world.status.retrain is None
    status, reason, message = retraining(world)
    assert (status, reason) == ("False", "WaitingForLabels")
    assert "29 labelled rows, 30 are needed" in message
    world.look(window(0, labels=30))
    assert world.status.retrain is not None


def test_within_the_cooldown_nothing_is_asked_and_the_monitor_looks_again_after_it() -> None:
    world = alarmed(spec=monitor_spec(retrain={"requireNewLabels": False}))
    world.answer()
    world.now += HOUR / 2
    plan = world.look(window(30))
    assert plan.status.retrains == 1
    assert plan.check_again_after == HOUR / 2
    assert retraining(world)[1] == "Cooldown"
    world.now += HOUR / 2
    assert world.reconcile().status.retrains == 2


def test_while_a_request_waits_or_its_run_is_at_work_nothing_is_asked() -> None:
    world = alarmed()
    world.now += 2 * HOUR
    world.look(window(100))
    assert world.status.retrains == 1
    assert retraining(world)[:2] == ("True", "Requested")
    world.answer(running=True)
    world.look(window(110))
    assert world.status.retrains == 1
    assert retraining(world)[:2] == ("True", "Running")


def test_while_a_run_of_another_cause_is_at_work_nothing_is_asked() -> None:
    world = MonitorWorld()
    assert world.model is not None
    world.model = replace(world.model, training_running=True)
    world.look(window(-30), window(-15))
    assert world.status.retrain is None
    assert retraining(world)[:2] == ("False", "Running")
    world.model = replace(world.model, training_running=False)
    assert world.reconcile().status.retrain is not None


def test_while_a_newer_champion_is_rolled_out_nothing_is_asked() -> None:
    world = MonitorWorld()
    assert world.model is not None
    world.model = replace(world.model, champion_digest=digest_of(2))
    world.look(window(-30), window(-15))
    assert world.status.retrain is None
    assert retraining(world)[:2] == ("False", "RollingOut")


def test_a_stored_version_has_no_training_that_could_be_asked() -> None:
    world = MonitorWorld()
    assert world.model is not None
    world.model = replace(world.model, training="", champion_digest=None)
    world.look(window(-30), window(-15))
    assert world.status.retrain is None
    assert retraining(world)[:2] == ("False", "NoChampion")
    assert "serves spec.model" in retraining(world)[2]


def test_a_training_without_a_champion_is_not_called_a_rollout() -> None:
    world = MonitorWorld()
    assert world.model is not None
    world.model = replace(world.model, champion_digest=None)
    world.look(window(-30), window(-15))
    assert world.status.retrain is None
    assert retraining(world)[:2] == ("False", "NoChampion")


def test_a_request_to_a_training_that_is_no_longer_behind_the_deployment_is_not_waited_for() -> None:
    world = alarmed()
    assert world.model is not None
    world.model = replace(world.model, training="other", digest=digest_of(3), champion_digest=digest_of(3))
    world.now += 2 * HOUR
    world.look(window(60, number=3), window(75, number=3))
    assert world.status.retrains == 2
    assert world.status.retrain is not None
    assert world.status.retrain.training == "other"


def test_lookback_reaches_further_than_the_breached_windows() -> None:
    world = alarmed(spec=monitor_spec(retrain={"lookback": "48h", "data": "Window"}))
    assert world.status.retrain is not None
    assert world.status.retrain.since == window(-15).end - timedelta(hours=48)
    assert world.status.retrain.policy == "Window"


def test_all_known_conditions_are_there_after_the_first_pass() -> None:
    world = MonitorWorld()
    world.reconcile()
    assert {item.type for item in world.status.conditions} == {"Ready", "Healthy", "Retraining"}


def test_a_reference_to_nothing_is_stalled_with_its_words() -> None:
    world = MonitorWorld(model=None, missing="spec.deploymentRef.name: there is no ModelDeployment 'cancr'")
    plan = world.reconcile()
    assert not plan.schedule_wanted
    assert condition(world, ConditionType.STALLED)[1] == "DeploymentNotFound"
    assert "'cancr'" in condition(world, ConditionType.READY)[2]
    assert "'cancr'" in retraining(world)[2]


def test_a_deployment_that_serves_nothing_yet_is_waited_for() -> None:
    world = MonitorWorld()
    assert world.model is not None
    world.model = replace(world.model, digest=None)
    assert not world.reconcile().schedule_wanted
    assert condition(world, ConditionType.READY)[:2] == ("False", "WaitingForDeployment")
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None


def test_the_monitors_own_pod_is_reported() -> None:
    world = MonitorWorld(pods=(pod(waiting_reason="ErrImagePull", image="example/typo:1"),))
    world.reconcile()
    assert condition(world, ConditionType.READY)[:2] == ("False", "ImagePullFailed")
    world.pods = ()
    world.reconcile()
    assert condition(world, ConditionType.READY)[0] == "True"
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None


@pytest.mark.parametrize("length", [100, 3000, 40_000])
def test_messages_of_any_length_fit_the_status(length: int) -> None:
    text = "ü" * length
    checks = tuple(Check(name=f"{'c' * 60}{n}", state="Breached", message="ü" * 1024) for n in range(10))
    drift = Check(name="Drift", state="Breached", message="ü" * 1024)
    windows = [window(minutes).model_copy(update={"checks": (drift, *checks)}) for minutes in (0, 1)]
    world = MonitorWorld(pods=(pod(waiting_reason="ErrImagePull", waiting_message=text),))
    world.look(*windows)
    assert world.status.retrain is not None
    assert len(world.status.retrain.reason) <= 1024
    world.apply_error = text
    world.reconcile()
    assert all(len(item.message) <= 2048 for item in world.status.conditions)


WINDOWS = st.lists(
    st.builds(
        window,
        st.integers(-300, 300),
        state=st.sampled_from(["OK", "Breached", "Unknown"]),
        number=st.integers(1, 2),
        labels=st.sampled_from([0, 29, 30, 100]),
        check=st.sampled_from(["Drift", "Quality", "DataQuality"]),
    ),
    max_size=10,
    unique_by=lambda item: item.end,
)
MODELS = st.one_of(
    st.none(),
    st.builds(
        ObservedModel,
        deployment=st.just("cancer"),
        training=st.sampled_from(["cancer", "other"]),
        digest=st.sampled_from([None, digest_of(1), digest_of(2)]),
        champion_digest=st.sampled_from([None, digest_of(1), digest_of(2)]),
        handled_id=st.sampled_from(["", "drift/x", f"drift/{NOW.isoformat()}"]),
        training_running=st.booleans(),
    ),
)
RETRAINS = st.sampled_from(
    [None, {}, {"checks": ["Drift"]}, {"cooldown": "0s"}, {"lookback": "99999h", "minLabels": 1}]
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=WINDOWS,
    second=WINDOWS,
    models=st.lists(MODELS, min_size=2, max_size=2),
    retrain=RETRAINS,
    alarm=st.sampled_from([{}, {"breaches": 1, "windows": 1}, {"breaches": 3, "windows": 10}]),
    delay=st.sampled_from([-HOUR, timedelta(0), HOUR, 100 * HOUR]),
    suspend=st.booleans(),
    error=st.sampled_from(["", "refused"]),
)
def test_any_state_converges_and_asks_only_when_everything_holds(
    first: list[Window],
    second: list[Window],
    models: list[ObservedModel | None],
    retrain: dict[str, object] | None,
    alarm: dict[str, int],
    delay: timedelta,
    suspend: bool,
    error: str,
) -> None:
    spec = monitor_spec(retrain=retrain, alarm=alarm, suspend=suspend)
    world = MonitorWorld(spec=spec, model=models[0], apply_error=error)
    for windows, model in ((first, models[0]), (second, models[1])):
        world.model = model
        before = world.status
        plan = world.look(*windows)
        if plan.status.retrains > before.retrains:
            assert model is not None
            assert spec.retrain is not None
            assert plan.status.retrain is not None
            newest = max((item for item in world.status.windows if item.digest == model.digest), key=lambda w: w.end)
            assert plan.status.retrain.until == newest.end
            assert any(check.state == "Breached" and check.name in spec.retrain.checks for check in newest.checks)
            assert newest.labels >= spec.retrain.min_labels
            assert not model.training_running
            assert model.champion_digest == model.digest
            assert before.retrain is None or plan.status.retrain.id != before.retrain.id
            assert plan.status.retrain.since < plan.status.retrain.until
        again = world.reconcile()
        third = world.reconcile()
        assert third.status == again.status
        assert third.events == ()
        assert third.status.retrains == plan.status.retrains
        world.now += delay
