"""Decides which version is the champion: the newest that passed its gates, or the one that a person chose. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime

from modelloop.api.common import Storage
from modelloop.api.training import ChampionStatus, HandledTrigger, ModelTrainingStatus, RunRecord
from modelloop.decide.conditions import find_condition
from modelloop.decide.reasons import ConditionType
from modelloop.decide.runs import ObservedTraining
from modelloop.decide.triggers import APPROVAL_SOURCE

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_MAX_ID = 256
JUDGED = ("Approved", "Rejected", "Inconclusive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What follows from the annotation `modelloop.dev/approve`."""

    status: ModelTrainingStatus
    refusal: str = ""
    """Why the version that a person named isn't the champion; stays until the annotation is changed."""
    is_new: bool = False
    """The annotation was answered in this pass."""


def decide_champion(observed: ObservedTraining, status: ModelTrainingStatus, now: datetime) -> Approval:
    """`status` with the champion that the spec's approval and the annotation ask for."""
    awaiting = find_awaiting(status)
    if awaiting is not None and observed.spec.approval == "Automatic":
        status = status.model_copy(update={"champion": build_champion(awaiting, now)})
    return _answer(observed, status, now)


def find_awaiting(status: ModelTrainingStatus) -> RunRecord | None:
    """The newest version, when it passed its gates and isn't the champion, nor passed over by a person."""
    newest = next((record for record in status.history if record.verdict in JUDGED), None)
    if newest is None or not is_approvable(newest):
        return None
    champion = status.champion
    decided = max(champion.number, champion.chosen_after or 0) if champion is not None else 0
    return newest if newest.number > decided else None


def is_approvable(record: RunRecord) -> bool:
    """Whether the version of a run may become the champion."""
    passed = record.verdict == "Approved" and bool(record.path) and bool(record.digest)
    return passed and record.metric is not None and record.metric in record.metrics


def build_champion(record: RunRecord, now: datetime, chosen_after: int | None = None) -> ChampionStatus:
    """The champion that an approvable record stands for."""
    metric = record.metric or ""
    return ChampionStatus(
        number=record.number,
        path=record.path or "",
        digest=record.digest or "",
        storage=record.storage or Storage(),
        signing_secret=record.signing_secret,
        estimator=record.estimator,
        task=record.task,
        metric=metric,
        value=record.metrics[metric],
        spec_hash=record.spec_hash,
        feedback=record.feedback,
        approved_time=now,
        chosen_after=chosen_after,
    )


def _answer(observed: ObservedTraining, status: ModelTrainingStatus, now: datetime) -> Approval:
    token = observed.approve_token[:_MAX_ID]
    handled = next((entry for entry in status.handled if entry.source == APPROVAL_SOURCE), None)
    if not token:  # taken away: the same number may be asked for again
        return Approval(status=_without_entry(status) if handled is not None else status)
    if handled is not None and handled.id == token:
        told = find_condition(observed.status.conditions, ConditionType.APPROVAL_REFUSED)
        return Approval(status=status, refusal=told.message if told is not None else "")
    newest = status.history[0].number if status.history else 1
    others = [entry for entry in status.handled if entry.source != APPROVAL_SOURCE][:63]
    entry = HandledTrigger(source=APPROVAL_SOURCE, id=token, number=newest)
    status = status.model_copy(update={"handled": tuple(sorted((*others, entry), key=lambda item: item.source))})
    refusal = _find_refusal(status, token)
    if refusal:
        return Approval(status=status, refusal=refusal, is_new=True)
    record = next(record for record in status.history if record.number == int(token))
    if status.champion is not None and status.champion.number == record.number:
        champion = status.champion.model_copy(update={"chosen_after": newest})
    else:
        champion = build_champion(record, now, chosen_after=newest)
    return Approval(status=status.model_copy(update={"champion": champion}), is_new=True)


def _without_entry(status: ModelTrainingStatus) -> ModelTrainingStatus:
    kept = tuple(entry for entry in status.handled if entry.source != APPROVAL_SOURCE)
    return status.model_copy(update={"handled": kept})


def _find_refusal(status: ModelTrainingStatus, token: str) -> str:
    choices = [record.number for record in status.history if is_approvable(record)]
    known = (
        f"versions that may be: {', '.join(map(str, choices))}" if choices else "no version in status.history may be"
    )
    if not _NUMBER.fullmatch(token):
        return f"modelloop.dev/approve must be the number of a run; {known}"
    record = next((record for record in status.history if record.number == int(token)), None)
    if record is None:
        return f"version {token} can't be approved: status.history has no run of that number; {known}"
    if not is_approvable(record):
        return f"version {token} can't be approved: its verdict is {record.verdict}; {known}"
    return ""
