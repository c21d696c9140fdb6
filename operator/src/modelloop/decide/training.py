"""Decides what a ModelTraining does next. Pure and total: (observed, now) -> plan.

A pass from any state converges, and a second pass over the result changes nothing. The order of a run's life:
trigger -> `status.run` (the intent, written first) -> Job -> result latched in `status.history` -> Job may vanish.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from modelkit.contract.codec import ContractError, loads
from modelkit.contract.result import TrainingResult

from modelloop.api.common import Condition
from modelloop.api.training import (
    ChampionStatus,
    Feedback,
    HandledTrigger,
    ModelTrainingSpec,
    ModelTrainingStatus,
    RunRecord,
    RunStatus,
    Trigger,
)
from modelloop.decide.conditions import ConditionSet
from modelloop.decide.gates import Judgement, judge
from modelloop.decide.plan import Event
from modelloop.decide.pods import ObservedPod, Problem, find_problem, newest
from modelloop.decide.reasons import ConditionType, Reason

HISTORY_LIMIT = 10
NO_POD_GRACE = timedelta(seconds=15)
"""How long a Job may go without a pod before it is said to be stuck."""
_MAX_ID = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedJob:
    """The state of a run's Job."""

    name: str
    created: datetime
    state: Literal["Active", "Complete", "Failed"]
    message: str = ""
    """Of the Failed condition."""
    reason: str = ""
    ttl_set: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainWish:
    """What a ModelMonitor asks for. The same id asks once."""

    monitor: str
    id: str
    feedback: Feedback


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedTraining:
    """Everything that the decision rests on."""

    uid: str
    generation: int
    spec: ModelTrainingSpec
    status: ModelTrainingStatus
    spec_hash: str
    pod_hash: str
    run_token: str = ""
    """Value of the `modelloop.dev/run` annotation."""
    wishes: tuple[RetrainWish, ...] = ()
    jobs: tuple[ObservedJob, ...] = ()
    """Jobs of this training, of the current run and of earlier ones."""
    pods: tuple[ObservedPod, ...] = ()
    """Pods of the current run's Job."""
    apply_error: str = ""
    """Why the last try to make the run's objects failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to begin; the caller names it and fixes its configuration."""

    number: int
    trigger: Trigger
    feedback: Feedback | None


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


@dataclass(frozen=True, slots=True)
class _Ended:
    """A run that came to its end in this pass."""

    record: RunRecord
    champion: ChampionStatus | None = None


def decide_training(observed: ObservedTraining, now: datetime) -> TrainingPlan:
    """The next status of a training, and which Jobs it wants."""
    status = observed.status
    job = _find_job(observed, status.run)
    ended = _end_run(observed, status.run, job, now) if status.run is not None else None
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
        new_run, handled = _next_run(observed, status)
        if new_run is not None:
            status = status.model_copy(update={"runs": new_run.number, "handled": handled})
    problem = _find_problem(observed, job, now) if status.run is not None else None
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
        expire_jobs=_jobs_to_expire(observed, status),
        events=events,
        check_again_after=_check_again(status.run, job, observed, now),
    )


def _find_job(observed: ObservedTraining, run: RunStatus | None) -> ObservedJob | None:
    return next((job for job in observed.jobs if run is not None and job.name == run.job), None)


def _jobs_to_delete(observed: ObservedTraining, status: ModelTrainingStatus) -> tuple[str, ...]:
    """Jobs at work for a run that is no longer wanted."""
    current = status.run.job if status.run is not None else None
    return tuple(job.name for job in observed.jobs if job.state == "Active" and job.name != current)


def _jobs_to_expire(observed: ObservedTraining, status: ModelTrainingStatus) -> tuple[str, ...]:
    # Only what an already stored status has latched: this pass's status is not written yet.
    current = observed.status.run.job if observed.status.run is not None else None
    return tuple(
        job.name
        for job in observed.jobs
        if job.name != current and job.state != "Active" and not job.ttl_set
        and (status.run is None or status.run.job != job.name)
    )  # fmt: skip


def _check_again(
    run: RunStatus | None, job: ObservedJob | None, observed: ObservedTraining, now: datetime
) -> timedelta | None:
    if run is None or job is None or observed.pods:
        return None
    left = job.created + NO_POD_GRACE - now
    return left if left > timedelta(0) else None


# -- the end of a run ---------------------------------------------------------------------------------------------


def _end_run(observed: ObservedTraining, run: RunStatus, job: ObservedJob | None, now: datetime) -> _Ended | None:
    if job is None or job.state == "Active":
        return _supersede(observed, run, job, now)
    if job.state == "Failed":
        return _Ended(_failure(observed, run, job, now))
    pod = next((pod for pod in observed.pods if pod.exit_code == 0), None)
    result = _parse_result(pod)
    if result is None or result.digest is None or result.path is None:
        message = (
            f"Job {run.job!r} is complete, but its pod and the result in its termination message are gone; the run "
            "is repeated once"
        )
        return _Ended(_record(run, now, verdict="Failed", reason=Reason.RESULT_LOST, message=message))
    judgement = judge(result, observed.spec.gates)
    record = _judged_record(run, result, judgement, now)
    if judgement.verdict != "Approved":
        return _Ended(record)
    return _Ended(record, champion=_champion(run, result, now))


def _supersede(observed: ObservedTraining, run: RunStatus, job: ObservedJob | None, now: datetime) -> _Ended | None:
    """A run that can't start and whose spec was changed meanwhile makes room for one of the new spec."""
    changed = run.spec_hash != observed.spec_hash or run.pod_hash != observed.pod_hash
    problem = _find_problem(observed, job, now)
    if not changed or problem is None or not (problem.blocked or observed.apply_error):
        return None
    message = f"couldn't start, and the spec was changed meanwhile: {problem.message}"
    record = _record(run, now, verdict="Superseded", reason=Reason.SUPERSEDED, message=message)
    return _Ended(record)


def _failure(observed: ObservedTraining, run: RunStatus, job: ObservedJob, now: datetime) -> RunRecord:
    pod = newest(pod for pod in observed.pods if pod.exit_code not in (None, 0))
    result = _parse_result(pod)
    if result is not None and result.reason is not None:
        return _record(run, now, verdict="Failed", reason=result.reason, message=result.message or "")
    problem = find_problem(pod) if pod is not None else None
    if problem is not None:
        return _record(run, now, verdict="Failed", reason=problem.reason, message=problem.message)
    message = f"Job {run.job!r} failed: {job.message or 'no details'}"
    return _record(run, now, verdict="Failed", reason=job.reason or Reason.EXITED, message=message)


def _parse_result(pod: ObservedPod | None) -> TrainingResult | None:
    if pod is None or not pod.terminated_message:
        return None
    try:
        return loads(TrainingResult, pod.terminated_message)
    except ContractError:
        return None


def _record(run: RunStatus, now: datetime, *, verdict: str, reason: str, message: str) -> RunRecord:
    return RunRecord.model_validate(
        {
            "number": run.number,
            "verdict": verdict,
            "reason": str(reason)[:128],
            "message": message[:2048],
            "trigger": run.trigger,
            "spec_hash": run.spec_hash,
            "pod_hash": run.pod_hash,
            "start_time": run.start_time,
            "completion_time": now,
        }
    )


def _judged_record(run: RunStatus, result: TrainingResult, judgement: Judgement, now: datetime) -> RunRecord:
    reasons = {"Approved": Reason.APPROVED, "Rejected": Reason.REJECTED, "Inconclusive": Reason.INCONCLUSIVE}
    notes = [judgement.message, result.champion_message or "", result.format_message or ""]
    record = _record(
        run,
        now,
        verdict=judgement.verdict,
        reason=reasons[judgement.verdict],
        message="; ".join(note for note in notes if note),
    )
    champion = result.champion
    return record.model_copy(
        update={
            "path": result.path,
            "digest": result.digest,
            "estimator": result.estimator,
            "metric": result.metric,
            "metrics": dict(result.metrics),
            "champion_number": champion.number if champion else None,
            "champion_metrics": dict(champion.metrics) if champion else {},
            "evaluated_on": result.evaluated_on,
            "train_rows": result.train_rows,
            "test_rows": result.test_rows,
            "feedback_rows": result.feedback_rows,
            "format": result.format,
            "failed_gates": judgement.failed[:24],
        }
    )


def _champion(run: RunStatus, result: TrainingResult, now: datetime) -> ChampionStatus:
    metric = result.metric or ""
    return ChampionStatus(
        number=run.number,
        path=result.path or "",
        digest=result.digest or "",
        storage=run.storage,
        estimator=result.estimator,
        task=result.task,
        metric=metric,
        value=result.metrics.get(metric, 0.0),
        spec_hash=run.spec_hash,
        feedback=run.feedback,
        approved_time=now,
    )


def _event(record: RunRecord) -> Event:
    warning = record.verdict in ("Failed", "Rejected", "Inconclusive")
    text = f"run {record.number} ({record.trigger.reason}): {record.verdict}"
    return Event(reason=record.reason or record.verdict, message=f"{text}: {record.message}", warning=warning)


# -- the beginning of a run ---------------------------------------------------------------------------------------


def _next_run(
    observed: ObservedTraining, status: ModelTrainingStatus
) -> tuple[NewRun | None, tuple[HandledTrigger, ...]]:
    """The run that the pending triggers ask for, all of them coalesced into one."""
    number = status.runs + 1
    handled = {entry.source: entry.id for entry in status.handled}
    token = observed.run_token[:_MAX_ID]
    asked = bool(token) and handled.get("annotation") != token
    wishes = [
        wish
        for wish in sorted(observed.wishes, key=lambda wish: wish.monitor)
        if handled.get(f"monitor/{wish.monitor}") != wish.id
    ]
    trigger = _trigger(observed, status, asked, wishes)
    if trigger is None:
        return None, status.handled
    for wish in wishes:
        handled[f"monitor/{wish.monitor}"] = wish.id
    if asked:
        handled["annotation"] = token
    numbers = {entry.source: entry.number for entry in status.handled if handled.get(entry.source) == entry.id}
    entries = tuple(
        HandledTrigger(source=source, id=id_, number=numbers.get(source, number))
        for source, id_ in sorted(handled.items())
    )
    feedback = wishes[-1].feedback if wishes else (status.champion.feedback if status.champion else None)
    return NewRun(number=number, trigger=trigger, feedback=feedback), entries


def _trigger(
    observed: ObservedTraining, status: ModelTrainingStatus, asked: bool, wishes: list[RetrainWish]
) -> Trigger | None:
    if status.runs == 0 or not status.history:
        return Trigger(reason="Created")
    last = status.history[0]
    champion_hash = status.champion.spec_hash if status.champion is not None else None
    if observed.spec_hash not in (last.spec_hash, champion_hash):
        return Trigger(reason="SpecChanged", id=observed.spec_hash)
    if last.verdict in ("Failed", "Superseded") and last.pod_hash != observed.pod_hash:
        return Trigger(reason="SpecChanged", id=observed.pod_hash)
    if asked:
        return Trigger(reason="Requested", id=observed.run_token[:_MAX_ID])
    if wishes:
        return Trigger(reason="Monitor", id=wishes[-1].id, monitor=wishes[-1].monitor)
    if last.reason == Reason.RESULT_LOST and last.trigger.reason != "ResultLost":
        return Trigger(reason="ResultLost", id=str(last.number))
    return None


# -- what users see -----------------------------------------------------------------------------------------------


def _find_problem(observed: ObservedTraining, job: ObservedJob | None, now: datetime) -> Problem | None:
    if observed.apply_error:
        return Problem(reason=Reason.APPLY_FAILED, message=observed.apply_error, blocked=True)
    pod = newest(observed.pods)
    if pod is not None:
        return find_problem(pod)
    if job is not None and job.state == "Active" and now - job.created >= NO_POD_GRACE:
        message = (
            f"Job {job.name!r} has made no pod for {NO_POD_GRACE.seconds} s; `kubectl describe job {job.name}` tells "
            "why (a quota, Pod Security or an admission webhook)"
        )
        return Problem(reason=Reason.PODS_NOT_CREATED, message=message, blocked=True)
    return None


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
        conditions.set(run_succeeded, None, problem.reason, f"run {number}: {problem.message}")
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
        conditions.set(ready, False, problem.reason, f"run {number}: {problem.message}{serving}")
    elif number is not None:
        conditions.set(ready, False, Reason.RUNNING, f"run {number} is under way{serving}")
    elif last is not None:
        conditions.set(ready, False, last.reason, f"run {last.number}: {last.message}{serving}")
    else:
        conditions.set(ready, False, Reason.NO_RUN_YET, "no run has begun")
