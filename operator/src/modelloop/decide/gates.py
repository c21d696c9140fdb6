"""Judges a trained version: Approved, Rejected or Inconclusive, with the numbers that decided.

An ordered chain of small checks, one per gate. A missing or non-finite number is Inconclusive, never a pass: a
version must prove itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from modelkit.contract.metrics import improvement
from modelkit.contract.result import Difference, SliceResult, TrainingResult
from modelloop.api.training import FailedGate, Gate

Verdict = Literal["Approved", "Rejected", "Inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, the gates that weren't met and a sentence about them."""

    verdict: Verdict
    failed: tuple[FailedGate, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Finding:
    gate: FailedGate
    inconclusive: bool


def judge(result: TrainingResult, gates: Sequence[Gate]) -> Judgement:
    """The verdict on a run that made a version."""
    findings = [
        *(finding for gate in gates for finding in _judge_gate(result, gate)),
        *_judge_trivial(result, gates),
        *_judge_champion(result, gates),
    ]
    findings.extend(_judge_primary(result, findings))
    if not findings:
        return Judgement(verdict="Approved", message=_approval(result))
    verdict: Verdict = "Rejected" if any(not finding.inconclusive for finding in findings) else "Inconclusive"
    failed = tuple(finding.gate for finding in findings)
    return Judgement(verdict=verdict, failed=failed, message="; ".join(gate.message for gate in failed))


def _approval(result: TrainingResult) -> str:
    metric = result.metric or ""
    text = f"{metric} {_number(result.metrics.get(metric))} on {result.test_rows} rows"
    if result.champion is not None and metric in result.champion.metrics:
        text += f", version {result.champion.number} has {_number(result.champion.metrics[metric])} on the same rows"
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What gates look at: all evaluation rows, or a slice of them."""

    metrics: Mapping[str, float]
    differences: Mapping[str, Difference]
    rows: int
    slice: str = ""

    def name(self, metric: str) -> str:
        """The metric's name in messages."""
        return f"{metric} of slice {self.slice!r}" if self.slice else metric


def _measured(result: TrainingResult, name: str = "") -> _Measured:
    """A slice that the trainer found no rows of has no metrics."""
    if not name:
        differences = result.champion.differences if result.champion is not None else {}
        return _Measured(metrics=result.metrics, differences=differences, rows=result.test_rows)
    found = next((entry for entry in result.slices if entry.name == name), SliceResult(name=name, rows=0))
    return _Measured(metrics=found.metrics, differences=found.differences, rows=found.rows, slice=name)


def _judge_gate(result: TrainingResult, gate: Gate) -> Iterator[_Finding]:
    measured = _measured(result, gate.slice)
    value = _finite(measured.metrics.get(gate.metric))
    if gate.min is not None:
        passed = value is not None and value >= gate.min
        yield from _judge_limit(measured, gate.metric, "min", value, gate.min, passed=passed)
    if gate.max is not None:
        passed = value is not None and value <= gate.max
        yield from _judge_limit(measured, gate.metric, "max", value, gate.max, passed=passed)
    if gate.max_drop is not None and (result.champion is not None or result.champion_message):
        yield from _judge_drop(result, measured, gate.metric, gate.max_drop, gate.confidence)


def _judge_limit(
    measured: _Measured, metric: str, rule: str, value: float | None, limit: float, *, passed: bool
) -> Iterator[_Finding]:
    if value is None:
        yield _missing(measured, metric, rule, limit)
    elif not passed:
        word = "below" if rule == "min" else "above"
        message = f"{measured.name(metric)} {_number(value)} is {word} the gate's {rule} {_number(limit)}"
        yield _finding(measured, metric, rule, value, limit, message, inconclusive=False)


def _finding(
    measured: _Measured,
    metric: str,
    rule: str,
    value: float | None,
    limit: float | None,
    message: str,
    *,
    inconclusive: bool,
) -> _Finding:
    gate = FailedGate(metric=metric, slice=measured.slice, rule=rule, value=value, limit=limit, message=message)
    return _Finding(gate, inconclusive)


def _judge_trivial(result: TrainingResult, gates: Sequence[Gate]) -> Iterator[_Finding]:
    """With no gate on a value of all rows, the version must beat the trivial predictor by its primary metric.

    A gate on maxDrop alone would let anything pass as the first version: there is no champion to drop from.
    """
    if any(not gate.slice and (gate.min is not None or gate.max is not None) for gate in gates):
        return
    measured, metric = _measured(result), result.metric or ""
    value, trivial = _finite(result.metrics.get(metric)), _finite(result.trivial.get(metric))
    if value is None or trivial is None:
        yield _missing(measured, metric, "trivial", trivial)
    elif improvement(metric, value, trivial) <= 0:
        message = (
            f"{metric} {_number(value)} isn't better than the {_number(trivial)} of a predictor that ignores the "
            "features"
        )
        yield _finding(measured, metric, "trivial", value, trivial, message, inconclusive=False)


def _judge_champion(result: TrainingResult, gates: Sequence[Gate]) -> Iterator[_Finding]:
    """Unless a gate says otherwise, the version must be at least as good as the champion on the same rows."""
    if result.champion is None or any(not gate.slice and gate.max_drop is not None for gate in gates):
        return
    yield from _judge_drop(result, _measured(result), result.metric or "", 0.0, None)


def _judge_primary(result: TrainingResult, findings: Sequence[_Finding]) -> Iterator[_Finding]:
    """The champion's value is its primary metric: there is no champion without it."""
    metric = result.metric or ""
    known = any(item.gate.metric == metric and not item.gate.slice for item in findings)
    if _finite(result.metrics.get(metric)) is None and not known:
        yield _missing(_measured(result), metric, "primary", None)


def _judge_drop(
    result: TrainingResult, measured: _Measured, metric: str, max_drop: float, confidence: float | None
) -> Iterator[_Finding]:
    champion, difference = result.champion, measured.differences.get(metric)
    if (
        champion is None
        or difference is None
        or not all(map(math.isfinite, (difference.value, difference.low, difference.high)))
    ):
        yield _missing(measured, metric, "maxDrop", -max_drop)
        return
    if confidence is None:
        # The rounding of a metric of n rows must not decide.
        passed, inconclusive = difference.value >= -max_drop - 1e-12, False
    else:
        passed = difference.low >= -max_drop
        inconclusive = not passed and difference.high >= -max_drop
    if passed:
        return
    interval = "" if confidence is None else f" [{_number(difference.low)}, {_number(difference.high)}]"
    message = (
        f"{measured.name(metric)} is {_number(-difference.value)}{interval} worse than version {champion.number} on "
        f"the same {measured.rows} rows; {_number(max_drop)} is allowed"
        if difference.value < 0
        else f"{measured.name(metric)} may be worse than version {champion.number} by more than {_number(max_drop)}: "
        f"the difference is {_number(difference.value)}{interval} on {measured.rows} rows"
    )
    yield _finding(measured, metric, "maxDrop", difference.value, -max_drop, message, inconclusive=inconclusive)


def _missing(measured: _Measured, metric: str, rule: str, limit: float | None) -> _Finding:
    rows = f" ({measured.rows} rows)" if measured.slice else ""
    name = measured.name(metric or "the primary metric")
    message = f"{name} couldn't be measured on the evaluation rows{rows} ({rule})"
    return _finding(measured, metric, rule, None, limit, message, inconclusive=True)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"
