"""A regression's loss on rows without labels: direct loss estimation from counts (the idea is NannyML's).

The loss model that was fitted on the version's own test rows (`data.losses`) is additive over the profile's bins, so
that its mean over a window follows from the shares of the window's rows in each bin: what drift is looked for in, too.

It holds while the same features have the same answers (covariate shift), not when the relation changes. A value beyond
the test rows' counts as their outer ones, and one in a bin that no test row was in as the average.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.data.losses import bin_shares
from modelkit.data.profile import Histogram
from modelkit.monitor.summary import PREDICTION, Summary

Floats = NDArray[np.float64]

ROOTS = {"rmse": "mse"}
"""Metrics that are the square root of a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedLoss:
    """A metric expected of the window, and of the test rows; in the metric's unit."""

    value: float
    reference: float
    error: float
    """Standard error of the difference."""
    left_out: int
    """Columns of the loss model that the window doesn't hold as they were sent; taken as unchanged."""


def expect_loss(losses: Mapping[str, Any], summary: Summary, metric: str) -> ExpectedLoss | None:
    """Expect `metric`; None where there is no loss model for it.

    The error counts the window's rows (variance of the expected losses, whose correlations between columns are the test
    rows' own), the test rows, and the refits without a fold each (delete-a-group jackknife).
    """
    model = losses.get(ROOTS.get(metric, metric))
    if model is None:
        return None
    columns = [(column, _find_histogram(summary, column["name"])) for column in model["columns"]]
    effects = [_Effect.of(column, histogram) for column, histogram in columns if histogram is not None]
    shift = sum(effect.shift for effect in effects)
    base = float(model["base"])
    value = max(base + shift, 0.0)
    refits = np.sum([effect.refits for effect in effects], axis=0) if effects else np.zeros(2)
    groups = len(refits)
    fitted = (groups - 1) / groups * float(((refits - refits.mean()) ** 2).sum())
    found = [histogram is not None for _, histogram in columns]
    correlation = np.asarray(model["correlation"])[np.ix_(found, found)]
    error = sqrt(_variance(effects, correlation) / max(1, summary.rows) + fitted)
    left_out = len(columns) - len(effects)
    if metric in ROOTS:
        # By how much the root changes with its argument, half way.
        slope = 1 / max(sqrt(value) + sqrt(base), 1e-12)
        return ExpectedLoss(value=sqrt(value), reference=sqrt(base), error=error * slope, left_out=left_out)
    return ExpectedLoss(value=value, reference=base, error=error, left_out=left_out)


@dataclass(frozen=True, slots=True)
class _Effect:
    """What one column adds to the window's mean loss."""

    shift: float
    refits: Floats
    """[folds] the same by the refits."""
    deviation: float
    """Of single rows."""

    @classmethod
    def of(cls, column: Mapping[str, Any], histogram: Histogram) -> "_Effect":
        shares, weights = bin_shares(histogram), np.asarray(column["weights"])
        shift = float(weights @ shares)
        variance = float((weights - shift) ** 2 @ shares)
        return cls(shift, np.asarray(column["refits"]) @ shares, sqrt(variance))


def _find_histogram(summary: Summary, name: str | None) -> Histogram | None:
    return summary.outputs[PREDICTION] if name is None else summary.features.get(name)


def _variance(effects: Sequence[_Effect], correlation: Floats) -> float:
    deviations = np.array([effect.deviation for effect in effects])
    return float(max(0.0, deviations @ correlation @ deviations)) if len(effects) else 0.0
