"""What a ModelDeployment's status says in words. Pure."""

from datetime import datetime
from typing import NamedTuple

from modelloop.api.common import Condition
from modelloop.api.rollout import RolloutStatus
from modelloop.decide.conditions import ConditionSet
from modelloop.decide.deployment_state import ObservedDeployment, find_server, is_selected
from modelloop.decide.play import Play
from modelloop.decide.reasons import ConditionType, Reason
from modelloop.decide.servers import ObservedServer, find_server_problem


class _Progress(NamedTuple):
    """Whether the wanted version serves as wanted."""

    is_done: bool
    reason: str
    message: str
    is_stalled: bool = False
    """It needs somebody's help."""


def build_conditions(observed: ObservedDeployment, play: Play, now: datetime) -> tuple[Condition, ...]:
    """The conditions after a pass that ended in `play`."""
    conditions = ConditionSet(observed.status.conditions, observed.generation, now)
    server = find_server(observed, play.stable)
    ready_pods = server.ready if server is not None else 0
    rests = play.stable is not None and observed.spec.replicas == 0
    available = play.stable is not None and (ready_pods > 0 or rests)
    stable = f"version {play.stable.number}" if play.stable is not None else "no version"
    asleep = f"{stable} is scaled to 0: nothing answers until spec.replicas is raised"
    if rests:
        conditions.set(ConditionType.AVAILABLE, True, Reason.SCALED_TO_ZERO, asleep)
    elif available:
        message = f"{stable} answers from {ready_pods} of {observed.spec.wanted_replicas} pods"
        conditions.set(ConditionType.AVAILABLE, True, Reason.SERVING, message)
    else:
        reason, message = _find_unavailability(play, server)
        conditions.set(ConditionType.AVAILABLE, False, reason, f"{stable}: {message}")
    done, reason, message, problem = _find_progress(observed, play, server)
    conditions.set(ConditionType.ROLLED_OUT, done, reason, message)
    waits = reason == Reason.SCALED_TO_ZERO
    if not done and not waits and (play.candidate is not None or (play.stable is not None and not problem)):
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


def _find_unavailability(play: Play, server: ObservedServer | None) -> tuple[str, str]:
    rollout = play.rollout
    if rollout is not None and rollout.strategy == "Recreate" and play.candidate is not None:
        return Reason.RECREATING, f"it made room for version {play.candidate.number}, as strategy Recreate asks"
    problem = find_server_problem(server)
    return (problem.reason, problem.message) if problem else (Reason.UNAVAILABLE, "no pod is Ready")


def _find_progress(observed: ObservedDeployment, play: Play, server: ObservedServer | None) -> _Progress:
    if observed.apply_error:
        return _Progress(False, Reason.APPLY_FAILED, observed.apply_error, is_stalled=True)
    if play.candidate is not None and play.rollout is not None:
        return _find_rollout_progress(observed, play, play.rollout)
    target = observed.target
    if target is None:
        return _find_missing(observed)
    number = target.version.number
    is_stable = play.stable is not None and play.stable.digest == target.version.digest
    if play.is_blocked(target.version.digest, target.template_hash) and not is_stable:
        entry = next(item for item in play.failed if item.digest == target.version.digest)
        message = (
            f"version {number} was given up: {entry.message}; change the spec, train a new version, or annotate "
            "modelloop.dev/promote to try it again"
        )
        return _Progress(False, entry.reason, message, is_stalled=True)
    if observed.spec.replicas == 0 and not is_stable:
        message = f"version {number} waits for spec.replicas above 0: only its own pods can show that it works"
        return _Progress(False, Reason.SCALED_TO_ZERO, message)
    if not is_stable and play.stable is not None:
        message = f"version {number} waits until the bake time of version {play.stable.number} is over"
        return _Progress(False, Reason.ROLLING_OUT, message)
    return _find_stable_progress(observed, play, server, number)


def _find_missing(observed: ObservedDeployment) -> _Progress:
    """Why there is no version to serve."""
    spec = observed.spec
    ref = spec.training_ref.name if spec.training_ref is not None else ""
    if not observed.training_found:
        message = (
            f"spec.trainingRef.name: there is no ModelTraining {ref!r} in this namespace; create it or correct the name"
        )
        return _Progress(False, Reason.TRAINING_NOT_FOUND, message, is_stalled=True)
    if spec.version is not None:
        message = (
            f"spec.version: ModelTraining {ref!r} has no approved version {spec.version} in its status; "
            f"`kubectl describe mt {ref}` lists them"
        )
        return _Progress(False, Reason.VERSION_NOT_FOUND, message, is_stalled=True)
    message = f"ModelTraining {ref!r} has no champion yet; `kubectl describe mt {ref}` tells why"
    return _Progress(False, Reason.NO_CHAMPION, message)


def _find_rollout_progress(observed: ObservedDeployment, play: Play, rollout: RolloutStatus) -> _Progress:
    name = f"version {rollout.number}"
    problem = find_server_problem(find_server(observed, play.candidate))
    if problem is not None:
        return _Progress(False, problem.reason, f"{name}: {problem.message}", is_stalled=True)
    match rollout.state:
        case "Stepping":
            share = f"step {rollout.position}: {rollout.weight:g} % of the requests"
            return _Progress(False, Reason.ROLLING_OUT, f"{name}, {share}{_told(rollout)}")
        case "Paused":
            return _Progress(False, Reason.PAUSED, f"{name} is paused ({rollout.paused}): {rollout.message}")
        case "Failing":
            return _Progress(False, Reason.ROLLING_OUT, f"{name} failed, and gets no more requests{_told(rollout)}")
        case "Scaling" | "Promoting":
            return _Progress(False, Reason.ROLLING_OUT, f"{name} gets the pods for more of the requests")
        case _:
            return _Progress(False, Reason.ROLLING_OUT, f"{name} is made ready")


def _told(rollout: RolloutStatus) -> str:
    if not rollout.verdict:
        return ""
    return f", {rollout.verdict}" + (f": {rollout.message}" if rollout.message else "")


def _find_stable_progress(
    observed: ObservedDeployment, play: Play, server: ObservedServer | None, number: int
) -> _Progress:
    if server is None or not server.is_complete:
        problem = find_server_problem(server)
        if problem is not None:
            return _Progress(False, problem.reason, f"version {number}: {problem.message}", is_stalled=True)
        return _Progress(False, Reason.ROLLING_OUT, f"the pods of version {number} follow the spec")
    if not is_selected(observed, play):
        return _Progress(False, Reason.ROLLING_OUT, f"the Service is being pointed at version {number}")
    return _Progress(True, Reason.PROMOTED, f"version {number} is rolled out")
