"""Sums up what the pods report of a step, seen from the candidate. A report of another measurement is left out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from modelkit.contract.route import LatencyReport, RouteReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How one version answered."""

    asked: int = 0
    answered: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """By kind."""
    skipped: int = 0
    latency: LatencyReport = field(default_factory=LatencyReport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Requests that both versions scored."""

    requests: int = 0
    failed: int = 0
    """Those that the candidate failed at while the stable version answered."""
    rows: int = 0
    disagreements: int = 0
    shift_sum: float = 0.0
    """Of candidate - stable."""
    shift_squares: float = 0.0
    candidate_counts: Mapping[str, int] = field(default_factory=dict)
    stable_counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Compared rows whose truth is known."""

    rows: int = 0
    candidate_wins: int = 0
    stable_wins: int = 0
    candidate_loss: float = 0.0
    stable_loss: float = 0.0
    difference_squares: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What all pods together found in one step or in the bake time."""

    pods: int = 0
    """That reported this measurement."""
    is_classification: bool = True
    candidate: Side = field(default_factory=Side)
    stable: Side = field(default_factory=Side)
    pairs: Pairs = field(default_factory=Pairs)
    labels: Labels = field(default_factory=Labels)
    problem: str = ""
    """Why the reports don't go together."""


def merge_reports(
    reports: Iterable[RouteReport],
    candidate_digest: str,
    stable_digest: str,
    measurement: str,
    *,
    is_baking: bool,
) -> Measurements:
    """The sums over all pods whose report counts.

    While a candidate is tried, the stable version's pods see both versions; in the bake time those of the promoted
    one do. The other version's own pods would count the same requests once more.
    """
    raise NotImplementedError
