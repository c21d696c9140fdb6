"""Decides what a ModelTraining does next. Pure and total: (observed, now) -> plan.

A pass from any state converges, and a second pass over the result changes nothing. The order of a run's life:
trigger -> `status.run` (the intent, written first) -> Job -> result latched in `status.history` -> Job may vanish.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelloop.api.training import ModelTrainingStatus, RunRecord, RunStatus
from modelloop.decide.approval import Approval, decide_champion
from modelloop.decide.holds import Hold, decide_job_change, find_hold, find_wait
from modelloop.decide.plan import Event
from modelloop.decide.pods import Problem, newest
from modelloop.decide.progress import follow_progress, next_progress
from modelloop.decide.reasons import Reason
from modelloop.decide.results import RESULT_GRACE, decide_end
from modelloop.decide.runs import (
    NO_POD_GRACE,
    NewRun,
    ObservedJob,
    ObservedTraining,
    find_run_problem,
    is_at_work,
    wanted_since,
)
from modelloop.decide.schedule import follow_schedule, mark_begun
from modelloop.decide.spending import add_cost, keep_account, measure_cost
from modelloop.decide.training_conditions import View, build_conditions
from modelloop.decide.triggers import decide_next_run


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What to write and make."""

    status: ModelTrainingStatus
    new_run: NewRun | None = None
    """When set, `status.run` is still to be filled from it before the status is written."""
    job_wanted: bool = False
    workers_wanted: bool = False
    suspend_jobs: tuple[str, ...] = ()
    resume_jobs: tuple[str, ...] = ()
    delete_jobs: tuple[str, ...] = ()
    expire_jobs: tuple[str, ...] = ()
    """Finished, latched Jobs that may get a time to live."""
    events: tuple[Event, ...] = ()
    check_again_after: timedelta | None = None


def decide_training(observed: ObservedTraining, now: datetime) -> TrainingPlan:
    """The next status of a training, and which Jobs it wants."""
    job = _find_job(observed, observed.status.run)
    status, record = _end_run(observed, job, now)
    approval = decide_champion(observed, status, now)
    status = approval.status
    status = status.model_copy(
        update={
            "schedule": follow_schedule(observed.spec, status.schedule, now),
            "spent": keep_account(observed.spec.budget, status, now),
        }
    )
    status, new_run, hold = _begin_run(observed, status, now)
    problem = _find_problem(observed, status.run, job, now)
    change = decide_job_change(observed, status.run, job if status.run is not None else None)
    view = View(
        problem=problem,
        number=new_run.number if new_run is not None else (status.run.number if status.run is not None else None),
        hold=hold,
        wait=find_wait(observed, status.run, job),
        refusal=approval.refusal,
    )
    status = status.model_copy(
        update={
            "observed_generation": observed.generation,
            "conditions": build_conditions(observed, status, view, now),
        }
    )
    return TrainingPlan(
        status=status,
        new_run=new_run,
        job_wanted=view.number is not None and not observed.spec.suspend,
        workers_wanted=change.workers_wanted,
        suspend_jobs=change.suspend,
        resume_jobs=change.resume,
        delete_jobs=(*_jobs_to_delete(observed, status), *change.delete),
        expire_jobs=_jobs_to_expire(observed),
        events=tuple(_events(record, approval)),
        check_again_after=_check_again(observed, status, job, hold, now),
    )


def _find_job(observed: ObservedTraining, run: RunStatus | None) -> ObservedJob | None:
    return next((job for job in observed.jobs if run is not None and job.name == run.job), None)


def _end_run(
    observed: ObservedTraining, job: ObservedJob | None, now: datetime
) -> tuple[ModelTrainingStatus, RunRecord | None]:
    """The status after the run under way, with the record of the run when it ended in this pass."""
    status, run, limit = observed.status, observed.status.run, observed.spec.history_limit
    if run is None:
        return status.model_copy(update={"history": status.history[:limit]}), None
    ended = decide_end(observed, run, job, now)
    if ended is None:
        progress = follow_progress(run, observed.progress, now)
        return status.model_copy(update={"run": progress, "history": status.history[:limit]}), None
    pod = newest(pod for pod in observed.pods if pod.image_id)
    record = ended.record.model_copy(
        update={
            "cost": measure_cost(observed, run, job, now),
            "image": pod.image_id[:512] if pod is not None else None,
        }
    )
    update = {
        "run": None,
        "history": (record, *status.history)[:limit],
        "total": add_cost(status.total, record.cost),
    }
    return status.model_copy(update=update), record


def _begin_run(
    observed: ObservedTraining, status: ModelTrainingStatus, now: datetime
) -> tuple[ModelTrainingStatus, NewRun | None, Hold | None]:
    """The run that triggers ask for, when nothing holds it back; what is held back stays pending."""
    new_run, handled = None, status.handled
    if status.run is None:
        new_run, handled = decide_next_run(observed, status, now)
    hold = find_hold(observed, status, new_run, now)
    if new_run is None or hold is not None:
        return status, None, hold
    update = {"runs": new_run.number, "handled": handled, "schedule": mark_begun(status.schedule, now)}
    return status.model_copy(update=update), new_run, None


def _find_problem(
    observed: ObservedTraining, run: RunStatus | None, job: ObservedJob | None, now: datetime
) -> Problem | None:
    if run is not None:
        return find_run_problem(observed, job, now)
    if observed.spec_problem:
        return Problem(reason=Reason.INVALID_SPEC, message=observed.spec_problem, blocked=True)
    return None


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
    observed: ObservedTraining,
    status: ModelTrainingStatus,
    job: ObservedJob | None,
    hold: Hold | None,
    now: datetime,
) -> timedelta | None:
    """The earliest moment at which time alone changes the decision."""
    waits = [_wait_for_run(observed, status.run, job, now)]
    if hold is not None and hold.until is not None:
        waits.append(hold.until - now)
    if status.schedule is not None and now < status.schedule.next_schedule_time:
        waits.append(status.schedule.next_schedule_time - now)
    if status.run is not None:
        waits.append(next_progress(status.run, observed.progress, now))
    return min((wait for wait in waits if wait is not None), default=None)


def _wait_for_run(
    observed: ObservedTraining, run: RunStatus | None, job: ObservedJob | None, now: datetime
) -> timedelta | None:
    if run is None or job is None:
        return None
    if job.ended is not None:
        left = job.ended + RESULT_GRACE - now
    elif observed.pods or not is_at_work(job):
        return None
    else:
        left = wanted_since(job) + NO_POD_GRACE - now
    return left if left > timedelta(0) else None


def _events(record: RunRecord | None, approval: Approval) -> list[Event]:
    events = []
    if record is not None:
        warning = record.verdict in ("Failed", "Rejected", "Inconclusive")
        text = f"run {record.number} ({record.trigger.reason}): {record.verdict}"
        events.append(
            Event(reason=record.reason or record.verdict, message=f"{text}: {record.message}", warning=warning)
        )
    if approval.is_new:
        champion = approval.status.champion
        chosen = f"version {champion.number} was approved by a person" if champion is not None else ""
        reason = Reason.NOT_APPROVABLE if approval.refusal else Reason.APPROVED
        events.append(Event(reason=reason, message=approval.refusal or chosen, warning=bool(approval.refusal)))
    return events
