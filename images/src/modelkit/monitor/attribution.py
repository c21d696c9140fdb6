"""AttributionDrift: do the features matter to the model in the order in which they mattered on its own test rows?

The model is the same, so another order comes of other rows: it decides by something else now. A feature's attribution
is the mean absolute Shapley value over rows, the window's and as many of the test part's, both explained here by the
code that answers `/explain`. Their orders are compared by the normalized discounted cumulative gain (Järvelin and
Kekäläinen 2002), with the reference's attributions as relevance: 1 for the same order, and a feature that matters
weighs more than ten that don't.

The check is Breached when the similarity is below `min_similarity` *and* beyond chance: a permutation test. Without
drift each row is as likely to be of the window as of the reference, so the similarity of two random halves of all rows
has the distribution of the seen one (Phipson and Smyth 2010 for the p-value).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.monitoring import AttributionConfig
from modelkit.contract.result import CheckResult, FeatureFinding
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN, format_number, format_p_value, plural

ATTRIBUTION_DRIFT = "AttributionDrift"

SIGNIFICANCE = 0.01
PERMUTATIONS = 499

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureAttribution:
    """How much one feature moves the model's answers."""

    feature: str
    reference: float
    """Mean absolute Shapley value over rows of the version's own test."""
    window: float
    """The same over rows of the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionComparison:
    """What the model decides by in the window, beside its own test rows."""

    similarity: float
    """Normalized discounted cumulative gain; 1: the same order."""
    p_value: float
    """Of a similarity at most as large without any drift."""
    rows: int
    """Of the window that were explained."""
    reference_rows: int
    features: tuple[FeatureAttribution, ...]
    """Of all features, the one with the largest reference first."""


def compare_attributions(names: Sequence[str], reference: Floats, window: Floats) -> AttributionComparison | None:
    """Compare Shapley values [n, features] of reference rows with those [m, features] of window rows.

    None when no feature moves any answer to the reference rows. Seeded: the same rows give the same answer.
    """
    known, seen = np.abs(reference), np.abs(window)
    if not len(known) or not len(seen) or not known.any():
        return None
    similarity = float(gains_of_orders(known.mean(axis=0)[None], seen.mean(axis=0)[None])[0])
    every, generator = np.concatenate([known, seen]), np.random.default_rng(0)
    is_known = generator.permuted(np.tile(np.arange(len(every)) < len(known), (PERMUTATIONS, 1)), axis=1)
    drawn = is_known @ every
    others = every.sum(axis=0) - drawn
    as_low = int(np.count_nonzero(gains_of_orders(drawn, others) <= similarity))
    features = [
        FeatureAttribution(feature=name, reference=float(before), window=float(now))
        for name, before, now in zip(names, known.mean(axis=0), seen.mean(axis=0), strict=True)
    ]
    return AttributionComparison(
        similarity=similarity,
        p_value=(1 + as_low) / (1 + PERMUTATIONS),
        rows=len(seen),
        reference_rows=len(known),
        features=tuple(sorted(features, key=lambda found: (-found.reference, found.feature))),
    )


def gains_of_orders(relevance: Floats, scores: Floats) -> Floats:
    """Normalized discounted cumulative gain [n] of `relevance` [n, features], at least 0, by descending `scores` [n,
    features].

    Equals `sklearn.metrics.ndcg_score` of each row, which takes the mean over the orders of equal scores (McSherry and
    Najork 2008); 1 without any relevance.
    """
    rows, features = scores.shape
    discounts = 1 / np.log2(np.arange(2, features + 2))
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    is_first = np.ones((rows, features), dtype=bool)
    is_first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    groups = np.cumsum(is_first.ravel()) - 1
    shared = np.bincount(groups, weights=np.tile(discounts, rows)) / np.bincount(groups)
    gains = (np.take_along_axis(relevance, order, axis=1) * shared[groups].reshape(rows, features)).sum(axis=1)
    ideal = -np.sort(-relevance, axis=1) @ discounts
    normalized: Floats = np.divide(gains, ideal, out=np.ones(rows), where=ideal > 0)
    return normalized


def check_attribution(
    comparison: AttributionComparison | None, config: AttributionConfig, *, rows: int, missing: str = ""
) -> CheckResult:
    """Judge a comparison; Unknown without one, because of `missing`. `rows`: of the window's sample."""
    if comparison is None:
        return CheckResult(
            name=ATTRIBUTION_DRIFT, state=UNKNOWN, message=missing, limit=config.min_similarity, rows=rows
        )
    is_low = comparison.similarity < config.min_similarity
    breached = is_low and comparison.p_value < SIGNIFICANCE
    similarity, limit = format_number(comparison.similarity), format_number(config.min_similarity)
    order = "another order than in" if breached else "about the order of"
    message = (
        f"the features matter in {order} the version's own test ({plural(comparison.rows, 'row')} explained): "
        f"similarity {similarity} {'<' if is_low else '≥'} {limit}"
    )
    if is_low:
        message += (
            f" ({'' if breached else 'which chance explains, '}p {format_p_value(comparison.p_value, sign=True)})"
        )
    return CheckResult(
        name=ATTRIBUTION_DRIFT,
        state=BREACHED if breached else OK,
        message=message,
        value=round(comparison.similarity, 6),
        limit=config.min_similarity,
        rows=comparison.rows,
        worst=_worst(comparison),
    )


def _worst(comparison: AttributionComparison) -> tuple[FeatureFinding, ...]:
    """By how much a feature's share of all attribution changed."""
    before = sum(found.reference for found in comparison.features)
    now = sum(found.window for found in comparison.features)
    changes = {
        found.feature: (found.window / now if now else 0.0) - found.reference / before for found in comparison.features
    }
    ranked = sorted(changes.items(), key=lambda item: (-abs(item[1]), item[0]))
    return tuple(FeatureFinding(name=name, value=round(change, 6)) for name, change in ranked[:5] if change)
