"""Decides when a run's progress is worth a write: when a whole percent or the stage is new, and not too often. Pure."""

from datetime import datetime, timedelta

from modelloop.api.lifecycle import RunProgress
from modelloop.api.training import RunStatus
from modelloop.decide.runs import ScrapedProgress

PROGRESS_INTERVAL = timedelta(seconds=5)
"""Thousands of runs at a time must not keep the API server busy with their bars."""


def follow_progress(run: RunStatus, scraped: ScrapedProgress | None, now: datetime) -> RunStatus:
    """`run` with its newest progress, when that is due."""
    if scraped is None or not _is_news(run.progress, scraped):
        return run
    if run.progress is not None and now < run.progress.time + PROGRESS_INTERVAL:
        return run
    end = None
    if scraped.eta_seconds is not None:
        end = (scraped.time + timedelta(seconds=scraped.eta_seconds)).replace(microsecond=0)
    progress = RunProgress(percent=scraped.percent, stage=scraped.stage, estimated_completion_time=end, time=now)
    return run.model_copy(update={"progress": progress})


def next_progress(run: RunStatus, scraped: ScrapedProgress | None, now: datetime) -> timedelta | None:
    """When progress that is known already may be written; None when there is none."""
    if scraped is None or run.progress is None or not _is_news(run.progress, scraped):
        return None
    return max(run.progress.time + PROGRESS_INTERVAL - now, timedelta(0))


def _is_news(known: RunProgress | None, scraped: ScrapedProgress) -> bool:
    return known is None or (known.percent, known.stage) != (scraped.percent, scraped.stage)
