"""Each check at its limits: what was found, what is allowed, and what can't be told is never Successful."""

import math
from dataclasses import replace

import pytest

from modelkit.contract.route import LatencyReport
from modelloop.api.analysis import Analysis, LatencyAnalysis, QualityAnalysis
from modelloop.decide.analysis import Measurements
from modelloop.decide.analysis.latency import check_latency, check_latency_ratio
from modelloop.decide.analysis.measurements import Labels, Pairs, Side
from modelloop.decide.analysis.predictions import check_disagreement, check_prediction_distance, check_score_shift
from modelloop.decide.analysis.quality import check_quality
from modelloop.decide.analysis.result import CheckResult
from modelloop.decide.analysis.traffic import check_success_ratio, check_traffic

ALPHA = 0.0005
SETTINGS = Analysis()


def asked(total: int, failed: int = 0, **more: object) -> Measurements:
    side = Side(asked=total, answered=total - failed, failures={"Error": failed}, **more)  # type: ignore[arg-type]
    return Measurements(pods=1, candidate=side)


def compared(requests: int, **more: object) -> Measurements:
    return Measurements(pods=1, pairs=Pairs(**({"requests": requests, "scored": requests, "rows": requests} | more)))  # type: ignore[arg-type]


def found(result: CheckResult | None) -> CheckResult:
    assert result is not None
    return result


# -- traffic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "verdict", "message"),
    [
        (asked(100), "Successful", "100 requests"),
        (asked(99), "Inconclusive", "99 requests; 100 are wanted"),
        (asked(0), "Inconclusive", "0 requests; 100 are wanted"),
        (compared(100), "Successful", "100 requests"),
        (replace(asked(60), pairs=Pairs(requests=60)), "Inconclusive", "60 requests; 100 are wanted"),
        (Measurements(), "Error", "no pod reports what is measured in this step"),
        (replace(asked(100), problem="1 of 0"), "Error", "the pods' reports make no sense: 1 of 0"),
        (compared(100, shift_sum=math.nan), "Inconclusive", "aren't finite numbers"),
        (replace(asked(100), labels=Labels(candidate_loss=math.inf)), "Inconclusive", "aren't finite numbers"),
    ],
)
def test_there_must_be_enough_traffic(measured: Measurements, verdict: str, message: str) -> None:
    result = check_traffic(measured, SETTINGS)
    assert result.verdict == verdict
    assert message in result.message


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (asked(100), "Successful"),
        (asked(100, 1), "Successful"),
        (asked(100, 2), "Inconclusive"),
        (asked(100, 3), "Inconclusive"),
        (asked(100, 12), "Failed"),
        (asked(2, 2), "Inconclusive"),
        (asked(5, 5), "Failed"),
        (asked(1_000_000, 10_000), "Successful"),
        (asked(1_000_000, 11_000), "Failed"),
        (asked(0), "Inconclusive"),
        (asked(100, skipped=50), "Successful"),
        (asked(0, skipped=50), "Inconclusive"),
        (compared(100), "Successful"),
        (compared(100, failed=20), "Failed"),
        (compared(100, failed=2), "Inconclusive"),
        (compared(0, failed=20), "Failed"),
        (replace(asked(1000), pairs=Pairs(requests=100, failed=20)), "Failed"),
        (replace(asked(100, 30), pairs=Pairs(requests=1000)), "Failed"),
    ],
)
def test_a_candidate_must_answer_what_it_is_asked(measured: Measurements, verdict: str) -> None:
    assert check_success_ratio(measured, SETTINGS, ALPHA).verdict == verdict


@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.9, 0.93, 0.95, 0.97, 0.99])
def test_a_success_ratio_at_its_limit_is_within_it(ratio: float) -> None:
    settings = Analysis(min_success_ratio=ratio)
    assert check_success_ratio(asked(100, 100 - round(100 * ratio)), settings, ALPHA).verdict == "Successful"
    assert check_success_ratio(asked(100, 101 - round(100 * ratio)), settings, ALPHA).verdict == "Inconclusive"


def test_a_success_ratio_tells_its_numbers() -> None:
    result = check_success_ratio(asked(100, 12, skipped=7), SETTINGS, ALPHA)
    assert (result.value, result.limit, result.samples) == (pytest.approx(0.88), 0.99, 100)
    assert result.low is not None
    assert result.high is not None
    assert result.low < 0.88 < result.high < 0.99
    assert result.message == (
        "88 % of 100 requests answered, at least 99 % is wanted (12 Error); 7 requests weren't sent because it failed "
        "too often in a row or had too much to do"
    )


# -- latency -------------------------------------------------------------------------------------------------------

BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def timed(candidate: tuple[int, ...], stable: tuple[int, ...] = (), timeouts: int = 0) -> Measurements:
    return Measurements(
        pods=1,
        candidate=Side(
            asked=sum(candidate) + timeouts,
            answered=sum(candidate),
            failures={"Timeout": timeouts},
            latency=LatencyReport(bounds=BOUNDS, counts=(*candidate[:-1], candidate[-1] + timeouts)),
        ),
        stable=Side(latency=LatencyReport(bounds=BOUNDS, counts=stable)),
    )


@pytest.mark.parametrize(
    ("counts", "timeouts", "limit", "verdict"),
    [
        ((100, 0, 0, 0, 0, 0, 0), 0, "50ms", "Successful"),
        ((0, 99, 1, 0, 0, 0, 0), 0, "50ms", "Successful"),
        ((0, 98, 2, 0, 0, 0, 0), 0, "50ms", "Inconclusive"),
        ((0, 50, 50, 0, 0, 0, 0), 0, "50ms", "Failed"),
        ((0, 50, 50, 0, 0, 0, 0), 0, "60ms", "Inconclusive"),
        ((0, 50, 50, 0, 0, 0, 0), 0, "100ms", "Successful"),
        ((100, 0, 0, 0, 0, 0, 0), 20, "50ms", "Failed"),
        ((0, 0, 0, 0, 0, 0, 100), 0, "5s", "Inconclusive"),
        ((0, 0, 0, 0, 0, 0, 100), 0, "1s", "Failed"),
        ((100, 0, 0, 0, 0, 0, 0), 0, "5ms", "Inconclusive"),
    ],
)
def test_p99_must_be_within_the_absolute_limit(
    counts: tuple[int, ...], timeouts: int, limit: str, verdict: str
) -> None:
    settings = Analysis(latency=LatencyAnalysis(max_p99=limit))
    assert found(check_latency(timed(counts, timeouts=timeouts), settings, ALPHA)).verdict == verdict


def test_there_is_no_absolute_limit_by_default() -> None:
    assert check_latency(timed((0, 0, 0, 0, 0, 0, 100)), SETTINGS, ALPHA) is None


FAST = (1000, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("candidate", "stable", "verdict", "message"),
    [
        (FAST, FAST, "Successful", "allowed: 1000 answers, 1000 of the stable version"),
        ((0, 1000, 0, 0, 0, 0, 0), FAST, "Successful", "50 ms is allowed"),
        ((0, 0, 0, 0, 100, 0, 0), FAST, "Failed", "p90 is above 250 ms, 50 ms is allowed"),
        ((0, 0, 0, 0, 3, 0, 0), FAST, "Inconclusive", "is allowed: 3 answers"),
        ((90, 0, 0, 0, 10, 0, 0), FAST, "Inconclusive", "p99"),
        ((1800, 0, 0, 0, 200, 0, 0), (5000, 0, 0, 0, 0, 0, 0), "Failed", "p99 is above 250 ms, 50 ms is allowed"),
        ((0, 0, 0, 500, 0, 0, 0), (0, 0, 500, 0, 0, 0, 0), "Inconclusive", "219 ms is allowed"),
        ((0, 0, 500, 0, 0, 0, 0), (0, 0, 500, 0, 0, 0, 0), "Successful", "is allowed"),
    ],
)
def test_the_candidate_must_not_be_much_slower_than_the_stable_version(
    candidate: tuple[int, ...], stable: tuple[int, ...], verdict: str, message: str
) -> None:
    result = found(check_latency_ratio(timed(candidate, stable), SETTINGS, ALPHA))
    assert (result.verdict, message in result.message) == (verdict, True), result.message


@pytest.mark.parametrize("stable", [(), (29, 0, 0, 0, 0, 0, 0)])
def test_without_answers_of_the_stable_version_there_is_nothing_to_compare_with(stable: tuple[int, ...]) -> None:
    assert check_latency_ratio(timed((0, 0, 0, 0, 0, 0, 100), stable), SETTINGS, ALPHA) is None


def test_answers_that_were_not_timed_are_inconclusive_but_copies_need_not_be() -> None:
    measured = replace(timed((0,) * 7, FAST), candidate=Side(asked=100, answered=100))
    assert found(check_latency_ratio(measured, SETTINGS, ALPHA)).verdict == "Inconclusive"
    assert check_latency_ratio(replace(measured, candidate=Side()), SETTINGS, ALPHA) is None


# -- predictions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (compared(100, disagreements=10), "Successful"),
        (compared(100, disagreements=30), "Successful"),
        (compared(100, disagreements=31), "Inconclusive"),
        (compared(100, disagreements=60), "Failed"),
        (compared(29, disagreements=0), "Inconclusive"),
        (compared(20, disagreements=20), "Failed"),
        (compared(1, rows=10_000, disagreements=10_000), "Inconclusive"),
        (compared(100, rows=10_000, disagreements=3_100), "Inconclusive"),
    ],
)
def test_the_versions_must_not_differ_in_too_many_rows(measured: Measurements, verdict: str) -> None:
    assert found(check_disagreement(measured, SETTINGS, ALPHA)).verdict == verdict


@pytest.mark.parametrize("check", [check_disagreement, check_prediction_distance, check_score_shift])
def test_without_compared_rows_predictions_are_not_judged(check: object) -> None:
    settings = Analysis(max_score_shift=0.1)
    assert check(asked(1000), settings, ALPHA) is None  # type: ignore[operator]


@pytest.mark.parametrize(
    ("rows", "candidate", "stable", "verdict"),
    [
        (1000, {"a": 500, "b": 500}, {"a": 520, "b": 480}, "Successful"),
        (1000, {"a": 1000, "b": 0}, {"a": 500, "b": 500}, "Failed"),
        (1000, {"c": 1000}, {"a": 500, "b": 500}, "Failed"),
        (100, {"a": 100, "b": 0}, {"a": 50, "b": 50}, "Inconclusive"),
        (1000, {"a": 1000}, {"a": 900, "b": 100}, "Inconclusive"),
        (1000, {"a": 800, "b": 200}, {"a": 900, "b": 100}, "Successful"),
        (1000, {"a": 1000}, {}, "Inconclusive"),
        (20, {"a": 20}, {"a": 20}, "Inconclusive"),
    ],
)
def test_the_predictions_must_be_distributed_alike(
    rows: int, candidate: dict[str, int], stable: dict[str, int], verdict: str
) -> None:
    measured = compared(rows, candidate_counts=candidate, stable_counts=stable)
    assert found(check_prediction_distance(measured, SETTINGS, ALPHA)).verdict == verdict


def test_a_regression_without_bins_has_no_distance() -> None:
    assert check_prediction_distance(compared(1000), SETTINGS, ALPHA) is None


def test_a_distance_tells_which_class_changed_most() -> None:
    measured = compared(
        1000, candidate_counts={"a": 900, "b": 50, "c": 50}, stable_counts={"a": 300, "b": 600, "c": 100}
    )
    message = found(check_prediction_distance(measured, SETTINGS, ALPHA)).message
    assert "'a' went from 30 % to 90 %" in message


@pytest.mark.parametrize(
    ("requests", "mean", "sd", "verdict"),
    [
        (1000, 0.0, 0.3, "Successful"),
        (1000, 0.3, 0.3, "Failed"),
        (1000, -0.3, 0.3, "Failed"),
        (1000, 0.11, 0.3, "Inconclusive"),
        (99, 5.0, 0.01, "Inconclusive"),
        (1000, math.nan, 0.3, "Inconclusive"),
        (1000, math.inf, 0.3, "Inconclusive"),
        (1000, 1e200, 0.3, "Inconclusive"),
    ],
)
def test_the_mean_difference_must_be_within_its_limit(requests: int, mean: float, sd: float, verdict: str) -> None:
    measured = compared(requests, shift_sum=mean * requests, shift_squares=(mean * mean + sd * sd) * requests)
    result = found(check_score_shift(measured, Analysis(max_score_shift=0.1), ALPHA))
    assert result.verdict == verdict


def test_squares_that_are_less_than_their_mean_allows_are_inconclusive() -> None:
    measured = compared(1000, shift_sum=500.0, shift_squares=0.0)
    assert found(check_score_shift(measured, Analysis(max_score_shift=0.1), ALPHA)).verdict == "Inconclusive"


# -- quality -------------------------------------------------------------------------------------------------------


def labelled(rows: int, wins: int, losses: int) -> Measurements:
    return Measurements(
        pods=1,
        labels=Labels(
            rows=rows,
            candidate_wins=wins,
            stable_wins=losses,
            candidate_loss=float(losses),
            stable_loss=float(wins),
            difference_squares=float(wins + losses),
        ),
    )


@pytest.mark.parametrize(
    ("measured", "verdict", "message"),
    [
        (labelled(1000, 60, 60), "Successful", "accuracy is the same on 1000 labelled rows, 1 points lower is allowed"),
        (labelled(1000, 50, 60), "Successful", "accuracy is 1 points lower"),
        (labelled(1000, 60, 50), "Successful", "accuracy is 1 points higher"),
        (labelled(1000, 45, 75), "Inconclusive", "3 points lower"),
        (labelled(5000, 175, 425), "Failed", "the candidate alone is right on 175, the stable version alone on 425"),
        (labelled(100, 0, 0), "Successful", "the same"),
        (labelled(100, 0, 60), "Failed", "60 points lower"),
    ],
)
def test_a_classifier_must_not_be_worse_on_labelled_rows(measured: Measurements, verdict: str, message: str) -> None:
    result = found(check_quality(measured, SETTINGS, ALPHA))
    assert (result.verdict, message in result.message) == (verdict, True), result.message


def regression(rows: int, candidate: float, stable: float, sd: float) -> Measurements:
    """By the mean absolute errors and the standard deviation of their differences."""
    difference = candidate - stable
    labels = Labels(
        rows=rows,
        candidate_loss=candidate * rows,
        stable_loss=stable * rows,
        difference_squares=(sd * sd + difference * difference) * rows,
    )
    return Measurements(pods=1, is_classification=False, labels=labels)


@pytest.mark.parametrize(
    ("measured", "verdict", "message"),
    [
        (regression(1000, 10, 10, 4), "Successful", "mean absolute error is 0 % smaller"),
        (regression(1000, 10.4, 10, 4), "Successful", "4 % larger on 1000 labelled rows, 5 % larger is allowed"),
        (regression(1000, 10.8, 10, 4), "Inconclusive", "8 % larger"),
        (regression(1000, 12, 10, 4), "Failed", "20 % larger"),
        (regression(1000, 12, 0, 4), "Inconclusive", "can't be compared"),
        (regression(1000, math.nan, 10, 4), "Inconclusive", "can't be compared"),
        (regression(1000, 1e300, 10, 4), "Inconclusive", "can't be compared"),
        (regression(1000, math.inf, math.inf, 4), "Inconclusive", "can't be compared"),
        (regression(1000, 10, 10, math.nan), "Inconclusive", "can't be compared"),
    ],
)
def test_a_regression_must_not_be_worse_on_labelled_rows(measured: Measurements, verdict: str, message: str) -> None:
    result = found(check_quality(measured, SETTINGS, ALPHA))
    assert (result.verdict, message in result.message) == (verdict, True), result.message


def test_few_labels_decide_nothing_unless_they_are_required() -> None:
    assert check_quality(labelled(99, 0, 99), SETTINGS, ALPHA) is None
    required = Analysis(quality=QualityAnalysis(required=True))
    result = found(check_quality(labelled(99, 0, 99), required, ALPHA))
    assert (result.verdict, result.message) == ("Inconclusive", "99 labelled rows; 100 are wanted")
