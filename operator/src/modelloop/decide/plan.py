"""What a decision returns, shared by the three kinds."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A Kubernetes Event to post about the custom resource, after the status that it tells of is written."""

    reason: str
    message: str
    warning: bool = False


def earliest(*delays: timedelta | None) -> timedelta | None:
    """The shortest of some delays; None means never."""
    known = [delay for delay in delays if delay is not None]
    return min(known) if known else None
