"""What a workload pod tells the operator: the trainer's termination message and the monitor's window record."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from modelkit.contract.codec import dumps
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
    """Onnx or Skops: what the server will load."""
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


_STAGES = ((1500, False), (600, False), (600, True), (200, True))
"""Length of texts, and whether numbers are rounded."""
_DIGITS = 9


def termination_message(result: TrainingResult) -> str:
    """`result` as JSON of at most 4,096 bytes.

    When it would be longer, texts are shortened, then numbers rounded to 9 significant digits.
    """
    text = dumps(result)
    if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT:
        return text
    for limit, is_rounded in _STAGES:
        short = replace(
            _round_numbers(result) if is_rounded else result,
            message=_shorten(result.message, limit),
            champion_message=_shorten(result.champion_message, limit // 2),
            format_message=_shorten(result.format_message, limit // 2),
        )
        text = dumps(short)
        if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT:
            return text
    return dumps(TrainingResult(outcome=result.outcome, digest=result.digest, path=result.path, reason="TooLong"))


def _round_numbers(result: TrainingResult) -> TrainingResult:
    champion = result.champion
    if champion is not None:
        champion = replace(
            champion,
            metrics=_rounded(champion.metrics),
            differences={
                name: Difference(value=_round(found.value), low=_round(found.low), high=_round(found.high))
                for name, found in champion.differences.items()
            },
        )
    return replace(result, metrics=_rounded(result.metrics), trivial=_rounded(result.trivial), champion=champion)


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: _round(value) for name, value in metrics.items()}


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _shorten(text: str | None, limit: int) -> str | None:
    return text if text is None or len(text) <= limit else text[: limit - 1] + "…"


CHECK_STATES = ("OK", "Breached", "Unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureFinding:
    """One feature of a check, worst first."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check of one window."""

    name: str
    """DataQuality, Drift, PredictionDrift or Quality."""
    state: str
    """OK, Breached or Unknown; too few rows is Unknown."""
    message: str
    value: float | None = None
    limit: float | None = None
    rows: int = 0
    worst: tuple[FeatureFinding, ...] = ()
    """At most 5."""


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
