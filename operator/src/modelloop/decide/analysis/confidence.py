"""Confidence sequences and tests that stay right however often they are looked at, from counts and sums alone.

All rest on Ville's inequality (1939): a nonnegative supermartingale that starts at 1 ever reaches 1/alpha with
probability alpha at most. docs/rollout-analysis.md has the formulas and their sources.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

_STEPS = 24
"""Of a bisection: an interval is at most 1e-7 too wide. Only what is told rests on it, verdicts don't."""

# Bets on a mean difference. Large effects are found with large bets; 0.5 can't lose everything on [-1, 1].
_BETS = tuple(0.5 * 1.6**-index for index in range(10))
_BET_WEIGHTS = tuple(math.sqrt(bet) / sum(map(math.sqrt, _BETS)) for bet in _BETS)

_MEAN_ROWS = 500
"""Rows at which the interval of a mean is narrowest, relative to what is possible."""
MIN_FOR_MEAN = 100
"""Rows below which the interval of a mean, which is asymptotic, decides nothing."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The true value lies within at all looks, but for the error level at either end."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Proportion:
    """k of n, against a limit. `k` may be a fraction: a mean of n values in [0, 1] is treated alike.

    The mixture martingale B(a + k, b + n - k) / B(a, b) / p^k (1-p)^(n-k) (Robbins 1970), averaged over two priors: the
    uniform one finds gross deviations within a few requests, one with the limit as its mean finds small ones.
    """

    k: float
    n: float
    limit: float

    @property
    def value(self) -> float:
        """The share found; 0 of 0 is 0."""
        return self.k / self.n if self.n > 0 else 0.0

    def is_above(self, alpha: float) -> bool:
        """The true share is above the limit, beyond chance."""
        return self.value > self.limit and self._log_evidence(self.limit, self._log_mixture()) >= -math.log(alpha)

    def is_below(self, alpha: float) -> bool:
        """The true share is below the limit, beyond chance."""
        return self.value < self.limit and self._log_evidence(self.limit, self._log_mixture()) >= -math.log(alpha)

    def bounds(self, alpha: float) -> Interval:
        """All shares that the counts don't speak against."""
        mixture = self._log_mixture()

        def is_refuted(share: float) -> bool:
            return self._log_evidence(share, mixture) >= -math.log(alpha)

        return Interval(_bisect(is_refuted, 0.0, self.value), _bisect(is_refuted, 1.0, self.value))

    def _log_mixture(self) -> float:
        limit = min(max(self.limit, 1e-9), 1 - 1e-9)
        priors = ((1.0, 1.0), (1.0, (1 - limit) / limit) if limit <= 0.5 else (limit / (1 - limit), 1.0))
        return _log_sum([_log_beta(a + self.k, b + self.n - self.k) - _log_beta(a, b) - math.log(2) for a, b in priors])

    def _log_evidence(self, share: float, mixture: float) -> float:
        if self.n <= 0:
            return 0.0
        return mixture - _times_log(self.k, share) - _times_log(self.n - self.k, 1 - share)


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of n values of -1, 0 and 1: `plus` times 1 and `minus` times -1.

    Bets of several sizes on the mean being larger, their gains averaged: sum of w (1 + bet (x - mean))^… (Waudby-Smith
    and Ramdas 2023). Exact for every n, and sensitive when most values are 0.
    """

    plus: int
    minus: int
    n: int

    @property
    def value(self) -> float:
        """The mean found."""
        return (self.plus - self.minus) / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Of one value."""
        return max((self.plus + self.minus) / self.n - self.value**2, 0.0) if self.n else 0.0

    def is_above(self, limit: float, alpha: float) -> bool:
        """The true mean is above the limit, beyond chance."""
        return _log_gain(self.plus, self.minus, self.n, limit) >= -math.log(alpha)

    def bounds(self, alpha: float) -> Interval:
        """All means that the counts don't speak against."""

        def is_too_small(mean: float) -> bool:
            return _log_gain(self.plus, self.minus, self.n, mean) >= -math.log(alpha)

        def is_too_large(mean: float) -> bool:
            return _log_gain(self.minus, self.plus, self.n, -mean) >= -math.log(alpha)

        return Interval(_bisect(is_too_small, -1.0, self.value), _bisect(is_too_large, 1.0, self.value))


def _log_gain(plus: int, minus: int, n: int, mean: float) -> float:
    zeros = n - plus - minus
    return _log_sum(
        [
            math.log(weight)
            + _times_log(plus, 1 + bet * (1 - mean))
            + _times_log(minus, 1 - bet * (1 + mean))
            + _times_log(zeros, 1 - bet * mean)
            for bet, weight in zip(_BETS, _BET_WEIGHTS, strict=True)
        ]
    )


def mean_bounds(mean: float, variance: float, n: float, alpha: float) -> Interval:
    """Of the mean of n values, however they are distributed, once n is large: an asymptotic confidence sequence.

    The normal mixture of Robbins (1970) with the variance found: Waudby-Smith et al. 2024, theorem 2.2.
    """
    if n <= 0:
        return Interval(-math.inf, math.inf)
    spread = -2 * math.log(alpha)
    tuning = (spread + math.log1p(spread)) / _MEAN_ROWS
    grown = n * tuning + 1
    width = math.sqrt(max(variance, 0.0) * 2 * grown / (n * n * tuning) * math.log(math.sqrt(grown) / alpha))
    return Interval(mean - width, mean + width)


def entropy_radius(counts: Collection[float], alpha: float) -> float:
    """What the Kullback-Leibler divergence (nats) of the shares found from the true ones is at most, at all looks.

    From the Dirichlet(1/2) mixture martingale of a multinomial (Lindon and Malek 2022): n KL = log(1/alpha) + the
    mixture's regret against the shares found.
    """
    n, classes = sum(counts), len(counts)
    if n <= 0 or classes == 0:
        return math.inf
    found = sum(_times_log(count, count / n) for count in counts)
    mixed = sum(math.lgamma(count + 0.5) - math.lgamma(0.5) for count in counts)
    mixed += math.lgamma(classes / 2) - math.lgamma(n + classes / 2)
    return max(found - mixed - math.log(alpha), 0.0) / n


def _bisect(is_refuted: Callable[[float], bool], end: float, found: float) -> float:
    """The value between `end` and `found` up to which everything from `end` on is refuted."""
    if not is_refuted(end):
        return end
    refuted, kept = end, found
    for _ in range(_STEPS):
        middle = (refuted + kept) / 2
        if is_refuted(middle):
            refuted = middle
        else:
            kept = middle
    return refuted


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(count: float, value: float) -> float:
    """count * log(value), where 0 * log(0) is 0."""
    if count <= 0:
        return 0.0
    return count * math.log(value) if value > 0 else -math.inf


def _log_sum(logs: Collection[float]) -> float:
    largest = max(logs)
    return largest + math.log(sum(math.exp(value - largest) for value in logs)) if largest > -math.inf else -math.inf
