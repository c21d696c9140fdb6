"""Control groups: one per cluster with a node, in every hierarchy the kernel has mounted.

Old (v1), hybrid and unified (v2) hosts differ in how many hierarchies there are and in what a new group must be given
before a process can enter it; nothing else here depends on it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.shell import wait_until

_NEEDED = ("cpu", "memory", "pids")
_MOUNTS = Path("/proc/self/mountinfo")


def parse_hierarchies(mountinfo: str) -> list[tuple[Path, frozenset[str]]]:
    """Mount points of all control group hierarchies below /sys/fs/cgroup, with their v1 controllers (none for v2)."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point, (kind, _, options) = Path(before.split()[4]), after.split()[:3]
        if kind in {"cgroup", "cgroup2"} and point.is_relative_to("/sys/fs/cgroup"):
            names = frozenset(options.split(",")) if kind == "cgroup" else frozenset()
            found.append((point, names))
    return found


def require_cgroups() -> None:
    """:raises DevClusterError: the controllers that a kubelet can't do without aren't mounted."""
    hierarchies = parse_hierarchies(_MOUNTS.read_text())
    available = {name for _, names in hierarchies for name in names}
    for point, names in hierarchies:
        if not names and point == Path("/sys/fs/cgroup"):
            available |= set((point / "cgroup.controllers").read_text().split())
    if missing := [name for name in _NEEDED if name not in available]:
        raise DevClusterError(
            f"the node tier needs the control groups {', '.join(missing)}, and /sys/fs/cgroup doesn't have them: "
            "in a chroot or container, bind-mount the host's /sys/fs/cgroup (mount --rbind)"
        )


def create(name: str) -> None:
    """Make the cluster's group in every hierarchy, ready for children with processes."""
    for point, names in parse_hierarchies(_MOUNTS.read_text()):
        group = point / name
        group.mkdir(exist_ok=True)
        if "cpuset" in names:
            for setting in ("cpuset.mems", "cpuset.cpus"):
                if not (group / setting).read_text().strip():
                    (group / setting).write_text((point / setting).read_text())
        if not names:
            for parent in (point, group):
                _delegate(parent)


def remove(name: str) -> None:
    """Kill whatever runs in the cluster's groups and remove them."""
    groups = [point / name for point, _ in parse_hierarchies(_MOUNTS.read_text()) if (point / name).is_dir()]
    wait_until(lambda: not _kill_all(groups), seconds=20, what=f"the end of all processes in the control group {name}")
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            wait_until(lambda path=Path(folder): _remove_group(path), seconds=10, what=f"the removal of {folder}")  # type: ignore[misc]


def _delegate(group: Path) -> None:
    """Let children of a v2 group use its controllers; those that can't be passed on (a busy group) are left out."""
    for controller in (group / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _kill_all(groups: list[Path]) -> bool:
    """SIGKILL to every process below the groups; whether there was any."""
    pids = set()
    for group in groups:
        for folder, _, _ in os.walk(group):
            with contextlib.suppress(OSError):
                pids |= {int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def _remove_group(group: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        try:
            group.rmdir()
        except OSError:
            return False
    return True
