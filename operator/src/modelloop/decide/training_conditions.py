"""Says in conditions what a ModelTraining's users see. Pure."""

from dataclasses import dataclass
from datetime import datetime

from modelloop.api.common import Condition
from modelloop.api.training import ModelTrainingStatus, RunRecord
from modelloop.decide.approval import find_awaiting
from modelloop.decide.conditions import ConditionSet
from modelloop.decide.holds import Hold
from modelloop.decide.pods import Problem
from modelloop.decide.reasons import ConditionType, Reason
from modelloop.decide.runs import ObservedTraining


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a pass found, beside the status."""

    problem: Problem | None = None
    number: int | None = None
    """Of the run under way."""
    hold: Hold | None = None
    """Why no run may begin."""
    wait: Hold | None = None
    """Why the run under way doesn't work although nothing is wrong."""
    refusal: str = ""
    """Why the version that a person named can't be the champion."""


def build_conditions(
    observed: ObservedTraining, status: ModelTrainingStatus, view: View, now: datetime
) -> tuple[Condition, ...]:
    """The conditions after a pass that ends with `status`."""
    conditions = ConditionSet(observed.status.conditions, observed.generation, now)
    last = next((record for record in status.history if record.verdict != "Superseded"), None)
    if view.problem is not None:
        conditions.set(ConditionType.STALLED, True, view.problem.reason, view.problem.message)
    if view.number is not None and not observed.spec.suspend:
        reason, message = _run_state(view)
        conditions.set(ConditionType.RECONCILING, True, reason, message)
    if view.refusal:
        conditions.set(ConditionType.APPROVAL_REFUSED, True, Reason.NOT_APPROVABLE, view.refusal)
    if view.hold is not None:
        conditions.set(ConditionType.RUN_ALLOWED, False, view.hold.reason, view.hold.message)
    else:
        conditions.set(ConditionType.RUN_ALLOWED, True, Reason.ALLOWED, "nothing holds runs back")
    _set_run_succeeded(conditions, last, view)
    _set_approved(conditions, status, last)
    _set_ready(conditions, observed, status, last, view)
    return conditions.build()


def _run_state(view: View) -> tuple[str, str]:
    if view.wait is not None:
        return view.wait.reason, view.wait.message
    return Reason.RUNNING, f"run {view.number} is under way"


def _set_run_succeeded(conditions: ConditionSet, last: RunRecord | None, view: View) -> None:
    run_succeeded = ConditionType.RUN_SUCCEEDED
    if view.problem is not None:
        conditions.set(run_succeeded, None, view.problem.reason, f"{_prefix(view)}{view.problem.message}")
    elif view.wait is not None or (last is None and view.number is not None):
        conditions.set(run_succeeded, None, *_run_state(view))
    elif last is None:
        held = view.hold or Hold(reason=Reason.NO_RUN_YET, message="no run has begun")
        conditions.set(run_succeeded, None, held.reason, held.message)
    elif last.verdict == "Failed":
        conditions.set(run_succeeded, False, last.reason, f"run {last.number}: {last.message}")
    else:
        conditions.set(run_succeeded, True, Reason.SUCCEEDED, f"run {last.number} made a version")


def _set_approved(conditions: ConditionSet, status: ModelTrainingStatus, last: RunRecord | None) -> None:
    approved, awaiting = ConditionType.APPROVED, find_awaiting(status)
    if awaiting is not None:
        message = (
            f"version {awaiting.number} passed its gates ({awaiting.message}) and waits for approval: set the "
            f"annotation modelloop.dev/approve={awaiting.number}"
        )
        conditions.set(approved, None, Reason.AWAITING_APPROVAL, message)
        return
    if last is None or last.verdict == "Failed":
        text = "the last run made no version" if last else "no run has ended"
        conditions.set(approved, None, Reason.NOT_DECIDED, text)
        return
    champion = status.champion
    if last.verdict == "Approved" and champion is not None and champion.number != last.number:
        message = f"version {last.number} passed its gates, but a person chose version {champion.number}"
        conditions.set(approved, False, Reason.NOT_CHOSEN, message)
        return
    value = {"Approved": True, "Rejected": False}.get(last.verdict)
    conditions.set(approved, value, last.reason, f"version {last.number}: {last.message}")


def _prefix(view: View) -> str:
    return f"run {view.number}: " if view.number is not None else ""


def _set_ready(
    conditions: ConditionSet,
    observed: ObservedTraining,
    status: ModelTrainingStatus,
    last: RunRecord | None,
    view: View,
) -> None:
    ready, champion = ConditionType.READY, status.champion
    if champion is not None and champion.spec_hash == observed.spec_hash:
        message = f"version {champion.number} is the champion: {champion.metric} {champion.value:.4g}"
        conditions.set(ready, True, Reason.APPROVED, message)
        return
    serving = f"; version {champion.number} stays the champion" if champion is not None else ""
    awaiting = find_awaiting(status)
    if view.problem is not None:
        reason, message = view.problem.reason, f"{_prefix(view)}{view.problem.message}"
    elif view.number is not None:
        reason, message = _run_state(view)
    elif view.hold is not None:
        reason, message = view.hold.reason, view.hold.message
    elif awaiting is not None:
        reason, message = Reason.AWAITING_APPROVAL, f"version {awaiting.number} waits for approval"
    elif last is not None:
        reason, message = last.reason, f"run {last.number}: {last.message}"
    else:
        reason, message = Reason.NO_RUN_YET, "no run has begun"
    conditions.set(ready, False, reason, f"{message}{serving}")
