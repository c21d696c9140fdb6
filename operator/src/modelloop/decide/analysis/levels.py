"""Shares the allowed rate of false rollbacks out among a rollout's checks and steps."""

from collections.abc import Mapping

from modelloop.api.analysis import Analysis
from modelloop.decide.analysis.result import CheckName

OFF_SHARE = 1.0
"""A limit that no share can exceed."""
OFF_FACTOR = 1000.0
_LEAST_RATE = 1e-9
"""Less is taken as this: logarithms are taken of levels."""


def alpha_for(settings: Analysis, steps: int) -> Mapping[str, float]:
    """Each check's error level in each of `steps` measurements: the steps and, if there is one, the bake time.

    The levels of all checks in all steps add up to falseRollbackRate (Bonferroni). Half of it is the quality's: where
    labels are few, every bit of power counts; the others need some requests more.
    """
    rate = max(settings.false_rollback_rate, _LEAST_RATE) / max(steps, 1)
    others = [name for name, is_wanted in _wanted(settings).items() if is_wanted]
    if not is_quality_wanted(settings):
        return {name: rate / len(others) for name in others}
    return {CheckName.QUALITY: rate / 2 if others else rate, **{name: rate / 2 / len(others) for name in others}}


def is_quality_wanted(settings: Analysis) -> bool:
    """Whether labels can decide anything."""
    return settings.quality.max_loss < OFF_SHARE or settings.quality.max_error_increase < OFF_FACTOR


def _wanted(settings: Analysis) -> Mapping[str, bool]:
    return {
        CheckName.SUCCESS_RATIO: settings.min_success_ratio > 0,
        CheckName.LATENCY: settings.latency.max_p99 is not None,
        CheckName.LATENCY_RATIO: settings.latency.max_ratio < OFF_FACTOR,
        CheckName.DISAGREEMENT: settings.max_disagreement < OFF_SHARE,
        CheckName.PREDICTION_DISTANCE: settings.max_prediction_distance < OFF_SHARE,
        CheckName.SCORE_SHIFT: settings.max_score_shift is not None,
    }
