"""What a check says."""

from dataclasses import dataclass
from enum import StrEnum

from modelloop.api.analysis import Verdict


class CheckName(StrEnum):
    """The built-in checks. Those of users have names in lower case."""

    TRAFFIC = "Traffic"
    SUCCESS_RATIO = "SuccessRatio"
    LATENCY = "Latency"
    LATENCY_RATIO = "LatencyRatio"
    DISAGREEMENT = "Disagreement"
    PREDICTION_DISTANCE = "PredictionDistance"
    SCORE_SHIFT = "ScoreShift"
    QUALITY = "Quality"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check at one look. Only finite numbers; None: there is none."""

    name: str
    verdict: Verdict
    value: float | None = None
    limit: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    message: str = ""


def number(value: float | None) -> str:
    """As in messages."""
    return "nothing" if value is None else f"{value:.4g}"


def percent(share: float) -> str:
    """As in messages."""
    return f"{100 * share:.3g} %"


def seconds(duration: float) -> str:
    """As in messages."""
    return f"{duration:.3g} s" if duration >= 1 else f"{1000 * duration:.3g} ms"
