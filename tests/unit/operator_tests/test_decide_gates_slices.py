"""Gates on slices look at the slice's rows and at nothing else."""

import math
from dataclasses import replace

import pytest

from modelkit.contract.result import ChampionResult, Difference, SliceResult, TrainingResult
from modelloop.api.training import Gate
from modelloop.decide.gates import judge
from tests.unit.operator_tests.operator_states import result


def sliced(
    value: float | None = 0.7, *, drop: tuple[float, float, float] | None = None, rows: int = 40
) -> TrainingResult:
    """A result that is good over all rows, with a slice `old`."""
    metrics = {} if value is None else {"f1": value}
    differences = {} if drop is None else {"f1": Difference(value=drop[0], low=drop[1], high=drop[2])}
    found = SliceResult(name="old", rows=rows, metrics=metrics, differences=differences)
    return replace(result(), slices=(found,))


def compared_with_champion(report: TrainingResult) -> TrainingResult:
    """The same beside an equally good champion."""
    champion = ChampionResult(
        number=1, metrics=report.metrics, differences={"f1": Difference(value=0.0, low=0.0, high=0.0)}
    )
    return replace(report, champion=champion)


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (Gate(metric="f1", slice="old", min=0.7), "Approved"),
        (Gate(metric="f1", slice="old", min=0.71), "Rejected"),
        (Gate(metric="f1", slice="old", max=0.69), "Rejected"),
        (Gate(metric="recall", slice="old", min=0.1), "Inconclusive"),
        (Gate(metric="f1", slice="young", min=0.1), "Inconclusive"),
    ],
    ids=str,
)
def test_a_limit_is_judged_on_the_slice(gate: Gate, expected: str) -> None:
    assert judge(sliced(), [gate]).verdict == expected


def test_the_message_and_the_failed_gate_name_the_slice() -> None:
    judged = judge(sliced(), [Gate(metric="f1", slice="old", min=0.8)])
    assert judged.message == "f1 of slice 'old' 0.7 is below the gate's min 0.8"
    assert (judged.failed[0].metric, judged.failed[0].slice, judged.failed[0].rule) == ("f1", "old", "min")


def test_a_slice_that_could_not_be_measured_tells_its_rows() -> None:
    judged = judge(sliced(None, rows=3), [Gate(metric="f1", slice="old", min=0.8)])
    assert judged.verdict == "Inconclusive"
    assert judged.message == "f1 of slice 'old' couldn't be measured on the evaluation rows (3 rows) (min)"


def test_a_gate_on_a_slice_does_not_replace_the_one_against_the_trivial_predictor() -> None:
    poor = replace(sliced(), metrics={"f1": 0.5}, trivial={"f1": 0.5})
    judged = judge(poor, [Gate(metric="f1", slice="old", min=0.1)])
    assert [gate.rule for gate in judged.failed] == ["trivial"]


@pytest.mark.parametrize(
    ("drop", "confidence", "expected"),
    [
        ((-0.01, -0.05, 0.03), None, "Approved"),
        ((-0.03, -0.05, 0.03), None, "Rejected"),
        ((-0.01, -0.015, 0.0), 0.9, "Approved"),
        ((-0.01, -0.05, 0.03), 0.9, "Inconclusive"),
        ((-0.1, -0.15, -0.05), 0.9, "Rejected"),
        ((math.nan, 0.0, 0.0), None, "Inconclusive"),
        (None, None, "Inconclusive"),
    ],
)
def test_a_loss_on_a_slice_is_judged_against_the_champion_on_the_same_rows(
    drop: tuple[float, float, float] | None, confidence: float | None, expected: str
) -> None:
    gate = Gate(metric="f1", slice="old", max_drop=0.02, confidence=confidence)
    assert judge(compared_with_champion(sliced(drop=drop)), [gate]).verdict == expected


def test_a_loss_on_a_slice_passes_when_there_is_no_champion_to_lose_to() -> None:
    gates = [Gate(metric="f1", slice="old", max_drop=0.0), Gate(metric="f1", min=0.5)]
    assert judge(sliced(), gates).verdict == "Approved"


def test_a_gate_on_a_slice_leaves_the_champion_to_be_beaten_over_all_rows() -> None:
    report = compared_with_champion(sliced(drop=(0.1, 0.1, 0.1)))
    assert report.champion is not None
    worse = replace(report.champion, differences={"f1": Difference(value=-0.1, low=-0.1, high=-0.1)})
    judged = judge(replace(report, champion=worse), [Gate(metric="f1", slice="old", max_drop=0.0)])
    assert [(gate.rule, gate.slice) for gate in judged.failed] == [("maxDrop", "")]
