"""The states of a candidate: made ready, given traffic by steps, promoted or given up. Pure and total.

::

    Preparing -> Scaling -> Stepping -> (next step: Scaling) ... -> Promoting -> promoted
    any of them -> Paused -> where it was;     any of them -> given up, and the stable version serves on
    Stepping, Paused -> Failing -> given up

A version is promoted only with all its pods Ready, and never by a verdict other than Successful; a person may skip
steps, but not pods that aren't Ready. Every state ends at a deadline. What follows the promotion is in `bake`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelloop.api.common import parse_duration
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.rollout import ABORT, PAUSE, PROMOTE, RESUME, ROLLBACK, Result, RolloutStatus, Step
from modelloop.decide.analysis import AnalysisOutcome
from modelloop.decide.commands import Commands
from modelloop.decide.looks import Evidence, look, next_look
from modelloop.decide.play import Play
from modelloop.decide.pods import Problem, is_refusal
from modelloop.decide.reasons import Reason
from modelloop.decide.servers import ObservedServer, Target, find_crash, find_server_problem
from modelloop.decide.shares import candidate_size, find_step, shares_of, steps_of

CLOCK_SKEW = timedelta(seconds=5)
"""Between this process and the API server, which dates the pods."""
SILENCE_GRACE = timedelta(seconds=4)
"""For the kubelet to tell of a container that ended."""
WAITS_FOR_BETTER = ("Error", "Inconclusive", "NoTraffic")
"""Pauses that end by themselves when what was missing comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a candidate is judged by."""

    spec: ModelDeploymentSpec
    target: Target
    server: ObservedServer | None
    """The candidate's; None while there is none of this template."""
    evidence: Evidence
    commands: Commands
    apply_error: str
    """What the API server refused last; empty: nothing."""
    is_settled: bool
    """The last promotion is through: the Service's endpoints have followed."""
    now: datetime


def advance(scene: Scene, play: Play) -> Play:
    """`play` after one look at its candidate."""
    if play.candidate is None or play.rollout is None:
        return play
    ended = _end_by_command(scene, play) or _end_by_pods(scene, play)
    if ended is not None:
        return ended
    play = _pause_or_resume(scene, play)
    assert play.rollout is not None, "a pause keeps the rollout"
    match play.rollout.state:
        case "Preparing" | "Scaling" | "Promoting":
            return _make_ready(scene, play)
        case "Stepping":
            return _step(scene, play)
        case "Paused":
            return _rest(scene, play)
        case "Failing":
            return _fail(scene, play)
        case _:
            # A status that no pass of ours wrote: begin anew.
            return play.in_state("Preparing", scene.now)


def give_up(
    play: Play, template_hash: str, result: Result, reason: str, message: str, now: datetime, *, is_warning: bool = True
) -> Play:
    """`play` without its candidate, whose digest isn't tried again by itself."""
    candidate, rollout = play.candidate, play.rollout
    assert candidate is not None, "only a candidate is given up"
    had_traffic = rollout is not None and rollout.traffic_time is not None
    play = play.blocked(candidate, template_hash, reason, message, now)
    play = play.recorded(
        candidate, "RolledBack" if result == "Failed" and had_traffic else result, reason, message, now
    )
    told = Reason.VERSION_FAILED if result == "Failed" and not had_traffic else Reason.ROLLED_BACK
    told = Reason.ABORTED if result == "Aborted" else told
    play = play.tell(told, f"version {candidate.number}: {reason}: {message}", warning=is_warning)
    return replace(play, candidate=None)


def supersede(play: Play, message: str, now: datetime) -> Play:
    """`play` without its candidate, which nobody wants any more; nothing is held against it."""
    candidate = play.candidate
    assert candidate is not None, "only a candidate is superseded"
    play = play.recorded(candidate, "Superseded", Reason.SUPERSEDED, message, now)
    return replace(play.tell(Reason.SUPERSEDED, f"version {candidate.number}: {message}"), candidate=None)


def _end_by_command(scene: Scene, play: Play) -> Play | None:
    if not scene.commands.has(ABORT, ROLLBACK):
        return None
    return give_up(play, "", "Aborted", Reason.ABORTED, "a person ended its rollout", scene.now, is_warning=False)


def _end_by_pods(scene: Scene, play: Play) -> Play | None:
    """Given up for what its pods did."""
    candidate, rollout, server = play.candidate, play.rollout, scene.server
    if candidate is None or rollout is None or server is None:
        return None
    template = scene.target.template_hash
    if any(is_refusal(pod) and pod.created >= candidate.since - CLOCK_SKEW for pod in server.pods):
        problem = find_server_problem(server)
        reason, message = (problem.reason, problem.message) if problem else (Reason.EXITED, "its pods refuse to start")
        return give_up(play, template, "Failed", reason, message, scene.now)
    crash = find_crash(server, rollout.traffic_time - CLOCK_SKEW) if rollout.traffic_time else None
    if crash is not None and not scene.spec.rollout.analysis.dry_run:
        return give_up(play, "", "Failed", crash.reason, f"under traffic, {crash.message}", scene.now)
    return None


def _pause_or_resume(scene: Scene, play: Play) -> Play:
    rollout, now = play.rollout, scene.now
    assert rollout is not None, "only a rollout is paused"
    is_open = rollout.paused in WAITS_FOR_BETTER if rollout.state == "Paused" else rollout.state != "Failing"
    if scene.commands.has(PAUSE) and is_open:
        return play.paused("Requested", "a person paused its rollout", now)
    if rollout.state == "Paused" and scene.commands.has(RESUME) and rollout.paused != "Manual":
        return _resume(play, now, "a person resumed its rollout")
    return play


def _resume(play: Play, now: datetime, message: str) -> Play:
    """Back to where it was; a step begins anew, with its share, and counts anew."""
    rollout = play.rollout
    assert rollout is not None, "only a rollout is resumed"
    state = rollout.paused_state or "Preparing"
    play = play.in_state("Scaling" if state == "Stepping" else state, now, message=message, step_time=None)
    return play.tell(Reason.RESUMED, f"version {rollout.number}: {message}")


# -- making pods ready ---------------------------------------------------------------------------------------------


def _make_ready(scene: Scene, play: Play) -> Play:
    candidate, rollout, server, spec = play.candidate, play.rollout, scene.server, scene.spec
    assert candidate is not None, "only a candidate is made ready"
    assert rollout is not None, "only in a rollout"
    size = spec.wanted_replicas if play.stable is None else candidate_size(spec, rollout)
    # The Deployment's counts and the pods are told by different watches: what the pods say decides who is asked.
    if server is not None and server.is_complete and server.wanted >= size and server.ready > 0:
        return _go_on_ready(scene, play)
    is_asked = (server is not None and server.matches) or scene.apply_error
    if is_asked and rollout.asked_time is None:
        # Not before: while nobody was there to ask for them, the pods weren't late.
        play = play.with_rollout(asked_time=scene.now)
    deadline = _ready_deadline(spec, play)
    if deadline is None or scene.now < deadline:
        return play
    problem = find_server_problem(server) or find_crash(server, candidate.since - CLOCK_SKEW)
    if problem is None and (server is None or not server.matches) and scene.apply_error:
        problem = Problem(reason=Reason.APPLY_FAILED, message=scene.apply_error)
    cause = problem.message if problem is not None else "its pods aren't Ready"
    message = f"not ready {spec.rollout.progress_deadline} after it was made: {cause}"
    reason = problem.reason if problem is not None else Reason.DEADLINE_EXCEEDED
    return give_up(play, scene.target.template_hash, "Failed", reason, message, scene.now)


def _ready_deadline(spec: ModelDeploymentSpec, play: Play) -> datetime | None:
    """When the candidate's pods must be Ready; None while they haven't been asked for."""
    candidate, rollout = play.candidate, play.rollout
    if candidate is None or rollout is None or rollout.asked_time is None:
        return None
    return max(rollout.asked_time, candidate.since) + parse_duration(spec.rollout.progress_deadline)


def _go_on_ready(scene: Scene, play: Play) -> Play:
    """All pods of its size are Ready."""
    rollout, spec, now = play.rollout, scene.spec, scene.now
    assert rollout is not None, "only in a rollout"
    step = find_step(spec, rollout) if play.stable is not None else None
    if rollout.state == "Promoting" or play.stable is None:
        return _promote(scene, play)
    if step is not None:
        return _begin_step(spec, play, step, now)
    is_asked = rollout.is_direct or scene.commands.has(PROMOTE)
    if spec.rollout.promotion == "Manual" and not is_asked:
        return play.in_state("Promoting", now).paused("Manual", "ready; it waits for modelloop.dev/promote", now)
    return _promote(scene, play.in_state("Promoting", now))


def _begin_step(spec: ModelDeploymentSpec, play: Play, step: Step, now: datetime) -> Play:
    rollout = play.rollout
    assert rollout is not None, "only a rollout has steps"
    weight, compare = shares_of(spec, step)
    position = f"{rollout.step + 1}/{len(steps_of(spec, rollout))}"
    play = play.in_state(
        "Stepping",
        now,
        weight=weight,
        compare=compare,
        position=position,
        traffic_time=rollout.traffic_time or now,
        step_time=rollout.step_time or now,
        verdict="",
        message="",
        requests=0,
        checks=(),
    )
    share = f"{weight:g} % of the requests" if weight else f"copies of {compare:g} % of the requests"
    return play.tell(Reason.STEP_BEGUN, f"version {rollout.number}: step {position}: it gets {share}")


def _promote(scene: Scene, play: Play) -> Play:
    candidate, rollout, now = play.candidate, play.rollout, scene.now
    assert candidate is not None, "only a candidate is promoted"
    assert rollout is not None, "only in a rollout"
    if not scene.is_settled:
        return play
    promoted = candidate.model_copy(update={"since": now})
    message = f"version {candidate.number} answers all requests now"
    play = play.unblocked(promoted.digest).tell(Reason.PROMOTED, message)
    if play.stable is None:
        play = play.recorded(promoted, "Promoted", Reason.PROMOTED, "the first version", now)
        return replace(play, stable=promoted, candidate=None)
    previous = None if rollout.strategy == "Recreate" else play.stable.model_copy(update={"since": now})
    if play.is_given_up(play.stable.digest):
        # It comes in place of a version that must not come back.
        play = play.recorded(promoted, "Promoted", Reason.PROMOTED, "it was good before", now)
        back = rollout.model_copy(update={"state": "RollingBack", "since": now, "weight": 0.0})
        return replace(play, stable=promoted, candidate=None, previous=previous, rollout=back)
    traffic = rollout.traffic_time or now
    play = play.in_state("Baking", now, weight=100.0, traffic_time=traffic, verdict="", message="", checks=())
    return replace(play, stable=promoted, candidate=None, previous=previous)


# -- steps -----------------------------------------------------------------------------------------------------------


def _step(scene: Scene, play: Play) -> Play:
    if scene.server is not None and scene.server.ready == 0:
        # It isn't asked any more, and what it failed at while its pods went is no measure of it: the step begins anew.
        return _end_late(scene, play) or play.in_state("Scaling", scene.now)
    play, outcome = look(scene.spec, play, scene.evidence, scene.now)
    ended = _follow(scene, play, outcome)
    if ended is not None:
        return ended
    rollout, spec, now = play.rollout, scene.spec, scene.now
    assert rollout is not None, "a look keeps the rollout"
    step = find_step(spec, rollout)
    if step is None:
        # The strategy was changed: what is left of the steps is skipped, what was found isn't.
        return play.in_state("Promoting", now)
    if scene.commands.has(PROMOTE):
        return _next_step(scene, play)
    is_held = now - rollout.since >= parse_duration(step.hold)
    is_good = rollout.verdict == "Successful" or spec.rollout.analysis.dry_run
    if is_held and is_good:
        if (step.promotion or spec.rollout.promotion) == "Manual":
            return play.paused("Manual", f"step {rollout.position} is passed; it waits for modelloop.dev/promote", now)
        return _next_step(scene, play)
    return _end_late(scene, play) or play


def _end_late(scene: Scene, play: Play) -> Play | None:
    """The end of a step at its deadline, however often it began anew; None before.

    Nor is a step ended by what couldn't be measured: right after a restart no pod has been asked yet. Looks that go on
    being Errors end in a pause.
    """
    rollout, spec = play.rollout, scene.spec
    assert rollout is not None, "only a rollout has steps"
    if _is_unmeasured(spec, rollout):
        return None
    step = find_step(spec, rollout)
    hold = parse_duration(step.hold) if step is not None else timedelta(0)
    begun = rollout.step_time or rollout.since
    is_late = scene.now - begun >= hold + parse_duration(spec.rollout.step_deadline)
    return _end_undecided(scene, play) if is_late else None


def _is_unmeasured(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> bool:
    """Whether the last look couldn't measure something. A query that isn't answered again says nothing any more."""
    fresh = 2 * parse_duration(spec.rollout.analysis.interval)
    looked = rollout.look_time or rollout.since
    return any(
        check.verdict == "Error" and (check.time is None or looked - check.time <= fresh) for check in rollout.checks
    )


def _follow(scene: Scene, play: Play, outcome: AnalysisOutcome | None) -> Play | None:
    """What a look that Failed or can't be had leads to; None: nothing."""
    analysis, now = scene.spec.rollout.analysis, scene.now
    if outcome is None or analysis.dry_run or outcome.verdict not in ("Failed", "Error"):
        return None
    action = analysis.on_failure if outcome.verdict == "Failed" else analysis.on_error
    if action == "Rollback":
        if outcome.is_silent:
            return play.in_state("Failing", now, weight=0.0, compare=0.0)
        return give_up(play, "", "Failed", outcome.check or outcome.verdict, outcome.message, now)
    assert play.rollout is not None, "a look keeps the rollout"
    if play.rollout.state == "Paused" and play.rollout.paused == outcome.verdict:
        return None
    if outcome.verdict == "Failed":
        # It is kept for somebody to look at, but no user's request goes there.
        return play.paused("Failed", outcome.message, now, weight=0.0)
    return None if play.rollout.state == "Paused" else play.paused("Error", outcome.message, now)


def _fail(scene: Scene, play: Play) -> Play:
    """Answers didn't come. Nothing is asked of it any more; what its pods say meanwhile (`_end_by_pods`) is why."""
    rollout = play.rollout
    assert rollout is not None, "only a rollout fails"
    if scene.now - rollout.since < SILENCE_GRACE:
        return play
    return give_up(play, "", "Failed", rollout.check or "Failed", rollout.message, scene.now)


def _end_undecided(scene: Scene, play: Play) -> Play:
    """A step's deadline without a verdict."""
    rollout, spec, now = play.rollout, scene.spec, scene.now
    assert rollout is not None, "only a rollout has steps"
    has_traffic = rollout.requests >= spec.rollout.analysis.min_requests
    reason = Reason.INCONCLUSIVE if has_traffic else Reason.NO_TRAFFIC
    message = (
        f"step {rollout.position} has no verdict {spec.rollout.step_deadline} after its hold, with {rollout.requests} "
        f"requests: {rollout.message or 'nothing was measured'}"
    )
    if spec.rollout.analysis.on_no_traffic == "Pause":
        return play.paused("Inconclusive" if has_traffic else "NoTraffic", message, now)
    return give_up(play, "", "Failed", reason, message, now)


def _next_step(scene: Scene, play: Play) -> Play:
    """The next step, or the promotion after the last one. The share stays until there are enough pods for more."""
    rollout, spec, now = play.rollout, scene.spec, scene.now
    assert rollout is not None, "only a rollout has steps"
    if scene.commands.is_full or rollout.step + 1 >= len(steps_of(spec, rollout)):
        return _make_ready(scene, play.in_state("Promoting", now))
    return _make_ready(scene, play.in_state("Scaling", now, step=rollout.step + 1, step_time=None))


# -- pauses ----------------------------------------------------------------------------------------------------------


def _rest(scene: Scene, play: Play) -> Play:
    rollout, spec, now = play.rollout, scene.spec, scene.now
    assert rollout is not None, "only a rollout rests"
    if rollout.paused_state == "Stepping" and rollout.paused != "Failed":
        play, outcome = look(spec, play, scene.evidence, now)
        ended = _follow(scene, play, outcome)
        if ended is not None:
            return ended
        is_better = outcome is not None and outcome.verdict in _better_than(rollout)
        if is_better and rollout.paused in WAITS_FOR_BETTER:
            play = play.in_state("Stepping", rollout.since)
            return play.tell(Reason.RESUMED, f"version {rollout.number}: what was missing has come")
    if scene.commands.has(PROMOTE):
        if rollout.paused_state == "Stepping":
            return _next_step(scene, play)
        return _make_ready(scene, play.in_state(rollout.paused_state or "Preparing", now))
    waited = now - (rollout.pause_time or rollout.since)
    if waited >= parse_duration(spec.rollout.pause_deadline):
        message = f"paused for longer than {spec.rollout.pause_deadline}: {rollout.message}"
        return give_up(play, "", "Failed", Reason.PAUSE_DEADLINE_EXCEEDED, message, now)
    return play


def _better_than(rollout: RolloutStatus) -> tuple[str, ...]:
    return ("Successful", "Inconclusive") if rollout.paused == "Error" else ("Successful",)


def next_times(spec: ModelDeploymentSpec, play: Play) -> tuple[datetime, ...]:
    """When a candidate's state may change by itself."""
    rollout = play.rollout
    assert rollout is not None, "only a rollout has times"
    state = rollout.state
    if state in ("Preparing", "Scaling", "Promoting"):
        deadline = _ready_deadline(spec, play)
        return () if deadline is None else (deadline,)
    if state == "Failing":
        return (rollout.since + SILENCE_GRACE,)
    if state == "Paused":
        deadline = (rollout.pause_time or rollout.since) + parse_duration(spec.rollout.pause_deadline)
        rests = rollout.paused_state != "Stepping" or rollout.paused == "Failed"
        return (deadline,) if rests else (deadline, next_look(spec, rollout))
    step = find_step(spec, rollout)
    hold = parse_duration(step.hold if step is not None else "0s")
    deadline = (rollout.step_time or rollout.since) + hold + parse_duration(spec.rollout.step_deadline)
    return next_look(spec, rollout), rollout.since + hold, deadline
