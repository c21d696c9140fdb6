"""Service: do requests get their answers, and soon enough? Told by the servers' own counts of the window.

The rules. Let n be the inference requests and k those that ended as the server's error. The error rate k / n is
Breached when it is above `max_error_rate` and that many errors would be rarer than 1 % if the rate were just that: a
one-sided exact binomial test (Clopper and Pearson 1934). The 99th percentile of the times is Breached when it is above
`max_latency_seconds` beyond chance: when its lower 95 % confidence bound is, by the binomial distribution of how many
times lie above a quantile (order statistics; Hahn and Meeker 1991, section 5.2). Both hold for any distribution of the
times, and take requests for independent of each other.

Times are known as counts between fixed bounds (`contract.service.LATENCY_BOUNDS`). A percentile is interpolated
geometrically inside of its bucket, so it is off by less than BOUNDS_RATIO; the bound is the lower edge of a bucket, so
it is never too high.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from modelkit.contract.codec import format_time
from modelkit.contract.monitoring import ServiceConfig
from modelkit.contract.result import CheckResult, FeatureFinding
from modelkit.contract.service import (
    ANSWERED,
    FAILED,
    LATENCY_BOUNDS,
    REFUSED,
    REQUEST,
    TIMED_OUT,
    is_server_error,
    kind_of,
)
from modelkit.monitor.minutes import MINUTE, RequestCounts, steps_of
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, format_p_value, format_share, plural

SERVICE = "Service"

ERROR_SIGNIFICANCE = 0.01
LATENCY_SIGNIFICANCE = 0.05
PERCENTILES = (0.5, 0.95, 0.99)
JUDGED = 0.99

_EDGES = np.array([0.0, *LATENCY_BOUNDS])
"""[buckets] Lower edges; the last bucket has no upper one."""
_WORST = 5
_TOLD_CODES = 4
_WORDS = {REFUSED: "refused", TIMED_OUT: "timed out", FAILED: "failed", REQUEST: "the client's"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles of the times in seconds; None without any time, and 60 for whatever is longer than a minute."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePoint:
    """One step of the window."""

    start: datetime
    requests: int
    errors: int
    latency: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvidence:
    """What the check says, in numbers."""

    requests: int
    errors: int
    """Those that ended as the server's error."""
    error_rate: float
    p_value: float
    """Chance of so many errors at the highest rate that is allowed."""
    codes: Mapping[int, int]
    """Requests by HTTP status; gRPC's codes are counted as the statuses that mean the same."""
    timed: int
    """Requests whose time is in `latency`: answered ones and time-outs."""
    latency: Latency
    p99_low: float
    """Lower 95 % confidence bound of the 99th percentile, in seconds."""
    per_second: float
    """Mean over the window."""
    busiest_per_second: float
    """Of the minute with the most requests."""
    busiest: datetime | None
    """When that minute began; None without requests."""
    step_seconds: float
    """Between the points of `series`."""
    series: tuple[ServicePoint, ...]
    objects: int
    """Objects of servers that were read."""
    skipped: int
    """Those that couldn't be."""


def measure_service(counts: RequestCounts, config: ServiceConfig) -> ServiceEvidence:
    """Turn a window's counts into numbers."""
    requests, errors = int(counts.requests.sum()), int(counts.errors.sum())
    latency = counts.latency.sum(axis=0)
    busiest = int(counts.requests.argmax()) if requests else None
    series = tuple(
        ServicePoint(
            start=start,
            requests=int(counts.requests[minutes].sum()),
            errors=int(counts.errors[minutes].sum()),
            latency=read_percentiles(counts.latency[step]),
        )
        for step, (start, minutes) in enumerate(steps_of(counts))
    )
    return ServiceEvidence(
        requests=requests,
        errors=errors,
        error_rate=errors / requests if requests else 0.0,
        p_value=float(bdtrc(errors - 1, requests, config.max_error_rate)) if errors else 1.0,
        codes=dict(sorted(counts.codes.items())),
        timed=int(latency.sum()),
        latency=read_percentiles(latency),
        p99_low=lower_bound(latency),
        per_second=requests / (counts.minutes * MINUTE.total_seconds()) if counts.minutes else 0.0,
        busiest_per_second=0.0 if busiest is None else int(counts.requests[busiest]) / MINUTE.total_seconds(),
        busiest=None if busiest is None else counts.start + busiest * MINUTE,
        step_seconds=(counts.step * MINUTE).total_seconds(),
        series=series,
        objects=counts.objects,
        skipped=counts.skipped,
    )


def read_percentiles(latency: NDArray[np.int64]) -> Latency:
    """Percentiles of times that are counted by bucket [buckets]."""
    p50, p95, p99 = (read_quantile(latency, share) for share in PERCENTILES)
    return Latency(p50=p50, p95=p95, p99=p99)


def read_quantile(latency: NDArray[np.int64], share: float) -> float | None:
    """The quantile in seconds, off by less than BOUNDS_RATIO between the first bound and the last; None without a
    time."""
    total = int(latency.sum())
    if total == 0:
        return None
    rank = share * total
    below = np.cumsum(latency)
    bucket = int(np.searchsorted(below, rank))
    if bucket >= len(LATENCY_BOUNDS):
        return LATENCY_BOUNDS[-1]
    inside = (rank - (int(below[bucket]) - int(latency[bucket]))) / int(latency[bucket])
    low, high = float(_EDGES[bucket]), float(_EDGES[bucket + 1])
    return high * inside if bucket == 0 else float(low * (high / low) ** inside)


def lower_bound(latency: NDArray[np.int64]) -> float:
    """The highest edge of a bucket that the 99th percentile is above, at a confidence of 95 %, in seconds; 0 when
    there are too few times for any."""
    total = int(latency.sum())
    above = np.cumsum(latency[::-1])[::-1]
    # So many above an edge, or more, would be rare if no more than 1 % of all were: the percentile is above it.
    rare = np.asarray(bdtrc(above - 1.0, total, 1 - JUDGED)) < LATENCY_SIGNIFICANCE
    return float(_EDGES[rare & (above > 0)].max(initial=0.0))


def check_service(evidence: ServiceEvidence, config: ServiceConfig, rows: int, min_rows: int) -> CheckResult:
    """Breached when errors are too frequent or the slowest requests too slow, both beyond chance.

    `rows`: captured in the window; that there are some without counts tells of servers that write none.
    """
    if evidence.requests < min_rows:
        return _unknown(evidence, rows, min_rows)
    is_failing = evidence.error_rate > config.max_error_rate and evidence.p_value < ERROR_SIGNIFICANCE
    limit = config.max_latency_seconds
    is_slow = limit is not None and evidence.p99_low >= limit
    tells_latency = is_slow and not is_failing
    return CheckResult(
        name=SERVICE,
        state=BREACHED if is_failing or is_slow else OK,
        message=_describe(evidence, config, is_failing=is_failing, is_slow=is_slow),
        value=evidence.latency.p99 if tells_latency else round(evidence.error_rate, 6),
        limit=limit if tells_latency else config.max_error_rate,
        rows=evidence.requests,
        worst=_find_worst(evidence),
    )


def _unknown(evidence: ServiceEvidence, rows: int, min_rows: int) -> CheckResult:
    if evidence.objects == 0 and rows > 0:
        message = (
            f"the servers captured {plural(rows, 'row')} but wrote no counts of their requests: those of an older "
            "release don't; update the server image"
        )
    elif evidence.requests == 0:
        message = f"the servers wrote of no request in the window; at least {min_rows:,} are needed"
    else:
        message = f"{plural(evidence.requests, 'request')} in the window; at least {min_rows:,} are needed"
    message += _left_out(evidence)
    return CheckResult(name=SERVICE, state=UNKNOWN, message=message, rows=evidence.requests)


def _find_worst(evidence: ServiceEvidence) -> tuple[FeatureFinding, ...]:
    """Shares of the codes that are no answer: the server's errors before the client's, the most frequent first."""
    found = sorted(
        (not is_server_error(status), -count, status)
        for status, count in evidence.codes.items()
        if kind_of(status) != ANSWERED
    )
    return tuple(
        FeatureFinding(name=str(status), value=round(-count / evidence.requests, 6))
        for _, count, status in found[:_WORST]
    )


def _describe(evidence: ServiceEvidence, config: ServiceConfig, *, is_failing: bool, is_slow: bool) -> str:
    return "; ".join(
        (
            _describe_errors(evidence, config, is_failing=is_failing),
            *_describe_codes(evidence),
            _describe_latency(evidence, config, is_slow=is_slow),
            _describe_load(evidence),
        )
    ) + _left_out(evidence)


def _describe_errors(evidence: ServiceEvidence, config: ServiceConfig, *, is_failing: bool) -> str:
    allowed = format_share(config.max_error_rate)
    if evidence.errors == 0:
        return f"none of {plural(evidence.requests, 'request')} ended as the server's error"
    rate = f"{_share(evidence.error_rate)} of {plural(evidence.requests, 'request')} ended as the server's error"
    if is_failing:
        return f"{rate}, more than {allowed} (p {format_p_value(evidence.p_value, sign=True)})"
    if evidence.error_rate > config.max_error_rate:
        p_value = format_p_value(evidence.p_value, sign=True)
        return f"{rate}, more than {allowed}, which chance explains (p {p_value})"
    return f"{rate}, at most {allowed} are allowed"


def _describe_codes(evidence: ServiceEvidence) -> list[str]:
    found = [(int(item.name), item.value) for item in _find_worst(evidence)[:_TOLD_CODES]]
    texts = [f"{status} ({_WORDS[kind_of(status)]}) {_share(value)}" for status, value in found]
    return [", ".join(texts)] if texts else []


def _describe_latency(evidence: ServiceEvidence, config: ServiceConfig, *, is_slow: bool) -> str:
    latency, limit = evidence.latency, config.max_latency_seconds
    if latency.p50 is None or latency.p95 is None or latency.p99 is None:
        return "no request was answered"
    text = ", ".join(f"p{100 * share:.0f} {_seconds(value)}" for share, value in _by_share(latency))
    if limit is None:
        return text
    if is_slow:
        return f"{text}, above the limit of {_seconds(limit)} (at least {_seconds(evidence.p99_low)})"
    if latency.p99 > limit:
        return f"{text}, which may be below the limit of {_seconds(limit)} (at least {_seconds(evidence.p99_low)})"
    return f"{text}, limit {_seconds(limit)}"


def _by_share(latency: Latency) -> list[tuple[float, float]]:
    values = (latency.p50, latency.p95, latency.p99)
    return [(share, value) for share, value in zip(PERCENTILES, values, strict=True) if value is not None]


def _describe_load(evidence: ServiceEvidence) -> str:
    busiest = "" if evidence.busiest is None else f" of {format_time(evidence.busiest)}"
    most = f"{format_number(evidence.busiest_per_second)}/s in the busiest minute{busiest}"
    return f"{format_number(evidence.per_second)} requests/s, {most}"


def _left_out(evidence: ServiceEvidence) -> str:
    if evidence.skipped == 0:
        return ""
    verb = "was" if evidence.skipped == 1 else "were"
    return f"; {plural(evidence.skipped, 'damaged object')} of servers' counts {verb} left out"


def _share(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else format_share(share)


def _seconds(seconds: float) -> str:
    if seconds >= LATENCY_BOUNDS[-1]:
        return f"{LATENCY_BOUNDS[-1]:.0f} s or more"
    return f"{format_number(seconds)} s" if seconds >= 1 else f"{format_number(1000 * seconds)} ms"
