"""What a workload pod tells the operator: the trainer's termination message and the monitor's window record."""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from modelkit.contract.codec import ContractError, dumps, from_plain, loads, to_plain
from modelkit.contract.environment import TERMINATION_MESSAGE_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Improvement of the new version over the champion on the same rows; positive is better for every metric."""

    value: float
    low: float
    high: float
    """Bounds of the paired bootstrap interval at the asked confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionResult:
    """The champion measured on the new version's evaluation rows."""

    number: int
    metrics: Mapping[str, float]
    differences: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceResult:
    """A slice of the evaluation rows: the metrics that gates ask of it."""

    name: str
    rows: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    champion: Mapping[str, float] = field(default_factory=dict)
    """The champion's, on the same rows."""
    differences: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about the data that isn't as expected."""

    column: str = ""
    """Empty: the rows as a whole."""
    rule: str
    """CamelCase, e.g. MissingColumn, UnseenCategories, OutOfRange."""
    value: float | None = None
    limit: float | None = None
    message: str
    severe: bool = False
    """The run was refused for it; else it is a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """One step of making the model smaller, taken or not."""

    method: str
    accepted: bool
    drop: float
    """Loss of the primary metric on the validation part, in its own unit; negative is a gain."""
    bytes_before: int
    bytes_after: int
    seconds_before: float
    """To answer one row, in ONNX Runtime or scikit-learn, whichever serves it."""
    seconds_after: float
    message: str | None = None
    """Why it wasn't taken; or what was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run used, of all its processes in this pod and its worker pods."""

    cpu_seconds: float = 0.0
    memory_gib_seconds: float = 0.0
    """Resident memory over time."""
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """The trainer's termination message, at most 4,096 bytes of JSON."""

    outcome: str
    """Succeeded or Failed."""
    reason: str | None = None
    """CamelCase, for Failed: e.g. ColumnNotFound, DataNotFound, PermissionDenied, BadParameter."""
    message: str | None = None
    """For Failed: what was found, what was expected, what to do."""
    digest: str | None = None
    path: str | None = None
    task: str | None = None
    metric: str | None = None
    """The primary metric."""
    estimator: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """On the evaluation rows. A metric that can't be computed (one class in the test part) is left out."""
    trivial: Mapping[str, float] = field(default_factory=dict)
    """The same of the trivial predictor (most frequent class, mean)."""
    champion: ChampionResult | None = None
    champion_message: str | None = None
    """Why the champion couldn't be measured, when it was asked for."""
    evaluated_on: str | None = None
    """Test (held-out rows of the source) or Recent (held-out labelled captured rows)."""
    train_rows: int = 0
    test_rows: int = 0
    feedback_rows: int = 0
    """Labelled captured rows that were found."""
    format: str | None = None
    """Onnx or Skops: what the server will load; Custom: nothing that it can run."""
    format_message: str | None = None
    """Why there is no ONNX, when there is none."""
    data_digest: str | None = None
    seconds: float = 0.0
    slices: tuple[SliceResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Of the data's validation, the severe ones first; at most 10."""
    compressions: tuple[Compression, ...] = ()
    trials: int = 0
    """Parameter sets that were tried."""
    usage: Usage | None = None
    signed: bool = False


MOST_SLICE_METRICS = 32
"""Pairs of slice and metric that gates may ask for: that many always have room in a termination message, with a
difference from the champion each."""
_EMPTY_BY_DEFAULT = frozenset({"champion", "compressions", "differences", "findings", "slices"})
_PACKED = "deflated"
_MOST_UNPACKED = 65_536
"""Characters of a packed message's JSON: a user's own image can't fill the operator's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One way to make a result shorter."""

    text: int
    """Characters of each message."""
    finding: int
    """Characters of each finding's message."""
    digits: int | None = None
    """Significant digits of numbers; None: all."""
    warnings: bool = True
    """Findings that aren't severe stay."""
    display: bool = True
    """What no verdict needs stays: metrics of the trivial predictor and of the champion beside the primary one,
    compressions, usage, findings, texts."""
    packed: bool = False
    """Deflated, for machines only: the last resort."""


_STAGES = (
    _Stage(text=1500, finding=200),
    _Stage(text=600, finding=120),
    _Stage(text=600, finding=120, digits=9),
    _Stage(text=200, finding=60, digits=9),
    _Stage(text=200, finding=60, digits=9, warnings=False),
    _Stage(text=600, finding=120, digits=9, packed=True),
    _Stage(text=200, finding=60, digits=9, warnings=False, packed=True),
    _Stage(text=100, finding=0, digits=7, warnings=False, display=False, packed=True),
)


def termination_message(result: TrainingResult) -> str:
    """`result` as JSON of at most 4,096 bytes, for `read_termination_message`.

    When it would be longer, texts are shortened, then numbers rounded to 9 significant digits, then warnings dropped.
    What is longer even then (20 slices, each with a comparison) is deflated, and at the very end what no verdict needs
    is left out: gates get their numbers, to 7 digits, of up to 32 pairs of slice and metric.
    """
    text = dumps(result)
    if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT:
        return text
    for stage in _STAGES:
        text = _dump_compactly(_reduce(result, stage))
        if stage.packed:
            packed = base64.b85encode(zlib.compress(text.encode(), 9)).decode()
            text = json.dumps({_PACKED: packed}, separators=(",", ":"))
        if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT:
            return text
    return dumps(TrainingResult(outcome=result.outcome, digest=result.digest, path=result.path, reason="TooLong"))


def read_termination_message(text: str | bytes) -> TrainingResult:
    """The result that a trainer wrote, deflated or not; raises ContractError for anything else."""
    try:
        plain = json.loads(text)
    except ValueError:
        return loads(TrainingResult, text)  # says what is wrong with it
    if not isinstance(plain, dict) or set(plain) != {_PACKED} or not isinstance(plain[_PACKED], str):
        return from_plain(TrainingResult, plain)
    try:
        inflater = zlib.decompressobj()
        unpacked = inflater.decompress(base64.b85decode(plain[_PACKED]), _MOST_UNPACKED)
    except (ValueError, zlib.error) as exc:
        raise ContractError(f"TrainingResult.{_PACKED} must be deflated JSON in base 85") from exc
    if not inflater.eof:
        raise ContractError(f"TrainingResult.{_PACKED} must be whole and at most {_MOST_UNPACKED} bytes of JSON")
    return loads(TrainingResult, unpacked)


def _dump_compactly(result: TrainingResult) -> str:
    return json.dumps(_without_empty(to_plain(result)), separators=(",", ":"), sort_keys=True, allow_nan=False)


def _without_empty(plain: Any) -> Any:
    """`plain` without those empty lists and objects that its fields hold by default."""
    if isinstance(plain, dict):
        return {
            key: _without_empty(value)
            for key, value in plain.items()
            if key not in _EMPTY_BY_DEFAULT or value not in ({}, [])
        }
    return [_without_empty(value) for value in plain] if isinstance(plain, list) else plain


def _reduce(result: TrainingResult, stage: _Stage) -> TrainingResult:
    findings = tuple(
        replace(found, message=_shorten(found.message, stage.finding) or "", column=_shorten(found.column, 64) or "")
        for found in result.findings
        if found.severe or stage.warnings
    )
    result = replace(
        result,
        message=_shorten(result.message, stage.text),
        champion_message=_shorten(result.champion_message, stage.text // 2),
        format_message=_shorten(result.format_message, stage.text // 2),
        findings=findings,
    )
    if not stage.display:
        result = _without_display(result)
    return result if stage.digits is None else _round_numbers(result, stage.digits)


def _without_display(result: TrainingResult) -> TrainingResult:
    primary = {result.metric}
    champion = result.champion
    if champion is not None:
        champion = replace(champion, metrics=_only(champion.metrics, primary))
    return replace(
        result,
        trivial=_only(result.trivial, primary),
        champion=champion,
        slices=tuple(replace(found, champion={}) for found in result.slices),
        findings=(),
        compressions=(),
        usage=None,
    )


def _only(metrics: Mapping[str, float], names: set[str | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name in names}


def _round_numbers(result: TrainingResult, digits: int) -> TrainingResult:
    champion, usage = result.champion, result.usage
    if champion is not None:
        champion = replace(
            champion,
            metrics=_rounded(champion.metrics, digits),
            differences=_rounded_differences(champion.differences, digits),
        )
    if usage is not None:
        usage = replace(
            usage, cpu_seconds=_round(usage.cpu_seconds, 6), memory_gib_seconds=_round(usage.memory_gib_seconds, 6)
        )
    return replace(
        result,
        metrics=_rounded(result.metrics, digits),
        trivial=_rounded(result.trivial, digits),
        champion=champion,
        usage=usage,
        slices=tuple(
            replace(
                found,
                metrics=_rounded(found.metrics, digits),
                champion=_rounded(found.champion, digits),
                differences=_rounded_differences(found.differences, digits),
            )
            for found in result.slices
        ),
        compressions=tuple(
            replace(
                step,
                drop=_round(step.drop, 6),
                seconds_before=_round(step.seconds_before, 6),
                seconds_after=_round(step.seconds_after, 6),
            )
            for step in result.compressions
        ),
    )


def _rounded_differences(differences: Mapping[str, Difference], digits: int) -> dict[str, Difference]:
    return {
        name: Difference(
            value=_round(found.value, digits), low=_round(found.low, digits), high=_round(found.high, digits)
        )
        for name, found in differences.items()
    }


def _rounded(metrics: Mapping[str, float], digits: int) -> dict[str, float]:
    return {name: _round(value, digits) for name, value in metrics.items()}


def _round(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _shorten(text: str | None, limit: int) -> str | None:
    return text if text is None or len(text) <= limit else (text[: limit - 1] + "…" if limit else "")


CHECK_STATES = ("OK", "Breached", "Unknown")
CHECKS = (
    "DataQuality",
    "Drift",
    "MultivariateDrift",
    "PredictionDrift",
    "AttributionDrift",
    "Quality",
    "EstimatedQuality",
    "Calibration",
    "Fairness",
    "Service",
)
"""In the order in which people read them. One that isn't configured, or that doesn't fit the task, is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureFinding:
    """One feature of a check, worst first."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check of one window."""

    name: str
    """One of CHECKS."""
    state: str
    """OK, Breached or Unknown; too few rows is Unknown."""
    message: str
    value: float | None = None
    limit: float | None = None
    rows: int = 0
    worst: tuple[FeatureFinding, ...] = ()
    """At most 5."""
    since: datetime | None = None
    """Breached: when what is found began, if that is before the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowResult:
    """One entry of ModelMonitor's status.windows, written by the monitor pod, keyed by `end`."""

    start: datetime
    end: datetime
    version: int
    digest: str
    rows: int
    labels: int
    checks: tuple[CheckResult, ...]
    report: str
    """Path of the report below the store's root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePoint:
    """One entry of ModelMonitor's status.timeline, keyed by `end`: what is left of windows of long ago."""

    end: datetime
    version: int
    state: str
    """Breached when any check was, else OK; Unknown when nothing could be said."""
    rows: int
    labels: int
    feature: str = ""
    """The one that differed most."""
    drift: float | None = None
    """Its distance."""
    quality: float | None = None
    """The metric of the labelled rows."""
    error: float | None = None
    """Standard error of `quality`."""
    estimated: float | None = None
    """The metric that was to be expected of all rows."""
