"""Decides which versions a ModelDeployment keeps running and which one answers. Pure and total.

The order of a rollout: a Deployment for the candidate -> all its pods Ready (each has verified the digest and
answered the version's samples) -> `status.stable` names it -> the Service's selector flips -> the old version is kept
warm through the bake time -> removed. What serves is never changed or removed before its successor is Ready.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelloop.api.common import Condition, VersionStatus, parse_duration
from modelloop.api.deployment import (
    FailedVersion,
    ModelDeploymentSpec,
    ModelDeploymentStatus,
    ServedVersion,
)
from modelloop.decide.conditions import ConditionSet
from modelloop.decide.plan import Event
from modelloop.decide.pods import ObservedPod, Problem, find_problem, is_refusal, newest
from modelloop.decide.reasons import ConditionType, Reason

FAILED_LIMIT = 10
MIN_BAKE = timedelta(seconds=10)
"""Endpoints need a moment to follow the selector; the old pods answer until then."""
CLOCK_SKEW = timedelta(seconds=5)
"""Between this process and the API server, which dates the pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedServer:
    """A Deployment that serves one version, and its pods."""

    name: str
    digest_label: str
    template_hash: str
    wanted: int
    available: int
    """Pods that have been Ready, of any template."""
    updated: int
    """Pods of the newest template."""
    total: int
    settled: bool
    """The Deployment controller has seen the newest spec."""
    selector: str = ""
    """Label selector of its pods."""
    matches: bool = True
    """Its template and size are what the spec asks for now."""
    pods: tuple[ObservedPod, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Every wanted pod is Ready and of the newest template."""
        return (
            self.matches
            and self.settled
            and self.available >= self.wanted
            and self.updated >= self.wanted
            and self.total == self.updated
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The version that should be served, and where the Deployment for it would be."""

    version: VersionStatus
    deployment: str
    template_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedDeployment:
    """Everything that the decision rests on."""

    generation: int
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    training_found: bool
    target: Target | None
    """The training's champion."""
    servers: tuple[ObservedServer, ...] = ()
    service_digest: str = ""
    """Digest label in the public Service's selector."""
    address: str = ""
    apply_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """What to write and keep."""

    status: ModelDeploymentStatus
    served: tuple[ServedVersion, ...] = ()
    """Versions that must have a Deployment."""
    delete_servers: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    check_again_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class _Rollout:
    stable: ServedVersion | None
    candidate: ServedVersion | None
    previous: ServedVersion | None
    failed: tuple[FailedVersion, ...]
    events: tuple[Event, ...] = ()


def decide_deployment(observed: ObservedDeployment, now: datetime) -> DeploymentPlan:
    """The next status of a deployment, and which versions it keeps running."""
    status = observed.status
    rollout = _Rollout(status.stable, status.candidate, status.previous, status.failed)
    rollout = _choose_candidate(observed, rollout, now)
    rollout = _judge_candidate(observed, rollout, now)
    rollout = _end_bake(observed, rollout, now)
    stable_server = _server(observed, rollout.stable)
    ready = sum(pod.ready for pod in stable_server.pods) if stable_server else 0
    served = tuple(version for version in (rollout.stable, rollout.candidate, rollout.previous) if version)
    next_status = status.model_copy(
        update={
            "observed_generation": observed.generation,
            "stable": rollout.stable,
            "candidate": rollout.candidate,
            "previous": rollout.previous,
            "failed": rollout.failed,
            "replicas": stable_server.total if stable_server else 0,
            "ready_replicas": ready,
            # A server that somebody deleted comes back with the same selector.
            "selector": stable_server.selector if stable_server else status.selector,
            "address": observed.address,
        }
    )
    conditions = _conditions(observed, rollout, stable_server, ready, now)
    return DeploymentPlan(
        status=next_status.model_copy(update={"conditions": conditions}),
        served=served,
        delete_servers=_servers_to_delete(observed, rollout),
        events=rollout.events,
        check_again_after=_check_again(observed, rollout, now),
    )


def _servers_to_delete(observed: ObservedDeployment, rollout: _Rollout) -> tuple[str, ...]:
    """Servers of no version in play. What the Service still selects goes only after the Service has turned."""
    keep = {version.deployment for version in (rollout.stable, rollout.candidate, rollout.previous) if version}
    selected = observed.service_digest if rollout.stable is not None else ""
    return tuple(
        server.name
        for server in observed.servers
        if server.name not in keep and (not selected or server.digest_label != selected)
    )


def _server(observed: ObservedDeployment, version: ServedVersion | None) -> ObservedServer | None:
    if version is None:
        return None
    return next((server for server in observed.servers if server.name == version.deployment), None)


def _is_failed(target: Target, failed: tuple[FailedVersion, ...]) -> bool:
    """Whether this digest was given up under this very template: then it isn't tried again by itself."""
    return any(
        entry.digest == target.version.digest and entry.template_hash == target.template_hash for entry in failed
    )


def _choose_candidate(observed: ObservedDeployment, rollout: _Rollout, now: datetime) -> _Rollout:
    target = observed.target
    if target is None:
        return _Rollout(rollout.stable, None, rollout.previous, rollout.failed)
    digest = target.version.digest
    if rollout.stable is not None and rollout.stable.digest == digest:
        return _Rollout(rollout.stable, None, rollout.previous, rollout.failed)
    if _is_failed(target, rollout.failed) or observed.spec.replicas == 0:
        # Without a pod nothing can show that a version works: it waits for the first one.
        return _Rollout(rollout.stable, None, rollout.previous, rollout.failed)
    old = rollout.candidate if rollout.candidate is not None and rollout.candidate.digest == digest else None
    candidate = ServedVersion(
        number=target.version.number,
        path=target.version.path,
        digest=digest,
        storage=target.version.storage,
        signing_secret=target.version.signing_secret,
        deployment=target.deployment,
        since=now if old is None else _since(observed, old, target, now),
    )
    event = Event(reason=Reason.ROLLING_OUT, message=f"version {candidate.number} is made ready")
    # A version that comes back while it is still warm is taken out of its old role, not started again.
    previous = rollout.previous if rollout.previous is None or rollout.previous.digest != digest else None
    return _Rollout(rollout.stable, candidate, previous, rollout.failed, (event,) if old is None else ())


def _since(observed: ObservedDeployment, candidate: ServedVersion, target: Target, now: datetime) -> datetime:
    """From when the candidate's time counts: a template that was mended gets its own.

    So do pods that an autoscaler adds to those that are Ready already: a version isn't worse for more load. While the
    API server refuses the template, the status must not move with every try.
    """
    server = _server(observed, candidate)
    if server is None:
        return candidate.since
    grows = server.available > 0 and observed.spec.wanted_replicas > server.wanted
    if server.template_hash == target.template_hash and not grows:
        return candidate.since
    patience = _progress_deadline(observed) / 2 if observed.apply_error else timedelta(0)
    return now if now - candidate.since >= patience else candidate.since


def _progress_deadline(observed: ObservedDeployment) -> timedelta:
    return parse_duration(observed.spec.rollout.progress_deadline)


def _judge_candidate(observed: ObservedDeployment, rollout: _Rollout, now: datetime) -> _Rollout:
    candidate, target = rollout.candidate, observed.target
    server = _server(observed, candidate)
    if candidate is None or target is None or server is None or server.template_hash != target.template_hash:
        return rollout
    if server.is_complete:
        if not _has_traffic_moved(observed, rollout, now):
            return rollout
        promoted = candidate.model_copy(update={"since": now})
        event = Event(reason=Reason.PROMOTED, message=f"version {candidate.number} answers all requests now")
        previous = rollout.stable.model_copy(update={"since": now}) if rollout.stable else rollout.previous
        failed = tuple(item for item in rollout.failed if item.digest != promoted.digest)
        return _Rollout(promoted, None, previous, failed, (*rollout.events, event))
    problem = _server_problem(server)
    refused = any(is_refusal(pod) and pod.created >= candidate.since - CLOCK_SKEW for pod in server.pods)
    overdue = now - candidate.since >= _progress_deadline(observed)
    if not refused and not overdue:
        return rollout
    reason = problem.reason if problem is not None else Reason.DEADLINE_EXCEEDED
    message = problem.message if problem is not None else "its pods aren't Ready"
    if not refused:
        message = f"not ready {observed.spec.rollout.progress_deadline} after it was made: {message}"
    entry = FailedVersion(
        number=candidate.number,
        digest=candidate.digest,
        template_hash=target.template_hash,
        reason=reason,
        message=message[:2048],
        time=now,
    )
    event = Event(reason=Reason.VERSION_FAILED, message=f"version {candidate.number}: {message}", warning=True)
    failed = (entry, *(item for item in rollout.failed if item.digest != entry.digest))[:FAILED_LIMIT]
    return _Rollout(rollout.stable, None, rollout.previous, failed, (*rollout.events, event))


def _has_traffic_moved(observed: ObservedDeployment, rollout: _Rollout, now: datetime) -> bool:
    """Whether the last promotion is through, so that its previous version may make room for the next one's."""
    left = _time_left(observed, rollout, MIN_BAKE, now)
    return rollout.previous is None or (left is not None and left <= timedelta(0))


def _end_bake(observed: ObservedDeployment, rollout: _Rollout, now: datetime) -> _Rollout:
    left = _time_left(observed, rollout, _bake_time(observed), now)
    if left is None or left > timedelta(0):
        return rollout
    return _Rollout(rollout.stable, rollout.candidate, None, rollout.failed, rollout.events)


def _bake_time(observed: ObservedDeployment) -> timedelta:
    if observed.spec.replicas == 0:
        return MIN_BAKE  # nothing is to run
    return max(parse_duration(observed.spec.rollout.bake_time), MIN_BAKE)


def _time_left(observed: ObservedDeployment, rollout: _Rollout, time: timedelta, now: datetime) -> timedelta | None:
    """Until `time` has passed since the last promotion; None while the Service doesn't select the stable version."""
    if rollout.stable is None or rollout.previous is None:
        return None
    server = _server(observed, rollout.stable)
    if server is None or server.digest_label != observed.service_digest:
        return None
    return rollout.previous.since + time - now


def _check_again(observed: ObservedDeployment, rollout: _Rollout, now: datetime) -> timedelta | None:
    bake = _time_left(observed, rollout, _bake_time(observed), now)
    if rollout.candidate is None:
        return bake
    moved = _time_left(observed, rollout, MIN_BAKE, now)
    deadline = rollout.candidate.since + _progress_deadline(observed) - now
    waits = [wait for wait in (bake, moved, deadline) if wait is not None and wait > timedelta(0)]
    return min(waits, default=timedelta(seconds=1))


def _server_problem(server: ObservedServer | None) -> Problem | None:
    """What keeps a server's newest pod from being Ready."""
    if server is None:
        return None
    pod = newest(pod for pod in server.pods if not pod.ready and not pod.deleting)
    return find_problem(pod) if pod is not None else None


def _conditions(
    observed: ObservedDeployment,
    rollout: _Rollout,
    stable_server: ObservedServer | None,
    ready_pods: int,
    now: datetime,
) -> tuple[Condition, ...]:
    conditions = ConditionSet(observed.status.conditions, observed.generation, now)
    rests = rollout.stable is not None and observed.spec.replicas == 0
    available = rollout.stable is not None and (ready_pods > 0 or rests)
    stable = f"version {rollout.stable.number}" if rollout.stable is not None else "no version"
    stable_problem = _server_problem(stable_server)
    asleep = f"{stable} is scaled to 0: nothing answers until spec.replicas is raised"
    if rests:
        conditions.set(ConditionType.AVAILABLE, True, Reason.SCALED_TO_ZERO, asleep)
    elif available:
        message = f"{stable} answers from {ready_pods} of {observed.spec.wanted_replicas} pods"
        conditions.set(ConditionType.AVAILABLE, True, Reason.SERVING, message)
    else:
        reason = stable_problem.reason if stable_problem else Reason.UNAVAILABLE
        message = stable_problem.message if stable_problem else "no pod is Ready"
        conditions.set(ConditionType.AVAILABLE, False, reason, f"{stable}: {message}")
    done, reason, message, problem = _progress(observed, rollout, stable_server)
    conditions.set(ConditionType.ROLLED_OUT, done, reason, message)
    waits = reason == Reason.SCALED_TO_ZERO
    if not done and not waits and (rollout.candidate is not None or (rollout.stable is not None and not problem)):
        conditions.set(ConditionType.RECONCILING, True, reason, message)
    if problem:
        conditions.set(ConditionType.STALLED, True, reason, message)
    if rests and (done or waits):
        text = asleep if done else f"{asleep}; {message}"
        conditions.set(ConditionType.READY, True, Reason.SCALED_TO_ZERO, text)
    elif available and done:
        conditions.set(ConditionType.READY, True, Reason.SERVING, f"{stable} answers at {observed.address}")
    else:
        suffix = f"; {stable} answers meanwhile" if available else ""
        text = message if not done else f"{stable}: no pod is Ready"
        conditions.set(ConditionType.READY, False, reason if not done else Reason.UNAVAILABLE, f"{text}{suffix}")
    return conditions.build()


def _progress(
    observed: ObservedDeployment, rollout: _Rollout, stable_server: ObservedServer | None
) -> tuple[bool, str, str, bool]:
    """Whether the wanted version serves as wanted; reason, message, and whether it needs somebody's help."""
    ref = observed.spec.training_ref.name
    if observed.apply_error:
        return False, Reason.APPLY_FAILED, observed.apply_error, True
    if not observed.training_found:
        message = (
            f"spec.trainingRef.name: there is no ModelTraining {ref!r} in this namespace; create it or correct the name"
        )
        return False, Reason.TRAINING_NOT_FOUND, message, True
    if observed.target is None:
        message = f"ModelTraining {ref!r} has no champion yet; `kubectl describe mt {ref}` tells why"
        return False, Reason.NO_CHAMPION, message, False
    number = observed.target.version.number
    if rollout.candidate is not None:
        problem = _server_problem(_server(observed, rollout.candidate))
        if problem is not None:
            return False, problem.reason, f"version {number}: {problem.message}", True
        return False, Reason.ROLLING_OUT, f"version {number} is made ready", False
    if _is_failed(observed.target, rollout.failed):
        entry = next(item for item in rollout.failed if item.digest == observed.target.version.digest)
        message = f"version {number} was given up: {entry.message}; change the spec or train a new version"
        return False, entry.reason, message, True
    if observed.spec.replicas == 0 and (
        rollout.stable is None or rollout.stable.digest != observed.target.version.digest
    ):
        message = f"version {number} waits for spec.replicas above 0: only its own pods can show that it works"
        return False, Reason.SCALED_TO_ZERO, message, False
    if stable_server is None or not stable_server.is_complete:
        problem = _server_problem(stable_server)
        if problem is not None:
            return False, problem.reason, f"version {number}: {problem.message}", True
        return False, Reason.ROLLING_OUT, f"the pods of version {number} follow the spec", False
    if stable_server.digest_label != observed.service_digest:
        return False, Reason.ROLLING_OUT, f"the Service is being pointed at version {number}", False
    return True, Reason.PROMOTED, f"version {number} is rolled out", False
