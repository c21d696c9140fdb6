"""Checks of what users' queries result in: nothing but a number within its limits is Successful."""

import math
from datetime import UTC, datetime

import pytest

from modelloop.api.analysis import PrometheusCheck
from modelloop.decide.analysis import CustomMeasurement, fill_query
from modelloop.decide.analysis.custom import check_custom

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "verdict", "message"),
    [
        (0.5, "Successful", "0.5 is within min 0.1 and max 0.9"),
        (0.1, "Successful", "0.1 is within min 0.1 and max 0.9"),
        (0.9, "Successful", "0.9 is within min 0.1 and max 0.9"),
        (0.09, "Failed", "0.09 is below min 0.1"),
        (0.91, "Failed", "0.91 is above max 0.9"),
        (math.nan, "Inconclusive", "the query results in nan instead of a number"),
        (math.inf, "Inconclusive", "the query results in inf instead of a number"),
        (None, "Inconclusive", "the query results in nothing instead of a number"),
    ],
)
def test_a_custom_value_must_be_within_its_limits(value: float | None, verdict: str, message: str) -> None:
    check = PrometheusCheck(name="errors", query="up", min=0.1, max=0.9)
    result = check_custom(check, CustomMeasurement(time=NOW, value=value))
    assert (result.verdict, result.message) == (verdict, message)


def test_a_custom_check_without_a_measurement_is_never_successful() -> None:
    check = PrometheusCheck(name="errors", query="up", max=0.9)
    assert check_custom(check, None).verdict == "Inconclusive"
    result = check_custom(check, CustomMeasurement(time=NOW, value=0.5, error="2 series instead of one"))
    assert (result.verdict, result.message) == ("Error", "2 series instead of one")


def test_a_querys_variables_are_filled_in_and_nothing_else() -> None:
    query = 'sum(rate(x{pod=~"$candidate-.*$",ns="$namespace"}[1m])) / $names + $name'
    filled = fill_query(query, {"namespace": "prod", "name": "churn", "candidate": "churn-ab", "stable": "churn-cd"})
    assert filled == 'sum(rate(x{pod=~"churn-ab-.*$",ns="prod"}[1m])) / $names + churn'
