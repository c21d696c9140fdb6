"""Decides what follows from a monitor's windows: health, and whether to ask for a retrain. Pure and total."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelloop.api.common import Condition, parse_duration
from modelloop.api.deployment import ServedVersion
from modelloop.api.monitor import Check, ModelMonitorSpec, ModelMonitorStatus, RetrainRequest, Window
from modelloop.decide.conditions import ConditionSet
from modelloop.decide.plan import Event
from modelloop.decide.pods import ObservedPod, Problem, find_problem
from modelloop.decide.reasons import ConditionType, Reason


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorPlan:
    """What to write and keep."""

    status: ModelMonitorStatus
    schedule_wanted: bool
    events: tuple[Event, ...] = ()
    check_again_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class _Decision:
    reason: str
    message: str
    request: RetrainRequest | None = None
    check_again_after: timedelta | None = None
    under_way: bool = False
    """The training works on a request of this monitor, or is about to."""


def decide_monitor(observed: ObservedMonitor, now: datetime) -> MonitorPlan:
    """The next status of a monitor, and whether it asks its training for a run."""
    status, model = observed.status, observed.model
    digest = model.digest if model is not None else None
    windows = sorted((window for window in status.windows if window.digest == digest), key=lambda window: window.end)
    decision = _decide_retrain(observed, windows, now)
    updates: dict[str, object] = {"observed_generation": observed.generation}
    if status.windows:
        updates["last_window_time"] = max(window.end for window in status.windows)
    events: tuple[Event, ...] = ()
    if decision.request is not None:
        updates |= {"retrain": decision.request, "retrains": status.retrains + 1}
        events = (Event(reason=Reason.REQUESTED, message=decision.message, warning=True),)
    next_status = status.model_copy(update=updates)
    conditions = _conditions(observed, windows, decision, now)
    return MonitorPlan(
        status=next_status.model_copy(update={"conditions": conditions}),
        schedule_wanted=digest is not None,
        events=events,
        check_again_after=decision.check_again_after,
    )


# -- the retrain decision: an ordered chain of small checks, the first that holds decides -------------------------


def _decide_retrain(observed: ObservedMonitor, windows: Sequence[Window], now: datetime) -> _Decision:
    retrain, model, last = observed.spec.retrain, observed.model, observed.status.retrain
    if model is None:
        return _Decision(Reason.DEPLOYMENT_NOT_FOUND, observed.missing)
    if retrain is None:
        return _Decision(Reason.NOT_DECIDED, "spec.retrain isn't set: alarms are reported only")
    recent = windows[-observed.spec.alarm.windows :]
    breached = [window for window in recent if breached_checks(window, retrain.checks)]
    alarm = f"{len(breached)} of the last {len(recent)} windows breached, {observed.spec.alarm.breaches} are needed"
    if last is not None and last.training == model.training:
        if last.id != model.handled_id:
            return _Decision(Reason.REQUESTED, f"training {model.training!r} was asked: {last.reason}", under_way=True)
        if model.training_running:
            message = f"training {model.training!r} is at work: {last.reason}"
            return _Decision(Reason.RUNNING, message, under_way=True)
    if len(breached) < observed.spec.alarm.breaches or recent[-1] is not breached[-1]:
        return _Decision(Reason.NO_ALARM, alarm if recent else "no window of the served version was looked at yet")
    if model.training_running:
        return _Decision(Reason.RUNNING, f"{alarm}; training {model.training!r} is at work already")
    if not model.training:
        message = f"{alarm}; ModelDeployment {model.deployment!r} serves spec.model: there is no training to ask"
        return _Decision(Reason.NO_CHAMPION, message)
    if model.champion_digest is None:
        return _Decision(Reason.NO_CHAMPION, f"{alarm}; training {model.training!r} has no champion")
    if model.champion_digest != model.digest:
        return _Decision(Reason.ROLLING_OUT, "a newer version is being rolled out")
    newest_window = recent[-1]
    if last is not None and newest_window.end <= last.until:
        return _Decision(Reason.NO_ALARM, f"{alarm}; no window has ended since the last request")
    if last is not None and (wait := last.time + parse_duration(retrain.cooldown) - now) > timedelta(0):
        return _Decision(
            Reason.COOLDOWN, f"{alarm}; the cooldown of {retrain.cooldown} isn't over", check_again_after=wait
        )
    if newest_window.labels < retrain.min_labels:
        message = (
            f"{alarm}; the newest window has {newest_window.labels} labelled rows, {retrain.min_labels} are needed "
            "(spec.retrain.minLabels): send feedback"
        )
        return _Decision(Reason.WAITING_FOR_LABELS, message)
    return _request(observed, model, breached, now)


def _request(observed: ObservedMonitor, model: ObservedModel, breached: Sequence[Window], now: datetime) -> _Decision:
    retrain = observed.spec.retrain
    if retrain is None:
        raise AssertionError("only called with spec.retrain set")
    newest_window = breached[-1]
    names = sorted({check.name for check in breached_checks(newest_window, retrain.checks)})
    worst = next(iter(breached_checks(newest_window, retrain.checks))).message
    reason = f"{' and '.join(names)} breached in {len(breached)} windows; {worst}"[:1024]
    since = min(window.start for window in breached)
    if retrain.lookback is not None:
        since = newest_window.end - parse_duration(retrain.lookback)
    request = RetrainRequest(
        id=f"{observed.name}/{newest_window.end.isoformat()}",
        training=model.training,
        deployment=model.deployment,
        time=now,
        reason=reason,
        since=since,
        until=newest_window.end,
        policy=retrain.data,
    )
    return _Decision(Reason.REQUESTED, f"training {model.training!r} is asked: {reason}", request, under_way=True)


def breached_checks(window: Window, names: Sequence[str]) -> tuple[Check, ...]:
    """The checks of `window` among `names` that are Breached; Unknown never is."""
    return tuple(check for check in window.checks if check.name in names and check.state == "Breached")


# -- what users see -----------------------------------------------------------------------------------------------


def _conditions(
    observed: ObservedMonitor,
    windows: Sequence[Window],
    decision: _Decision,
    now: datetime,
) -> tuple[Condition, ...]:
    conditions = ConditionSet(observed.status.conditions, observed.generation, now)
    ready, reason, message = _readiness(observed)
    conditions.set(ConditionType.READY, ready, reason, message)
    if not ready:
        passing = reason in (Reason.WAITING_FOR_DEPLOYMENT, Reason.STARTING)
        conditions.set(ConditionType.RECONCILING if passing else ConditionType.STALLED, True, reason, message)
    healthy, reason, message = _health(windows)
    conditions.set(ConditionType.HEALTHY, healthy, reason, message)
    conditions.set(ConditionType.RETRAINING, decision.under_way, decision.reason, decision.message)
    return conditions.build()


def _readiness(observed: ObservedMonitor) -> tuple[bool, str, str]:
    if observed.apply_error:
        return False, Reason.APPLY_FAILED, observed.apply_error
    if observed.model is None:
        return False, Reason.DEPLOYMENT_NOT_FOUND, observed.missing
    if observed.model.digest is None:
        name = observed.spec.deployment_ref.name
        return False, Reason.WAITING_FOR_DEPLOYMENT, f"ModelDeployment {name!r} serves no version yet"
    if not observed.scheduled:
        return False, Reason.STARTING, "its CronJob is being made"
    problem = _pod_problem(observed.pods)
    if problem is not None:
        return False, problem.reason, f"the monitor's pod: {problem.message}"
    if observed.spec.suspend:
        return True, Reason.SUSPENDED, "spec.suspend is set: no window is looked at"
    return True, Reason.SCHEDULED, f"a window is looked at on schedule {observed.spec.schedule!r}"


def _pod_problem(pods: Sequence[ObservedPod]) -> Problem | None:
    """What kept the newest pod that tells anything from its work; one that is only starting tells nothing."""
    for pod in sorted(pods, key=lambda pod: pod.created, reverse=True):
        problem = find_problem(pod)
        if problem is not None or pod.exit_code == 0:
            return problem
    return None


def _health(windows: Sequence[Window]) -> tuple[bool | None, str, str]:
    if not windows:
        return None, Reason.NO_WINDOW_YET, "no window of the served version was looked at yet"
    window = windows[-1]
    breached = [check for check in window.checks if check.state == "Breached"]
    if breached:
        return False, Reason.BREACHED, "; ".join(f"{check.name}: {check.message}" for check in breached)
    if not any(check.state == "OK" for check in window.checks):
        message = next((check.message for check in window.checks), f"{window.rows} rows in the window")
        return None, Reason.NOT_ENOUGH_ROWS, message
    unknown = [check.name for check in window.checks if check.state == "Unknown"]
    suffix = f"; unknown: {', '.join(unknown)}" if unknown else ""
    return True, Reason.OK, f"{window.rows} rows, {window.labels} labelled, nothing breached{suffix}"
