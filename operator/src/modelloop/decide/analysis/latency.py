"""Checks of how long the candidate's answers take, from histograms.

A quantile is a share: that p99 is above 50 ms means that more than 1 % of the answers take longer. So the test of a
share is one of a quantile, without any assumption about durations. Bounds of quantiles lie on bounds of the
histogram; what can't be told within a bucket counts in favour of the candidate. Answers that didn't come in time
are longer than all others: they are in the last bucket.
"""

import math
from dataclasses import dataclass

from modelkit.contract.route import LatencyReport
from modelloop.api.analysis import Analysis, Verdict
from modelloop.api.common import parse_duration
from modelloop.decide.analysis.confidence import Proportion
from modelloop.decide.analysis.measurements import Measurements, Side
from modelloop.decide.analysis.result import CheckName, CheckResult, percent, seconds

_QUANTILES = (0.5, 0.9, 0.99)
_MIN_BASELINE = 30
"""Answers of the stable version without which there is nothing to compare with."""


@dataclass(frozen=True, slots=True)
class _Histogram:
    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    def above(self, index: int) -> int:
        """Durations above the bound of that index."""
        return sum(self.counts[index + 1 :])

    def quantile(self, share: float) -> float:
        """The quantile found, even within its bucket; infinite in the last one."""
        rank, seen, low = share * self.total, 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and seen + count >= rank:
                return low + (bound - low) * max(rank - seen, 0.0) / count
            seen, low = seen + count, bound
        return math.inf

    def at_least(self, share: float, alpha: float) -> float:
        """A bound that the true quantile is above, beyond chance."""
        found = 0.0
        for index, bound in enumerate(self.bounds):
            if not Proportion(self.above(index), self.total, 1 - share).is_above(alpha):
                break
            found = bound
        return found

    def at_most(self, share: float, alpha: float) -> float:
        """A bound that the true quantile isn't above, beyond chance."""
        for index, bound in enumerate(self.bounds):
            if Proportion(self.above(index), self.total, 1 - share).is_below(alpha):
                return bound
        return math.inf


def check_latency(measured: Measurements, settings: Analysis, alpha: float) -> CheckResult | None:
    """Whether at most 1 % of the candidate's answers take longer than the absolute limit."""
    if settings.latency.max_p99 is None:
        return None
    limit = parse_duration(settings.latency.max_p99).total_seconds()
    found = _histogram(measured.candidate)
    if found is None:
        return _untimed(CheckName.LATENCY, measured)
    # The limit may lie within a bucket, whose answers are late perhaps.
    late_surely = next((found.above(index) for index, bound in enumerate(found.bounds) if bound >= limit), 0)
    late_perhaps = max((index for index, bound in enumerate(found.bounds) if bound <= limit), default=None)
    most = found.total if late_perhaps is None else found.above(late_perhaps)
    share = Proportion(late_surely, found.total, 0.01)
    p99 = found.quantile(0.99)
    verdict: Verdict = "Successful"
    if share.is_above(alpha):
        verdict = "Failed"
    elif share.value > 0.01 or (p99 > limit and most > 0.01 * found.total):
        verdict = "Inconclusive"
    return CheckResult(
        name=CheckName.LATENCY,
        verdict=verdict,
        value=_finite(p99),
        limit=limit,
        low=found.at_least(0.99, alpha),
        high=_finite(found.at_most(0.99, alpha)),
        samples=found.total,
        message=f"p99 is {_duration(p99, found)}, {seconds(limit)} is allowed; {percent(share.value)} of {found.total} "
        "answers took longer",
    )


def check_latency_ratio(measured: Measurements, settings: Analysis, alpha: float) -> CheckResult | None:
    """Whether p50, p90 and p99 of the candidate are within what the stable version's allow.

    Each of the three is compared by bounds of both versions' quantiles, every bound at a sixth of the level.
    """
    slow, base = _histogram(measured.candidate), _histogram(measured.stable)
    if settings.latency.max_ratio >= 1000 or base is None or base.total < _MIN_BASELINE:
        return None
    if slow is None:
        return _untimed(CheckName.LATENCY_RATIO, measured)
    part = alpha / (2 * len(_QUANTILES))
    failed, suspect, worst = "", "", (-math.inf, 0.99)
    for share in _QUANTILES:
        found, limit = slow.quantile(share), _allowed(base.quantile(share), settings)
        least, most = slow.at_least(share, part), _allowed(base.at_most(share, part), settings)
        if least >= most:
            failed = f"p{100 * share:.0f} is above {seconds(least)}, {seconds(most)} is allowed"
        if found > limit:
            suspect = f"p{100 * share:.0f} is {_duration(found, slow)}, {seconds(limit)} is allowed"
        if math.isfinite(limit):
            worst = max(worst, (found / limit if limit else math.inf, share))
    verdict: Verdict = "Failed" if failed else "Inconclusive" if suspect else "Successful"
    share = worst[1]
    found, limit = slow.quantile(share), _allowed(base.quantile(share), settings)
    message = failed or suspect or f"p{100 * share:.0f} is {_duration(found, slow)}, {seconds(limit)} is allowed"
    return CheckResult(
        name=CheckName.LATENCY_RATIO,
        verdict=verdict,
        value=_finite(found),
        limit=_finite(limit),
        low=slow.at_least(share, part),
        high=_finite(slow.at_most(share, part)),
        samples=slow.total,
        message=f"{message}: {slow.total} answers, {base.total} of the stable version",
    )


def _untimed(name: CheckName, measured: Measurements) -> CheckResult | None:
    """A candidate that was asked nothing itself, as with copies only, has nothing to be timed."""
    if not measured.candidate.asked:
        return None
    return CheckResult(name=name, verdict="Inconclusive", message="no answer was timed")


def _allowed(stable: float, settings: Analysis) -> float:
    latency = settings.latency
    allowance = parse_duration(latency.allowance).total_seconds()
    return max(parse_duration(latency.floor).total_seconds(), latency.max_ratio * stable + allowance)


def _histogram(side: Side) -> _Histogram | None:
    report: LatencyReport = side.latency
    return _Histogram(report.bounds, report.counts) if any(report.counts) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _duration(value: float, histogram: _Histogram) -> str:
    return seconds(value) if math.isfinite(value) else f"above {seconds(max(histogram.bounds, default=0.0))}"
