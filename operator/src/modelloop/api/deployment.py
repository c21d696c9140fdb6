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


class Capture(ApiModel):
    """Which requests are written to the store for monitoring and retraining."""

    sample_percent: Annotated[int, Field(ge=0, le=100, description="Share of the requests; 0 turns it off.")] = 100


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
        )
    )

    type: Annotated[Literal["ClusterIP", "NodePort", "LoadBalancer"], Field(description="As in a Service.")] = (
        "ClusterIP"
    )
    node_port: Annotated[int | None, Field(ge=1, le=65535, description="A fixed port of the nodes.")] = None


class ModelDeploymentSpec(ApiModel):
    """Which model to serve, and how."""

    training_ref: Annotated[LocalRef, Field(description="The ModelTraining whose champion is served.")]
    replicas: Annotated[int, Field(ge=0, le=1000, description="Pods that serve.")] = 1
    service: ServiceSpec = ServiceSpec()
    capture: Capture = Capture()
    rollout: Rollout = Rollout()
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
