"""A root directory that is a mount point, for where `/` isn't one: in a plain chroot.

runc and buildah begin by setting the propagation of the mount at `/`, which the kernel refuses when there is none.
There the node's programs and buildah run in a second view of the same tree, bound to a folder of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from devcluster import mounts
from devcluster.shell import run


def is_needed() -> bool:
    """Whether `/` is no mount point."""
    return Path("/") not in mounts.list_mount_points(Path("/"))


def create(folder: Path) -> None:
    """Bind the whole tree to `folder`, if that is needed and hasn't been done."""
    if not is_needed() or folder in mounts.list_mount_points(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "--rbind", "/", folder)
    # From now on nothing that is unmounted in here is unmounted where it comes from.
    run("mount", "--make-rslave", folder)


def remove(folder: Path) -> None:
    """Undo `create`, if there is anything to undo."""
    mounts.unmount_below(folder)
    if folder.is_dir():
        folder.rmdir()


def build_prefix(folder: Path) -> list[str]:
    """What to put before a command that is to run with the bound tree as its root."""
    return ["chroot", str(folder)] if is_needed() else []


@contextlib.contextmanager
def entered(folder: Path) -> Iterator[list[str]]:
    """The prefix for one command, and the clean-up after it."""
    create(folder)
    try:
        yield build_prefix(folder)
    finally:
        remove(folder)
