"""Checks of the candidate's answers as such: whether there are enough, and how many it couldn't give."""

import math
from collections import Counter

from modelloop.api.analysis import Analysis, Verdict
from modelloop.decide.analysis.confidence import Proportion
from modelloop.decide.analysis.measurements import Measurements, Pairs, Side
from modelloop.decide.analysis.result import CheckName, CheckResult, percent

_ASKED, _COMPARED = "requests", "compared requests"


def requests_of(measured: Measurements) -> int:
    """What the candidate was asked. A request may be asked and compared at once: none counts twice."""
    return max(measured.candidate.asked, _copies(measured))


def is_mostly(measured: Measurements, *kinds: str) -> bool:
    """Whether at least half of what the candidate failed at, it failed at in one of these ways."""
    failures = Counter(measured.candidate.failures) + Counter(measured.pairs.failures)
    return 0 < failures.total() <= 2 * sum(failures[kind] for kind in kinds)


def check_traffic(measured: Measurements, settings: Analysis) -> CheckResult:
    """Whether there is anything to judge by: reports that make sense, of enough requests."""
    found, wanted = requests_of(measured), settings.min_requests
    verdict: Verdict = "Inconclusive"
    if measured.problem:
        verdict, message = "Error", f"the pods' reports make no sense: {measured.problem}"
    elif not measured.pods:
        verdict, message = "Error", "no pod reports what is measured in this step"
    elif not _is_finite(measured):
        message = "the predictions can't be compared: their sums aren't finite numbers"
    elif found < wanted:
        message = f"{found} requests; {wanted} are wanted"
    else:
        verdict, message = "Successful", f"{found} requests"
    samples = 0 if measured.problem else found
    return CheckResult(
        name=CheckName.TRAFFIC, verdict=verdict, value=samples, limit=wanted, samples=samples, message=message
    )


def check_success_ratio(measured: Measurements, settings: Analysis, alpha: float) -> CheckResult:
    """Whether the candidate answers what it is asked.

    Requests of its own and copies for comparison are tested apart, each at half the level: a request may be both.
    What wasn't sent is only told: copies are left out under load, too.
    """
    # 1 - 0.9 is a little less than 0.1.
    side, limit = measured.candidate, round(1 - settings.min_success_ratio, 12)
    streams = [
        (Proportion(failures, total, limit), what)
        for failures, total, what in (
            (side.asked - side.answered, side.asked, _ASKED),
            (measured.pairs.failed, _copies(measured), _COMPARED),
        )
        if total > 0
    ]
    if not streams:
        message = f"no request; {percent(settings.min_success_ratio)} must be answered"
        if side.skipped:
            message += f"; {side.skipped} weren't sent"
        return CheckResult(
            name=CheckName.SUCCESS_RATIO, verdict="Inconclusive", limit=settings.min_success_ratio, message=message
        )
    worst, what = max(streams, key=lambda stream: (stream[0].is_above(alpha / 2), stream[0].value))
    bounds = worst.bounds(alpha / 2)
    verdict: Verdict = "Successful"
    if worst.is_above(alpha / 2):
        verdict = "Failed"
    elif worst.value > limit:
        verdict = "Inconclusive"
    message = (
        f"{percent(1 - worst.value)} of {worst.n:.0f} {what} answered, at least {percent(settings.min_success_ratio)} "
        f"is wanted{_list_kinds(measured.candidate if what == _ASKED else measured.pairs)}"
    )
    if verdict == "Inconclusive":
        message += "; that may still be chance"
    if side.skipped:
        message += f"; {side.skipped} requests weren't sent because it failed too often in a row or had too much to do"
    return CheckResult(
        name=CheckName.SUCCESS_RATIO,
        verdict=verdict,
        value=1 - worst.value,
        limit=settings.min_success_ratio,
        low=1 - bounds.high,
        high=1 - bounds.low,
        samples=int(worst.n),
        message=message,
    )


def _copies(measured: Measurements) -> int:
    return max(measured.pairs.requests, measured.pairs.failed)


def _list_kinds(side: Side | Pairs) -> str:
    kinds = [f"{count} {kind}" for kind, count in sorted(side.failures.items()) if count]
    return f" ({', '.join(kinds[:8])})" if kinds else ""


def _is_finite(measured: Measurements) -> bool:
    pairs, labels = measured.pairs, measured.labels
    return all(
        math.isfinite(value)
        for value in (
            pairs.shift_sum,
            pairs.shift_squares,
            labels.candidate_loss,
            labels.stable_loss,
            labels.difference_squares,
        )
    )
