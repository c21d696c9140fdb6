"""Decides what follows from a monitor's windows: health, and whether to ask for a retrain. Pure and total."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelloop.api.common import Condition
from modelloop.api.monitor import ModelMonitorStatus, RequestMark, Window
from modelloop.decide.conditions import ConditionSet, find_condition
from modelloop.decide.plan import Event
from modelloop.decide.pods import ObservedPod, Problem, find_problem
from modelloop.decide.reasons import ConditionType, Reason
from modelloop.decide.retrain import CLOCK_TOLERANCE, Decision, ObservedMonitor, count_fruitless, decide_retrain

MAX_MARKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorPlan:
    """What to write and keep."""

    status: ModelMonitorStatus
    schedule_wanted: bool
    events: tuple[Event, ...] = ()
    check_again_after: timedelta | None = None


def decide_monitor(observed: ObservedMonitor, now: datetime) -> MonitorPlan:
    """The next status of a monitor, and whether it asks its training for a run."""
    status, model = observed.status, observed.model
    digest = model.digest if model is not None else None
    past = [window for window in status.windows if window.end <= now + CLOCK_TOLERANCE]
    windows = sorted((window for window in past if window.digest == digest), key=lambda window: window.end)
    fruitless = count_fruitless(observed, now)
    decision = decide_retrain(observed, fruitless, windows, now)
    updates: dict[str, object] = {"observed_generation": observed.generation, "fruitless": fruitless}
    if past:
        updates["last_window_time"] = max(window.end for window in past)
    events: tuple[Event, ...] = ()
    if decision.request is not None:
        marks = (*status.requests, RequestMark(time=now, until=decision.request.until))[-MAX_MARKS:]
        updates |= {"retrain": decision.request, "retrains": status.retrains + 1, "requests": marks}
        updates |= {"fruitless": fruitless + 1, "handled_token": observed.token}
        events = (Event(reason=Reason.REQUESTED, message=decision.message, warning=True),)
    if decision.rollback is not None:
        updates["rollback"] = decision.rollback
        events = (Event(reason=Reason.ROLLBACK_REQUESTED, message=decision.message, warning=True),)
    if decision.suggestion and decision.suggestion != status.suggested:
        updates["suggested"] = decision.suggestion
        events = (Event(reason=Reason.SUGGESTED, message=decision.message, warning=True),)
    hint = _find_missing_feedback(observed, windows)
    if hint and find_condition(status.conditions, ConditionType.FEEDBACK_MISSING) is None:
        events = (*events, Event(reason=ConditionType.FEEDBACK_MISSING, message=hint))
    next_status = status.model_copy(update=updates)
    conditions = _conditions(observed, windows, decision, hint, now)
    return MonitorPlan(
        status=next_status.model_copy(update={"conditions": conditions}),
        schedule_wanted=digest is not None,
        events=events,
        check_again_after=decision.check_again_after,
    )


# -- what users see -----------------------------------------------------------------------------------------------


def _conditions(
    observed: ObservedMonitor,
    windows: Sequence[Window],
    decision: Decision,
    hint: str,
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
    if hint:
        conditions.set(ConditionType.FEEDBACK_MISSING, True, Reason.NO_FEEDBACK, hint)
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


def _find_missing_feedback(observed: ObservedMonitor, windows: Sequence[Window]) -> str:
    """The hint that nobody sends true labels; empty when somebody does, or when it's too early to tell."""
    recent = windows[-observed.spec.alarm.windows :]
    looked = [window for window in recent if window.rows >= observed.spec.min_rows]
    if len(looked) < observed.spec.alarm.windows or any(window.labels for window in recent):
        return ""
    return (
        f"the last {len(recent)} windows have {sum(window.rows for window in recent):,} rows and no label: without "
        "feedback nobody can tell how good the answers are, and nothing can be learned from them; send true labels to "
        "the server's /feedback"
    )


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
