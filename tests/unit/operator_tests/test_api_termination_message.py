"""What a run has to tell fits into a termination message, and gates get their numbers from it."""

import base64
import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.codec import ContractError, dumps
from modelkit.contract.environment import TERMINATION_MESSAGE_LIMIT
from modelkit.contract.metrics import CLASSIFICATION_METRICS, METRICS
from modelkit.contract.result import (
    MOST_SLICE_METRICS,
    ChampionResult,
    Compression,
    Difference,
    Finding,
    SliceResult,
    TrainingResult,
    Usage,
    read_termination_message,
    termination_message,
)
from tests.unit.operator_tests.training_results import INTEGERS, RESULTS


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
