"""What every server pod tells of the requests that it answered: counts by minute, in one object per hour.

No part of a request is in it. Servers write it (`modelkit.serve.minutes`), monitors read it
(`modelkit.monitor.minutes`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

FORMAT = 1
"""Of an object; another one has other bounds or other meanings."""

_MANTISSAS = (1, 1.12, 1.25, 1.4, 1.6, 1.8, 2, 2.24, 2.5, 2.8, 3.15, 3.55, 4, 4.5, 5, 5.6, 6.3, 7.1, 8, 9)
_LONGEST = 60.0

LATENCY_BOUNDS = tuple(
    sorted(
        {30.0, _LONGEST}
        | {
            bound
            for exponent in range(-4, 2)
            for mantissa in _MANTISSAS
            if (bound := float(f"{mantissa}e{exponent}")) < _LONGEST
        }
    )
)
"""Upper bounds in seconds of the counted times, 0.1 ms to a minute; the last bucket, up to infinity, is added.

Preferred numbers of the series R20 (ISO 3), which has all bounds of the server's histogram in /metrics, and 30 s."""
BOUNDS_RATIO = 1.143
"""No bound is more than this times the one before it: so far a percentile that is read from the counts may be off."""

ANSWERED = "answered"
REQUEST = "request"
"""The client asked wrongly, or went away."""
REFUSED = "refused"
"""Too much work at once, or what answers can't be reached: trying again helps."""
TIMED_OUT = "timed out"
FAILED = "failed"

_REFUSALS = frozenset({429, 503})
_NOT_IMPLEMENTED = 501
_GRPC_STATUS = {
    "OK": 200,
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 413,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMinute:
    """What became of the clients' inference requests that ended in one minute."""

    codes: Mapping[str, int]
    """Requests by HTTP status; see `http_status` for those that came by gRPC."""
    latency: Mapping[str, int]
    """Requests by bucket: the position in LATENCY_BOUNDS of the first bound that isn't below the time. Only of those
    whose time tells of the model, see `is_timed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHour:
    """One process's minutes of an hour. It counts on until the hour is over: an object replaces the one before."""

    format: int
    digest: str
    """Of the version that the process serves."""
    version: int
    hour: datetime
    minutes: Mapping[str, ServiceMinute]
    """By minute of the hour, `0` to `59`; those without a request are left out."""


def http_status(code: int | str) -> int:
    """The HTTP status that means what `code` does: itself, or of a gRPC code's name (google.rpc.Code).

    A message that is too large is the only exhausted resource that our servers tell of: 413.
    """
    return code if isinstance(code, int) else _GRPC_STATUS.get(code, 500)


def kind_of(status: int) -> str:
    """What a client's request became, by its HTTP status."""
    if status in _REFUSALS:
        return REFUSED
    if status == 504:
        return TIMED_OUT
    if status < 400:
        return ANSWERED
    # What nobody implements was asked for wrongly: trying again doesn't help.
    return REQUEST if status < 500 or status == _NOT_IMPLEMENTED else FAILED


def is_server_error(status: int) -> bool:
    """Is it the service's fault? The analysis of rollouts draws the line at the same place."""
    return kind_of(status) in (REFUSED, TIMED_OUT, FAILED)


def is_timed(status: int) -> bool:
    """Does the request's time count? Not of refusals and errors: they end early and would flatter the service."""
    return kind_of(status) in (ANSWERED, TIMED_OUT)
