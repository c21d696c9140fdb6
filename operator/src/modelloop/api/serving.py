"""How a ModelDeployment's pods serve: limits, batching, capture, encryption, tokens, scaling and spreading."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelkit.contract.config import BatchingConfig, LimitsConfig
from modelloop.api.common import ApiModel, Name, cel, duration_between, quantity_between, validations
from modelloop.api.data import ColumnName
from modelloop.api.network import LabelKey

_LIMITS = LimitsConfig()


class Limits(ApiModel):
    """What clients may ask of a pod. Beyond it they get an answer that says so, and the pod is none the worse."""

    max_body_size: Annotated[
        int | str,
        Field(
            description="Of a request's body, also once it is decompressed: 413.",
            json_schema_extra=quantity_between("1Ki", "1Gi"),
        ),
    ] = "1Mi"
    max_header_size: Annotated[
        int | str,
        Field(description="Of a request's line and headers: 431.", json_schema_extra=quantity_between("1Ki", "1Mi")),
    ] = "16Ki"
    max_rows: Annotated[int, Field(ge=1, le=10_000_000, description="Of a request: 422.")] = _LIMITS.max_rows
    max_depth: Annotated[int, Field(ge=4, le=1000, description="How deep JSON may be nested: 422.")] = _LIMITS.max_depth
    max_text_size: Annotated[
        int | str,
        Field(description="Of one text value: 422.", json_schema_extra=quantity_between("1", "1Gi")),
    ] = "64Ki"
    max_concurrent: Annotated[
        int, Field(ge=1, le=100_000, description="Requests that are answered or wait, per pod: 503.")
    ] = _LIMITS.max_concurrent
    max_connections: Annotated[
        int, Field(ge=1, le=1_000_000, description="Open at a time, per pod; further ones are closed.")
    ] = _LIMITS.max_connections
    header_timeout: Annotated[
        str,
        Field(
            description="For a request's line and headers: 408.",
            json_schema_extra=duration_between("100ms", "1h"),
        ),
    ] = "10s"
    body_timeout: Annotated[
        str,
        Field(description="For a request's body: 408.", json_schema_extra=duration_between("100ms", "1h")),
    ] = "30s"
    inference_timeout: Annotated[
        str,
        Field(description="For the answer: 504.", json_schema_extra=duration_between("1ms", "1h")),
    ] = "30s"


class Batching(ApiModel):
    """Requests that wait at the same time are answered by one call of the model; a lone one never waits."""

    max_rows: Annotated[int, Field(ge=1, le=100_000, description="In one call; 1: none are put together.")] = (
        BatchingConfig().max_rows
    )


class CaptureColumn(ApiModel):
    """A column that must not be stored as it is."""

    name: Annotated[ColumnName, Field(description="Name of the column.")]
    action: Annotated[
        Literal["Drop", "Hash"],
        Field(
            description="Drop: never written. Hash: only its HMAC-SHA-256 under hashKey is, so that equal values can "
            "still be seen to be equal."
        ),
    ]


class HashKey(ApiModel):
    """The Secret of the key that hashes captured columns, under the key `key`."""

    secret_name: Annotated[Name, Field(description="Name of the Secret, in the same namespace.")]


class Capture(ApiModel):
    """Which requests are written to the store for monitoring and retraining, and what of them."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.hashKey) || !self.columns.exists(column, column.action == 'Hash')",
                "hashKey must be set with action Hash",
            ),
        )
    )

    sample_percent: Annotated[int, Field(ge=0, le=100, description="Share of the requests; 0 turns it off.")] = 100
    columns: Annotated[
        tuple[CaptureColumn, ...],
        Field(
            max_length=256,
            description="Columns that must not be stored as they are.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                # A pod's environment holds them.
                **validations(
                    cel(
                        "self.map(column, size(column.name)).sum() <= 10000",
                        "all names together must have at most 10000 characters",
                    )
                ),
            },
        ),
    ] = ()
    hash_key: Annotated[HashKey | None, Field(description="The key for columns with action Hash.")] = None
    retention: Annotated[
        str | None,
        Field(
            description="What is older is removed from the store. Not set: kept.",
            json_schema_extra=duration_between("1m", "99999h"),
        ),
    ] = None


class TlsSecret(ApiModel):
    """The Secret of type kubernetes.io/tls (tls.crt, tls.key) that REST and gRPC are encrypted with."""

    secret_name: Annotated[
        Name, Field(description="Name of the Secret, in the same namespace. A renewed one is used at once.")
    ]


class TokenSecret(ApiModel):
    """The Secret whose values are the bearer tokens that requests may have. Probes and metrics are open."""

    secret_name: Annotated[
        Name,
        Field(description="Name of the Secret, in the same namespace. Every value of it is a token."),
    ]


class Autoscaling(ApiModel):
    """A HorizontalPodAutoscaler of the ModelDeployment, which sets spec.replicas."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("self.minReplicas <= self.maxReplicas", "minReplicas must be at most maxReplicas"),
        )
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000, description="Pods at least.")] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000, description="Pods at most.")]
    cpu_utilization: Annotated[
        int | None,
        Field(
            ge=1,
            le=1000,
            description="Percent of the CPU request that the pods should use on average. 80 when neither this nor "
            "concurrency is set; with both, what wants more pods decides.",
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000,
            description="Requests in flight that each pod should have on average: the Pods metric "
            "modelloop_requests_in_flight, for which the cluster needs an adapter of custom metrics.",
        ),
    ] = None
    scale_down_stabilization: Annotated[
        str,
        Field(
            description="Pods are taken away only when fewer were wanted for so long.",
            json_schema_extra=duration_between("0s", "1h"),
        ),
    ] = "5m"


CountOrPercentage = Annotated[
    int | str,
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "maxLength": 4,
            **validations(
                cel(
                    "type(self) == string ? self.matches('^(100|[1-9]?[0-9])%$') : self >= 0 && self <= 1000",
                    "must be a number of pods such as 1 or a percentage such as 25%",
                )
            ),
        }
    ),
]


class DisruptionBudget(ApiModel):
    """A PodDisruptionBudget: how many pods a drain of nodes may take at a time."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.maxUnavailable) != has(self.minAvailable)",
                "must set either maxUnavailable or minAvailable",
            ),
        )
    )

    max_unavailable: Annotated[
        CountOrPercentage | None, Field(description="Pods, or percent of them, that may be missing.")
    ] = None
    min_available: Annotated[
        CountOrPercentage | None, Field(description="Pods, or percent of them, that must be left.")
    ] = None


class TopologySpreadConstraint(ApiModel):
    """How even the pods of a version are spread, as in a Pod; the label selector is the operator's."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
                "minDomains must be used with whenUnsatisfiable DoNotSchedule",
            )
        )
    )

    topology_key: Annotated[LabelKey, Field(description="Label of the nodes whose values are the domains.")]
    max_skew: Annotated[int, Field(ge=1, le=1000, description="By how many pods domains may differ.")] = 1
    when_unsatisfiable: Annotated[
        Literal["ScheduleAnyway", "DoNotSchedule"], Field(description="What a pod does that can't keep it.")
    ] = "ScheduleAnyway"
    min_domains: Annotated[int | None, Field(ge=1, le=1000, description="Domains that there must be.")] = None


DEFAULT_SPREAD = (
    TopologySpreadConstraint(topology_key="kubernetes.io/hostname"),
    TopologySpreadConstraint(topology_key="topology.kubernetes.io/zone"),
)
"""Over nodes and zones, as well as the cluster can."""


class Availability(ApiModel):
    """The part of a ModelDeployment's spec about how many pods there are, and where."""

    replicas: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="Pods that serve. `kubectl scale` and `autoscaling` set it: leave it out of the manifest then.",
        ),
    ] = 1
    autoscaling: Annotated[Autoscaling | None, Field(description="Not set: replicas is what somebody set it to.")] = (
        None
    )
    disruption_budget: Annotated[
        DisruptionBudget | None,
        Field(description="Not set: one pod at a time may be taken when there is more than one."),
    ] = None
    topology_spread_constraints: Annotated[
        tuple[TopologySpreadConstraint, ...],
        Field(
            max_length=8,
            description="How the pods are spread. []: as the scheduler likes.",
            json_schema_extra={
                "x-kubernetes-list-type": "atomic",
                **validations(
                    cel(
                        "self.all(one, self.exists_one(other, other.topologyKey == one.topologyKey))",
                        "each topologyKey must be named once",
                    )
                ),
            },
        ),
    ] = DEFAULT_SPREAD

    @property
    def wanted_replicas(self) -> int:
        """Pods that there are to be: no fewer than the autoscaler's least, for which it would ask some seconds later.

        Taking `replicas` out of a manifest sets it to 1, however many pods serve.
        """
        if self.autoscaling is None or self.replicas == 0:
            return self.replicas
        return max(self.replicas, self.autoscaling.min_replicas)
