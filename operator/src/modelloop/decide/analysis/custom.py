"""Checks of values that users' queries result in."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelloop.api.analysis import PrometheusCheck, Verdict
from modelloop.decide.analysis.result import CheckResult, number

_VARIABLE = re.compile(r"\$(namespace|name|candidate|stable)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomMeasurement:
    """What a query resulted in."""

    time: datetime
    """A result counts once, however often it is passed; later looks aren't Successful by it."""
    value: float | None = None
    """None without an error: an empty result."""
    error: str = ""
    """Why there is no value: no answer, or not one number."""


def fill_query(query: str, variables: Mapping[str, str]) -> str:
    """The query with `$name` and the like replaced; `variables` are names of Kubernetes objects."""
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), query)


def check_custom(check: PrometheusCheck, measurement: CustomMeasurement | None) -> CheckResult:
    """Whether the value lies within the limits. A value that isn't a number is Inconclusive."""
    if measurement is None:
        return CheckResult(name=check.name, verdict="Inconclusive", message="not measured yet")
    if measurement.error:
        return CheckResult(name=check.name, verdict="Error", message=measurement.error)
    value = measurement.value
    if value is None or not math.isfinite(value):
        found = "nothing" if value is None else str(value)
        return CheckResult(
            name=check.name, verdict="Inconclusive", message=f"the query results in {found} instead of a number"
        )
    limit = check.min if check.min is not None and (check.max is None or value < check.min) else check.max
    verdict: Verdict = "Failed"
    if check.min is not None and value < check.min:
        message = f"{number(value)} is below min {number(check.min)}"
    elif check.max is not None and value > check.max:
        message = f"{number(value)} is above max {number(check.max)}"
    else:
        limits = [
            f"{name} {number(side)}" for name, side in (("min", check.min), ("max", check.max)) if side is not None
        ]
        verdict, message = "Successful", f"{number(value)} is within {' and '.join(limits)}"
    return CheckResult(name=check.name, verdict=verdict, value=value, limit=limit, samples=1, message=message)
