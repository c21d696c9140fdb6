"""What the operator tells a monitor's pod: which window of which version, what is checked, and what counts as bad.

A part that is None isn't looked at. Limits are in the unit of the check's `value`, see docs/monitoring.md.
"""

from dataclasses import dataclass, field
from datetime import datetime

from modelkit.contract.config import StoreConfig, VersionRef

METHODS = ("Auto", "PopulationStability", "JensenShannon", "KolmogorovSmirnov", "ChiSquared", "Wasserstein")
"""How the distance of a feature's window from its reference is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataQualityConfig:
    """When values that are bad in themselves are too many."""

    max_excess: float = 0.05
    """Share of the rows by which a problem may exceed the reference."""
    max_duplicates: float | None = None
    """Share of rows that repeat another row's features; None: told, never judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """When a window counts as drifted: features whose distance over frozen bins is both significant and large."""

    method: str = "Auto"
    """One of METHODS; Auto chooses by the feature's type and the number of rows."""
    max_distance: float | None = None
    """Effect-size floor; None: the usual one of the method."""
    false_discovery_rate: float = 0.01
    max_drifted_share: float = 0.0
    """Breached when more than this share of the features drifted; 0: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultivariateConfig:
    """When a classifier tells the window's rows from the reference's too well."""

    max_auc: float = 0.6
    """Effect-size floor: area under its ROC curve on held-out rows; 0.5 when nothing changed."""
    significance: float = 0.01
    rows: int = 2000
    """At most so many rows of each side are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityConfig:
    """When quality on labelled rows counts as lost."""

    metric: str | None = None
    """None: the version's primary metric."""
    max_drop: float = 0.05
    """Allowed loss against the version's own test metric, in the metric's unit."""
    max_decline: float | None = None
    """Allowed loss between earlier and later windows of the version, of which the first is its own test, in the
    metric's unit; None: windows are looked at one by one."""
    false_alarms: float = 0.001
    """Share of windows without a loss that may raise an alarm for a decline, at most."""
    min_labels: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedQualityConfig:
    """When the quality that is to be expected of rows without labels counts as lost."""

    max_drop: float = 0.05
    """Allowed loss against the version's own test metric, in the metric's unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationConfig:
    """When the model's probabilities stop being true."""

    max_error: float = 0.05
    """By how much the expected calibration error may exceed that of the version's own test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """When the serving itself counts as bad."""

    max_error_rate: float = 0.01
    """Share of requests that ended as a server's error (5xx)."""
    max_latency_seconds: float | None = None
    """Of the 99th percentile; None: told, never judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessConfig:
    """When groups of rows are treated too differently."""

    columns: tuple[str, ...]
    """Features whose categories are the groups."""
    positive_class: str | None = None
    """The favourable answer of a classification; None: the last of the version's classes."""
    max_parity_difference: float = 0.1
    """Statistical parity: of the groups' shares of positive answers (of a regression: of their means, in standard
    deviations of the reference's answers)."""
    max_opportunity_difference: float = 0.1
    """Equal opportunity: of the groups' true positive rates."""
    min_rows: int = 30
    """Smaller groups aren't compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionConfig:
    """When the features matter in another order than on the version's own test rows."""

    min_similarity: float = 0.9
    """Normalized discounted cumulative gain of the order by mean absolute Shapley value."""
    rows: int = 200
    """So many rows of the window are explained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """What reports show, and how long they stay."""

    min_bin_rows: int = 5
    """Fewer rows aren't shown apart from others."""
    retention_seconds: float | None = 30 * 86400.0
    """Older reports of this monitor, and summaries of hours, are removed; None: kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    """Who is told over HTTP when the state of a monitor changes."""

    directory: str
    """A mounted Secret: `url`, and `token` for a bearer token if there is one."""
    format: str = "Generic"
    """Generic: JSON of our own; Slack: `{"text": …}`, which others take, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorConfig:
    """One look at one window of a deployment's captures."""

    namespace: str
    name: str
    deployment: str
    version: VersionRef
    """The version that serves; only rows it answered are looked at."""
    version_since: datetime
    """When it began to serve: the window never starts before."""
    store: StoreConfig
    window_seconds: float
    min_rows: int = 50
    history_limit: int = 10
    timeline_limit: int = 60
    """Points kept in status.timeline."""
    data_quality: DataQualityConfig = field(default_factory=DataQualityConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    multivariate: MultivariateConfig | None = None
    quality: QualityConfig = field(default_factory=QualityConfig)
    estimated_quality: EstimatedQualityConfig | None = None
    calibration: CalibrationConfig | None = None
    service: ServiceConfig | None = None
    fairness: FairnessConfig | None = None
    attribution: AttributionConfig | None = None
    report: ReportConfig = field(default_factory=ReportConfig)
    notify: NotifyConfig | None = None
