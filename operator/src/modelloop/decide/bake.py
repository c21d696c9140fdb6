"""The bake time: a promoted version is watched while its predecessor is kept warm, and taken back by one flip. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelloop.api.common import parse_duration
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.rollout import ABORT, PROMOTE, ROLLBACK, Result, RolloutStatus
from modelloop.decide.commands import Commands
from modelloop.decide.looks import Evidence, look, next_look
from modelloop.decide.play import Play
from modelloop.decide.reasons import Reason
from modelloop.decide.servers import ObservedServer, find_crash

MIN_BAKE = timedelta(seconds=10)
"""Endpoints need a moment to follow the selector; the old pods answer until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BakeScene:
    """What a promoted version is judged by."""

    spec: ModelDeploymentSpec
    stable: ObservedServer | None
    previous: ObservedServer | None
    wanted_digest: str
    """Of the version that the spec asks for; empty: none."""
    is_selected: bool
    """The Service selects the stable version."""
    evidence: Evidence
    alarm: str
    """What a monitor says against the stable version; empty: nothing."""
    commands: Commands
    now: datetime


def watch_promoted(scene: BakeScene, play: Play) -> Play:
    """`play` after one look at what was promoted, or taken back, last."""
    rollout = play.rollout
    if rollout is not None and rollout.state == "Baking" and play.stable is not None:
        play = _watch(scene, play)
    return _end(scene, play)


def bake_left(spec: ModelDeploymentSpec, play: Play, now: datetime, *, is_selected: bool) -> timedelta | None:
    """Until the version that was replaced last may go; None while the Service doesn't select its successor."""
    if play.previous is None and (play.rollout is None or play.rollout.state not in ("Baking", "RollingBack")):
        return None
    if play.stable is None or not is_selected:
        return None
    since = play.previous.since if play.previous is not None else play.stable.since
    return since + _bake_time(spec, play.rollout) - now


def move_left(play: Play, now: datetime, *, is_selected: bool) -> timedelta | None:
    """Until endpoints have followed the last flip; None while it isn't made."""
    if play.previous is None:
        return timedelta(0)
    return play.previous.since + MIN_BAKE - now if is_selected and play.stable is not None else None


def next_times(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> tuple[datetime, ...]:
    """When the analysis looks again."""
    return (next_look(spec, rollout),) if rollout.state == "Baking" else ()


def _bake_time(spec: ModelDeploymentSpec, rollout: RolloutStatus | None) -> timedelta:
    is_short = rollout is not None and (rollout.state == "RollingBack" or rollout.is_accepted)
    if spec.replicas == 0 or is_short:
        return MIN_BAKE  # nothing is to run, or nothing to come back to
    return max(parse_duration(spec.rollout.bake_time), MIN_BAKE)


def _watch(scene: BakeScene, play: Play) -> Play:
    previous = play.previous
    if scene.commands.has(ABORT, ROLLBACK):
        return _take_back(scene, play, "RolledBack", Reason.ABORTED, "a person asked for the version before it")
    if previous is not None and scene.wanted_digest == previous.digest and _is_full(scene):
        return _take_back(scene, play, "Superseded", Reason.SUPERSEDED, f"version {previous.number} is asked for again")
    if scene.commands.has(PROMOTE):
        play = play.with_rollout(is_accepted=True)
    play, outcome = look(scene.spec, play, scene.evidence, scene.now)
    assert play.rollout is not None, "a look keeps the rollout"
    if scene.spec.rollout.analysis.dry_run:
        return play
    crash = find_crash(scene.stable, play.rollout.since)
    if crash is not None:
        return _take_back(scene, play, "RolledBack", crash.reason, crash.message)
    if scene.alarm:
        return _take_back(scene, play, "RolledBack", Reason.BREACHED, scene.alarm)
    if outcome is not None and outcome.verdict == "Failed":
        # Pausing would leave it to users to find out.
        return _take_back(scene, play, "RolledBack", outcome.check or "Failed", outcome.message)
    return play


def _can_return(scene: BakeScene) -> bool:
    """Better a few pods that are right than many that are wrong."""
    return scene.previous is not None and scene.previous.ready > 0


def _is_full(scene: BakeScene) -> bool:
    """Without an emergency the one before must be as large as what serves; its template may be older."""
    server = scene.previous
    return server is not None and server.settled and server.available >= scene.spec.wanted_replicas


def _take_back(scene: BakeScene, play: Play, result: Result, reason: str, message: str) -> Play:
    """One flip: the version before it, whose pods are warm, answers again.

    Where none is Ready, only the digest is blocked: then the last good version is rolled out once more.
    """
    bad, good, rollout, now = play.stable, play.previous, play.rollout, scene.now
    assert bad is not None, "only what serves is taken back"
    if result != "Superseded":
        play = play.blocked(bad, "", reason, message, now)
    play = play.recorded(bad, result, reason, message, now)
    text = f"version {bad.number}: {reason}: {message}"
    if good is None or rollout is None or not _can_return(scene):
        return play.tell(Reason.ROLLED_BACK, f"{text}; the last good version is started again", warning=True)
    play = play.tell(Reason.ROLLED_BACK, f"{text}; version {good.number} answers again", warning=result != "Superseded")
    back = rollout.model_copy(update={"state": "RollingBack", "since": now, "weight": 0.0, "message": message[:1024]})
    return replace(
        play,
        stable=good.model_copy(update={"since": now}),
        previous=bad.model_copy(update={"since": now}),
        rollout=back,
    )


def _over(play: Play, now: datetime) -> Play:
    """The bake time has passed, or a person has seen enough."""
    stable, rollout = play.stable, play.rollout
    if rollout is not None and rollout.state == "Baking" and stable is not None:
        play = play.recorded(stable, "Promoted", Reason.PROMOTED, "nothing was found against it", now)
    elif rollout is not None and rollout.state == "RollingBack":
        play = replace(play, rollout=None)
    return replace(play, previous=None)


def _end(scene: BakeScene, play: Play) -> Play:
    left = bake_left(scene.spec, play, scene.now, is_selected=scene.is_selected)
    return play if left is None or left > timedelta(0) else _over(play, scene.now)
