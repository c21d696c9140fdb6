"""ModelDeployment: serves the champion of a ModelTraining and rolls a new one out."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from modelloop.api.common import (
    ApiModel,
    Conditions,
    Duration,
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
from modelloop.api.runtime import Runtime
from modelloop.api.serving import Availability, Batching, Capture, Limits, TlsSecret, TokenSecret


class Rollout(ApiModel):
    """How a new version takes over."""

    progress_deadline: Annotated[Duration, Field(description="A version that isn't ready by then is given up.")] = "5m"
    bake_time: Annotated[
        Duration, Field(description="How long the previous version is kept warm after a promotion.")
    ] = "1m"


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


class ModelDeploymentSpec(Availability, Placement):
    """Which model to serve, and how."""

    training_ref: Annotated[LocalRef, Field(description="The ModelTraining whose champion is served.")]
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
    template_hash: Annotated[str, Field(max_length=64)] = ""
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
    candidate: Annotated[ServedVersion | None, Field(description="Being made ready.")] = None
    previous: Annotated[ServedVersion | None, Field(description="Kept warm for a rollback.")] = None
    failed: Annotated[tuple[FailedVersion, ...], Field(max_length=10, description="Newest first.")] = ()
