"""The local image store: Docker's where an engine answers, otherwise buildah's, installed when missing."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from devcluster import debian, own_root
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


@contextlib.contextmanager
def buildah() -> Iterator[list[str]]:
    """The beginning of buildah's command lines; paths in them must be absolute."""
    with own_root.entered(Path("/run", f"modelloop-buildah-{os.getpid()}-root")) as prefix:
        yield [*prefix, "buildah"]


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
    if engine is Engine.DOCKER:
        return succeeds("docker", "pull", "--quiet", reference, timeout=300)
    with buildah() as command:
        return succeeds(*command, "pull", "--quiet", reference, timeout=300)
