"""One look after the other: what the checks came to, and the verdict over all of them."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelloop.api.analysis import Analysis, CheckStatus, Prometheus, PrometheusCheck
from modelloop.decide.analysis import AnalysisOutcome, CustomMeasurement, Measurements, decide_analysis
from modelloop.decide.analysis.measurements import Labels, Pairs, Side

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = Measurements(
    pods=2,
    candidate=Side(asked=200, answered=200),
    pairs=Pairs(
        requests=200,
        scored=200,
        rows=200,
        disagreements=20,
        candidate_counts={"a": 100, "b": 100},
        stable_counts={"a": 100, "b": 100},
    ),
    labels=Labels(rows=200, candidate_wins=10, stable_wins=10),
)
BAD = replace(GOOD, candidate=Side(asked=200, answered=100, failures={"Error": 100}))
SILENT = Measurements()
IDLE = Measurements(pods=2)
QUERY = PrometheusCheck(name="errors", query="up", max=1)


def look(
    measured: Measurements,
    before: AnalysisOutcome | None = None,
    settings: Analysis | None = None,
    custom: dict[str, CustomMeasurement] | None = None,
) -> AnalysisOutcome:
    records = {check.name: check for check in before.checks} if before is not None else {}
    # As it comes back from the API server.
    records = {name: CheckStatus.model_validate(check.model_dump(by_alias=True)) for name, check in records.items()}
    return decide_analysis(settings or Analysis(), measured, records, steps=3, custom=custom)


def sequence(settings: Analysis, *measured: Measurements) -> list[str]:
    outcome, verdicts = None, []
    for one in measured:
        outcome = look(one, outcome, settings)
        verdicts.append(outcome.verdict)
    return verdicts


def asked_prometheus(**more: object) -> Analysis:
    check = QUERY.model_copy(update=more)
    return Analysis(prometheus=Prometheus(address="http://prometheus:9090", checks=(check,)))


def test_a_good_candidate_is_successful_by_every_check() -> None:
    outcome = look(GOOD)
    assert (outcome.verdict, outcome.check, outcome.requests) == ("Successful", "", 200)
    assert [(check.name, check.verdict) for check in outcome.checks] == [
        (name, "Successful") for name in ("Traffic", "SuccessRatio", "Disagreement", "PredictionDistance", "Quality")
    ] or [check.message for check in outcome.checks]


def test_a_failed_check_decides_and_tells_its_numbers() -> None:
    outcome = look(BAD)
    assert (outcome.verdict, outcome.check) == ("Failed", "SuccessRatio")
    assert outcome.message == (
        "SuccessRatio failed (1 > failureLimit 0): 50 % of 200 requests answered, at least 99 % is wanted (100 Error)"
    )


def test_no_traffic_is_inconclusive_however_often_it_is_looked_at() -> None:
    outcome = look(IDLE)
    for _ in range(50):
        outcome = look(IDLE, outcome)
    assert (outcome.verdict, outcome.check) == ("Inconclusive", "Traffic")
    assert outcome.checks[0].inconclusive == 51


def test_pods_that_cannot_be_read_are_an_error_after_some_looks_and_never_a_failure() -> None:
    assert sequence(Analysis(), *[SILENT] * 6) == [*["Inconclusive"] * 4, "Error", "Error"]
    assert sequence(Analysis(consecutive_error_limit=0), SILENT) == ["Error"]
    assert sequence(Analysis(), SILENT, SILENT, GOOD, SILENT, SILENT, SILENT, GOOD)[-1] == "Successful"
    assert sequence(Analysis(error_limit=2), SILENT, GOOD, SILENT, GOOD, SILENT)[-1] == "Error"


@pytest.mark.parametrize(
    ("settings", "looks", "verdicts"),
    [
        (Analysis(failure_limit=1), "BGB", ["Inconclusive", "Successful", "Failed"]),
        (Analysis(failure_limit=2), "BB", ["Inconclusive", "Inconclusive"]),
        (
            Analysis(consecutive_failure_limit=1),
            "BGBGBB",
            [*["Inconclusive", "Successful"] * 2, "Inconclusive", "Failed"],
        ),
        (Analysis(consecutive_failure_limit=1, failure_limit=1), "BGB", ["Inconclusive", "Successful", "Failed"]),
        (Analysis(failure_limit=0), "B", ["Failed"]),
    ],
)
def test_failures_are_borne_with_up_to_their_limits(settings: Analysis, looks: str, verdicts: list[str]) -> None:
    assert sequence(settings, *({"B": BAD, "G": GOOD}[one] for one in looks)) == verdicts


def test_a_look_that_failed_within_its_limit_is_not_successful() -> None:
    outcome = look(BAD, settings=Analysis(failure_limit=5))
    assert (outcome.verdict, outcome.check) == ("Inconclusive", "SuccessRatio")
    assert outcome.message.startswith("SuccessRatio is Failed: 50 %")


def test_a_failure_outweighs_an_error() -> None:
    settings = asked_prometheus().model_copy(update={"consecutive_error_limit": 0})
    errors = {"errors": CustomMeasurement(time=NOW, error="connection refused")}
    assert look(BAD, settings=settings, custom=errors).verdict == "Failed"
    outcome = look(GOOD, settings=settings, custom=errors)
    assert (outcome.verdict, outcome.check) == ("Error", "errors")
    assert "connection refused" in outcome.message


def test_a_custom_check_must_hold_too() -> None:
    settings = asked_prometheus()
    assert (
        look(GOOD, settings=settings, custom={"errors": CustomMeasurement(time=NOW, value=1)}).verdict == "Successful"
    )
    assert look(GOOD, settings=settings, custom={"errors": CustomMeasurement(time=NOW, value=2)}).verdict == "Failed"
    for nothing in ({}, None, {"errors": CustomMeasurement(time=NOW)}, {"other": CustomMeasurement(time=NOW, value=1)}):
        assert look(GOOD, settings=settings, custom=nothing).verdict == "Inconclusive"


def test_a_dead_prometheus_becomes_an_error_and_never_a_failure_or_success() -> None:
    settings, outcome, verdicts = asked_prometheus(), None, []
    for index in range(7):
        dead = {"errors": CustomMeasurement(time=NOW + timedelta(seconds=index), error="no answer in 5 s")}
        outcome = look(GOOD, outcome, settings, dead)
        verdicts.append(outcome.verdict)
    assert verdicts == [*["Inconclusive"] * 4, *["Error"] * 3]


def test_a_custom_checks_own_limits_stand_in_for_the_analysis() -> None:
    settings, outcome = asked_prometheus(failure_limit=1), None
    for index, verdict in enumerate(["Inconclusive", "Failed"]):
        high = {"errors": CustomMeasurement(time=NOW + timedelta(seconds=index), value=2)}
        outcome = look(GOOD, outcome, settings, high)
        assert outcome.verdict == verdict


def test_a_custom_result_counts_once_however_often_it_is_passed() -> None:
    settings, high = asked_prometheus(failure_limit=1), {"errors": CustomMeasurement(time=NOW, value=2)}
    outcome = look(GOOD, None, settings, high)
    for _ in range(5):
        outcome = look(GOOD, outcome, settings, high)
    check = next(check for check in outcome.checks if check.name == "errors")
    assert (check.failures, check.consecutive_failures, check.time, outcome.verdict) == (1, 1, NOW, "Inconclusive")


def test_a_custom_result_makes_one_look_successful_and_no_later_one() -> None:
    settings, good = asked_prometheus(), {"errors": CustomMeasurement(time=NOW, value=0)}
    first = look(GOOD, None, settings, good)
    second = look(GOOD, first, settings, good)
    assert (first.verdict, second.verdict, second.check) == ("Successful", "Inconclusive", "errors")
    assert "no newer result than that of the last look: 0 is within max 1" in second.message
    newer = {"errors": CustomMeasurement(time=NOW + timedelta(seconds=1), value=0)}
    assert look(GOOD, second, settings, newer).verdict == "Successful"


def test_a_check_that_does_not_apply_for_a_while_keeps_its_counts() -> None:
    worse = replace(GOOD, labels=Labels(rows=1000, candidate_wins=0, stable_wins=300))
    settings = Analysis(failure_limit=1)
    first = look(worse, None, settings)
    second = look(replace(GOOD, labels=Labels()), first, settings)
    assert second.verdict == "Successful"
    assert next(check for check in second.checks if check.name == "Quality").failures == 1
    assert look(worse, second, settings).check == "Quality"


def test_records_of_checks_that_are_no_more_are_dropped() -> None:
    outcome = look(GOOD, None, asked_prometheus(), {"errors": CustomMeasurement(time=NOW, value=0)})
    assert "errors" in {check.name for check in outcome.checks}
    assert "errors" not in {check.name for check in look(GOOD, outcome).checks}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_candidate_that_predicts_nan_is_never_successful(value: float) -> None:
    measured = replace(GOOD, is_classification=False, pairs=replace(GOOD.pairs, shift_sum=value, shift_squares=value))
    outcome = look(measured)
    assert (outcome.verdict, outcome.check) == ("Inconclusive", "Traffic")


def test_reports_that_make_no_sense_are_judged_by_nothing_else() -> None:
    outcome = look(replace(BAD, problem="candidate asked: -1 isn't a count"))
    assert [check.name for check in outcome.checks] == ["Traffic"]
    assert (outcome.verdict, outcome.requests) == ("Inconclusive", 0)
