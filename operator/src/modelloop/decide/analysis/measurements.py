"""Sums up what the pods report of a step, seen from the candidate. A report of another measurement is left out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from modelkit.contract.route import LabelReport, LatencyReport, PairReport, RouteReport, SideReport

_MOST = 10**12
"""Counts beyond aren't believed, and logarithms of their factorials lose digits."""


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
    failures: Mapping[str, int] = field(default_factory=dict)
    """By kind."""
    scored: int = 0
    """Those that both answered."""
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
    own, other = (candidate_digest, stable_digest) if is_baking else (stable_digest, candidate_digest)
    counted = [report for report in reports if report.digest == own and report.measurement == measurement]
    # A pod that has no rule, or one for a third version, still tells how its own version answers.
    compared = [report for report in counted if report.other == other]
    own_side = _sum_sides([report.own_side for report in counted])
    other_side = _sum_sides([report.other_side for report in compared])
    merged = Measurements(
        pods=len(counted),
        is_classification=all(report.is_classification for report in compared),
        candidate=own_side if is_baking else other_side,
        stable=other_side if is_baking else own_side,
        pairs=_sum_pairs([report.pairs for report in compared], is_baking=is_baking),
        labels=_sum_labels([report.labels for report in compared], is_baking=is_baking),
    )
    return replace(merged, problem=_find_mixture(counted, compared) or _find_problem(merged))


def _sum_sides(sides: Sequence[SideReport]) -> Side:
    return Side(
        asked=sum(side.asked for side in sides),
        answered=sum(side.answered for side in sides),
        failures=_sum_counts([side.failures for side in sides]),
        skipped=sum(side.skipped for side in sides),
        latency=_sum_latencies([side.latency for side in sides if side.latency.counts]),
    )


def _sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Names with 0 are kept: a class that nothing was predicted to be is a class."""
    return {name: sum(one.get(name, 0) for one in counts) for name in sorted({name for one in counts for name in one})}


def _sum_latencies(latencies: Sequence[LatencyReport]) -> LatencyReport:
    if not latencies:
        return LatencyReport()
    bounds = latencies[0].bounds
    alike = [latency.counts for latency in latencies if latency.bounds == bounds]
    return LatencyReport(bounds=bounds, counts=tuple(sum(column) for column in zip(*alike, strict=False)))


def _sum_pairs(pairs: Sequence[PairReport], *, is_baking: bool) -> Pairs:
    own = _sum_counts([pair.own_counts for pair in pairs])
    other = _sum_counts([pair.other_counts for pair in pairs])
    sign = -1.0 if is_baking else 1.0
    return Pairs(
        requests=sum(pair.requests for pair in pairs),
        # In the bake time the other version's failures are the previous one's.
        failed=0 if is_baking else sum(pair.failed for pair in pairs),
        failures={} if is_baking else _sum_counts([pair.failures for pair in pairs]),
        # The rows are of requests that both could score.
        scored=sum(max(pair.requests - pair.failed, 0) for pair in pairs),
        rows=sum(pair.rows for pair in pairs),
        disagreements=sum(pair.disagreements for pair in pairs),
        shift_sum=sign * sum(pair.shift_sum for pair in pairs),
        shift_squares=sum(pair.shift_squares for pair in pairs),
        candidate_counts=own if is_baking else other,
        stable_counts=other if is_baking else own,
    )


def _sum_labels(labels: Sequence[LabelReport], *, is_baking: bool) -> Labels:
    own_wins, other_wins = sum(label.own_wins for label in labels), sum(label.other_wins for label in labels)
    own_loss, other_loss = sum(label.own_loss for label in labels), sum(label.other_loss for label in labels)
    return Labels(
        rows=sum(label.rows for label in labels),
        candidate_wins=own_wins if is_baking else other_wins,
        stable_wins=other_wins if is_baking else own_wins,
        candidate_loss=own_loss if is_baking else other_loss,
        stable_loss=other_loss if is_baking else own_loss,
        difference_squares=sum(label.difference_squares for label in labels),
    )


def _find_mixture(counted: Sequence[RouteReport], compared: Sequence[RouteReport]) -> str:
    for name, sides in (("own", [one.own_side for one in counted]), ("other", [one.other_side for one in compared])):
        forms = {side.latency.bounds for side in sides if side.latency.counts}
        if len(forms) > 1:
            return f"pods report the {name} version's latency with {len(forms)} different sets of bounds"
    if len({report.is_classification for report in compared}) > 1:
        return "some pods report a classification, some a regression"
    return ""


def _find_problem(merged: Measurements) -> str:
    """Numbers that can't be. That a sum of predictions isn't finite is for the checks to tell."""
    pairs, labels = merged.pairs, merged.labels
    sides = (("candidate", merged.candidate), ("stable", merged.stable))
    counts = {
        **{
            f"{name} {what}": count
            for name, side in sides
            for what, count in (("asked", side.asked), ("answered", side.answered), ("skipped", side.skipped))
        },
        **{f"{name} {kind}": count for name, side in sides for kind, count in side.failures.items()},
        **{f"{name} latency": count for name, side in sides for count in (min(side.latency.counts, default=0),)},
        **{f"{name} latencies": sum(side.latency.counts) for name, side in sides},
        "compared requests": pairs.requests,
        "failed comparisons": pairs.failed,
        **{f"comparisons {kind}": count for kind, count in pairs.failures.items()},
        "compared rows": pairs.rows,
        "disagreements": pairs.disagreements,
        **{f"candidate predictions of {name}": count for name, count in pairs.candidate_counts.items()},
        **{f"stable predictions of {name}": count for name, count in pairs.stable_counts.items()},
        "labelled rows": labels.rows,
        "candidate wins": labels.candidate_wins,
        "stable wins": labels.stable_wins,
    }
    for name, count in counts.items():
        if not 0 <= count <= _MOST:
            return f"{name}: {count} isn't a count"
    for name, part, whole in (
        ("candidate answered of asked", merged.candidate.answered, merged.candidate.asked),
        ("stable answered of asked", merged.stable.answered, merged.stable.asked),
        ("disagreements of compared rows", pairs.disagreements, pairs.rows),
        ("wins of labelled rows", labels.candidate_wins + labels.stable_wins, labels.rows),
    ):
        if part > whole:
            return f"{name}: {part} of {whole}"
    for name, side in sides:
        bounds, found = side.latency.bounds, side.latency.counts
        if found and (len(found) != len(bounds) + 1 or not _is_ascending(bounds)):
            return f"the {name} version's latency has {len(found)} counts for {len(bounds)} bounds that don't fit"
    return ""


def _is_ascending(bounds: Sequence[float]) -> bool:
    return all(map(math.isfinite, bounds)) and all(a < b for a, b in pairwise(bounds))
