"""What is left of a window in the timeline, when its checks and its report are gone. Pure."""

from modelkit.contract.result import TimelinePoint
from modelkit.monitor.drift import rank
from modelkit.monitor.window import Examination
from modelkit.monitor.wording import MAX_NAME, overall_state, shorten


def build_point(examination: Examination) -> TimelinePoint:
    """The point of this window; what couldn't be said is None."""
    result, estimate, expected = examination.result, examination.estimate, examination.expected
    worst = next(iter(rank(examination.drifts)), None)
    return TimelinePoint(
        end=result.end,
        version=result.version,
        state=overall_state(result.checks),
        rows=result.rows,
        labels=result.labels,
        feature="" if worst is None else shorten(worst.name, MAX_NAME),
        drift=None if worst is None else round(worst.distance, 6),
        quality=None if estimate is None else round(estimate.value, 6),
        error=None if estimate is None else round(estimate.error, 9),
        estimated=None if expected is None else round(expected.value, 6),
    )
