"""Verdicts: every rule at its boundary, and what can't be measured never passes."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.metrics import LOWER_IS_BETTER, METRICS
from modelkit.contract.result import ChampionResult, Difference, TrainingResult
from modelloop.api.training import Gate
from modelloop.decide.gates import judge
from tests.unit.operator_tests.operator_states import compared, result

GOOD = {"f1": 0.95, "accuracy": 0.96, "log_loss": 0.1}


def verdict(report: TrainingResult, *gates: Gate) -> str:
    return judge(report, gates).verdict


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (Gate(metric="f1", min=0.94), "Approved"),
        (Gate(metric="f1", min=0.95), "Approved"),
        (Gate(metric="f1", min=0.95000001), "Rejected"),
        (Gate(metric="f1", max=0.95), "Approved"),
        (Gate(metric="f1", max=0.94999999), "Rejected"),
        (Gate(metric="log_loss", max=0.1), "Approved"),
        (Gate(metric="log_loss", max=0.09), "Rejected"),
        (Gate(metric="f1", min=0.9, max=0.99), "Approved"),
        (Gate(metric="f1", min=-1), "Approved"),
    ],
    ids=str,
)
def test_a_limit_is_inclusive(gate: Gate, expected: str) -> None:
    assert verdict(result(), gate) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None], ids=str)
@pytest.mark.parametrize(
    "gate", [Gate(metric="accuracy", min=-1e308), Gate(metric="accuracy", max=1e308)], ids=["min", "max"]
)
def test_a_missing_or_infinite_number_is_inconclusive(value: float | None, gate: Gate) -> None:
    metrics = {"f1": 0.95} | ({} if value is None else {"accuracy": value})
    judged = judge(result(metrics=metrics), [gate])
    assert judged.verdict == "Inconclusive"
    assert judged.failed[0].value is None
    assert "accuracy couldn't be measured" in judged.message


def test_a_rejection_outweighs_what_is_inconclusive() -> None:
    judged = judge(result(), [Gate(metric="f1", min=0.99), Gate(metric="roc_auc", min=0.5)])
    assert judged.verdict == "Rejected"
    assert [gate.metric for gate in judged.failed] == ["f1", "roc_auc"]


def test_a_failed_gate_tells_value_and_limit() -> None:
    failed = judge(result(), [Gate(metric="f1", min=0.99)]).failed[0]
    assert (failed.metric, failed.rule, failed.value, failed.limit) == ("f1", "min", 0.95, 0.99)
    assert failed.message == "f1 0.95 is below the gate's min 0.99"


@pytest.mark.parametrize(
    ("metric", "value", "trivial", "expected"),
    [
        ("f1", 0.61, 0.6, "Approved"),
        ("f1", 0.6, 0.6, "Rejected"),
        ("f1", 0.5, 0.6, "Rejected"),
        ("rmse", 0.5, 0.6, "Approved"),
        ("rmse", 0.6, 0.6, "Rejected"),
        ("rmse", 0.7, 0.6, "Rejected"),
        ("f1", math.nan, 0.6, "Inconclusive"),
        ("f1", 0.9, math.nan, "Inconclusive"),
    ],
)
def test_without_gates_the_trivial_predictor_must_be_beaten(
    metric: str, value: float, trivial: float, expected: str
) -> None:
    report = result(metric=metric, metrics={metric: value}, trivial={metric: trivial})
    assert verdict(report) == expected


def test_without_gates_a_trivial_predictor_that_was_not_measured_is_inconclusive() -> None:
    assert verdict(result(trivial={})) == "Inconclusive"


def test_gates_on_a_drop_alone_do_not_let_a_worthless_first_version_through() -> None:
    gate = Gate(metric="f1", max_drop=0.05)
    assert verdict(result(metrics={"f1": 0.5}), gate) == "Rejected"
    assert verdict(result(), gate) == "Approved"


@pytest.mark.parametrize(
    ("difference", "expected"),
    [(0.1, "Approved"), (0.0, "Approved"), (-1e-13, "Approved"), (-1e-6, "Rejected"), (math.nan, "Inconclusive")],
)
def test_without_a_gate_on_a_drop_the_champion_must_be_reached(difference: float, expected: str) -> None:
    assert verdict(result(champion=compared(difference)), Gate(metric="f1", min=0.5)) == expected
    assert verdict(result(champion=compared(difference))) == expected


@pytest.mark.parametrize(("difference", "expected"), [(-0.02, "Approved"), (-0.0200001, "Rejected"), (0.5, "Approved")])
def test_a_drop_up_to_max_drop_is_allowed(difference: float, expected: str) -> None:
    report = result(champion=compared(difference))
    assert verdict(report, Gate(metric="f1", min=0.5), Gate(metric="f1", max_drop=0.02)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.02, 0.1, "Approved"),
        (-0.03, -0.02, "Inconclusive"),
        (-0.03, 0.1, "Inconclusive"),
        (-0.04, -0.021, "Rejected"),
        (math.nan, 0.1, "Inconclusive"),
        (0.0, math.inf, "Inconclusive"),
    ],
)
def test_with_a_confidence_the_interval_must_decide(low: float, high: float, expected: str) -> None:
    report = result(champion=compared(0.0, low, high))
    assert verdict(report, Gate(metric="f1", min=0.5, max_drop=0.02, confidence=0.95)) == expected


def test_a_gate_on_a_drop_whose_metric_was_not_compared_is_inconclusive() -> None:
    report = result(champion=compared(0.1))
    assert verdict(report, Gate(metric="accuracy", min=0.5, max_drop=0.02)) == "Inconclusive"


def test_a_gate_on_a_drop_is_inconclusive_when_the_champion_could_not_be_measured() -> None:
    report = result(champion_message="version 1 needs the column 'age', which the data doesn't have")
    assert verdict(report, Gate(metric="f1", min=0.5, max_drop=0.02)) == "Inconclusive"
    assert verdict(report, Gate(metric="f1", min=0.5)) == "Approved"


def test_a_primary_metric_that_is_missing_is_inconclusive_and_named_once() -> None:
    judged = judge(result(metric="roc_auc"), [Gate(metric="f1", min=0.9)])
    assert judged.verdict == "Inconclusive"
    assert [gate.rule for gate in judged.failed] == ["primary"]
    judged = judge(result(metric="roc_auc"), [Gate(metric="roc_auc", min=0.9)])
    assert [gate.rule for gate in judged.failed] == ["min"]
    assert verdict(result(metric=None), Gate(metric="f1", min=0.9)) == "Inconclusive"


def test_an_approval_tells_its_numbers() -> None:
    judged = judge(result(champion=compared(0.05)), [Gate(metric="f1", min=0.9)])
    assert judged.message == "f1 0.95 on 114 rows, version 1 has 0.9 on the same rows"


NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, 0.5, 1.0, -1.0]))
NAMES = st.sampled_from(METRICS)
VALUES = st.dictionaries(NAMES, NUMBERS, max_size=4)
FINITE = st.floats(-1e6, 1e6)
GATES = st.lists(
    st.builds(
        Gate,
        metric=NAMES,
        min=st.one_of(st.none(), FINITE),
        max=st.one_of(st.none(), FINITE),
        max_drop=st.one_of(st.none(), st.floats(0, 1e6)),
        confidence=st.one_of(st.none(), st.just(0.95)),
    ),
    max_size=4,
    unique_by=lambda gate: gate.metric,
)
CHAMPIONS = st.one_of(
    st.none(),
    st.builds(
        ChampionResult,
        number=st.just(1),
        metrics=VALUES,
        differences=st.dictionaries(NAMES, st.builds(Difference, value=NUMBERS, low=NUMBERS, high=NUMBERS), max_size=4),
    ),
)


@given(
    metric=st.one_of(st.none(), NAMES),
    metrics=VALUES,
    trivial=VALUES,
    champion=CHAMPIONS,
    message=st.sampled_from([None, "can't be loaded"]),
    gates=GATES,
)
def test_an_approval_means_that_every_number_is_finite_and_met(
    metric: str | None,
    metrics: dict[str, float],
    trivial: dict[str, float],
    champion: ChampionResult | None,
    message: str | None,
    gates: list[Gate],
) -> None:
    report = replace(
        result(), metric=metric, metrics=metrics, trivial=trivial, champion=champion, champion_message=message
    )
    judged = judge(report, gates)
    assert (judged.verdict == "Approved") == (judged.failed == ())
    assert all(len(gate.message) <= 512 for gate in judged.failed)
    if judged.verdict != "Approved":
        return
    assert metric is not None
    assert math.isfinite(metrics[metric])
    for gate in gates:
        if gate.min is not None:
            assert math.isfinite(metrics[gate.metric])
            assert metrics[gate.metric] >= gate.min
        if gate.max is not None:
            assert math.isfinite(metrics[gate.metric])
            assert metrics[gate.metric] <= gate.max
        if gate.max_drop is not None and champion is not None:
            difference = champion.differences[gate.metric]
            deciding = difference.low if gate.confidence else difference.value
            assert math.isfinite(deciding)
            assert deciding >= -gate.max_drop - 1e-12
    if champion is not None and all(gate.max_drop is None for gate in gates):
        assert champion.differences[metric].value >= -1e-12
    if all(gate.min is None and gate.max is None for gate in gates):
        sign = -1 if metric in LOWER_IS_BETTER else 1
        assert sign * (metrics[metric] - trivial[metric]) > 0
