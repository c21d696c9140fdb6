"""What a decision returns, shared by the three kinds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A Kubernetes Event to post about the custom resource, after the status that it tells of is written."""

    reason: str
    message: str
    warning: bool = False
