"""Decides which versions a ModelDeployment keeps running, which one answers, and who is asked. Pure and total.

The order of a rollout: a Deployment for the candidate -> its pods are Ready (each has verified the digest and answered
the version's samples) -> traffic by steps -> all its pods are Ready -> `status.stable` names it -> the Service's
selector flips -> the old version is kept warm through the bake time -> removed. What serves is never changed or removed
before its successor is Ready, unless the strategy is Recreate.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from modelloop.api.common import parse_duration
from modelloop.api.deployment import ModelDeploymentStatus, ServedVersion
from modelloop.api.rollout import PROMOTE, ROLLBACK, RolloutStatus
from modelloop.decide import bake, rollout
from modelloop.decide.bake import BakeScene, watch_promoted
from modelloop.decide.commands import Commands, read_commands
from modelloop.decide.deployment_conditions import build_conditions
from modelloop.decide.deployment_state import (
    DeploymentPlan,
    ObservedDeployment,
    find_server,
    is_selected,
    wanted_target,
)
from modelloop.decide.looks import Evidence
from modelloop.decide.play import Play
from modelloop.decide.reasons import Reason
from modelloop.decide.rollout import Scene, advance, supersede
from modelloop.decide.servers import Target
from modelloop.decide.shares import is_recreating, plan_route, server_sizes


def decide_deployment(observed: ObservedDeployment, now: datetime) -> DeploymentPlan:
    """The next status of a deployment, which versions it keeps running, and how they share the traffic."""
    play, commands = read_commands(observed.annotations, Play.of(observed.status))
    play, commands = _answer_at_rest(observed, play, commands, now)
    play = _choose_candidate(observed, play, now)
    play = advance(_scene(observed, play, commands, now), play) if play.candidate is not None else play
    play = watch_promoted(_bake_scene(observed, play, commands, now), play)
    status = _write_status(observed, play)
    candidate_server = find_server(observed, play.candidate)
    conditions = build_conditions(observed, play, now)
    return DeploymentPlan(
        status=status.model_copy(update={"conditions": conditions}),
        served=_served(observed, status),
        sizes=server_sizes(observed.spec, status),
        route=plan_route(
            observed.spec, status, is_candidate_ready=candidate_server is not None and candidate_server.ready > 0
        ),
        delete_servers=_servers_to_delete(observed, play),
        events=play.events,
        check_again_after=_check_again(observed, play, now),
    )


# -- which version -----------------------------------------------------------------------------------------------


def _answer_at_rest(
    observed: ObservedDeployment, play: Play, commands: Commands, now: datetime
) -> tuple[Play, Commands]:
    """What people may ask for while no rollout is under way, and the commands that are left."""
    if play.rollout is not None or play.candidate is not None or not commands.names:
        return play, commands
    target, stable = observed.target, play.stable
    if commands.has(ROLLBACK) and stable is not None:
        play = _roll_back_at_rest(observed, play, stable, now)
    elif commands.has(PROMOTE) and target is not None and play.is_blocked(target.version.digest, target.template_hash):
        play = play.unblocked(target.version.digest)
        play = play.tell(Reason.RESUMED, f"version {target.version.number} is tried again, as a person asked for")
    else:
        asked = ", ".join(sorted(commands.names))
        play = play.tell(Reason.NOTHING_TO_DO, f"{asked}: there is no rollout under way")
    return play, Commands()


def _roll_back_at_rest(observed: ObservedDeployment, play: Play, stable: ServedVersion, now: datetime) -> Play:
    if observed.fallback is None:
        return play.tell(Reason.NOTHING_TO_DO, "rollback: there is no version before this one", warning=True)
    message = "a person asked for the version before it"
    play = play.blocked(stable, "", Reason.ABORTED, message, now)
    return play.tell(Reason.ROLLED_BACK, f"version {stable.number}: {message}")


def _choose_candidate(observed: ObservedDeployment, play: Play, now: datetime) -> Play:
    under_way = play.rollout
    if under_way is not None and under_way.state in ("Baking", "RollingBack") and play.candidate is None:
        return play  # One after the other: what comes next waits until this one is over.
    target = wanted_target(observed, play)
    refusal = _find_refusal(observed, play, target)
    if target is None or refusal:
        return play if play.candidate is None else supersede(play, refusal or "no version is asked for", now)
    digest = target.version.digest
    old = play.candidate
    if old is not None and old.digest != digest:
        play = supersede(play, f"version {target.version.number} is newer", now)
        old = None
    candidate = ServedVersion(
        **target.version.version_fields(),
        deployment=target.deployment,
        since=now if old is None else _since(observed, old, target, now),
    )
    # A version that comes back while it is still warm is taken out of its old role, not started again.
    previous = play.previous if play.previous is None or play.previous.digest != digest else None
    play = replace(play, candidate=candidate, previous=previous)
    if old is not None and play.rollout is not None and play.rollout.digest == digest:
        return play
    play = replace(play, rollout=_begin(observed, candidate, target, now))
    return play.tell(Reason.ROLLING_OUT, f"version {candidate.number} is made ready") if old is None else play


def _find_refusal(observed: ObservedDeployment, play: Play, target: Target | None) -> str:
    """Why the wanted version isn't rolled out now; empty: it is."""
    if target is None:
        return ""
    if play.stable is not None and play.stable.digest == target.version.digest:
        return f"version {play.stable.number} serves already, and is asked for again"
    if play.is_blocked(target.version.digest, target.template_hash):
        return f"version {target.version.number} was given up"
    if observed.spec.replicas == 0:
        # Without a pod nothing can show that a version works: it waits for the first one.
        return "spec.replicas is 0: without a pod no version can show that it works"
    return ""


def _begin(observed: ObservedDeployment, candidate: ServedVersion, target: Target, now: datetime) -> RolloutStatus:
    return RolloutStatus(
        id=f"{candidate.digest.removeprefix('sha256:')[:10]}-{int(now.timestamp())}",
        number=candidate.number,
        digest=candidate.digest,
        strategy=observed.spec.rollout.strategy,
        state="Preparing",
        start_time=now,
        since=now,
        is_direct=observed.target is None or target.version.digest != observed.target.version.digest,
    )


def _since(observed: ObservedDeployment, candidate: ServedVersion, target: Target, now: datetime) -> datetime:
    """From when the candidate's time counts: a template that was mended gets its own.

    So do pods that an autoscaler adds to those that are Ready already: a version isn't worse for more load. While the
    API server refuses the template, the status must not move with every try.
    """
    server = find_server(observed, candidate)
    if server is None:
        return candidate.since
    grows = server.available > 0 and server_sizes(observed.spec, observed.status).get(server.name, 0) > server.wanted
    if server.template_hash == target.template_hash and not grows:
        return candidate.since
    deadline = parse_duration(observed.spec.rollout.progress_deadline)
    patience = deadline / 2 if observed.apply_error else timedelta(0)
    return now if now - candidate.since >= patience else candidate.since


# -- what it is judged by ------------------------------------------------------------------------------------------


def _scene(observed: ObservedDeployment, play: Play, commands: Commands, now: datetime) -> Scene:
    target = wanted_target(observed, play)
    assert target is not None, "a candidate is a target"
    server = find_server(observed, play.candidate)
    left = bake.move_left(play, now, is_selected=is_selected(observed, play))
    return Scene(
        apply_error=observed.apply_error,
        spec=observed.spec,
        target=target,
        server=server if server is not None and server.template_hash == target.template_hash else None,
        evidence=Evidence(reports=observed.reports, custom=observed.custom),
        commands=commands,
        is_settled=left is not None and left <= timedelta(0),
        now=now,
    )


def _bake_scene(observed: ObservedDeployment, play: Play, commands: Commands, now: datetime) -> BakeScene:
    target = observed.target
    blocked = target is None or play.is_blocked(target.version.digest, target.template_hash)
    return BakeScene(
        spec=observed.spec,
        stable=find_server(observed, play.stable),
        previous=find_server(observed, play.previous),
        alarm="" if play.stable is None else observed.alarms.get(play.stable.digest, ""),
        wanted_digest="" if target is None or blocked else target.version.digest,
        is_selected=is_selected(observed, play),
        evidence=Evidence(reports=observed.reports, custom=observed.custom),
        # What ended a candidate's rollout in this pass was meant for that.
        commands=commands if observed.status.candidate is None else Commands(),
        now=now,
    )


# -- what follows ------------------------------------------------------------------------------------------------------


def _write_status(observed: ObservedDeployment, play: Play) -> ModelDeploymentStatus:
    status = play.write(observed.status)
    server = find_server(observed, play.stable)
    return status.model_copy(
        update={
            "observed_generation": observed.generation,
            "replicas": server.total if server else 0,
            "ready_replicas": server.ready if server else 0,
            # A server that somebody deleted comes back with the same selector.
            "selector": server.selector if server else status.selector,
            "address": observed.address,
        }
    )


def _served(observed: ObservedDeployment, status: ModelDeploymentStatus) -> tuple[ServedVersion, ...]:
    versions = tuple(version for version in (status.stable, status.candidate, status.previous) if version)
    stable = find_server(observed, status.stable)
    if is_recreating(status) and stable is not None and stable.total > 0:
        # Its successor begins when it has made room.
        return tuple(version for version in versions if version != status.candidate)
    return versions


def _servers_to_delete(observed: ObservedDeployment, play: Play) -> tuple[str, ...]:
    """Servers of no version in play. What the Service still selects goes only after the Service has turned."""
    keep = {version.deployment for version in (play.stable, play.candidate, play.previous) if version}
    selected = observed.service_digest if play.stable is not None else ""
    return tuple(
        server.name
        for server in observed.servers
        if server.name not in keep and (not selected or server.digest_label != selected)
    )


def _check_again(observed: ObservedDeployment, play: Play, now: datetime) -> timedelta | None:
    selected = is_selected(observed, play)
    waits = [
        bake.bake_left(observed.spec, play, now, is_selected=selected),
        bake.move_left(play, now, is_selected=selected),
    ]
    if play.rollout is not None:
        moments = bake.next_times(observed.spec, play.rollout)
        if play.candidate is not None:
            moments = rollout.next_times(observed.spec, play)
        waits += [moment - now for moment in moments]
    future = [wait for wait in waits if wait is not None and wait > timedelta(0)]
    if play.candidate is None or observed.apply_error:
        # What is refused is tried again by the one who writes, at a pace of its own.
        return min(future, default=None)
    return min(future, default=timedelta(seconds=1))
