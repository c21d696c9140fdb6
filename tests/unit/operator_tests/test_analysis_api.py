"""spec.rollout.analysis: what nothing set means, and names on the wire."""

import re

import pytest

from modelloop.api.analysis import Analysis, CheckStatus, Prometheus
from modelloop.api.common import DNS_LABEL_PATTERN, DURATION_PATTERN, parse_duration
from modelloop.decide.analysis.result import CheckName


def test_nothing_set_means_the_documented_defaults() -> None:
    wire = Analysis.model_validate({}).model_dump(by_alias=True, exclude_none=True)
    assert wire == {
        "interval": "10s",
        "minRequests": 100,
        "minCompared": 30,
        "falseRollbackRate": 0.01,
        "minSuccessRatio": 0.99,
        "latency": {"maxRatio": 2.0, "allowance": "20ms", "floor": "50ms"},
        "maxDisagreement": 0.3,
        "maxPredictionDistance": 0.2,
        "quality": {"maxLoss": 0.01, "maxErrorIncrease": 0.05, "minLabels": 100, "required": False},
        "consecutiveErrorLimit": 4,
        "onFailure": "Rollback",
        "onNoTraffic": "Rollback",
        "onError": "Pause",
        "dryRun": False,
    }


@pytest.mark.parametrize("text", [Analysis().interval, Analysis().latency.allowance, Analysis().latency.floor])
def test_default_durations_are_durations(text: str) -> None:
    assert re.match(DURATION_PATTERN, text)
    assert parse_duration(text).total_seconds() > 0


def test_a_custom_check_cannot_have_the_name_of_a_built_in_one() -> None:
    assert not any(re.match(DNS_LABEL_PATTERN, name) for name in CheckName)


def test_a_prometheus_check_is_read_from_the_wire() -> None:
    wire = {"address": "http://p:9090", "checks": [{"name": "errors", "query": "up", "max": 1, "failureLimit": 2}]}
    check = Prometheus.model_validate(wire).checks[0]
    assert (check.name, check.min, check.max, check.failure_limit) == ("errors", None, 1.0, 2)


def test_a_records_name_and_verdict_are_all_that_it_needs() -> None:
    record = CheckStatus.model_validate({"name": "Traffic", "verdict": "Successful"})
    assert (record.failures, record.consecutive_errors, record.time, record.value) == (0, 0, None, None)
