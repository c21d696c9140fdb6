"""What the state of a rollout means for the pods: how many of each version, and who is asked. Pure.

Everything here follows from spec and status alone, so that a pass after a crash wants the same.
"""

import math
from collections.abc import Mapping

from modelloop.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus
from modelloop.api.rollout import RolloutStatus, Step
from modelloop.decide.route import RoutePlan, RouteRule


def steps_of(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> tuple[Step, ...]:
    """The steps that a rollout takes; none for those that take all traffic at once."""
    if rollout.strategy != "Canary" or rollout.is_direct:
        return ()
    return spec.rollout.steps


def find_step(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> Step | None:
    """The step that a rollout is at; the last one when the spec has fewer by now."""
    steps = steps_of(spec, rollout)
    return steps[min(rollout.step, len(steps) - 1)] if steps else None


def shares_of(spec: ModelDeploymentSpec, step: Step) -> tuple[float, float]:
    """Percent of the requests that the candidate answers, and percent that both score."""
    if step.weight is None:
        return 0.0, step.shadow or 0.0
    return step.weight, spec.rollout.compare_percent


def candidate_size(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> int:
    """Pods of the candidate: as many as its share of the traffic needs, all of them before it is promoted."""
    full = spec.wanted_replicas
    step = find_step(spec, rollout)
    state = rollout.paused_state if rollout.state == "Paused" else rollout.state
    if step is None or state == "Promoting":
        return full
    weight, compare = shares_of(spec, step)
    # What it answers and what it only scores may be different requests.
    share = min(max(weight + (100 - weight) * compare / 100, rollout.weight), 100.0)
    return min(full, max(1, math.ceil(full * share / 100 - 1e-9)))


def server_sizes(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> Mapping[str, int]:
    """Pods wanted by name of the Deployment."""
    sizes = {version.deployment: spec.wanted_replicas for version in (status.stable, status.previous) if version}
    rollout, candidate = status.rollout, status.candidate
    if candidate is not None:
        sizes[candidate.deployment] = (
            spec.wanted_replicas if rollout is None or status.stable is None else candidate_size(spec, rollout)
        )
        if is_recreating(status) and status.stable is not None:
            sizes[status.stable.deployment] = 0
    return sizes


def is_recreating(status: ModelDeploymentStatus) -> bool:
    """Does the stable version have to make room before its successor begins?"""
    rollout = status.rollout
    return status.candidate is not None and rollout is not None and rollout.strategy == "Recreate"


def measurement_of(rollout: RolloutStatus) -> str:
    """The name of what is counted now: another one for every step, and when one begins anew."""
    return f"{rollout.id}/{rollout.step}/{int(rollout.since.timestamp())}"


def plan_route(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, *, is_candidate_ready: bool) -> RoutePlan:
    """Who is asked, by the state of the rollout. A candidate without a Ready pod isn't."""
    rollout, stable = status.rollout, status.stable
    if rollout is None or stable is None:
        return RoutePlan()
    rules: list[RouteRule] = []
    if rollout.state in ("Baking", "RollingBack"):
        if status.previous is not None:
            rules = _after_flip(spec, rollout, stable.digest, status.previous.digest)
    elif status.candidate is not None and is_candidate_ready and (rollout.weight or rollout.compare):
        rules.append(
            RouteRule(
                digest=stable.digest, other=status.candidate.digest, weight=rollout.weight, compare=rollout.compare
            )
        )
    return RoutePlan(measurement=measurement_of(rollout), rules=tuple(rules))


def _after_flip(spec: ModelDeploymentSpec, rollout: RolloutStatus, stable: str, previous: str) -> list[RouteRule]:
    # Clients that keep a connection to a pod of the version that went get the answers of the one that came.
    handover = RouteRule(digest=previous, other=stable, weight=100.0, is_leaving=True)
    if rollout.state == "RollingBack":
        return [handover]
    guard = RouteRule(digest=stable, other=previous, compare=spec.rollout.compare_percent, is_guarded=True)
    return [guard, handover]
