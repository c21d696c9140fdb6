"""Decides which run begins next: all pending triggers coalesce into one run. Pure and total."""

from collections.abc import Mapping
from datetime import datetime

from modelkit.contract.codec import format_time
from modelloop.api.training import ChampionStatus, Feedback, HandledTrigger, ModelTrainingStatus, Trigger
from modelloop.decide.reasons import Reason
from modelloop.decide.runs import NewRun, ObservedTraining, RetrainWish
from modelloop.decide.schedule import find_due

_MAX_ID = 256
_MAX_HANDLED = 64
_ANNOTATION = "annotation"
APPROVAL_SOURCE = "approve"
"""The entry of `status.handled` that `decide.approval` keeps."""


def decide_next_run(
    observed: ObservedTraining, status: ModelTrainingStatus, now: datetime
) -> tuple[NewRun | None, tuple[HandledTrigger, ...]]:
    """The run that the pending triggers ask for, all of them coalesced into one."""
    number = status.runs + 1
    known = {entry.source: entry for entry in status.handled}
    token = observed.run_token[:_MAX_ID]
    asked = bool(token) and not _is_handled(known, _ANNOTATION, token)
    # More monitors than the status can remember would ask again and again: the first by name are heard.
    heard = sorted(observed.wishes, key=lambda wish: wish.monitor)[: _MAX_HANDLED - 2]
    pending = [wish for wish in heard if not _is_handled(known, _source(wish), wish.id)]
    newest_wish = max(pending, key=lambda wish: (wish.feedback.until, wish.monitor), default=None)
    trigger = (
        None
        if observed.spec_problem
        else _trigger(observed, status, asked, newest_wish, find_due(status.schedule, now))
    )
    if trigger is None:
        return None, status.handled
    feedback = _choose_feedback(heard, known, status.champion)
    for wish in pending:
        known[_source(wish)] = HandledTrigger(source=_source(wish), id=wish.id, number=number)
    if asked:
        known[_ANNOTATION] = HandledTrigger(source=_ANNOTATION, id=token, number=number)
    needed = {_ANNOTATION, APPROVAL_SOURCE, *map(_source, heard)}
    kept = sorted(known.values(), key=lambda entry: (entry.source in needed, entry.number), reverse=True)
    handled = tuple(sorted(kept[:_MAX_HANDLED], key=lambda entry: entry.source))
    return NewRun(number=number, trigger=trigger, feedback=feedback), handled


def _source(wish: RetrainWish) -> str:
    return f"monitor/{wish.monitor}"


def _is_handled(known: Mapping[str, HandledTrigger], source: str, id_: str) -> bool:
    return source in known and known[source].id == id_


def _choose_feedback(
    wishes: list[RetrainWish], known: Mapping[str, HandledTrigger], champion: ChampionStatus | None
) -> Feedback | None:
    """The newest labelled rows that were asked for and no champion has learned from yet, or else the champion's.

    A run that answered a request and made no champion doesn't use the request's rows up.
    """
    learned = champion.number if champion is not None else 0
    fresh = [
        wish.feedback
        for wish in wishes
        if not _is_handled(known, _source(wish), wish.id) or known[_source(wish)].number > learned
    ]
    default = champion.feedback if champion is not None else None
    return max(fresh, key=lambda feedback: feedback.until, default=default)


def _trigger(
    observed: ObservedTraining,
    status: ModelTrainingStatus,
    asked: bool,
    wish: RetrainWish | None,
    due: datetime | None,
) -> Trigger | None:
    if status.runs == 0 or not status.history:
        return Trigger(reason="Created")
    last = status.history[0]
    champion_hash = status.champion.spec_hash if status.champion is not None else None
    if observed.spec_hash not in (last.spec_hash, champion_hash):
        return Trigger(reason="SpecChanged", id=observed.spec_hash)
    if last.verdict in ("Failed", "Superseded") and last.pod_hash != observed.pod_hash:
        return Trigger(reason="SpecChanged", id=observed.pod_hash)
    if asked:
        return Trigger(reason="Requested", id=observed.run_token[:_MAX_ID])
    if wish is not None:
        return Trigger(reason="Monitor", id=wish.id, monitor=wish.monitor)
    if due is not None:
        return Trigger(reason="Scheduled", id=format_time(due))
    if last.reason == Reason.RESULT_LOST and last.trigger.reason != "ResultLost":
        return Trigger(reason="ResultLost", id=str(last.number))
    return None
