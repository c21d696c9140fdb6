"""Decides what a ModelTraining does next. Pure and total: (observed, now) -> plan.

A pass from any state converges, and a second pass over the result changes nothing. The order of a run's life:
trigger -> `status.run` (the intent, written first) -> Job -> result latched in `status.history` -> Job may vanish.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelloop.api.common import Condition
from modelloop.api.training import ModelTrainingStatus, RunRecord, RunStatus
from modelloop.decide.conditions import ConditionSet
from modelloop.decide.plan import Event
from modelloop.decide.pods import Problem
from modelloop.decide.reasons import ConditionType, Reason
from modelloop.decide.results import RESULT_GRACE, decide_end
from modelloop.decide.runs import NO_POD_GRACE, NewRun, ObservedJob, ObservedTraining, find_run_problem
from modelloop.decide.triggers import decide_next_run

HISTORY_LIMIT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What to write and make."""

    status: ModelTrainingStatus
    new_run: NewRun | None = None
    """When set, `status.run` is still to be filled from it before the status is written."""
    job_wanted: bool = False
    delete_jobs: tuple[str, ...] = ()
    expire_jobs: tuple[str, ...] = ()
    """Finished, latched Jobs that may get a time to live."""
    events: tuple[Event, ...] = ()
    check_again_after: timedelta | None = None


def decide_training(observed: ObservedTraining, now: datetime) -> TrainingPlan:
    """The next status of a training, and which Jobs it wants."""
    status = observed.status
    job = _find_job(observed, status.run)
    ended = decide_end(observed, status.run, job, now) if status.run is not None else None
    events: tuple[Event, ...] = ()
    if ended is not None:
        status = status.model_copy(
            update={
                "run": None,
                "champion": ended.champion or status.champion,
                "history": (ended.record, *status.history)[:HISTORY_LIMIT],
            }
        )
        events = (_event(ended.record),)
    new_run = None
    if status.run is None:
        new_run, handled = decide_next_run(observed, status)
        if new_run is not None:
            status = status.model_copy(update={"runs": new_run.number, "handled": handled})
    problem = find_run_problem(observed, job, now) if status.run is not None else _find_spec_problem(observed)
    running = status.run is not None or new_run is not None
    status = status.model_copy(
        update={
            "observed_generation": observed.generation,
            "conditions": _conditions(observed, status, new_run, problem, now),
        }
    )
    return TrainingPlan(
        status=status,
        new_run=new_run,
        job_wanted=running,
        delete_jobs=_jobs_to_delete(observed, status),
        expire_jobs=_jobs_to_expire(observed),
        events=events,
        check_again_after=_check_again(status.run, job, observed, now),
    )


def _find_job(observed: ObservedTraining, run: RunStatus | None) -> ObservedJob | None:
    return next((job for job in observed.jobs if run is not None and job.name == run.job), None)


def _jobs_to_delete(observed: ObservedTraining, status: ModelTrainingStatus) -> tuple[str, ...]:
    """Jobs at work for a run that is no longer wanted."""
    current = status.run.job if status.run is not None else None
    return tuple(job.name for job in observed.jobs if job.state == "Active" and job.name != current)


def _jobs_to_expire(observed: ObservedTraining) -> tuple[str, ...]:
    # Only what an already stored status has latched: this pass's status is not written yet.
    current = observed.status.run.job if observed.status.run is not None else None
    return tuple(
        job.name
        for job in observed.jobs
        if job.name != current and job.state != "Active" and not job.ttl_set
    )  # fmt: skip


def _check_again(
    run: RunStatus | None, job: ObservedJob | None, observed: ObservedTraining, now: datetime
) -> timedelta | None:
    if run is None or job is None:
        return None
    if job.ended is not None:
        left = job.ended + RESULT_GRACE - now
    elif observed.pods:
        return None
    else:
        left = job.created + NO_POD_GRACE - now
    return left if left > timedelta(0) else None


def _event(record: RunRecord) -> Event:
    warning = record.verdict in ("Failed", "Rejected", "Inconclusive")
    text = f"run {record.number} ({record.trigger.reason}): {record.verdict}"
    return Event(reason=record.reason or record.verdict, message=f"{text}: {record.message}", warning=warning)


# -- what users see -----------------------------------------------------------------------------------------------


def _find_spec_problem(observed: ObservedTraining) -> Problem | None:
    if not observed.spec_problem:
        return None
    return Problem(reason=Reason.INVALID_SPEC, message=observed.spec_problem, blocked=True)


def _conditions(
    observed: ObservedTraining,
    status: ModelTrainingStatus,
    new_run: NewRun | None,
    problem: Problem | None,
    now: datetime,
) -> tuple[Condition, ...]:
    conditions = ConditionSet(observed.status.conditions, observed.generation, now)
    last = next((record for record in status.history if record.verdict != "Superseded"), None)
    number = new_run.number if new_run is not None else (status.run.number if status.run is not None else None)
    _set_run_conditions(conditions, last, problem, number)
    if problem is not None:
        conditions.set(ConditionType.STALLED, True, problem.reason, problem.message)
    if number is not None:
        conditions.set(ConditionType.RECONCILING, True, Reason.RUNNING, f"run {number} is under way")
    _set_ready(conditions, observed, status, last, problem, number)
    return conditions.build()


def _set_run_conditions(
    conditions: ConditionSet, last: RunRecord | None, problem: Problem | None, number: int | None
) -> None:
    run_succeeded, approved = ConditionType.RUN_SUCCEEDED, ConditionType.APPROVED
    if problem is not None:
        conditions.set(run_succeeded, None, problem.reason, f"{_run_prefix(number)}{problem.message}")
    elif last is None:
        conditions.set(run_succeeded, None, Reason.RUNNING, f"run {number} is under way")
    elif last.verdict == "Failed":
        conditions.set(run_succeeded, False, last.reason, f"run {last.number}: {last.message}")
    else:
        conditions.set(run_succeeded, True, Reason.SUCCEEDED, f"run {last.number} made a version")
    if last is None or last.verdict == "Failed":
        conditions.set(
            approved, None, Reason.NOT_DECIDED, "the last run made no version" if last else "no run has ended"
        )
    else:
        value = {"Approved": True, "Rejected": False}.get(last.verdict)
        conditions.set(approved, value, last.reason, f"version {last.number}: {last.message}")


def _run_prefix(number: int | None) -> str:
    return f"run {number}: " if number is not None else ""


def _set_ready(
    conditions: ConditionSet,
    observed: ObservedTraining,
    status: ModelTrainingStatus,
    last: RunRecord | None,
    problem: Problem | None,
    number: int | None,
) -> None:
    ready, champion = ConditionType.READY, status.champion
    if champion is not None and champion.spec_hash == observed.spec_hash:
        message = f"version {champion.number} is the champion: {champion.metric} {champion.value:.4g}"
        conditions.set(ready, True, Reason.APPROVED, message)
        return
    serving = f"; version {champion.number} stays the champion" if champion is not None else ""
    if problem is not None:
        conditions.set(ready, False, problem.reason, f"{_run_prefix(number)}{problem.message}{serving}")
    elif number is not None:
        conditions.set(ready, False, Reason.RUNNING, f"run {number} is under way{serving}")
    elif last is not None:
        conditions.set(ready, False, last.reason, f"run {last.number}: {last.message}{serving}")
    else:
        conditions.set(ready, False, Reason.NO_RUN_YET, "no run has begun")
