"""How many processors this pod may use: inference threads beyond that only take turns."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def read_cpu_limit(cgroup: Path = CGROUP) -> float:
    """Processors that the cgroup's quota (v2 `cpu.max`, v1 `cpu.cfs_quota_us`) and the CPU affinity allow."""
    available = float(len(os.sched_getaffinity(0)))
    quota = _read_v2(cgroup / "cpu.max") or _read_v1(cgroup / "cpu")
    return available if quota is None else min(available, quota)


def inference_threads(limit: float) -> int:
    """Threads for one inference; at least 1. A fraction isn't rounded up: the quota would stop the process."""
    return max(1, int(limit))


def _read_v2(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
