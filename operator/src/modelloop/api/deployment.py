"""ModelDeployment: serves the champion of a ModelTraining and rolls a new one out."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from modelloop.api.common import (
    ApiModel,
    Conditions,
    Image,
    LocalRef,
    Resources,
    VersionStatus,
    cel,
    validations,
)
from modelloop.api.custom import SigningKey
from modelloop.api.network import NetworkAccess
from modelloop.api.placement import Placement
from modelloop.api.rollout import HandledAnnotation, Rollout, RolloutRecord, RolloutStatus
from modelloop.api.runtime import Runtime
from modelloop.api.serving import Availability, Batching, Capture, Limits, TlsSecret, TokenSecret


class ServiceSpec(ApiModel):
    """The public Service, which has the ModelDeployment's name."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("!has(self.nodePort) || self.type == 'NodePort'", "nodePort must be used with type NodePort"),
            cel("!has(self.grpcNodePort) || self.type == 'NodePort'", "grpcNodePort must be used with type NodePort"),
            cel(
                "!has(self.nodePort) || !has(self.grpcNodePort) || self.nodePort != self.grpcNodePort",
                "nodePort and grpcNodePort must differ",
            ),
        )
    )

    type: Annotated[Literal["ClusterIP", "NodePort", "LoadBalancer"], Field(description="As in a Service.")] = (
        "ClusterIP"
    )
    node_port: Annotated[int | None, Field(ge=1, le=65535, description="A fixed port of the nodes, for REST.")] = None
    grpc_node_port: Annotated[int | None, Field(ge=1, le=65535, description="A fixed port of the nodes, for gRPC.")] = (
        None
    )


class StoredModel(ApiModel):
    """A version in a store, whoever made it."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("self.uri.startsWith('s3://') || !has(self.secretRef)", "secretRef must be used with an s3:// uri only")
        )
    )

    uri: Annotated[
        str,
        Field(
            max_length=512,
            description="`pvc://<claim>/<directory>` or `s3://<bucket>/<directory>` of the version's manifest.json. "
            "Captured requests go beside the directory `models`, if the address has one.",
            json_schema_extra=validations(
                cel(
                    "(self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^/]') || "
                    "self.matches('^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]/[^/]')) && "
                    "!self.matches('/[.]{1,2}(/|$)') && !self.endsWith('/')",
                    "must be pvc://<claim>/<directory> or s3://<bucket>/<directory>",
                )
            ),
        ),
    ]
    digest: Annotated[
        str,
        Field(
            max_length=71,
            description="`sha256:<hex>` of its manifest.json. Nothing else is served.",
            json_schema_extra=validations(
                cel("self.matches('^sha256:[0-9a-f]{64}$')", "must be sha256: and 64 hex digits")
            ),
        ),
    ]
    secret_ref: Annotated[
        LocalRef | None, Field(description="Secret of the store, as in a ModelTraining's storage.")
    ] = None


class ModelDeploymentSpec(Availability, Placement):
    """Which model to serve, and how."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.trainingRef) != has(self.model)", "must set either trainingRef or model"),
            cel("!has(self.version) || has(self.trainingRef)", "version must be used with trainingRef"),
        )
    )

    training_ref: Annotated[LocalRef | None, Field(description="The ModelTraining whose champion is served.")] = None
    version: Annotated[
        int | None,
        Field(ge=1, description="Serve this version of trainingRef, whatever the champion is. Not set: the champion."),
    ] = None
    model: Annotated[StoredModel | None, Field(description="Serve this version, whatever made it.")] = None
    service: ServiceSpec = ServiceSpec()
    capture: Capture = Capture()
    rollout: Rollout = Rollout()
    limits: Limits = Limits()
    batching: Batching = Batching()
    tls: Annotated[TlsSecret | None, Field(description="Encrypts REST (port 443 of the Service) and gRPC.")] = None
    auth: Annotated[
        TokenSecret | None,
        Field(description="Only requests with a bearer token of this Secret are answered; others get 401."),
    ] = None
    network_policy: Annotated[
        NetworkAccess | None, Field(description="A NetworkPolicy of the pods. Not set: there is none.")
    ] = None
    runtime: Annotated[
        Runtime | None, Field(description="Another model server in the pods, which the server asks.")
    ] = None
    image: Annotated[Image | None, Field(description="Another server image under the same contract.")] = None
    resources: Resources = Resources()
    verify: Annotated[
        SigningKey | None,
        Field(
            description="Serve only what is signed by this Secret's public.pem. Not set: by the key that the training "
            "signs with, if it signs."
        ),
    ] = None


class ServedVersion(VersionStatus):
    """A version in play and the Deployment that serves it."""

    deployment: Annotated[str, Field(max_length=63, description="Name of the Deployment; never serves another.")]
    since: AwareDatetime


class FailedVersion(ApiModel):
    """A version that was given up; its digest is not tried again by itself."""

    number: Annotated[int, Field(ge=1)]
    digest: Annotated[str, Field(max_length=80)]
    template_hash: Annotated[
        str, Field(max_length=64, description="Of the pods that didn't get ready; empty: given up whatever the spec.")
    ] = ""
    reason: Annotated[str, Field(max_length=128)]
    message: Annotated[str, Field(max_length=2048)] = ""
    time: AwareDatetime


class ModelDeploymentStatus(ApiModel):
    """What serves now and what comes next."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    replicas: Annotated[int, Field(ge=0)] = 0
    ready_replicas: Annotated[int, Field(ge=0)] = 0
    selector: Annotated[str, Field(max_length=512, description="Label selector of the stable pods.")] = ""
    address: Annotated[str, Field(max_length=256, description="URL inside the cluster.")] = ""
    stable: Annotated[ServedVersion | None, Field(description="Answers all requests.")] = None
    candidate: Annotated[ServedVersion | None, Field(description="Being made ready, and tried.")] = None
    previous: Annotated[
        ServedVersion | None, Field(description="Kept warm for a rollback, or on its way out after one.")
    ] = None
    rollout: Annotated[RolloutStatus | None, Field(description="The rollout under way.")] = None
    failed: Annotated[tuple[FailedVersion, ...], Field(max_length=10, description="Newest first.")] = ()
    history: Annotated[
        tuple[RolloutRecord, ...], Field(max_length=10, description="Rollouts that have ended, newest first.")
    ] = ()
    handled: Annotated[
        tuple[HandledAnnotation, ...], Field(max_length=8, description="Annotations that were answered.")
    ] = ()
