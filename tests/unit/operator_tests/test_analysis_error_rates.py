"""The stated error levels, measured: identical candidates that Fail, worse ones that are found, all by the real checks.

Every batch is a look. So that 1,000 rollouts take seconds, numpy says first at which look the evidence may be enough
(what the best single alternative gains is at least what the checks' mixtures gain), and only there they are asked.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from modelloop.api.analysis import Analysis
from modelloop.decide.analysis import alpha_for, decide_analysis
from modelloop.decide.analysis.measurements import Measurements, Pairs
from modelloop.decide.analysis.predictions import check_prediction_distance, jensen_shannon
from modelloop.decide.analysis.quality import check_quality
from tests.unit.operator_tests.analysis_world import (
    BOUNDS,
    IDENTICAL,
    STEPS,
    Counts,
    Streams,
    Truth,
    loss_evidence,
    share_evidence,
    stream,
)

CANDIDATES = 1000
SETTINGS = Analysis()
LEVELS = alpha_for(SETTINGS, STEPS)


def at_most(rate: float, trials: int) -> int:
    """How many of the trials may be hit at that rate: three standard deviations."""
    return int(rate * trials + 3 * np.sqrt(trials * rate * (1 - rate)))


def above(histogram: Counts, bound: float) -> Counts:
    """Durations above a bound."""
    return np.asarray(histogram[..., BOUNDS.index(bound) + 1 :].sum(-1))


def suspects(streams: Streams, settings: Analysis) -> dict[str, NDArray[np.float64]]:
    """By check: evidence less what is needed, over candidates and looks; below 0, the check can't have Failed."""
    levels = alpha_for(settings, STEPS)
    asked = streams.asked[None, :]
    rows = streams.cells.sum(-1)
    disagreements = streams.cells[..., 1] + streams.cells[..., 2]
    late = [
        np.minimum(
            share_evidence(above(streams.latency, bound), streams.latency.sum(-1), share),
            share_evidence(streams.base_latency.sum(-1) - above(streams.base_latency, base), asked, 1 - share),
        )
        for bound in BOUNDS
        if bound >= 0.05
        for base in [max(base for base in BOUNDS if 2 * base + 0.02 <= bound)]
        for share in (0.5, 0.1, 0.01)
    ]
    return {
        "SuccessRatio": share_evidence(streams.failed, asked, 0.01) + np.log(levels["SuccessRatio"] / 2),
        "LatencyRatio": np.max(late, axis=0) + np.log(levels["LatencyRatio"] / 6),
        "Disagreement": share_evidence(disagreements, rows, 0.3) + np.log(levels["Disagreement"]),
        "Quality": loss_evidence(streams.labels, settings.quality.max_loss) + 0.1 + np.log(levels["Quality"]),
    }


def failed_rollouts(truth: Truth, settings: Analysis, rng: np.random.Generator) -> tuple[int, int]:
    """Rollouts of which a step Failed at any look, and verdicts asked for."""
    failed, asked = np.zeros(CANDIDATES, dtype=bool), 0
    for _ in range(STEPS):
        streams = stream(truth, CANDIDATES, 40, 50, rng)
        for margin in suspects(streams, settings).values():
            # The look at which most speaks against a candidate.
            looks = margin.argmax(1)
            for candidate in np.flatnonzero(margin.max(1) >= 0):
                outcome = decide_analysis(settings, streams.measurements(candidate, looks[candidate]), {}, steps=STEPS)
                failed[candidate] |= outcome.verdict == "Failed"
                asked += 1
    return int(failed.sum()), asked


def test_1000_identical_candidates_fail_no_more_often_than_stated() -> None:
    failed, _ = failed_rollouts(IDENTICAL, SETTINGS, np.random.default_rng(1))
    assert failed <= at_most(SETTINGS.false_rollback_rate, CANDIDATES)


def test_1000_candidates_on_the_very_limits_fail_no_more_often_than_stated() -> None:
    """The worst that is allowed: one point of accuracy, 1 % of failures, 30 % of disagreement, all at once."""
    allowed = Truth(loss=0.01, discordance=0.3, failing=0.01, slowness=1.5)
    settings = Analysis(false_rollback_rate=0.1)
    failed, asked = failed_rollouts(allowed, settings, np.random.default_rng(2))
    assert asked > 50
    assert failed <= at_most(0.1, CANDIDATES)


def test_identical_candidates_pass_a_step_at_most_looks() -> None:
    streams = stream(IDENTICAL, 100, 40, 50, np.random.default_rng(3))
    outcomes = [decide_analysis(SETTINGS, streams.measurements(one, 39), {}, steps=STEPS) for one in range(100)]
    verdicts = [outcome.verdict for outcome in outcomes]
    assert verdicts.count("Successful") >= 90
    assert "Failed" not in verdicts


@pytest.mark.parametrize("classes", [2, 10, 60])
def test_predictions_at_the_very_distance_allowed_fail_no_more_often_than_stated(classes: int) -> None:
    """Drawn apart, which is worse than for the same rows, and without the classes that nobody saw."""
    rng = np.random.default_rng(6)
    ours = 1 / np.arange(1, classes + 1) ** 1.5
    ours /= ours.sum()
    theirs, rows, failed = _at_distance(ours, 0.2), 0, np.zeros(300, dtype=bool)
    counts = np.zeros((2, 300, classes), dtype=int)
    for size in (50, 50, 100, 200, 400, 800):
        counts += np.stack([rng.multinomial(size, one, 300) for one in (ours, theirs)])
        rows += size
        for index in range(300):
            named = [{str(name): count for name, count in enumerate(one[index].tolist()) if count} for one in counts]
            pairs = Pairs(requests=rows, scored=rows, rows=rows, candidate_counts=named[0], stable_counts=named[1])
            result = check_prediction_distance(Measurements(pods=1, pairs=pairs), SETTINGS, 0.05)
            failed[index] |= result is not None and result.verdict == "Failed"
    assert failed.sum() <= at_most(0.05, 300)


def _at_distance(shares: NDArray[np.float64], wanted: float) -> NDArray[np.float64]:
    """The mixture with the reversed shares that has the wanted distance."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        mixed = (1 - middle) * shares + middle * shares[::-1]
        low, high = (middle, high) if jensen_shannon(shares.tolist(), mixed.tolist()) < wanted else (low, middle)
    return np.asarray((1 - low) * shares + low * shares[::-1])


@pytest.mark.parametrize(
    ("discordance", "labels"),
    [(0.08, 1500), (0.1, 1900), (0.12, 2300), (0.15, 2900)],
    ids=["8 %", "10 %", "12 %", "15 %"],
)
def test_a_loss_of_5_points_is_found_within_the_stated_labels(discordance: float, labels: int) -> None:
    streams = stream(Truth(loss=0.05, discordance=discordance), CANDIDATES, labels // 50, 50, np.random.default_rng(4))
    looks = loss_evidence(streams.labels, SETTINGS.quality.max_loss).argmax(1)
    found = 0
    for candidate, look in enumerate(looks.tolist()):
        result = check_quality(streams.measurements(candidate, look), SETTINGS, LEVELS["Quality"])
        found += result is not None and result.verdict == "Failed"
    assert found >= 0.95 * CANDIDATES


@pytest.mark.parametrize(
    ("truth", "check", "requests"),
    [
        (Truth(failing=0.05), "SuccessRatio", 650),
        (Truth(failing=0.1), "SuccessRatio", 225),
        (Truth(failing=1.0), "SuccessRatio", 25),
        (Truth(slowness=50), "LatencyRatio", 75),
        (Truth(slowness=10), "LatencyRatio", 1500),
        (Truth(discordance=0.5), "Disagreement", 275),
        (Truth(loss=0.1), "Quality", 450),
    ],
    ids=["5 % fail", "10 % fail", "all fail", "50 times slower", "10 times slower", "half differ", "10 points lost"],
)
def test_a_bad_candidate_is_found_within(truth: Truth, check: str, requests: int) -> None:
    streams = stream(truth, 100, requests // 25, 25, np.random.default_rng(5))
    margins = suspects(streams, SETTINGS)[check]
    found = 0
    for candidate, looks in enumerate(margins.argsort(1)[:, ::-1][:, :3].tolist()):
        outcomes = [decide_analysis(SETTINGS, streams.measurements(candidate, one), {}, steps=STEPS) for one in looks]
        found += any(one.name == check and one.verdict == "Failed" for each in outcomes for one in each.checks)
    assert found >= 95
