"""What the decision about a ModelDeployment rests on, and what it results in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from modelloop.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus, ServedVersion
from modelloop.decide.analysis import CustomMeasurement
from modelloop.decide.plan import Event
from modelloop.decide.play import Play
from modelloop.decide.route import ObservedReport, RoutePlan
from modelloop.decide.servers import ObservedServer, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedDeployment:
    """Everything that the decision rests on."""

    generation: int
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    training_found: bool
    target: Target | None
    """The version that the spec asks for: the training's champion, the pinned one, or the stored one."""
    fallback: Target | None = None
    """The last version that was promoted and isn't the stable one."""
    servers: tuple[ObservedServer, ...] = ()
    service_digest: str = ""
    """Digest label in the public Service's selector."""
    address: str = ""
    alarms: Mapping[str, str] = field(default_factory=dict)
    """What monitors say against versions, by digest."""
    apply_error: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """What people ask for, by the annotation's name without its prefix."""
    reports: tuple[ObservedReport, ...] = ()
    """Of the stable version's pods."""
    custom: Mapping[str, CustomMeasurement] = field(default_factory=dict)
    """Results of the analysis' own queries, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """What to write and keep."""

    status: ModelDeploymentStatus
    served: tuple[ServedVersion, ...] = ()
    """Versions that must have a Deployment."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Their pods, by the Deployment's name."""
    route: RoutePlan = field(default_factory=RoutePlan)
    delete_servers: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    check_again_after: timedelta | None = None


def find_server(observed: ObservedDeployment, version: ServedVersion | None) -> ObservedServer | None:
    """The Deployment of a version."""
    if version is None:
        return None
    return next((server for server in observed.servers if server.name == version.deployment), None)


def is_selected(observed: ObservedDeployment, play: Play) -> bool:
    """Whether the Service selects the stable version."""
    server = find_server(observed, play.stable)
    return server is not None and server.digest_label == observed.service_digest


def wanted_target(observed: ObservedDeployment, play: Play) -> Target | None:
    """The version that should serve: what the spec asks for, or the last good one in place of a stable one that was
    given up."""
    target = observed.target
    if play.stable is not None and play.is_given_up(play.stable.digest):
        is_other = target is not None and target.version.digest != play.stable.digest
        if target is None or not is_other or play.is_blocked(target.version.digest, target.template_hash):
            return observed.fallback
    return target
