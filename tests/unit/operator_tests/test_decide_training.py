"""The life of runs: triggers, results, what becomes the champion, what users see."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from modelkit.contract.result import TrainingResult
from modelloop.api.training import ModelTrainingStatus
from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType, Reason
from modelloop.decide.results import RESULT_GRACE
from modelloop.decide.runs import NO_POD_GRACE
from modelloop.decide.training import decide_training
from modelloop.desired.training import spec_hash
from tests.unit.operator_tests.operator_states import NOW, SECOND, compared, digest_of, pod, result, training_spec
from tests.unit.operator_tests.training_world import TrainingWorld, begun, condition, last, lenient_json, trained


def test_a_new_training_begins_run_1_and_makes_one_job() -> None:
    world = TrainingWorld()
    plan = world.reconcile()
    assert plan.new_run is not None
    assert plan.new_run.number == 1
    assert plan.new_run.trigger.reason == "Created"
    assert world.settle() <= 2
    assert len(world.created) == 1


def test_a_crash_between_the_status_and_the_job_makes_the_job_once() -> None:
    world = TrainingWorld()
    world.reconcile(crash_after_status=True)
    assert world.jobs == {}
    world.settle()
    assert len(world.created) == 1
    assert world.status.runs == 1


def test_an_approved_version_becomes_the_champion_and_the_training_ready() -> None:
    world = trained()
    assert world.status.champion is not None
    assert world.status.champion.digest == digest_of(1)
    assert world.status.champion.value == 0.95
    assert last(world).verdict == "Approved"
    status, reason, message = condition(world, ConditionType.READY)
    assert (status, reason) == ("True", "Approved")
    assert "version 1 is the champion: f1 0.95" in message
    assert find_condition(world.status.conditions, ConditionType.RECONCILING) is None


def test_a_result_is_stored_before_its_job_may_vanish() -> None:
    world = begun()
    world.complete(result())
    plan = world.reconcile()
    assert plan.expire_jobs == ()
    assert plan.status.run is None
    assert len(world.reconcile().expire_jobs) == 1
    assert world.reconcile().expire_jobs == ()


def test_finished_work_is_not_repeated_when_its_job_is_deleted() -> None:
    world = trained()
    world.lose_job(world.created[0])
    world.settle()
    assert world.status.runs == 1


def test_a_job_that_is_deleted_while_it_runs_is_restored_under_its_name() -> None:
    world = begun()
    world.lose_job(world.job)
    world.settle()
    assert world.created == [world.job, world.job]
    assert world.status.runs == 1


def test_a_change_of_the_result_fields_begins_a_run_and_a_change_of_retries_does_not() -> None:
    world = trained()
    world.edit(training_spec(retries=5))
    world.settle()
    assert world.status.runs == 1
    world.edit(training_spec(seed=7))
    world.settle()
    assert world.status.run is not None
    assert world.status.run.trigger.reason == "SpecChanged"
    assert condition(world, ConditionType.READY)[:2] == ("False", "Running")


def test_taking_a_rejected_change_back_makes_the_champion_current_without_a_run() -> None:
    world = trained()
    world.edit(training_spec(seed=7))
    world.settle()
    world.complete(result(digest=digest_of(2), metrics={"f1": 0.5}))
    world.settle()
    assert condition(world, ConditionType.READY)[0] == "False"
    world.edit(training_spec())
    world.settle()
    assert world.status.runs == 2
    assert condition(world, ConditionType.READY)[0] == "True"


def test_the_same_run_token_asks_once_even_when_it_is_taken_away_and_put_back() -> None:
    world = trained()
    for token in ("a", "a", "", "a"):
        world.token = token
        world.settle()
        if world.status.run is not None:
            world.complete(result())
            world.settle()
    assert world.status.runs == 2
    assert last(world).trigger.reason == "Requested"


def test_requests_that_come_while_a_run_is_under_way_coalesce_into_one() -> None:
    world = begun()
    for token in ("a", "b", "c"):
        world.token = token
        world.ask("drift", f"drift/{token}")
        world.settle()
    world.complete(result())
    world.settle()
    assert world.status.run is not None
    world.complete(result())
    world.settle()
    assert world.status.runs == 2


def test_a_token_given_at_creation_is_answered_by_the_first_run() -> None:
    world = begun(token="first")
    world.complete(result())
    world.settle()
    assert world.status.runs == 1


def test_a_monitors_request_is_answered_once_with_its_feedback() -> None:
    world = trained()
    wish = world.ask("drift", "drift/1")
    world.settle()
    assert world.status.run is not None
    assert world.status.run.trigger.monitor == "drift"
    assert world.status.run.feedback == wish.feedback
    world.complete(result(digest=digest_of(2), champion=compared(0.1)))
    world.settle()
    assert world.status.runs == 2
    assert world.status.champion is not None
    assert world.status.champion.feedback == wish.feedback


def test_a_later_run_learns_from_the_champions_feedback_too() -> None:
    world = trained()
    wish = world.ask("drift", "drift/1")
    world.settle()
    world.complete(result(digest=digest_of(2), champion=compared(0.1)))
    world.settle()
    world.wishes.clear()
    world.token = "again"
    world.settle()
    assert world.status.run is not None
    assert world.status.run.feedback == wish.feedback


@pytest.mark.parametrize("how", ["lost", "out of memory", "superseded"])
def test_the_run_after_a_monitors_run_that_made_no_version_learns_from_the_same_feedback(how: str) -> None:
    world = trained()
    wish = world.ask("drift", "drift/1")
    world.settle()
    if how == "lost":
        world.lose_pods(world.job)
        world.end_job("Complete")
        world.wait(RESULT_GRACE)
    elif how == "out of memory":
        world.show(pod(exit_code=137, terminated_reason="OOMKilled", phase="Failed"))
        world.end_job("Failed")
        world.edit(training_spec(resources={"limits": {"memory": "8Gi"}}))
    else:
        world.show(pod(waiting_reason="ImagePullBackOff"))
        world.edit(training_spec(image="example/other:1"))
    world.settle()
    assert world.status.run is not None
    assert world.status.run.number == 3
    assert world.status.run.feedback == wish.feedback


@pytest.mark.parametrize(
    ("verdict", "report"),
    [
        ("Rejected", result(digest=digest_of(2), metrics={"f1": 0.5})),
        ("Rejected", result(digest=digest_of(2), champion=compared(-0.1))),
        ("Inconclusive", result(digest=digest_of(2), metrics={})),
        ("Inconclusive", result(digest=digest_of(2), champion=compared(math.inf))),
    ],
    ids=["below its gate", "worse than the champion", "without a metric", "without a finite difference"],
)
def test_a_version_that_is_not_approved_leaves_the_champion_alone(verdict: str, report: TrainingResult) -> None:
    world = trained()
    champion = world.status.champion
    world.edit(training_spec(seed=7))
    world.settle()
    world.complete(lenient_json(report))
    world.settle()
    assert last(world).verdict == verdict
    assert world.status.champion == champion
    assert "version 1 stays the champion" in condition(world, ConditionType.READY)[2]


def test_bad_data_ends_in_a_condition_with_the_trainers_words() -> None:
    world = trained()
    world.edit(training_spec(data={"uri": "pvc://data/a.csv", "target": "lable"}))
    world.settle()
    message = "column 'lable' isn't in pvc://data/a.csv; did you mean 'label'?"
    world.fail('{"outcome":"Failed","reason":"ColumnNotFound","message":"' + message + '"}')
    world.settle()
    status, reason, text = condition(world, ConditionType.READY)
    assert (status, reason) == ("False", "ColumnNotFound")
    assert message in text
    assert "version 1 stays the champion" in text
    assert condition(world, ConditionType.RUN_SUCCEEDED)[:2] == ("False", "ColumnNotFound")
    assert condition(world, ConditionType.APPROVED)[:2] == ("Unknown", "NotDecided")


def test_a_failed_run_is_not_repeated_by_itself_but_after_a_change_of_the_pod() -> None:
    world = begun()
    world.show(pod(exit_code=137, terminated_reason="OOMKilled", phase="Failed", memory_limit="64Mi"))
    world.end_job("Failed")
    world.settle()
    assert last(world).reason == Reason.OUT_OF_MEMORY
    assert world.status.run is None
    world.edit(training_spec(resources={"limits": {"memory": "1Gi"}}))
    world.settle()
    assert world.status.run is not None
    assert world.status.run.number == 2


def test_a_run_that_cannot_start_makes_room_when_the_spec_is_mended() -> None:
    world = begun(spec=training_spec(image="example/typo:1"))
    world.show(pod(waiting_reason="ErrImagePull", waiting_message="not found", image="example/typo:1"))
    world.settle()
    status, reason, message = condition(world, ConditionType.READY)
    assert (status, reason) == ("False", "ImagePullFailed")
    assert "'example/typo:1'" in message
    world.edit(training_spec())
    world.settle()
    assert [record.verdict for record in world.status.history] == ["Superseded"]
    assert world.status.run is not None
    assert world.status.run.number == 2
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None
    assert [job.state for job in world.jobs.values()] == ["Active"]


def test_a_run_that_runs_is_not_stopped_by_a_change_of_the_spec() -> None:
    world = begun()
    world.edit(training_spec(seed=7))
    world.settle()
    assert world.status.run is not None
    assert world.status.run.number == 1
    world.complete(result())
    world.settle()
    assert world.status.run.number == 2


def test_a_run_whose_job_was_never_made_makes_room_for_a_changed_spec() -> None:
    world = TrainingWorld()
    world.reconcile(crash_after_status=True)
    world.edit(training_spec(storage={"uri": "pvc://elsewhere"}))
    world.settle()
    assert world.status.run is not None
    assert world.status.run.storage.uri == "pvc://elsewhere"
    assert world.status.run.spec_hash == spec_hash(world.spec)
    assert len(world.created) == 1


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_the_history_is_bounded_and_newest_first() -> None:
    world = trained()
    for number in range(2, 15):
        world.token = f"t{number}"
        world.settle()
        world.complete(result(digest=digest_of(number)))
        world.settle()
    numbers = [record.number for record in world.status.history]
    assert numbers == list(range(14, 14 - 10, -1))


def test_requests_of_many_monitors_over_time_fit_the_status_and_count_once() -> None:
    world = trained()
    for number in range(70):
        world.wishes.clear()  # earlier monitors were deleted
        world.ask(f"monitor-{number}", f"monitor-{number}/1")
        world.settle()
        world.complete(result())
        world.settle()
    assert world.status.runs == 71
    assert len(world.status.handled) <= 64


def test_requests_of_more_monitors_than_the_status_holds_are_still_answered_once() -> None:
    world = trained()
    for number in range(80):
        world.ask(f"monitor-{number:02}", "1")
    world.settle()
    for _ in range(3):
        if world.status.run is not None:
            world.complete(result())
        world.settle()
    assert world.status.run is None
    assert world.status.runs == 2


# -- what users see ---------------------------------------------------------------------------------------------------


def test_all_known_conditions_are_there_after_the_first_pass() -> None:
    world = TrainingWorld()
    world.reconcile()
    known = {"Ready", "RunSucceeded", "Approved", "RunAllowed", "Reconciling"}
    assert {item.type for item in world.status.conditions} == known
    assert all(item.observed_generation == 1 for item in world.status.conditions)


def test_a_job_without_a_pod_is_reported_after_a_moment_and_clears_itself() -> None:
    world = begun()
    job = world.job
    pods = world.pods[job]
    world.lose_pods(job)
    plan = world.reconcile()
    assert plan.check_again_after == NO_POD_GRACE
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None
    world.wait(NO_POD_GRACE)
    world.settle()
    assert condition(world, ConditionType.STALLED)[1] == "PodsNotCreated"
    assert f"kubectl describe job {job}" in condition(world, ConditionType.READY)[2]
    world.pods[job] = pods
    world.settle()
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None


def test_what_the_api_server_refused_is_shown_and_clears_itself() -> None:
    world = TrainingWorld(apply_error="the API server refused an object: exceeded quota")
    world.settle()
    assert condition(world, ConditionType.STALLED)[1] == "ApplyFailed"
    assert "exceeded quota" in condition(world, ConditionType.READY)[2]
    world.apply_error = ""
    world.settle()
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None
    assert len(world.created) == 1


def test_a_transition_time_moves_only_with_the_status_of_its_condition() -> None:
    world = begun()
    world.wait(10 * SECOND)
    world.settle()
    ready = find_condition(world.status.conditions, ConditionType.READY)
    assert ready is not None
    assert ready.last_transition_time == NOW
    world.complete(result())
    world.settle()
    ready = find_condition(world.status.conditions, ConditionType.READY)
    assert ready is not None
    assert ready.last_transition_time == NOW + 10 * SECOND


def test_jobs_of_no_known_run_are_stopped_and_ended_ones_expire() -> None:
    world = begun()
    current = world.job
    for name in ("old-active", "old-ended"):
        world.jobs[name] = replace(world.jobs[current], name=name)
    world.jobs["old-ended"] = replace(world.jobs["old-ended"], state="Complete")
    plan = decide_training(world.observe(), world.now)
    assert plan.delete_jobs == ("old-active",)
    assert plan.expire_jobs == ("old-ended",)


def test_a_lost_status_begins_again() -> None:
    world = trained()
    world.status = ModelTrainingStatus()
    world.wait(timedelta(hours=1))
    plan = world.reconcile()
    assert plan.new_run is not None
    assert plan.new_run.trigger.reason == "Created"
