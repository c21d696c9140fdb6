"""One look at a candidate: all checks, what they came to so far, and the verdict."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelkit.contract.route import TIMEOUT, UNREACHABLE
from modelloop.api.analysis import Analysis, CheckStatus, PrometheusCheck, Verdict
from modelloop.decide.analysis.custom import CustomMeasurement, check_custom
from modelloop.decide.analysis.latency import check_latency, check_latency_ratio
from modelloop.decide.analysis.levels import alpha_for
from modelloop.decide.analysis.measurements import Measurements
from modelloop.decide.analysis.predictions import check_disagreement, check_prediction_distance, check_score_shift
from modelloop.decide.analysis.quality import check_quality
from modelloop.decide.analysis.result import CheckName, CheckResult
from modelloop.decide.analysis.traffic import check_success_ratio, check_traffic, is_mostly, requests_of

_STATISTICAL = (
    (CheckName.SUCCESS_RATIO, check_success_ratio),
    (CheckName.LATENCY, check_latency),
    (CheckName.LATENCY_RATIO, check_latency_ratio),
    (CheckName.DISAGREEMENT, check_disagreement),
    (CheckName.PREDICTION_DISTANCE, check_prediction_distance),
    (CheckName.SCORE_SHIFT, check_score_shift),
    (CheckName.QUALITY, check_quality),
)
_UNANSWERED = (CheckName.SUCCESS_RATIO, CheckName.LATENCY, CheckName.LATENCY_RATIO)
_MESSAGE_SIZE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOutcome:
    """What one look came to. `dryRun`, `onFailure` and the like are for the caller to apply."""

    verdict: Verdict
    checks: tuple[CheckStatus, ...]
    """The next records, in a fixed order; to be passed to the next look, and dropped with the step."""
    check: str = ""
    """Name of the check that decided; empty: Successful. Latency, too, when answers failed to come in time."""
    message: str = ""
    requests: int = 0
    """That the candidate was asked."""
    is_silent: bool = False
    """It Failed because answers didn't come: something may have happened to its pods."""


def decide_analysis(
    settings: Analysis,
    measurements: Measurements,
    records: Mapping[str, CheckStatus],
    *,
    steps: int,
    custom: Mapping[str, CustomMeasurement] | None = None,
) -> AnalysisOutcome:
    """One look. To be called once per interval: every call counts as a look.

    records: the last look's checks by name; empty when a step begins. steps: measurements of the whole rollout, the
    bake time included.
    """
    queries = settings.prometheus.checks if settings.prometheus is not None else ()
    measured = custom or {}
    results = [
        *_look(measurements, settings, alpha_for(settings, steps)),
        *(check_custom(query, measured.get(query.name)) for query in queries),
    ]
    times = {query.name: measured[query.name].time for query in queries if query.name in measured}
    found = [_record(records.get(result.name), result, times.get(result.name)) for result in results]
    # A built-in check that doesn't apply just now, as without labels, keeps its counts.
    absent = {*CheckName} - {check.name for check in found}
    kept = [records[name] for name in CheckName if name in absent and name in records]
    verdict, check, message = _sum_up(found, settings, {query.name: query for query in queries})
    if verdict == "Failed" and check == CheckName.SUCCESS_RATIO and is_mostly(measurements, TIMEOUT):
        # That few answers came is what was counted; that they are late is why.
        check, message = CheckName.LATENCY, f"answers don't come in time: {message}"
    return AnalysisOutcome(
        verdict=verdict,
        checks=(*found, *kept),
        check=check,
        message=message,
        requests=0 if measurements.problem else requests_of(measurements),
        is_silent=verdict == "Failed" and check in _UNANSWERED and is_mostly(measurements, TIMEOUT, UNREACHABLE),
    )


def _look(measured: Measurements, settings: Analysis, levels: Mapping[str, float]) -> Iterable[CheckResult]:
    traffic = check_traffic(measured, settings)
    yield traffic
    if traffic.verdict == "Error":
        return
    for name, check in _STATISTICAL:
        if name in levels:
            result = check(measured, settings, levels[name])
            if result is not None:
                yield result


def _record(last: CheckStatus | None, result: CheckResult, time: datetime | None) -> CheckStatus:
    """The check's next record. time: of a custom check's measurement."""
    if last is None:
        last = CheckStatus(name=result.name, verdict="Inconclusive")
    if time is None or last.time is None or time > last.time:
        return _count(last, result, time)
    if result.verdict != "Successful":
        return last
    message = f"no newer result than that of the last look: {result.message}"
    return last.model_copy(update={"verdict": "Inconclusive", "message": message[:_MESSAGE_SIZE]})


def _count(last: CheckStatus, result: CheckResult, time: datetime | None) -> CheckStatus:
    failed, error = result.verdict == "Failed", result.verdict == "Error"
    return CheckStatus(
        name=result.name,
        verdict=result.verdict,
        value=_finite(result.value),
        limit=_finite(result.limit),
        low=_finite(result.low),
        high=_finite(result.high),
        samples=result.samples,
        failures=last.failures + failed,
        consecutive_failures=last.consecutive_failures + 1 if failed else 0,
        errors=last.errors + error,
        consecutive_errors=last.consecutive_errors + 1 if error else 0,
        inconclusive=last.inconclusive + (result.verdict == "Inconclusive"),
        message=result.message[:_MESSAGE_SIZE],
        time=time if time is not None else last.time,
    )


def _sum_up(
    checks: Sequence[CheckStatus], settings: Analysis, queries: Mapping[str, PrometheusCheck]
) -> tuple[Verdict, str, str]:
    """Verdict, deciding check and message: an ordered chain, the first that holds decides."""
    for check in checks:
        reason = _failure(check, settings, queries.get(check.name))
        if reason:
            return "Failed", check.name, f"{check.name} failed ({reason}): {check.message}"
    for check in checks:
        reason = _error(check, settings)
        if reason:
            return "Error", check.name, f"{check.name} couldn't be measured ({reason}): {check.message}"
    for check in checks:
        if check.verdict != "Successful":
            return "Inconclusive", check.name, f"{check.name} is {check.verdict}: {check.message}"
    return "Successful", "", "; ".join(f"{check.name}: {check.message}" for check in checks)


def _failure(check: CheckStatus, settings: Analysis, query: PrometheusCheck | None) -> str:
    total, in_a_row = settings.failure_limit, settings.consecutive_failure_limit
    if query is not None and (query.failure_limit is not None or query.consecutive_failure_limit is not None):
        total, in_a_row = query.failure_limit, query.consecutive_failure_limit
    if total is None and in_a_row is None:
        total = 0
    if total is not None and check.failures > total:
        return f"{check.failures} > failureLimit {total}"
    if in_a_row is not None and check.consecutive_failures > in_a_row:
        return f"{check.consecutive_failures} > consecutiveFailureLimit {in_a_row}"
    return ""


def _error(check: CheckStatus, settings: Analysis) -> str:
    if settings.error_limit is not None and check.errors > settings.error_limit:
        return f"{check.errors} > errorLimit {settings.error_limit}"
    if check.consecutive_errors > settings.consecutive_error_limit:
        return f"{check.consecutive_errors} > consecutiveErrorLimit {settings.consecutive_error_limit}"
    return ""


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
