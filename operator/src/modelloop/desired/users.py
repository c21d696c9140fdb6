"""Builds containers of images that the users bring, of which nothing is known."""

from typing import Any

from modelkit.contract.files import WORK_MOUNT
from modelloop.api.common import Resources
from modelloop.api.custom import UsersContainer
from modelloop.api.runtime import TEMPORARY_MOUNT
from modelloop.desired.workload import (
    Mount,
    WorkloadSettings,
    build_container_security,
    build_mount,
    build_resources,
)

_DEFAULT_RESOURCES = Resources(requests={"cpu": "250m", "memory": "512Mi"}, limits={"memory": "2Gi"})


def build_users_container(
    name: str,
    stated: UsersContainer,
    settings: WorkloadSettings,
    *,
    variables: dict[str, str],
    mounts: tuple[Mount, ...],
) -> dict[str, Any]:
    """A container of an image that we know nothing of: a read-only root, and room to write of its own.

    What the user says of a variable goes before `variables`.
    """
    scratch = f"{name}-scratch"
    own = (Mount(name=scratch, path=WORK_MOUNT), Mount(name=scratch, path=TEMPORARY_MOUNT))
    own_variables = {"HOME": WORK_MOUNT, "TMPDIR": TEMPORARY_MOUNT, **variables}
    environment = own_variables | {entry.name: entry.value for entry in stated.env}
    secret = stated.secret_ref
    return {
        "name": name,
        "image": stated.image,
        "imagePullPolicy": settings.image_pull_policy,
        **({"command": list(stated.command)} if stated.command else {}),
        **({"args": list(stated.args)} if stated.args else {}),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        **({} if secret is None else {"envFrom": [{"secretRef": {"name": secret.name}}]}),
        "resources": build_resources(stated.resources, _DEFAULT_RESOURCES),
        "securityContext": build_container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [build_mount(mount) for mount in (*own, *mounts)],
    }
