"""The local image store: Docker's where an engine answers, otherwise buildah's, installed when missing."""

from __future__ import annotations

import functools
from enum import StrEnum

from devcluster import debian
from devcluster.errors import DevClusterError
from devcluster.shell import run, succeeds


class Engine(StrEnum):
    """What builds images here and keeps them; the value is the program's name."""

    DOCKER = "docker"
    BUILDAH = "buildah"


@functools.cache
def find_engine() -> Engine:
    """The engine of this machine."""
    if succeeds("docker", "info", timeout=15):
        return Engine.DOCKER
    debian.require_linux()
    debian.ensure_programs(["buildah"])
    return Engine.BUILDAH


def read_image_id(engine: Engine, reference: str) -> str | None:
    """The digest of an image's configuration, None when the store doesn't have the image."""
    if engine is Engine.DOCKER:
        query = ["docker", "image", "inspect", "--format", "{{.Id}}", reference]
    else:
        query = ["buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", reference]
    try:
        return run(*query).strip().removeprefix("sha256:")
    except DevClusterError:
        return None


def pull(engine: Engine, reference: str) -> bool:
    """Try to fetch an image; whether it is in the store now."""
    return succeeds(engine, "pull", "--quiet", reference, timeout=300)
