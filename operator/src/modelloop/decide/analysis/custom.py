"""Checks of values that users' queries result in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelloop.api.analysis import PrometheusCheck
from modelloop.decide.analysis.result import CheckResult


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomMeasurement:
    """What a query resulted in."""

    time: datetime
    """A result counts once, however often it is passed."""
    value: float | None = None
    """None without an error: an empty result."""
    error: str = ""
    """Why there is no value: no answer, or not one number."""


def fill_query(query: str, variables: Mapping[str, str]) -> str:
    """The query with `$name` and the like replaced; `variables` are names of Kubernetes objects."""
    raise NotImplementedError


def check_custom(check: PrometheusCheck, measurement: CustomMeasurement | None) -> CheckResult:
    """Whether the value lies within the limits."""
    raise NotImplementedError
