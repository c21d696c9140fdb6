"""What keeps runs of a ModelTraining from beginning or going on, and what that means for their Jobs. Pure."""

from dataclasses import dataclass
from datetime import datetime

from modelloop.api.training import ModelTrainingStatus, RunStatus
from modelloop.decide.reasons import Reason
from modelloop.decide.runs import NewRun, ObservedJob, ObservedTraining, is_at_work
from modelloop.decide.spending import find_exhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why no run begins, or why the one under way doesn't go on."""

    reason: str
    message: str
    until: datetime | None = None
    """When it ends by itself."""


def find_hold(
    observed: ObservedTraining, status: ModelTrainingStatus, wanted: NewRun | None, now: datetime
) -> Hold | None:
    """Why `wanted`, or any run, must not begin."""
    if observed.spec.suspend:
        rest = f"; run {status.run.number} rests" if status.run is not None else ""
        return Hold(reason=Reason.SUSPENDED, message=f"spec.suspend is true: no run begins{rest}")
    if wanted is None:
        return None
    exhausted = find_exhausted(observed.spec.budget, status.spent, now)
    if exhausted is None:
        return None
    return Hold(reason=Reason.BUDGET_EXHAUSTED, message=exhausted.message, until=exhausted.free_at)


def find_wait(observed: ObservedTraining, run: RunStatus | None, job: ObservedJob | None) -> Hold | None:
    """Why the run under way doesn't work although nothing is wrong."""
    if run is None:
        return None
    if observed.spec.suspend:
        return Hold(reason=Reason.SUSPENDED, message=f"run {run.number} rests until spec.suspend is false")
    queue = (job.queue if job.suspended else "") if job is not None else observed.spec.queue_name
    if not queue:
        return None
    return Hold(reason=Reason.QUEUED, message=f"run {run.number} waits in the queue {queue!r} until Kueue admits it")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChange:
    """What suspending and resuming asks of a run's Jobs."""

    suspend: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    workers_wanted: bool = False


def decide_job_change(observed: ObservedTraining, run: RunStatus | None, job: ObservedJob | None) -> JobChange:
    """What has to change so that the run's Job rests or works as the spec says.

    A Job that a queue starts is never suspended or resumed here, because the queue would do the opposite: it is
    deleted, and made again in the queue when the run goes on. Finished trials are in the store and aren't repeated.
    """
    workers = {entry.name: entry for entry in observed.worker_jobs}
    if run is None or job is None or job.state != "Active":
        return JobChange(delete=tuple(workers))
    wanted = run.workers > 0 and is_at_work(job) and not observed.spec.suspend
    delete = () if wanted else tuple(workers)
    if job.queue:
        return JobChange(
            delete=(job.name, *delete) if observed.spec.suspend else delete,
            workers_wanted=wanted,
        )
    if job.suspended == observed.spec.suspend:
        return JobChange(delete=delete, workers_wanted=wanted)
    if observed.spec.suspend:
        return JobChange(suspend=(job.name,), delete=delete)
    return JobChange(resume=(job.name,), delete=delete)
