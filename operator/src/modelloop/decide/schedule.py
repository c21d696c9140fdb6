"""Decides when a ModelTraining's schedule asks for a run. Pure; level-triggered on what status remembers.

A schedule counts from the moment it is first seen, so that neither a new training nor a changed schedule makes up for
times of the past. Times that pass while no run can begin are made up for by one run, named by the newest of them.
"""

from datetime import datetime

from modelloop.api.lifecycle import Lifecycle, ScheduleStatus
from modelloop.decide.cron import Cron, CronError, parse_cron


def find_schedule_problem(spec: Lifecycle) -> str:
    """Why the schedule can't be followed; empty when it can, or when there is none."""
    if spec.schedule is None:
        return ""
    try:
        parse_cron(spec.schedule, spec.time_zone)
    except CronError as exc:
        return str(exc)
    return ""


def follow_schedule(spec: Lifecycle, status: ScheduleStatus | None, now: datetime) -> ScheduleStatus | None:
    """The schedule as it is followed from now on: a new or changed one begins to count at `now`."""
    cron = _parse(spec.schedule, spec.time_zone)
    if cron is None or spec.schedule is None:
        return None
    zone = spec.time_zone or "UTC"
    if status is not None and (status.expression, status.time_zone) == (spec.schedule, zone):
        return status
    following = cron.next(now)
    if following is None:
        return None
    last = status.last_schedule_time if status is not None else None
    return ScheduleStatus(
        expression=spec.schedule, time_zone=zone, last_schedule_time=last, next_schedule_time=following
    )


def find_due(status: ScheduleStatus | None, now: datetime) -> datetime | None:
    """The newest time of the schedule that has come and that no run was begun for."""
    if status is None or now < status.next_schedule_time:
        return None
    cron = _parse(status.expression, status.time_zone)
    newest = cron.previous(now) if cron is not None else None
    return max(newest, status.next_schedule_time) if newest is not None else status.next_schedule_time


def mark_begun(status: ScheduleStatus | None, now: datetime) -> ScheduleStatus | None:
    """The schedule after a run was begun at `now`, for whatever reason: it answers every time until then."""
    due = find_due(status, now)
    if status is None or due is None:
        return status
    cron = _parse(status.expression, status.time_zone)
    following = cron.next(now) if cron is not None else None
    if following is None:
        return None
    return status.model_copy(update={"last_schedule_time": due, "next_schedule_time": following})


def _parse(expression: str | None, time_zone: str | None) -> Cron | None:
    if expression is None:
        return None
    try:
        return parse_cron(expression, time_zone)
    except CronError:
        return None
