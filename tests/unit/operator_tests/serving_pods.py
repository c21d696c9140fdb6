"""Deployments of a version, and what is in their pods."""

from typing import Any

from modelkit.contract.codec import loads
from modelkit.contract.config import ServerConfig
from modelkit.contract.environment import CONFIG
from modelloop.api.common import VersionStatus
from modelloop.desired.deployment import build_server
from tests.unit.operator_tests.operator_states import SETTINGS, UID, deployment_spec, digest_of
from tests.unit.operator_tests.pod_checks import pod_spec

Object = dict[str, Any]


def version(**fields: Any) -> VersionStatus:
    """Version 2."""
    return VersionStatus(number=2, path="models/team/x/2-y", digest=digest_of(2), **fields)


def server(*, of: VersionStatus | None = None, **fields: Any) -> Object:
    """The Deployment of a spec with `fields`."""
    spec = deployment_spec(**fields)
    return build_server(spec, of or version(), namespace="team", name="cancer", uid=UID, settings=SETTINGS)


def pod(**fields: Any) -> Object:
    """Its pods' spec."""
    found = pod_spec(server(**fields))
    assert found is not None
    return found


def config(**fields: Any) -> ServerConfig:
    """What the server is told."""
    (main,) = pod(**fields)["containers"]
    return loads(ServerConfig, next(entry["value"] for entry in main["env"] if entry["name"] == CONFIG))
