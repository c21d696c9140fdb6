"""Decides what an alarm of a monitor leads to: an ordered chain of small checks, the first that holds decides. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelloop.api.common import parse_duration
from modelloop.api.deployment import ServedVersion
from modelloop.api.monitor import (
    Check,
    ModelMonitorSpec,
    ModelMonitorStatus,
    Retrain,
    RetrainRequest,
    RollbackRequest,
    Window,
)
from modelloop.decide.pods import ObservedPod
from modelloop.decide.reasons import Reason

_MAX_REASON = 1024
CLOCK_TOLERANCE = timedelta(minutes=10)
"""What lies further ahead than two clocks differ was written before a clock was set back. It must not hold anything up
until that time comes again."""
_CLEARLY_MORE = 2.0
"""Times as many rows that make another try of a retrain worth it that made no better version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherMonitor:
    """Another monitor whose deployment has the same training."""

    name: str
    request: RetrainRequest
    """Its latest one."""
    is_handled: bool
    """The training has answered it with a run."""
    times: tuple[datetime, ...] = ()
    """Of its latest requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedModel:
    """The deployment that is watched and the training behind it."""

    deployment: str
    training: str
    """Empty: it serves a stored version, whoever made it."""
    digest: str | None
    """Of the version that serves."""
    champion_digest: str | None
    handled_id: str = ""
    """The last request of this monitor that the training answered with a run."""
    training_running: bool = False
    is_baking: bool = False
    """The version before the one that serves is still kept warm."""
    others: tuple[OtherMonitor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedMonitor:
    """Everything that the decision rests on."""

    name: str
    generation: int
    spec: ModelMonitorSpec
    status: ModelMonitorStatus
    model: ObservedModel | None
    """None: the reference leads nowhere."""
    stable: ServedVersion | None = None
    """The version that serves."""
    missing: str = ""
    """What the reference doesn't find, in words."""
    scheduled: bool = True
    """Its CronJob is there."""
    pods: tuple[ObservedPod, ...] = ()
    apply_error: str = ""
    token: str = ""
    """Value of the annotation by which a person asks for a retrain."""

    @property
    def is_asked(self) -> bool:
        """A person asks, and wasn't answered yet."""
        return bool(self.token) and self.token != self.status.handled_token


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows, and why."""

    reason: str
    message: str
    request: RetrainRequest | None = None
    check_again_after: timedelta | None = None
    under_way: bool = False
    """The training works on a request of this monitor, or is about to."""
    rollback: RollbackRequest | None = None
    suggestion: str = ""
    """Id of the request that a person would have to make."""


def count_fruitless(observed: ObservedMonitor, now: datetime) -> int:
    """Requests in a row that no recovery has followed. Another spec ends the row, too, and a clock that is set back."""
    status, last = observed.status, observed.status.retrain
    if status.observed_generation != observed.generation or last is None or last.until > now + CLOCK_TOLERANCE:
        return 0
    later = sorted((window for window in status.windows if window.end > last.until), key=lambda window: window.end)
    wanted, row = observed.spec.alarm.recovery, 0
    for window in later:
        row = row + 1 if _is_well(window, observed.spec.retrain) else 0
        if row >= wanted:
            return 0
    return status.fruitless


def decide_retrain(observed: ObservedMonitor, fruitless: int, windows: Sequence[Window], now: datetime) -> Decision:
    """What follows from the windows of the served version, oldest first."""
    retrain, model = observed.spec.retrain, observed.model
    if model is None:
        return Decision(Reason.DEPLOYMENT_NOT_FOUND, observed.missing)
    if retrain is None:
        return Decision(Reason.NOT_DECIDED, "spec.retrain isn't set: alarms are reported only")
    recent = windows[-observed.spec.alarm.windows :]
    breached = [window for window in recent if breached_checks(window, retrain.checks)]
    alarm = f"{len(breached)} of the last {len(recent)} windows breached, {observed.spec.alarm.breaches} are needed"
    is_alarm = len(breached) >= observed.spec.alarm.breaches and recent[-1] is breached[-1]
    is_asked = observed.is_asked
    busy = _find_busy(observed, model)
    if busy is not None:
        return busy
    follow_up = None if is_alarm or is_asked else find_follow_up(observed.status.retrain, windows, retrain)
    if follow_up is not None:
        alarm = follow_up.message
    elif not is_alarm and not is_asked:
        return Decision(Reason.NO_ALARM, alarm if recent else "no window of the served version was looked at yet")
    if is_asked:
        alarm = "a person asked for it"
    obstacle = _find_obstacle(model, alarm)
    if obstacle is not None:
        return obstacle
    if is_alarm and model.is_baking and retrain.during_bake == "Rollback" and not is_asked:
        return _roll_back(observed, model, breached, alarm, now)
    if not windows:
        return Decision(Reason.NO_WINDOW_YET, f"{alarm}; no window of the served version was looked at yet")
    if not is_asked:
        hold = _find_hold(observed, fruitless, model, retrain, recent[-1], alarm, now)
        if hold is None and is_alarm:
            hold = _find_repetition(observed.status.retrain, breached, retrain, alarm)
        if hold is not None:
            return hold
    if recent[-1].labels < retrain.min_labels:
        message = (
            f"{alarm}; the newest window has {recent[-1].labels} labelled rows, {retrain.min_labels} are needed "
            "(spec.retrain.minLabels): send feedback"
        )
        return Decision(Reason.WAITING_FOR_LABELS, message)
    reason = _word(breached, retrain) if is_alarm and not is_asked else alarm
    if follow_up is not None:
        request = _request(observed, model, retrain, follow_up.since, recent[-1], reason, now, follow_up.number)
    else:
        since = min(_begin(window, retrain.checks) for window in (breached if is_alarm else recent[-1:]))
        request = _request(observed, model, retrain, since, recent[-1], reason, now)
    if retrain.mode == "Suggest" and not is_asked:
        message = (
            f"a retrain of {model.training!r} is suggested: {reason}; "
            f"`kubectl annotate mm {observed.name} modelloop.dev/retrain=<any new value>` has it done"
        )
        return Decision(Reason.SUGGESTED, message, suggestion=request.id)
    return Decision(
        Reason.REQUESTED, f"training {model.training!r} is asked: {reason}", request=request, under_way=True
    )


def breached_checks(window: Window, names: Sequence[str]) -> tuple[Check, ...]:
    """The checks of `window` among `names` that are Breached; Unknown never is."""
    return tuple(check for check in window.checks if check.name in names and check.state == "Breached")


def _is_well(window: Window, retrain: Retrain | None) -> bool:
    names = retrain.checks if retrain is not None else ()
    counted = [check.state for check in window.checks if check.name in names]
    return "OK" in counted and "Breached" not in counted


def _find_busy(observed: ObservedMonitor, model: ObservedModel) -> Decision | None:
    """Somebody has asked already, and isn't answered yet."""
    last = observed.status.retrain
    if last is not None and last.training == model.training:
        if last.id != model.handled_id:
            return Decision(Reason.REQUESTED, f"training {model.training!r} was asked: {last.reason}", under_way=True)
        if model.training_running:
            message = f"training {model.training!r} is at work: {last.reason}"
            return Decision(Reason.RUNNING, message, under_way=True)
    return None


def _find_obstacle(model: ObservedModel, alarm: str) -> Decision | None:
    """Why nobody could be asked now."""
    waiting = next((other for other in model.others if not other.is_handled), None)
    if waiting is not None:
        message = f"{alarm}; ModelMonitor {waiting.name!r} has asked training {model.training!r} already"
        return Decision(Reason.RUNNING, message)
    if model.training_running:
        return Decision(Reason.RUNNING, f"{alarm}; training {model.training!r} is at work already")
    if not model.training:
        message = f"{alarm}; ModelDeployment {model.deployment!r} serves spec.model: there is no training to ask"
        return Decision(Reason.NO_CHAMPION, message)
    if model.champion_digest is None:
        return Decision(Reason.NO_CHAMPION, f"{alarm}; training {model.training!r} has no champion")
    if model.champion_digest != model.digest:
        return Decision(Reason.ROLLING_OUT, "a newer version is being rolled out")
    return None


def _find_hold(
    observed: ObservedMonitor,
    fruitless: int,
    model: ObservedModel,
    retrain: Retrain,
    newest: Window,
    alarm: str,
    now: datetime,
) -> Decision | None:
    """What an alarm waits for, and a person needn't."""
    own = observed.status.retrain
    earlier = [other.request for other in model.others]
    if own is not None and own.training == model.training:
        earlier.append(own)
    known = (request for request in earlier if request.time <= now + CLOCK_TOLERANCE)
    last = max(known, key=lambda request: request.time, default=None)
    ends = [mark.until for mark in observed.status.requests]
    # Of all of them: where a clock was set back, a window of before may come again after later ones.
    if newest.end in ends or any(newest.end < end <= now + CLOCK_TOLERANCE for end in ends):
        return Decision(Reason.NO_ALARM, f"{alarm}; no window has ended since the last request")
    if fruitless >= retrain.give_up_after:
        message = (
            f"{alarm}; {fruitless} retrains in a row didn't help, and no further one is asked for "
            "(spec.retrain.giveUpAfter): find out what changed, change the spec, or ask with the annotation "
            "modelloop.dev/retrain"
        )
        return Decision(Reason.GAVE_UP, message)
    if last is not None and (wait := last.time + parse_duration(retrain.cooldown) - now) > timedelta(0):
        message = f"{alarm}; the cooldown of {retrain.cooldown} isn't over"
        return Decision(Reason.COOLDOWN, message, check_again_after=wait)
    if (held := _find_spent_budget(observed, model, retrain, alarm, now)) is not None:
        return held
    if retrain.require_new_labels and last is not None and newest.start < last.until:
        message = (
            f"{alarm}; the newest window begins before {last.until.isoformat()}, up to which the last retrain has "
            "learned from its rows (spec.retrain.requireNewLabels)"
        )
        return Decision(Reason.WAITING_FOR_LABELS, message)
    return None


def _find_spent_budget(
    observed: ObservedMonitor, model: ObservedModel, retrain: Retrain, alarm: str, now: datetime
) -> Decision | None:
    span = parse_duration(retrain.budget.window)
    times = [
        *(mark.time for mark in observed.status.requests),
        *(time for other in model.others for time in other.times),
    ]
    counted = sorted(time for time in times if now - span < time <= now + CLOCK_TOLERANCE)
    if len(counted) < retrain.budget.runs:
        return None
    message = f"{alarm}; {len(counted)} retrains in {retrain.budget.window} are what spec.retrain.budget allows"
    wait = counted[-retrain.budget.runs] + span - now
    return Decision(Reason.BUDGET_EXHAUSTED, message, check_again_after=wait)


def _roll_back(
    observed: ObservedMonitor, model: ObservedModel, breached: Sequence[Window], alarm: str, now: datetime
) -> Decision:
    """The version in its bake time goes, rather than that a new one is made of what made it bad."""
    retrain, asked = observed.spec.retrain, observed.status.rollback
    assert retrain is not None, "only with spec.retrain"
    assert model.digest is not None, "only of a version that serves"
    if asked is not None and asked.digest == model.digest:
        return Decision(Reason.ROLLBACK_REQUESTED, f"{alarm}; deployment {model.deployment!r} was asked to go back")
    reason = _word(breached, retrain)
    request = RollbackRequest(digest=model.digest, reason=reason, time=now)
    message = f"deployment {model.deployment!r} is asked to go back to the version before: {reason}"
    return Decision(Reason.ROLLBACK_REQUESTED, message, rollback=request)


def _word(breached: Sequence[Window], retrain: Retrain) -> str:
    checks = breached_checks(breached[-1], retrain.checks)
    names = " and ".join(sorted({check.name for check in checks}))
    return f"{names} breached in {len(breached)} windows; {checks[0].message}"[:_MAX_REASON]


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A further retrain that is due."""

    number: int
    since: datetime
    message: str


def find_follow_up(last: RetrainRequest | None, windows: Sequence[Window], retrain: Retrain) -> FollowUp | None:
    """The one that is due after `last`, whose version serves by now: its `windows`, oldest first, begin after it."""
    allowed = retrain.follow_ups
    if allowed is None or last is None or not windows or windows[0].start < last.until:
        return None
    grown = windows[-1].end - last.since
    if last.follow_up >= allowed.runs or grown < allowed.growth * (last.until - last.since):
        return None
    message = (
        f"follow-up {last.follow_up + 1} of {allowed.runs}: {grown} have gone since the change, "
        f"{last.until - last.since} when it was learned last"
    )
    return FollowUp(last.follow_up + 1, last.since, message)


def _find_repetition(
    last: RetrainRequest | None, breached: Sequence[Window], retrain: Retrain, alarm: str
) -> Decision | None:
    """An alarm for a change that a retrain couldn't mend waits until there are clearly more rows to learn from."""
    if retrain.follow_ups is None or last is None:
        return None
    since, until = min(_begin(window, retrain.checks) for window in breached), breached[-1].end
    if since >= last.until or until - since >= _CLEARLY_MORE * (last.until - since):
        return None
    return Decision(Reason.WAITING_FOR_LABELS, f"{alarm}; the last retrain learned from most of these rows")


def _begin(window: Window, names: Sequence[str]) -> datetime:
    """Since when the rows are of the world that the window found: before lies what the model knows."""
    begun = [check.since for check in breached_checks(window, names) if check.since is not None]
    return min(begun, default=window.start)


def _request(
    observed: ObservedMonitor,
    model: ObservedModel,
    retrain: Retrain,
    since: datetime,
    newest: Window,
    reason: str,
    now: datetime,
    follow_up: int = 0,
) -> RetrainRequest:
    """Its id follows from the newest window, or from a person's word, so that it counts once whatever happens."""
    if retrain.lookback is not None:
        since = newest.end - parse_duration(retrain.lookback)
    mark = f"/{observed.token}" if observed.is_asked else ""
    return RetrainRequest(
        id=f"{observed.name}/{newest.end.isoformat()}{mark}",
        training=model.training,
        deployment=model.deployment,
        time=now,
        reason=reason,
        since=since,
        until=newest.end,
        policy=retrain.data,
        follow_up=follow_up,
    )
