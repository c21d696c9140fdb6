"""What goes between control plane and pods: strict and lossless."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelkit.contract.codec import ContractError, dumps, format_time, from_plain, loads, parse_time
from modelkit.contract.config import (
    CandidateConfig,
    CaptureConfig,
    ComparisonConfig,
    DataConfig,
    FeedbackConfig,
    LimitsConfig,
    PreprocessingConfig,
    ServerConfig,
    StoreConfig,
    TrainerConfig,
    VersionRef,
)
from modelkit.contract.monitoring import DriftConfig, MonitorConfig, QualityConfig
from modelkit.contract.result import (
    CheckResult,
    FeatureFinding,
    TrainingResult,
    WindowResult,
)
from tests.unit.operator_tests.training_results import FINITE, INTEGERS, RESULTS, TEXT

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), FINITE, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
VERSION = st.builds(VersionRef, number=INTEGERS, path=TEXT, digest=TEXT)
STORE = st.builds(StoreConfig, uri=TEXT, env_prefix=TEXT)
MESSAGES: dict[type, st.SearchStrategy[Any]] = {
    TrainerConfig: st.builds(
        TrainerConfig,
        namespace=TEXT,
        name=TEXT,
        number=INTEGERS,
        version=TEXT,
        trigger=TEXT,
        store=STORE,
        data=st.builds(DataConfig, uri=TEXT, display_uri=TEXT, target=TEXT, features=st.tuples(TEXT, TEXT)),
        candidates=st.lists(
            st.builds(CandidateConfig, estimator=TEXT, params=st.dictionaries(TEXT, PLAIN, max_size=3)), max_size=2
        ).map(tuple),
        task=st.none() | TEXT,
        metric=st.none() | TEXT,
        preprocessing=st.builds(PreprocessingConfig, scaling=TEXT),
        folds=INTEGERS,
        test_fraction=FINITE,
        comparisons=st.lists(st.builds(ComparisonConfig, metric=TEXT, confidence=FINITE), max_size=2).map(tuple),
        champion=st.none() | VERSION,
        feedback=st.none() | st.builds(FeedbackConfig, deployment=TEXT, since=TIMES, until=TIMES, policy=TEXT),
    ),
    ServerConfig: st.builds(
        ServerConfig,
        namespace=TEXT,
        deployment=TEXT,
        version=VERSION,
        store=STORE,
        capture=st.builds(CaptureConfig, sample_percent=INTEGERS, flush_seconds=FINITE),
        limits=st.builds(LimitsConfig, max_rows=INTEGERS),
    ),
    MonitorConfig: st.builds(
        MonitorConfig,
        namespace=TEXT,
        name=TEXT,
        deployment=TEXT,
        version=VERSION,
        version_since=TIMES,
        store=STORE,
        window_seconds=FINITE,
        drift=st.builds(DriftConfig, max_distance=FINITE),
        quality=st.builds(QualityConfig, metric=st.none() | TEXT, max_drop=FINITE),
    ),
    TrainingResult: RESULTS,
    WindowResult: st.builds(
        WindowResult,
        start=TIMES,
        end=TIMES,
        version=INTEGERS,
        digest=TEXT,
        rows=INTEGERS,
        labels=INTEGERS,
        checks=st.lists(
            st.builds(
                CheckResult,
                name=TEXT,
                state=TEXT,
                message=TEXT,
                value=st.none() | FINITE,
                worst=st.lists(st.builds(FeatureFinding, name=TEXT, value=FINITE), max_size=2).map(tuple),
            ),
            max_size=2,
        ).map(tuple),
        report=TEXT,
    ),
}


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_message_read_back_is_what_was_written(kind: type) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(message=MESSAGES[kind])
    def check(message: Any) -> None:
        text = dumps(message)
        assert loads(kind, text) == message
        assert dumps(loads(kind, text)) == text
        assert loads(kind, text.encode()) == message

    check()


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_an_unknown_key_is_refused_with_its_name(kind: type) -> None:
    with pytest.raises(ContractError, match="unknown key 'new_key'"):
        loads(kind, '{"new_key": 1}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be JSON"),
        ("[]", "must be an object; found list"),
        ("null", "must be an object; found NoneType"),
        ('{"number": 1, "path": "x"}', "VersionRef.digest is required"),
        ('{"number": "1", "path": "x", "digest": "d"}', "VersionRef.number must be of type int; found str"),
        ('{"number": true, "path": "x", "digest": "d"}', "VersionRef.number must be of type int; found bool"),
        ('{"number": 1.5, "path": "x", "digest": "d"}', "VersionRef.number must be of type int; found float"),
        ('{"number": 1, "path": 5, "digest": "d"}', "VersionRef.path must be of type str; found int"),
    ],
)
def test_a_message_that_does_not_fit_names_the_place(text: str, words: str) -> None:
    with pytest.raises(ContractError) as caught:
        loads(VersionRef, text)
    assert words in str(caught.value)


def test_a_place_deep_inside_is_named() -> None:
    plain = json.loads(dumps(WINDOW))
    plain["checks"][0]["worst"][0]["value"] = "much"
    with pytest.raises(ContractError, match=r"WindowResult\.checks\[0\]\.worst\[0\]\.value"):
        from_plain(WindowResult, plain)


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = WindowResult(
    start=NOON,
    end=NOON,
    version=1,
    digest="d",
    rows=1,
    labels=1,
    checks=(CheckResult(name="Drift", state="OK", message="", worst=(FeatureFinding(name="a", value=1.0),)),),
    report="r",
)


def test_an_integer_is_good_where_a_float_is_expected() -> None:
    parsed = from_plain(ComparisonConfig, {"metric": "f1", "confidence": 1})
    assert isinstance(parsed.confidence, float)


def test_what_is_none_is_left_out_and_read_back_as_its_default() -> None:
    assert "reason" not in json.loads(dumps(TrainingResult(outcome="Succeeded")))
    assert from_plain(TrainingResult, {"outcome": "Succeeded", "reason": None}).reason is None


@given(TIMES)
def test_times_are_written_as_kubernetes_writes_them(moment: datetime) -> None:
    assert format_time(moment).endswith("Z")
    assert parse_time(format_time(moment)) == moment


def test_a_time_without_a_zone_is_refused_both_ways() -> None:
    with pytest.raises(ContractError, match="time-zone aware"):
        format_time(datetime(2026, 3, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(ContractError, match="with a zone"):
        parse_time("2026-03-01T12:00:00")
    with pytest.raises(ContractError, match="RFC 3339"):
        parse_time("yesterday")
    berlin = datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    assert parse_time(format_time(berlin)) == NOON


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_know_are_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(TrainingResult(outcome="Succeeded", metrics={"f1": value}))


@dataclass(frozen=True)
class TwoTypes:
    """A shape that the contract doesn't use."""

    value: int | str


def test_a_union_of_two_types_is_refused() -> None:
    with pytest.raises(ContractError, match="unions with None only"):
        from_plain(TwoTypes, {"value": 1})
