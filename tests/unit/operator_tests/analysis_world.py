"""Candidates whose true behaviour is known, as the stable version's pods report them: many at once, look by look."""

from dataclasses import dataclass
from math import erf, log, sqrt

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.route import LabelReport, LatencyReport, PairReport, RouteReport, SideReport
from modelloop.decide.analysis import Measurements, merge_reports

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CANDIDATE, STABLE = "sha256:candidate", "sha256:stable"
STEPS = 3
"""Two steps and the bake time, as by default."""
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A candidate beside a stable version that fails at 0.2 % of its requests and says yes to 30 %."""

    loss: float = 0.0
    """Accuracy that the candidate lacks."""
    discordance: float = 0.12
    """Rows whose predictions differ: only one of the versions is right."""
    failing: float = 0.002
    slowness: float = 1.0
    """Factor of the candidate's durations; the way over the network adds 2 ms."""


IDENTICAL = Truth()


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Sums at every look: arrays of candidates x looks (x classes)."""

    asked: Counts
    failed: Counts
    latency: Counts
    base_latency: Counts
    cells: Counts
    """Compared rows: both no, candidate alone yes, stable alone yes, both yes."""
    labels: Counts
    """Labelled rows: candidate alone right, stable alone right, others."""

    def report(self, candidate: int, look: int) -> RouteReport:
        """What the only pod of the stable version says."""
        at = candidate, look
        neither, ours, theirs, both = self.cells[at].tolist()
        wins, losses, others = self.labels[at].tolist()
        asked, failed, base = int(self.asked[look]), int(self.failed[at]), self.base_latency[at]
        rows = neither + ours + theirs + both
        return RouteReport(
            digest=STABLE,
            other=CANDIDATE,
            measurement="step-1",
            own_side=_side(int(base.sum()), 0, base),
            other_side=_side(asked, failed, self.latency[at]),
            pairs=PairReport(
                requests=rows,
                rows=rows,
                disagreements=ours + theirs,
                own_counts={"no": neither + ours, "yes": theirs + both},
                other_counts={"no": neither + theirs, "yes": ours + both},
            ),
            labels=LabelReport(
                rows=wins + losses + others,
                own_wins=losses,
                other_wins=wins,
                own_loss=float(wins),
                other_loss=float(losses),
                difference_squares=float(wins + losses),
            ),
        )

    def measurements(self, candidate: int, look: int) -> Measurements:
        """As the operator sees it."""
        return merge_reports([self.report(candidate, look)], CANDIDATE, STABLE, "step-1", is_baking=False)


def stream(truth: Truth, candidates: int, looks: int, batch: int, rng: np.random.Generator) -> Streams:
    """`batch` requests of the candidate between looks; each is compared and gets its label, one row per request."""
    size = (candidates, looks)
    alone = truth.discordance / 2
    plus, minus = (truth.discordance - truth.loss) / 2, (truth.discordance + truth.loss) / 2
    return Streams(
        asked=batch * np.arange(1, looks + 1),
        failed=rng.binomial(batch, truth.failing, size).cumsum(1),
        latency=rng.multinomial(batch, _buckets(truth.slowness, 0.002), size).cumsum(1),
        base_latency=rng.multinomial(batch, _buckets(1.0, 0.0), size).cumsum(1),
        cells=rng.multinomial(batch, [0.7 - alone, alone, alone, 0.3 - alone], size).cumsum(1),
        labels=rng.multinomial(batch, [plus, minus, 1 - plus - minus], size).cumsum(1),
    )


def kl(found: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of Bernoulli distributions."""
    with np.errstate(divide="ignore", invalid="ignore"):
        yes = np.where(found > 0, found * np.log(found / share), 0.0)
        no = np.where(found < 1, (1 - found) * np.log((1 - found) / (1 - share)), 0.0)
    return np.asarray(yes + no)


def share_evidence(k: Counts, n: Counts, limit: float) -> NDArray[np.float64]:
    """What the best single alternative above the limit gains: no mixture of them gains more."""
    found = k / n
    return np.where(found > limit, n * kl(found, limit), 0.0)


def loss_evidence(labels: Counts, limit: float) -> NDArray[np.float64]:
    """What the best single bet gains: no average of bets gains more."""
    wins, losses, others = (labels[..., index] for index in range(3))
    bets = 0.5 * 1.1 ** -np.arange(50.0)
    gains = [
        losses * np.log1p(bet * (1 - limit)) + wins * np.log1p(-bet * (1 + limit)) + others * np.log1p(-bet * limit)
        for bet in bets
    ]
    return np.asarray(np.max(gains, axis=0))


def _side(asked: int, failed: int, latency: Counts) -> SideReport:
    return SideReport(
        asked=asked,
        answered=asked - failed,
        failures={"Error": failed},
        latency=LatencyReport(bounds=BOUNDS, counts=tuple(latency.tolist())),
    )


def _buckets(slowness: float, way: float) -> NDArray[np.float64]:
    """Log-normal durations around 12 ms, with a p99 of 61 ms."""
    normal = np.vectorize(lambda bound: _log_normal((bound - way) / slowness / 0.012, 0.7))
    below = np.append(normal(np.asarray(BOUNDS)), 1.0)
    return np.asarray(np.diff(below, prepend=0.0))


def _log_normal(ratio: float, sigma: float) -> float:
    return 0.5 * (1 + erf(log(ratio) / sigma / sqrt(2))) if ratio > 0 else 0.0
