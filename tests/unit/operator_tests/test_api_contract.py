"""What goes between control plane and pods: strict, lossless, and small enough for the kubelet."""

import base64
import json
import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
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
    DriftConfig,
    FeedbackConfig,
    LimitsConfig,
    MonitorConfig,
    PreprocessingConfig,
    QualityConfig,
    ServerConfig,
    StoreConfig,
    TrainerConfig,
    VersionRef,
)
from modelkit.contract.environment import TERMINATION_MESSAGE_LIMIT
from modelkit.contract.metrics import CLASSIFICATION_METRICS, METRICS
from modelkit.contract.result import (
    MOST_SLICE_METRICS,
    ChampionResult,
    CheckResult,
    Compression,
    Difference,
    FeatureFinding,
    Finding,
    SliceResult,
    TrainingResult,
    Usage,
    WindowResult,
    read_termination_message,
    termination_message,
)

TEXT = st.text(max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), FINITE, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
METRIC_VALUES = st.dictionaries(st.sampled_from(METRICS), FINITE, max_size=3)
INTEGERS = st.integers(0, 2**31)
VERSION = st.builds(VersionRef, number=INTEGERS, path=TEXT, digest=TEXT)
STORE = st.builds(StoreConfig, uri=TEXT, env_prefix=TEXT)
RESULTS = st.builds(
    TrainingResult,
    outcome=TEXT,
    reason=st.none() | TEXT,
    message=st.none() | TEXT,
    digest=st.none() | TEXT,
    path=st.none() | TEXT,
    metric=st.none() | TEXT,
    metrics=METRIC_VALUES,
    trivial=METRIC_VALUES,
    champion=st.none()
    | st.builds(
        ChampionResult,
        number=INTEGERS,
        metrics=METRIC_VALUES,
        differences=st.dictionaries(
            st.sampled_from(METRICS), st.builds(Difference, value=FINITE, low=FINITE, high=FINITE), max_size=3
        ),
    ),
    champion_message=st.none() | TEXT,
    train_rows=INTEGERS,
    seconds=FINITE,
)
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


# -- the termination message ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    report=RESULTS,
    messages=st.tuples(*[st.sampled_from(["", "x" * 500, "ü" * 500, "x" * 5000, "𝄞" * 3000, '"' * 4000])] * 3),
)
def test_the_termination_message_fits_and_keeps_what_happened(
    report: TrainingResult, messages: tuple[str, str, str]
) -> None:
    message, champion, format_ = messages
    report = replace(report, message=message, champion_message=champion, format_message=format_)
    text = termination_message(report)
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    parsed = read_termination_message(text)
    assert (parsed.outcome, parsed.digest, parsed.path) == (report.outcome, report.digest, report.path)
    if len(dumps(report)) <= TERMINATION_MESSAGE_LIMIT:
        assert parsed == report


def test_a_full_result_with_long_messages_keeps_every_number() -> None:
    number = -1.234567891234567e-05
    values = dict.fromkeys(CLASSIFICATION_METRICS, number)
    difference = Difference(value=-number, low=-number, high=-number)
    report = TrainingResult(
        outcome="Succeeded",
        digest="sha256:" + "0" * 64,
        path="models/" + "n" * 63 + "/" + "m" * 52 + "/100-0a1b2c3d",
        task="Classification",
        metric="balanced_accuracy",
        estimator="HistGradientBoostingClassifier",
        metrics=values,
        trivial=values,
        champion=ChampionResult(
            number=99, metrics=values, differences=dict.fromkeys(CLASSIFICATION_METRICS, difference)
        ),
        champion_message="x" * 5000,
        format_message="ü" * 5000,
        evaluated_on="Recent",
        data_digest="sha256:" + "0" * 64,
    )
    parsed = read_termination_message(termination_message(report))
    for field in fields(TrainingResult):
        if not field.name.endswith("message") and field.name not in {"metrics", "trivial", "champion"}:
            assert getattr(parsed, field.name) == getattr(report, field.name), field.name
    assert parsed.metrics == pytest.approx(values, rel=1e-8)
    assert parsed.trivial == pytest.approx(values, rel=1e-8)
    assert parsed.champion is not None
    assert parsed.champion.metrics == pytest.approx(values, rel=1e-8)
    for found in parsed.champion.differences.values():
        assert (found.value, found.low, found.high) == pytest.approx((-number,) * 3, rel=1e-8)
    assert set(parsed.champion.differences) == set(CLASSIFICATION_METRICS)


# -- results that are too long for plain JSON -----------------------------------------------------------------------

FRACTION = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: number * 1.000000123456789)
DIFFERENCE = st.builds(Difference, value=FRACTION, low=FRACTION, high=FRACTION)


@st.composite
def _slices(draw: st.DrawFn) -> tuple[SliceResult, ...]:
    """At most as many pairs of slice and metric as gates may ask for, spread over at most 20 slices."""
    count = draw(st.integers(0, 20))
    pairs = draw(st.lists(st.tuples(st.integers(0, count), st.sampled_from(METRICS)), max_size=MOST_SLICE_METRICS))
    found = []
    for index in range(count):
        names = sorted({metric for place, metric in pairs if place == index})
        found.append(
            SliceResult(
                name=draw(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63)),
                rows=draw(INTEGERS),
                metrics={name: draw(FRACTION) for name in names},
                champion={name: draw(FRACTION) for name in names},
                differences={name: draw(DIFFERENCE) for name in names},
            )
        )
    return tuple(found)


@settings(max_examples=60, deadline=None)
@given(slices=_slices(), text=st.sampled_from(["", "x" * 300, "ü" * 5000]), findings=st.integers(0, 10), data=st.data())
def test_gates_get_their_numbers_however_much_a_run_has_to_tell(
    slices: tuple[SliceResult, ...], text: str, findings: int, data: st.DataObject
) -> None:
    def values() -> dict[str, float]:
        return {name: data.draw(FRACTION) for name in CLASSIFICATION_METRICS}

    report = TrainingResult(
        outcome="Succeeded",
        digest="sha256:" + "0" * 64,
        path="models/" + "n" * 63 + "/" + "m" * 52 + "/100-0a1b2c3d",
        task="Classification",
        metric="balanced_accuracy",
        estimator="HistGradientBoostingClassifier",
        metrics=values(),
        trivial=values(),
        champion=ChampionResult(
            number=99,
            metrics=values(),
            differences={name: data.draw(DIFFERENCE) for name in CLASSIFICATION_METRICS},
        ),
        champion_message=text,
        format_message=text,
        data_digest="sha256:" + "0" * 64,
        slices=slices,
        findings=(Finding(column="c" * 100, rule="OutOfRange", value=1 / 3, limit=1 / 7, message=text),) * findings,
        compressions=(
            Compression(
                method="Distillation",
                accepted=True,
                drop=1 / 3,
                bytes_before=10**9,
                bytes_after=10**6,
                seconds_before=1 / 7,
                seconds_after=1 / 9,
            ),
        )
        * 3,
        usage=Usage(cpu_seconds=1 / 3, memory_gib_seconds=1 / 7, peak_memory_bytes=10**10),
    )
    message = termination_message(report)
    assert len(message.encode()) <= TERMINATION_MESSAGE_LIMIT
    parsed = read_termination_message(message)
    assert (parsed.digest, parsed.path, parsed.metric) == (report.digest, report.path, report.metric)
    assert parsed.metrics == pytest.approx(report.metrics, rel=1e-6)
    assert parsed.trivial["balanced_accuracy"] == pytest.approx(report.trivial["balanced_accuracy"], rel=1e-6)
    assert parsed.champion is not None
    assert report.champion is not None
    _assert_same_differences(parsed.champion.differences, report.champion.differences)
    assert [(found.name, found.rows) for found in parsed.slices] == [(found.name, found.rows) for found in slices]
    for found, expected in zip(parsed.slices, slices, strict=True):
        assert found.metrics == pytest.approx(expected.metrics, rel=1e-6)
        _assert_same_differences(found.differences, expected.differences)


def test_the_fullest_result_that_gates_can_ask_for_keeps_their_numbers() -> None:
    source = random.Random(0)

    def values(names: Sequence[str]) -> dict[str, float]:
        return {name: source.uniform(-1, 1) for name in names}

    def differences(names: Sequence[str]) -> dict[str, Difference]:
        return {name: Difference(value=source.random(), low=source.random(), high=source.random()) for name in names}

    slices = []
    for index in range(20):
        names = [
            CLASSIFICATION_METRICS[(index + step) % 16] for step in range(2 if index < MOST_SLICE_METRICS - 20 else 1)
        ]
        name = "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=63))
        slices.append(
            SliceResult(
                name=name,
                rows=source.randrange(10**6),
                metrics=values(names),
                champion=values(names),
                differences=differences(names),
            )
        )
    report = TrainingResult(
        outcome="Succeeded",
        digest=f"sha256:{source.getrandbits(256):064x}",
        path="models/" + "n" * 63 + "/" + "m" * 52 + "/100-0a1b2c3d",
        metric="f1",
        metrics=values(CLASSIFICATION_METRICS),
        trivial=values(CLASSIFICATION_METRICS),
        champion=ChampionResult(
            number=99, metrics=values(CLASSIFICATION_METRICS), differences=differences(CLASSIFICATION_METRICS)
        ),
        data_digest=f"sha256:{source.getrandbits(256):064x}",
        slices=tuple(slices),
        format_message="".join(source.choices("abcdefghijklmnopqrstuvwxyz ", k=5000)),
    )
    message = termination_message(report)
    assert len(message.encode()) <= TERMINATION_MESSAGE_LIMIT
    parsed = read_termination_message(message)
    assert sum(len(found.metrics) for found in parsed.slices) == MOST_SLICE_METRICS
    assert parsed.metrics == pytest.approx(report.metrics, rel=1e-6)
    for found, expected in zip(parsed.slices, slices, strict=True):
        assert (found.name, found.rows, found.champion) == (expected.name, expected.rows, {})
        assert found.metrics == pytest.approx(expected.metrics, rel=1e-6)
        _assert_same_differences(found.differences, expected.differences)


def _assert_same_differences(found: Any, expected: Any) -> None:
    assert set(found) == set(expected)
    for name, difference in expected.items():
        assert astuple(found[name]) == pytest.approx(astuple(difference), rel=1e-6)


@pytest.mark.parametrize("text", ['{"deflated":"####"}', '{"deflated":"NRvrS"}', '{"deflated":5}', "[]", "no", ""])
def test_a_termination_message_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        read_termination_message(text)


def test_a_packed_message_cannot_fill_the_memory() -> None:
    bomb = base64.b85encode(zlib.compress(b"[" * 3_000_000, 9)).decode()
    with pytest.raises(ContractError, match="65536 bytes"):
        read_termination_message(json.dumps({"deflated": bomb}))
