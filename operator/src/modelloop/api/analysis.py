"""Types of spec.rollout.analysis: what a candidate must prove on the traffic, and what follows when it doesn't."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from modelloop.api.common import ApiModel, Name, cel, duration_between, validations

Verdict = Literal["Successful", "Failed", "Inconclusive", "Error"]

_SHARE = "1: not looked at."


class LatencyAnalysis(ApiModel):
    """How slow the candidate's answers may be, as the stable version's pods see it."""

    max_p99: Annotated[
        str | None,
        Field(
            description="At most 1 % of the candidate's answers may take longer. Not set: there is no such limit.",
            json_schema_extra=duration_between("1ms", "1m"),
        ),
    ] = None
    max_ratio: Annotated[
        float,
        Field(
            ge=1,
            le=1000,
            description="By which factor the candidate's p50, p90 and p99 may be above the stable version's. 1000: not "
            "looked at.",
        ),
    ] = 2.0
    allowance: Annotated[
        str,
        Field(
            description="Added to what maxRatio allows: the candidate's answers take a way over the network.",
            json_schema_extra=duration_between("0s", "1m"),
        ),
    ] = "20ms"
    floor: Annotated[
        str,
        Field(
            description="Answers that take no longer are never too slow by maxRatio.",
            json_schema_extra=duration_between("0s", "1m"),
        ),
    ] = "50ms"


class QualityAnalysis(ApiModel):
    """How much worse than the stable version the candidate may be on compared rows whose truth /feedback told."""

    max_loss: Annotated[
        float,
        Field(ge=0, le=1, description=f"Of a classifier's accuracy; 0.01 is one point. {_SHARE}"),
    ] = 0.01
    max_error_increase: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Of a regression's mean absolute error, as a share of the stable version's. 1000: not looked "
            "at.",
        ),
    ] = 0.05
    min_labels: Annotated[
        int, Field(ge=30, le=10_000_000, description="Fewer labelled rows of a step decide nothing.")
    ] = 100
    required: Annotated[
        bool,
        Field(description="Fewer labelled rows than minLabels are Inconclusive: without them nothing is promoted."),
    ] = False


class PrometheusCheck(ApiModel):
    """A query whose value must lie within limits."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.min) || has(self.max)", "must set min or max"),
            cel("!has(self.min) || !has(self.max) || self.min <= self.max", "min must be at most max"),
        )
    )

    name: Annotated[Name, Field(description="Of the check.")]
    query: Annotated[
        str,
        Field(
            min_length=1,
            max_length=4096,
            description="PromQL that results in one number. `$namespace`, `$name`, `$candidate` and `$stable` stand "
            "for the ModelDeployment's and the names of the two versions' Deployments.",
        ),
    ]
    min: Annotated[float | None, Field(description="Less is Failed.")] = None
    max: Annotated[float | None, Field(description="More is Failed.")] = None
    failure_limit: Annotated[
        int | None, Field(ge=0, le=1000, description="In place of the analysis' failureLimit.")
    ] = None
    consecutive_failure_limit: Annotated[
        int | None, Field(ge=0, le=1000, description="In place of the analysis' consecutiveFailureLimit.")
    ] = None


class Prometheus(ApiModel):
    """Checks of a Prometheus, which the operator asks at every look."""

    address: Annotated[
        str,
        Field(
            max_length=256,
            description="URL before `/api/v1/query`.",
            json_schema_extra=validations(
                cel(
                    "self.matches('^https?://[A-Za-z0-9][-A-Za-z0-9.]*(:[0-9]{1,5})?(/[-A-Za-z0-9._~/]*)?$')",
                    "must be a URL such as http://prometheus.monitoring:9090",
                )
            ),
        ),
    ]
    timeout: Annotated[
        str,
        Field(description="For an answer.", json_schema_extra=duration_between("100ms", "1m")),
    ] = "5s"
    checks: Annotated[
        tuple[PrometheusCheck, ...],
        Field(
            min_length=1,
            max_length=16,
            description="All must hold.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]


class Analysis(ApiModel):
    """How a candidate is judged, in every step and through the bake time."""

    interval: Annotated[
        str, Field(description="From one look to the next.", json_schema_extra=duration_between("1s", "1h"))
    ] = "10s"
    min_requests: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="Requests that the candidate must have been asked in a step; fewer are Inconclusive.",
        ),
    ] = 100
    min_compared: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="Requests that both versions must have scored in a step, where they do; fewer are "
            "Inconclusive.",
        ),
    ] = 30
    false_rollback_rate: Annotated[
        float,
        Field(
            gt=0,
            le=0.2,
            description="Probability at most that a candidate within all limits Fails in a whole rollout, however "
            "often it is looked at. Custom checks aren't covered.",
        ),
    ] = 0.01
    min_success_ratio: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of the candidate's requests that it must answer. 0: not looked at.",
        ),
    ] = 0.99
    latency: LatencyAnalysis = LatencyAnalysis()
    max_disagreement: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of the compared rows for which the versions may differ: by class, or by half a standard "
            f"deviation. {_SHARE}",
        ),
    ] = 0.3
    max_prediction_distance: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Jensen-Shannon distance (base 2) of both versions' predictions over the compared rows. "
            f"{_SHARE}",
        ),
    ] = 0.2
    max_score_shift: Annotated[
        float | None,
        Field(
            gt=0,
            le=1000,
            description="Mean difference over the compared rows: of predictions, in standard deviations, or of the "
            "second class' probability. Not set: not looked at.",
        ),
    ] = None
    quality: QualityAnalysis = QualityAnalysis()
    failure_limit: Annotated[
        int | None,
        Field(
            ge=0,
            le=1000,
            description="Failed looks of a check in a step that are borne with. Not set: 0, or any number with "
            "consecutiveFailureLimit.",
        ),
    ] = None
    consecutive_failure_limit: Annotated[
        int | None, Field(ge=0, le=1000, description="Failed looks in a row that are borne with. Not set: any number.")
    ] = None
    error_limit: Annotated[
        int | None,
        Field(ge=0, le=1000, description="Looks without a measurement that are borne with. Not set: any number."),
    ] = None
    consecutive_error_limit: Annotated[
        int, Field(ge=0, le=1000, description="Looks without a measurement in a row that are borne with.")
    ] = 4
    on_failure: Annotated[
        Literal["Rollback", "Pause"], Field(description="When a check Failed more often than its limits say.")
    ] = "Rollback"
    on_no_traffic: Annotated[
        Literal["Rollback", "Pause"],
        Field(description="When a step is still Inconclusive at its deadline. It is never promoted."),
    ] = "Rollback"
    on_error: Annotated[
        Literal["Pause", "Rollback"], Field(description="When what is measured can't be read. It is never promoted.")
    ] = "Pause"
    dry_run: Annotated[bool, Field(description="Everything is measured and told, and nothing is decided by it.")] = (
        False
    )
    prometheus: Annotated[
        Prometheus | None, Field(description="Checks of your own. Not set: no metrics server is needed.")
    ] = None


# -- status --------------------------------------------------------------------------------------------------------


class CheckStatus(ApiModel):
    """A check's last result, and what it came to so far in this step."""

    name: Annotated[str, Field(max_length=63)]
    verdict: Verdict
    value: Annotated[float | None, Field(description="What was found.")] = None
    limit: Annotated[float | None, Field(description="What is allowed.")] = None
    low: Annotated[float | None, Field(description="What was found is at least this, beyond chance.")] = None
    high: Annotated[float | None, Field(description="And at most this.")] = None
    samples: Annotated[int, Field(ge=0, description="Requests or rows that it rests on.")] = 0
    failures: Annotated[int, Field(ge=0, description="Looks that Failed.")] = 0
    consecutive_failures: Annotated[int, Field(ge=0)] = 0
    errors: Annotated[int, Field(ge=0, description="Looks that ended in Error.")] = 0
    consecutive_errors: Annotated[int, Field(ge=0)] = 0
    inconclusive: Annotated[int, Field(ge=0, description="Looks that were Inconclusive.")] = 0
    message: Annotated[str, Field(max_length=512)] = ""
    time: Annotated[AwareDatetime | None, Field(description="Of a custom check: when it was measured last.")] = None
