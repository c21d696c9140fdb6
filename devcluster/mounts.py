"""Mounts below a folder: finding them, and getting rid of them before the folder is removed."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.shell import run

_MOUNTS = Path("/proc/self/mountinfo")


def parse_mount_points(mountinfo: str, below: Path) -> list[Path]:
    """Mount points at or below a folder, deepest first, so that each can be unmounted in turn."""
    points = []
    for line in mountinfo.splitlines():
        escaped = line.split()[4]
        point = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), escaped))
        if point.is_relative_to(below):
            points.append(point)
    return sorted(points, key=lambda point: len(point.parts), reverse=True)


def list_mount_points(below: Path) -> list[Path]:
    """What is mounted now at or below a folder, deepest first."""
    return parse_mount_points(_MOUNTS.read_text(), below)


def unmount_below(root: Path) -> None:
    """Unmount everything at or below `root`.

    :raises DevClusterError: something stays mounted.
    """
    for _ in range(5):
        points = list_mount_points(root)
        if not points:
            return
        for point in points:
            with contextlib.suppress(DevClusterError):
                run("umount", "--lazy", point)
    raise DevClusterError(f"{points[0]} can't be unmounted: unmount it by hand and repeat")


def remove_tree(root: Path) -> None:
    """Remove a folder, once nothing is mounted in it: removing could otherwise reach through a mount."""
    unmount_below(root)
    if root.exists():
        shutil.rmtree(root)
