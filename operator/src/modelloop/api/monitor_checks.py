"""What a ModelMonitor looks at, and what counts as bad: one class for each part of `spec` that is a check's."""

from typing import Annotated, Literal

from pydantic import Field

from modelkit.contract.metrics import METRICS
from modelkit.contract.monitoring import METHODS
from modelloop.api.common import ApiModel, Duration, Name

_Share = Annotated[float, Field(ge=0, le=1)]


class DataQualityCheck(ApiModel):
    """When values that are bad in themselves are too many."""

    max_excess: Annotated[
        _Share,
        Field(
            description="Share of the rows by which missing, mistyped, unknown or out-of-range values of a feature may "
            "exceed the reference."
        ),
    ] = 0.05
    max_duplicates: Annotated[
        _Share | None,
        Field(description="Share of rows that may repeat another row's features; told only when not set."),
    ] = None


class DriftCheck(ApiModel):
    """When the data of a window counts as drifted from what the model learned."""

    method: Annotated[
        str,
        Field(
            description="How the distance is measured; Auto chooses by the feature's type and the number of rows.",
            json_schema_extra={"enum": list(METHODS)},
        ),
    ] = "Auto"
    max_distance: Annotated[
        float | None,
        Field(
            gt=0, le=100, description="Distance above which a feature has drifted; the method's usual one if not set."
        ),
    ] = None
    false_discovery_rate: Annotated[
        float, Field(gt=0, le=0.5, description="Share of false findings accepted among the drifted features.")
    ] = 0.01
    max_drifted_share: Annotated[
        float, Field(ge=0, lt=1, description="Share of the features that may drift before it counts.")
    ] = 0


class MultivariateCheck(ApiModel):
    """When a classifier tells the window's rows from the reference's too well."""

    enabled: bool = True
    max_auc: Annotated[
        float, Field(ge=0.5, lt=1, description="Area under its ROC curve; 0.5 when nothing has changed.")
    ] = 0.6
    significance: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    rows: Annotated[int, Field(ge=100, le=5000, description="At most so many rows of each side are looked at.")] = 2000


class QualityCheck(ApiModel):
    """When quality on labelled rows counts as lost."""

    metric: Annotated[
        str | None,
        Field(
            description="The training's primary metric when not set.",
            json_schema_extra={"enum": list(METRICS)},
        ),
    ] = None
    max_drop: Annotated[
        float, Field(ge=0, description="Allowed loss against the version's own test, in the metric's unit.")
    ] = 0.05
    max_decline: Annotated[
        float | None,
        Field(
            ge=0,
            description="Allowed loss between earlier and later windows of the version, in the metric's unit; found "
            "over all of them. Absent: windows are looked at one by one.",
        ),
    ] = None
    false_alarms: Annotated[
        float,
        Field(
            gt=0, le=0.1, description="Share of windows without a loss that may raise an alarm for a decline, at most."
        ),
    ] = 0.001
    min_labels: Annotated[int, Field(ge=1, le=1_000_000, description="Fewer labelled rows decide nothing.")] = 30


class EstimatedQualityCheck(ApiModel):
    """When the quality that is to be expected of rows without labels counts as lost."""

    enabled: bool = True
    max_drop: Annotated[
        float, Field(ge=0, description="Allowed loss against the version's own test, in the metric's unit.")
    ] = 0.05


class CalibrationCheck(ApiModel):
    """When the model's probabilities stop being true."""

    enabled: bool = True
    max_error: Annotated[
        _Share,
        Field(description="By how much the expected calibration error may exceed that of the version's own test."),
    ] = 0.05


class ServiceCheck(ApiModel):
    """When the serving itself counts as bad."""

    enabled: bool = True
    max_error_rate: Annotated[_Share, Field(description="Share of requests that ended as a server's error.")] = 0.01
    max_latency: Annotated[Duration | None, Field(description="Of the 99th percentile; told only when not set.")] = None


class FairnessCheck(ApiModel):
    """When groups of rows are treated too differently."""

    columns: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
        Field(
            min_length=1,
            max_length=8,
            description="Features whose categories, or ranges, are the groups.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ]
    positive_class: Annotated[
        str | None, Field(max_length=256, description="The favourable answer; the last class when not set.")
    ] = None
    max_parity_difference: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            description="Statistical parity: of the groups' shares of favourable answers; of a regression, of their "
            "mean answers in standard deviations.",
        ),
    ] = 0.1
    max_opportunity_difference: Annotated[
        _Share, Field(description="Equal opportunity: of the groups' true positive rates.")
    ] = 0.1
    min_rows: Annotated[int, Field(ge=5, le=1_000_000, description="Smaller groups aren't compared.")] = 30


class AttributionCheck(ApiModel):
    """When the features matter in another order than they did when the version was made."""

    min_similarity: Annotated[
        _Share,
        Field(description="Normalized discounted cumulative gain of the order by mean absolute Shapley value."),
    ] = 0.9
    rows: Annotated[int, Field(ge=20, le=2000, description="So many rows of the window are explained.")] = 200


class Report(ApiModel):
    """What reports show, and how long they stay."""

    min_bin_rows: Annotated[int, Field(ge=1, le=1000, description="Fewer rows aren't shown apart from others.")] = 5
    retention: Annotated[
        Duration, Field(description="Older reports, and counts of single hours, are removed from the store.")
    ] = "720h"


class Notify(ApiModel):
    """Who is told over HTTP when the state of the monitor changes."""

    secret_name: Annotated[
        Name,
        Field(
            description="A Secret in the same namespace with the key `url`, and `token` for a bearer token. Only the "
            "monitor's pod reads it."
        ),
    ]
    format: Annotated[
        Literal["Generic", "Slack"],
        Field(
            description="Generic: a JSON document of our own; Slack: what Slack's incoming webhooks and others take."
        ),
    ] = "Generic"
