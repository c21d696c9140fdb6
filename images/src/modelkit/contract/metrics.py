"""Names of the model metrics that gates and monitors may use, and which way each is better."""

from types import MappingProxyType

CLASSIFICATION_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
    "calibration_error",
)
REGRESSION_METRICS = ("mse", "rmse", "mae", "mape", "r2")
METRICS = CLASSIFICATION_METRICS + REGRESSION_METRICS

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "calibration_error", "mse", "rmse", "mae", "mape"})

NEEDS_PROBABILITIES = frozenset({"roc_auc", "average_precision", "log_loss", "brier", "calibration_error"})
"""Metrics that a classifier without probabilities doesn't have."""

PRIMARY_METRIC = MappingProxyType({"Classification": "f1", "Regression": "rmse"})
"""What candidates are ranked by, and what the default gate compares, when a spec names no metric."""


def improvement(metric: str, new: float, old: float) -> float:
    """How much better `new` is than `old`, in the metric's own unit: positive means better for every metric."""
    return old - new if metric in LOWER_IS_BETTER else new - old
