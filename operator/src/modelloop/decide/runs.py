"""What the decisions on a ModelTraining's runs observe."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from modelloop.api.training import Feedback, ModelTrainingSpec, ModelTrainingStatus, Trigger
from modelloop.decide.pods import ObservedPod, Problem, find_problem, newest
from modelloop.decide.reasons import Reason

NO_POD_GRACE = timedelta(seconds=15)
"""How long a Job may go without a pod before it is said to be stuck."""


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
    started: datetime | None = None
    """When its first pod was wanted; a suspended Job begins anew."""
    ended: datetime | None = None
    """When it was complete or had failed."""
    suspended: bool = False
    """Its spec says so."""
    resting: bool = False
    """Its controller has suspended it and not resumed it yet."""
    resumed: datetime | None = None
    """When its controller resumed it last."""
    queue: str = ""
    """The queue that starts it; empty: it starts by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapedProgress:
    """What a run's pod says of itself."""

    percent: int
    stage: str
    time: datetime
    eta_seconds: float | None = None


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
    approve_token: str = ""
    """Value of the `modelloop.dev/approve` annotation."""
    wishes: tuple[RetrainWish, ...] = ()
    jobs: tuple[ObservedJob, ...] = ()
    """Jobs of this training, of the current run and of earlier ones."""
    worker_jobs: tuple[ObservedJob, ...] = ()
    """Jobs of the pods that share a run's search."""
    progress: ScrapedProgress | None = None
    """Of the current run."""
    cpus: float = 0.0
    """CPUs that each pod of a run is given: its limit, or else its request."""
    memory_gib: float = 0.0
    """GiB of memory, likewise."""
    pods: tuple[ObservedPod, ...] = ()
    """Pods of the current run's Job."""
    apply_error: str = ""
    """Why the last try to make the run's objects failed."""
    spec_problem: str = ""
    """Why no run of this spec can begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to begin; the caller names it and fixes its configuration."""

    number: int
    trigger: Trigger
    feedback: Feedback | None


def is_at_work(job: ObservedJob) -> bool:
    """Whether the Job should have a pod."""
    return job.state == "Active" and not job.suspended and not job.resting


def wanted_since(job: ObservedJob) -> datetime:
    """Since when the Job should have a pod."""
    return max(job.created, job.resumed or job.created)


def find_run_problem(observed: ObservedTraining, job: ObservedJob | None, now: datetime) -> Problem | None:
    """What keeps the run under way from its work."""
    if observed.apply_error:
        return Problem(reason=Reason.APPLY_FAILED, message=observed.apply_error, blocked=True)
    if job is not None and (job.suspended or job.resting):
        return None  # pods that end now were told to
    pod = newest(observed.pods)
    if pod is not None:
        return find_problem(pod)
    if job is not None and is_at_work(job) and now - wanted_since(job) >= NO_POD_GRACE:
        message = (
            f"Job {job.name!r} has made no pod for {NO_POD_GRACE.seconds} s; `kubectl describe job {job.name}` tells "
            "why (a quota, Pod Security or an admission webhook)"
        )
        return Problem(reason=Reason.PODS_NOT_CREATED, message=message, blocked=True)
    return None
