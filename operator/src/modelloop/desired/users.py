"""Builds containers of images that the users bring, of which nothing is known."""

from typing import Any

from modelkit.contract.files import WORK_MOUNT
from modelloop.api.common import Resources
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
    image: str,
    resources: Resources,
    settings: WorkloadSettings,
    *,
    command: tuple[str, ...],
    args: tuple[str, ...],
    variables: dict[str, str],
    mounts: tuple[Mount, ...],
) -> dict[str, Any]:
    """A container of an image that we know nothing of: a read-only root, and room to write of its own."""
    scratch = f"{name}-scratch"
    own = (Mount(name=scratch, path=WORK_MOUNT), Mount(name=scratch, path=TEMPORARY_MOUNT))
    variables = {"HOME": WORK_MOUNT, "TMPDIR": TEMPORARY_MOUNT, **variables}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        **({"command": list(command)} if command else {}),
        **({"args": list(args)} if args else {}),
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": build_resources(resources, _DEFAULT_RESOURCES),
        "securityContext": build_container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [build_mount(mount) for mount in (*own, *mounts)],
    }
