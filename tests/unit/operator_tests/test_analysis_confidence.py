"""Sequential tests against scipy, against brute force, and over whole sequences of looks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats
from scipy.spatial import distance

from modelloop.decide.analysis.confidence import Difference, Proportion, entropy_radius, mean_bounds
from modelloop.decide.analysis.predictions import jensen_shannon
from tests.unit.operator_tests.analysis_world import loss_evidence, share_evidence

ALPHA = 0.001
COUNTS = st.integers(0, 10_000)


def log_mixture(k: float, n: float, limit: float) -> float:
    """As Proportion mixes its two priors, by scipy's functions."""
    priors = [(1.0, 1.0), (1.0, (1 - limit) / limit) if limit <= 0.5 else (limit / (1 - limit), 1.0)]
    logs = [special.betaln(a + k, b + n - k) - special.betaln(a, b) for a, b in priors]
    return float(special.logsumexp(logs) - math.log(2))


@pytest.mark.parametrize(("k", "n", "limit"), [(3, 100, 0.01), (0, 50, 0.3), (50, 50, 0.01), (7.5, 33.5, 0.6)])
def test_the_bounds_of_a_share_are_where_its_evidence_reaches_the_level(k: float, n: float, limit: float) -> None:
    def excess(share: float) -> float:
        return log_mixture(k, n, limit) - special.xlogy(k, share) - special.xlogy(n - k, 1 - share) + math.log(ALPHA)

    bounds, found = Proportion(k, n, limit).bounds(ALPHA), k / n
    low = optimize.brentq(excess, 1e-15, found) if k else 0.0
    high = optimize.brentq(excess, found, 1 - 1e-15) if k < n else 1.0
    assert (bounds.low, bounds.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_the_mixture_is_the_integral_over_its_prior() -> None:
    prior = stats.beta(1, 99)
    k, n, limit = 5, 60, 0.01
    ratio, _ = integrate.quad(lambda p: prior.pdf(p) * p**k * (1 - p) ** (n - k), 0, 1, epsabs=0)
    uniform = special.beta(1 + k, 1 + n - k)
    assert math.log((ratio + uniform) / 2) == pytest.approx(log_mixture(k, n, limit), abs=1e-6)


def test_a_share_is_bounded_no_tighter_than_by_an_interval_for_one_look() -> None:
    for k, n in [(0, 100), (3, 100), (50, 100), (100, 100)]:
        once = stats.binomtest(k, n).proportion_ci(1 - ALPHA, method="exact")
        always = Proportion(k, n, 0.01).bounds(ALPHA)
        assert always.low <= once.low
        assert always.high >= once.high


@given(COUNTS, COUNTS, st.floats(0.001, 0.999))
def test_more_failures_never_speak_for_a_candidate(k: int, others: int, limit: float) -> None:
    n = k + others + 1
    assert Proportion(k, n, limit).is_above(ALPHA) <= Proportion(k + 1, n, limit).is_above(ALPHA)
    assert Proportion(k + 1, n, limit).is_below(ALPHA) <= Proportion(k, n, limit).is_below(ALPHA)


@given(COUNTS, COUNTS, st.floats(0.001, 0.999))
def test_bounds_of_a_share_enclose_it_and_agree_with_the_verdict(k: int, others: int, limit: float) -> None:
    share = Proportion(k, k + others, limit)
    bounds = share.bounds(ALPHA)
    assert 0 <= bounds.low <= share.value <= bounds.high <= 1
    assert share.is_above(ALPHA) or bounds.low <= limit + 1e-6
    assert not share.is_above(ALPHA) or bounds.low >= limit - 1e-6


@given(COUNTS, COUNTS, COUNTS, st.floats(-0.5, 0.5))
def test_bounds_of_a_difference_enclose_it_and_agree_with_the_verdict(
    plus: int, minus: int, zeros: int, limit: float
) -> None:
    difference = Difference(plus, minus, plus + minus + zeros)
    bounds = difference.bounds(ALPHA)
    assert -1 <= bounds.low <= difference.value <= bounds.high <= 1
    assert difference.is_above(limit, ALPHA) or bounds.low <= limit + 1e-6
    assert not difference.is_above(limit, ALPHA) or bounds.low >= limit - 1e-6


@given(COUNTS, COUNTS, COUNTS, st.floats(-0.5, 0.5))
def test_a_further_loss_never_speaks_for_a_candidate(plus: int, minus: int, zeros: int, limit: float) -> None:
    n = plus + minus + zeros + 1
    assert Difference(plus, minus, n).is_above(limit, ALPHA) <= Difference(plus + 1, minus, n).is_above(limit, ALPHA)
    assert Difference(plus, minus + 1, n).is_above(limit, ALPHA) <= Difference(plus, minus, n).is_above(limit, ALPHA)


def test_no_single_alternative_gains_less_than_the_mixtures() -> None:
    """What the simulations of error rates skip can't have Failed."""
    rng = np.random.default_rng(0)
    for wins, losses, others in rng.integers(0, 500, (200, 3)).tolist():
        n = wins + losses + others
        best = float(loss_evidence(np.array([wins, losses, others]), 0.01))
        assert not Difference(losses, wins, n).is_above(0.01, math.exp(-best - 0.1))
        share = float(share_evidence(np.array(losses), np.array(n), 0.3))
        assert not Proportion(losses, n, 0.3).is_above(math.exp(-share - 1e-6))


def test_the_bets_on_a_difference_are_fair_at_its_limit() -> None:
    """A supermartingale: over all sequences of 7 rows, the gain is 1 on average where the mean is the limit."""
    limit, n = 0.2, 7
    probabilities = {1: 0.35, 0: 0.5, -1: 0.15}
    expected = 0.0
    for plus in range(n + 1):
        for minus in range(n + 1 - plus):
            zeros = n - plus - minus
            weight = stats.multinomial.pmf([plus, zeros, minus], n, list(probabilities.values()))
            expected += weight * _gain(Difference(plus, minus, n), limit)
    assert expected == pytest.approx(1.0)


def _gain(difference: Difference, limit: float) -> float:
    """By where the verdict changes."""
    return float(optimize.brentq(lambda gain: 0.5 - difference.is_above(limit, 1 / gain), 1e-9, 1e9, xtol=1e-14))


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_a_share_on_its_limit_is_found_above_it_no_more_often_than_stated(share: float) -> None:
    """2,000 sequences of 1,000 requests, each looked at after every request, at level 0.05."""
    rng = np.random.default_rng(1)
    n = np.arange(1, 1001)
    k = (rng.random((2000, n.size), dtype=np.float32) < share).cumsum(1, dtype=np.int32)
    assert _is_ever_above(k, n, share, 0.05).mean() <= 0.05


def _is_ever_above(k: np.ndarray, n: np.ndarray, limit: float, alpha: float) -> np.ndarray:
    """As Proportion.is_above: for every n, the least k that is above."""
    least = []
    for size in n.tolist():
        low, high = 0, size + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if Proportion(middle, size, limit).is_above(alpha) else (middle + 1, high)
        least.append(low)
    return np.asarray((k >= np.array(least)).any(1))


@pytest.mark.parametrize("name", ["normal", "skewed"])
def test_a_mean_is_outside_of_its_bounds_no_more_often_than_stated(name: str) -> None:
    """1,000 sequences, looked at from 100 values on, at level 0.05."""
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (1000, 2000)) if name == "normal" else rng.exponential(1, (1000, 2000)) - 1
    n = np.arange(1, 2001)
    means = values.cumsum(1) / n
    variances = (values**2).cumsum(1) / n - means**2
    looks = np.unique(np.geomspace(100, 2000, 60).astype(int))
    wrong = np.zeros(1000, dtype=bool)
    for look in looks:
        width = mean_bounds(0.0, 1.0, look, 0.05).high
        wrong |= np.abs(means[:, look - 1]) > width * np.sqrt(variances[:, look - 1])
    assert wrong.mean() <= 0.05


def test_the_bounds_of_a_mean_are_those_of_the_normal_mixture() -> None:
    """The interval is where the mixture over normal alternatives gains 1/alpha, by integration."""
    n, sd = 700, 2.0
    width = mean_bounds(0.0, sd**2, n, ALPHA).high
    spread = -2 * math.log(ALPHA)
    scale = math.sqrt((spread + math.log1p(spread)) / 500) / 1.0
    total = width * n / sd
    gain, _ = integrate.quad(
        lambda drift: math.exp(drift * total - n * drift**2 / 2) * stats.norm.pdf(drift, scale=scale),
        -5 * scale,
        5 * scale,
        points=[total / n],
    )
    assert gain == pytest.approx(1 / ALPHA, rel=1e-3)


@pytest.mark.parametrize("classes", [2, 5, 50])
def test_found_shares_are_within_their_radius_as_often_as_stated(classes: int) -> None:
    """400 sequences of 1,000 rows, 20 looks, at level 0.05. Classes that aren't seen are among them."""
    rng = np.random.default_rng(3)
    truth = 1 / np.arange(1, classes + 1) ** 1.5
    truth /= truth.sum()
    counts = rng.multinomial(50, truth, (400, 20)).cumsum(1)
    divergence = special.rel_entr(counts / counts.sum(-1, keepdims=True), truth).sum(-1)
    radius = [[entropy_radius(row, 0.05) for row in one] for one in counts.tolist()]
    assert (divergence > np.array(radius)).any(1).mean() <= 0.05


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=8), st.data())
def test_the_distance_is_scipys(ours: list[int], data: st.DataObject) -> None:
    theirs = data.draw(st.lists(st.integers(0, 1000), min_size=len(ours), max_size=len(ours)))
    ours, theirs = [*ours, 1], [*theirs, 1]
    assert jensen_shannon(ours, theirs) == pytest.approx(distance.jensenshannon(ours, theirs, base=2), abs=1e-6)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6), st.lists(st.floats(0.01, 1), min_size=6, max_size=6))
def test_a_distance_is_at_most_the_root_of_half_the_divergence(counts: list[int], weights: list[float]) -> None:
    """What the bound of the distance rests on."""
    counts = [*counts, 1]
    truth = (weights * 2)[: len(counts)]
    found = np.array(counts) / sum(counts)
    divergence = special.rel_entr(found, np.array(truth) / sum(truth)).sum()
    assert jensen_shannon(counts, truth) <= math.sqrt(divergence / 2 / math.log(2)) + 1e-6
