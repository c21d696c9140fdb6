"""Error levels: what all checks of all steps may err adds up to what the user allows."""

import pytest

from modelloop.api.analysis import Analysis, LatencyAnalysis, QualityAnalysis
from modelloop.decide.analysis import alpha_for

SETTINGS = Analysis()


@pytest.mark.parametrize("steps", [0, 1, 3, 21])
@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        Analysis(max_score_shift=0.1, latency=LatencyAnalysis(max_p99="1s"), false_rollback_rate=0.2),
        Analysis(quality=QualityAnalysis(max_loss=1, max_error_increase=1000)),
        Analysis(
            min_success_ratio=0,
            latency=LatencyAnalysis(max_ratio=1000),
            max_disagreement=1,
            max_prediction_distance=1,
        ),
    ],
    ids=["default", "everything", "no quality", "quality only"],
)
def test_the_levels_add_up_to_the_stated_rate(settings: Analysis, steps: int) -> None:
    levels = alpha_for(settings, steps)
    assert sum(levels.values()) * max(steps, 1) == pytest.approx(settings.false_rollback_rate)


def test_what_is_not_looked_at_has_no_level() -> None:
    off = Analysis(
        min_success_ratio=0,
        latency=LatencyAnalysis(max_ratio=1000),
        max_disagreement=1,
        max_prediction_distance=1,
        quality=QualityAnalysis(max_loss=1, max_error_increase=1000),
    )
    assert alpha_for(off, 3) == {}
