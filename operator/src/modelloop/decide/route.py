"""What a rollout asks of the pods' routing, before addresses are known. See modelkit.contract.route for its effect."""

from dataclasses import dataclass
from datetime import datetime

from modelkit.contract.route import RouteReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """What the pods of one version do."""

    digest: str
    """Of the version whose pods follow it."""
    other: str
    """Digest of the other version."""
    weight: float = 0.0
    compare: float = 0.0
    is_guarded: bool = False
    is_leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePlan:
    """The rules of all versions in play; none: every pod answers for itself."""

    measurement: str = ""
    """Another one for every step: the pods count anew."""
    rules: tuple[RouteRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedReport:
    """What a Ready pod of the stable version said last."""

    pod: str
    time: datetime
    report: RouteReport
