"""Names of the model metrics that gates and monitors may use, and which way each is better."""

from types import MappingProxyType

CLASSIFICATION_METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "log_loss")
REGRESSION_METRICS = ("mse", "rmse", "mae", "r2")
METRICS = CLASSIFICATION_METRICS + REGRESSION_METRICS

LOWER_IS_BETTER = frozenset({"log_loss", "mse", "rmse", "mae"})

PRIMARY_METRIC = MappingProxyType({"Classification": "f1", "Regression": "rmse"})
"""What candidates are ranked by, and what the default gate compares, when a spec names no metric."""


def improvement(metric: str, new: float, old: float) -> float:
    """How much better `new` is than `old`, in the metric's own unit: positive means better for every metric."""
    return old - new if metric in LOWER_IS_BETTER else new - old
