"""Shares the allowed rate of false rollbacks out among a rollout's checks and steps."""

from collections.abc import Mapping

from modelloop.api.analysis import Analysis


def alpha_for(settings: Analysis, steps: int) -> Mapping[str, float]:
    """Each check's error level in each of `steps` measurements: the steps and, if there is one, the bake time."""
    raise NotImplementedError
