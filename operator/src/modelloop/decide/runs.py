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
    ended: datetime | None = None
    """When it was complete or had failed."""


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
    spec_problem: str = ""
    """Why no run of this spec can begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to begin; the caller names it and fixes its configuration."""

    number: int
    trigger: Trigger
    feedback: Feedback | None


def find_run_problem(observed: ObservedTraining, job: ObservedJob | None, now: datetime) -> Problem | None:
    """What keeps the run under way from its work."""
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
