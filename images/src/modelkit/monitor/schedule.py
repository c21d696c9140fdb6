"""Which moment a window ends at: the one that the run was scheduled for, so that a pod that is tried again, or two that
run at once, look at the same window. Pure.

The CronJob controller names a Job `<cronjob>-<minutes>`, the minutes since 1970 in UTC of the scheduled time, whatever
the schedule's time zone is.
"""

import re
from datetime import UTC, datetime, timedelta

MOST_AHEAD = timedelta(minutes=1)
"""Clocks of a cluster's nodes differ by less."""
MOST_BEHIND = timedelta(days=1)
"""A run that starts later than this after its time looks at what is there now."""

_SUFFIX = re.compile(r"-([1-9][0-9]{6,9})\Z", re.ASCII)


def decide_window_end(job: str, now: datetime) -> datetime:
    """The scheduled time that the name of a CronJob's Job tells; `now` for a Job that a person made or another name."""
    scheduled = parse_scheduled_time(job)
    if scheduled is None or not now - MOST_BEHIND <= scheduled <= now + MOST_AHEAD:
        return now
    return scheduled


def parse_scheduled_time(job: str) -> datetime | None:
    """The whole minute in UTC of a name that ends like the CronJob controller's; None for another name."""
    found = _SUFFIX.search(job)
    if found is None:
        return None
    try:
        return datetime.fromtimestamp(60 * int(found[1]), UTC)
    except (OverflowError, ValueError, OSError):
        return None
