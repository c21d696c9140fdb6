"""Checks of what the candidate predicts against what the stable version predicts for the same rows.

The rows of one request are alike, so that requests, not rows, count as independent: shares over the rows are taken as
means of as many values as requests were compared.
"""

import math
from collections.abc import Mapping

from modelloop.api.analysis import Analysis, Verdict
from modelloop.decide.analysis.confidence import MIN_FOR_MEAN, Proportion, entropy_radius, mean_bounds
from modelloop.decide.analysis.levels import OFF_SHARE
from modelloop.decide.analysis.measurements import Measurements, Pairs
from modelloop.decide.analysis.result import CheckName, CheckResult, number, percent

_ROUNDING = 1 - 1e-6


def check_disagreement(measured: Measurements, settings: Analysis, alpha: float) -> CheckResult | None:
    """Whether the versions differ in no more of the rows than allowed."""
    pairs, limit = measured.pairs, settings.max_disagreement
    if not _is_compared(pairs) or limit >= OFF_SHARE:
        return None
    independent = _independent(pairs)
    share = Proportion(pairs.disagreements * independent / pairs.rows, independent, limit)
    bounds = share.bounds(alpha)
    verdict: Verdict = "Failed" if share.is_above(alpha) else "Successful" if share.value <= limit else "Inconclusive"
    return CheckResult(
        name=CheckName.DISAGREEMENT,
        verdict=_once_enough(verdict, pairs, settings),
        value=share.value,
        limit=limit,
        low=bounds.low,
        high=bounds.high,
        samples=pairs.rows,
        message=f"the versions differ in {percent(share.value)} of {pairs.rows} rows, {percent(limit)} is allowed"
        + _too_few(pairs, settings),
    )


def check_prediction_distance(measured: Measurements, settings: Analysis, alpha: float) -> CheckResult | None:
    """Whether both versions predict about the same classes, or bins, about as often.

    The Jensen-Shannon distance is a metric, and that of the shares found from the true ones is at most the root of
    half their divergence: so the true distance is at least the one found less both versions' radii.
    """
    pairs, limit = measured.pairs, settings.max_prediction_distance
    if not _is_compared(pairs) or limit >= OFF_SHARE:
        return None
    names = sorted({*pairs.candidate_counts, *pairs.stable_counts})
    ours, theirs = _scaled(pairs.candidate_counts, names, pairs), _scaled(pairs.stable_counts, names, pairs)
    if not sum(ours) and not sum(theirs):
        # A regression without bins.
        return None
    if not sum(ours) or not sum(theirs):
        return CheckResult(
            name=CheckName.PREDICTION_DISTANCE,
            verdict="Inconclusive",
            limit=limit,
            message=f"no predictions were counted in {pairs.rows} compared rows",
        )
    value = jensen_shannon(ours, theirs)
    radius = sum(math.sqrt(entropy_radius(counts, alpha / 2) / 2 / math.log(2)) for counts in (ours, theirs))
    low, high = max(value - radius, 0.0), min(value + radius, 1.0)
    verdict: Verdict = "Failed" if low > limit else "Successful" if value <= limit else "Inconclusive"
    return CheckResult(
        name=CheckName.PREDICTION_DISTANCE,
        verdict=_once_enough(verdict, pairs, settings),
        value=value,
        limit=limit,
        low=low,
        high=high,
        samples=pairs.rows,
        message=f"the distance of the predictions is {number(value)} over {pairs.rows} rows, {number(limit)} is allowed"
        f"{_most_changed(ours, theirs, names) if value > limit else ''}{_too_few(pairs, settings)}",
    )


def check_score_shift(measured: Measurements, settings: Analysis, alpha: float) -> CheckResult | None:
    """Whether the mean difference of the predictions is within the limit, either way."""
    pairs, limit = measured.pairs, settings.max_score_shift
    if not _is_compared(pairs) or limit is None:
        return None
    value, squares = pairs.shift_sum / pairs.rows, pairs.shift_squares / pairs.rows
    if not math.isfinite(squares - value * value) or squares < value * value * _ROUNDING:
        message = f"the predictions' differences over {pairs.rows} rows can't be judged: their sums make no sense"
        return CheckResult(name=CheckName.SCORE_SHIFT, verdict="Inconclusive", limit=limit, message=message)
    independent = _independent(pairs)
    bounds = mean_bounds(value, max(squares - value * value, 0.0), independent, alpha)
    verdict: Verdict = "Successful" if abs(value) <= limit else "Inconclusive"
    if independent >= MIN_FOR_MEAN and (bounds.low > limit or bounds.high < -limit):
        verdict = "Failed"
    return CheckResult(
        name=CheckName.SCORE_SHIFT,
        verdict=_once_enough(verdict, pairs, settings),
        value=value,
        limit=limit,
        low=bounds.low,
        high=bounds.high,
        samples=pairs.rows,
        message=f"the predictions differ by {number(value)} on average over {pairs.rows} rows, {number(limit)} is "
        f"allowed{_too_few(pairs, settings)}",
    )


def jensen_shannon(ours: list[float], theirs: list[float]) -> float:
    """The distance, base 2, of two lists of counts over the same classes: from 0 to 1 (Endres and Schindelin 2003)."""
    total_ours, total_theirs = sum(ours), sum(theirs)
    divergence = 0.0
    for a, b in zip(ours, theirs, strict=True):
        p, q = a / total_ours, b / total_theirs
        middle = (p + q) / 2
        divergence += sum(share * math.log2(share / middle) for share in (p, q) if share > 0) / 2
    return math.sqrt(min(max(divergence, 0.0), 1.0))


def _is_compared(pairs: Pairs) -> bool:
    return pairs.requests > 0 and pairs.rows > 0


def _independent(pairs: Pairs) -> int:
    return min(pairs.rows, max(pairs.scored, 1))


def _scaled(counts: Mapping[str, int], names: list[str], pairs: Pairs) -> list[float]:
    factor = _independent(pairs) / pairs.rows
    return [counts.get(name, 0) * factor for name in names]


def _once_enough(verdict: Verdict, pairs: Pairs, settings: Analysis) -> Verdict:
    return "Inconclusive" if verdict == "Successful" and _too_few(pairs, settings) else verdict


def _too_few(pairs: Pairs, settings: Analysis) -> str:
    if pairs.scored >= settings.min_compared:
        return ""
    return f"; {pairs.scored} requests were compared, {settings.min_compared} are wanted"


def _most_changed(ours: list[float], theirs: list[float], names: list[str]) -> str:
    changes = [
        (abs(a / sum(ours) - b / sum(theirs)), index) for index, (a, b) in enumerate(zip(ours, theirs, strict=True))
    ]
    index = max(changes)[1]
    return (
        f"; {names[index][:64]!r} went from {percent(theirs[index] / sum(theirs))} to "
        f"{percent(ours[index] / sum(ours))}"
    )
