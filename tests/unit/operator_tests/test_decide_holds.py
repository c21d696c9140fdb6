"""Suspending, queueing, deadlines, budgets: what keeps runs from beginning or going on."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType
from modelloop.decide.results import RESULT_GRACE
from modelloop.decide.runs import NO_POD_GRACE
from tests.unit.operator_tests.operator_states import ended_pod, result, training_spec
from tests.unit.operator_tests.training_world import TrainingWorld, begun, condition, last, trained

HOUR = timedelta(hours=1)
QUEUED = {"queueName": "team"}


def suspend(world: TrainingWorld, suspended: bool = True, **fields: object) -> None:
    world.edit(training_spec(suspend=suspended, **fields))
    world.settle()


# -- suspend -----------------------------------------------------------------------------------------------------------


def test_a_suspended_training_begins_nothing_and_says_so() -> None:
    world = TrainingWorld(spec=training_spec(suspend=True))
    world.settle()
    assert (world.status.runs, world.created) == (0, [])
    for type_ in (ConditionType.READY, ConditionType.RUN_SUCCEEDED, ConditionType.RUN_ALLOWED):
        assert condition(world, type_)[1] == "Suspended", type_
    assert find_condition(world.status.conditions, ConditionType.RECONCILING) is None
    suspend(world, False)
    assert world.status.runs == 1
    assert condition(world, ConditionType.RUN_ALLOWED)[:2] == ("True", "Allowed")


def test_a_champion_stays_ready_while_suspended_and_triggers_wait() -> None:
    world = trained()
    suspend(world)
    world.token = "now"
    world.settle()
    assert world.status.runs == 1
    assert condition(world, ConditionType.READY)[0] == "True"
    suspend(world, False)
    assert world.status.runs == 2


def test_the_run_under_way_rests_and_goes_on_in_the_same_job() -> None:
    world = begun()
    job = world.job
    suspend(world)
    assert world.jobs[job].suspended
    world.lose_pods(job)
    world.wait(HOUR)
    world.settle()
    assert condition(world, ConditionType.RUN_SUCCEEDED)[1] == "Suspended"
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None, "no pod is wanted"
    suspend(world, False)
    assert not world.jobs[job].suspended
    assert world.created == [job]
    world.complete(result())
    world.settle()
    assert last(world).verdict == "Approved"


def test_pods_that_end_because_of_it_are_no_problem() -> None:
    world = begun()
    suspend(world)
    world.show(ended_pod("", 143))
    world.settle()
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None


def test_after_it_was_resumed_a_job_has_its_grace_again() -> None:
    world = begun()
    job = world.job
    suspend(world)
    world.lose_pods(job)
    world.wait(HOUR)
    suspend(world, False)
    world.jobs[job] = replace(world.jobs[job], resting=True)
    world.settle()
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None
    world.jobs[job] = replace(world.jobs[job], resting=False, resumed=world.now)
    assert world.reconcile().check_again_after == NO_POD_GRACE
    world.wait(NO_POD_GRACE)
    world.settle()
    assert condition(world, ConditionType.STALLED)[1] == "PodsNotCreated"


def test_somebody_else_cannot_keep_a_job_suspended() -> None:
    world = begun()
    world.jobs[world.job] = replace(world.jobs[world.job], suspended=True)
    world.settle()
    assert not world.jobs[world.job].suspended


def test_a_run_whose_job_was_not_made_yet_waits() -> None:
    world = TrainingWorld()
    world.reconcile(crash_after_status=True)
    suspend(world)
    assert world.created == []
    suspend(world, False)
    assert len(world.created) == 1


# -- queues ------------------------------------------------------------------------------------------------------------


def test_a_queued_job_is_left_to_its_queue() -> None:
    world = begun(spec=training_spec(**QUEUED))
    job = world.job
    assert world.jobs[job].suspended
    world.wait(HOUR)
    world.settle()
    assert world.jobs[job].suspended
    for type_ in (ConditionType.READY, ConditionType.RUN_SUCCEEDED, ConditionType.RECONCILING):
        assert condition(world, type_)[1] == "Queued", type_
    assert "'team'" in condition(world, ConditionType.READY)[2]
    assert find_condition(world.status.conditions, ConditionType.STALLED) is None
    world.jobs[job] = replace(world.jobs[job], suspended=False)
    world.start_pod(job)
    world.settle()
    assert condition(world, ConditionType.READY)[1] == "Running"
    world.jobs[job] = replace(world.jobs[job], suspended=True)  # preempted
    world.settle()
    assert world.jobs[job].suspended
    assert condition(world, ConditionType.READY)[1] == "Queued"


@pytest.mark.parametrize("admitted", [False, True])
def test_the_users_suspend_wins_over_the_queue_without_a_fight(admitted: bool) -> None:
    world = begun(spec=training_spec(**QUEUED))
    job = world.job
    if admitted:
        world.jobs[job] = replace(world.jobs[job], suspended=False)
        world.start_pod(job)
    suspend(world, **QUEUED)
    assert world.jobs == {}, "only a Job that isn't there is one that the queue doesn't start"
    assert condition(world, ConditionType.RUN_SUCCEEDED)[1] == "Suspended"
    suspend(world, False, **QUEUED)
    assert world.jobs[job].suspended
    assert world.status.runs == 1, "the same run goes on"


def test_a_queue_that_is_named_later_is_for_later_runs() -> None:
    world = begun()
    job = world.job
    world.edit(training_spec(**QUEUED))
    world.settle()
    assert not world.jobs[job].suspended
    assert condition(world, ConditionType.READY)[1] == "Running"


# -- deadline ----------------------------------------------------------------------------------------------------------


def test_a_run_over_its_deadline_fails_by_the_name_of_the_field_and_is_not_tried_again() -> None:
    world = begun(spec=training_spec(deadline="90m"))
    job = world.job
    world.show(ended_pod("", 143))
    world.end_job("Failed")
    world.jobs[job] = replace(world.jobs[job], reason="DeadlineExceeded", message="Job was active longer than")
    world.wait(RESULT_GRACE)
    world.settle()
    assert (last(world).verdict, last(world).reason) == ("Failed", "DeadlineExceeded")
    assert "spec.deadline (90m)" in last(world).message
    world.wait(24 * HOUR)
    world.settle()
    assert world.status.runs == 1
    world.edit(training_spec(deadline="3h"))
    world.settle()
    assert world.status.runs == 2, "a longer one is a new chance"


# -- workers -----------------------------------------------------------------------------------------------------------

WORKERS = {"tuning": {"parallelism": 3}}


def test_workers_live_and_go_with_their_run() -> None:
    world = begun(spec=training_spec(**WORKERS))
    assert world.status.run is not None
    assert world.status.run.workers == 3
    world.settle()
    (workers,) = world.worker_jobs
    assert workers == f"{world.job}-w"
    assert len(workers) <= 63
    world.lose_job(workers)
    world.settle()
    assert list(world.worker_jobs) == [workers], "a lost one is made again"
    world.complete(result())
    world.settle()
    assert world.worker_jobs == {}
    assert last(world).verdict == "Approved"


def test_workers_rest_with_their_run() -> None:
    world = begun(spec=training_spec(**WORKERS))
    world.settle()
    suspend(world, **WORKERS)
    assert world.worker_jobs == {}
    suspend(world, False, **WORKERS)
    assert len(world.worker_jobs) == 1


def test_workers_of_a_queued_run_wait_for_its_admission() -> None:
    world = begun(spec=training_spec(**WORKERS, **QUEUED))
    world.settle()
    assert world.worker_jobs == {}
    world.jobs[world.job] = replace(world.jobs[world.job], suspended=False)
    world.settle()
    assert len(world.worker_jobs) == 1


def test_a_search_in_one_pod_has_no_workers() -> None:
    world = begun()
    world.settle()
    assert world.worker_jobs == {}
