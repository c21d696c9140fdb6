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


def remove_tree(root: Path) -> None:
    """Unmount everything at or below `root` and remove it.

    :raises DevClusterError: something stays mounted. Removing files then could reach through a mount into what
        belongs to somebody else.
    """
    for _ in range(5):
        points = parse_mount_points(_MOUNTS.read_text(), root)
        if not points:
            break
        for point in points:
            with contextlib.suppress(DevClusterError):
                run("umount", "--lazy", point)
    else:
        raise DevClusterError(f"{points[0]} can't be unmounted: unmount it by hand and repeat")
    if root.exists():
        shutil.rmtree(root)
