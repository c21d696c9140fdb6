"""How many cores the pod may use: its cgroup's limit, not the node's cores."""

import os
from collections.abc import MutableMapping
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores(cpu_max: Path = _CPU_MAX) -> int:
    """Whole cores, at least 1: the smaller of the cgroup's limit (rounded up) and the process's affinity."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()[:2]
    except (OSError, ValueError):
        return cores
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return cores
    return max(1, min(cores, -(-int(quota) // int(period))))


def limit_native_threads(environ: MutableMapping[str, str]) -> None:
    """One thread per BLAS or OpenMP call; must run before numpy is imported.

    The search runs folds side by side on all cores. Native libraries would start a thread per core of the node for
    each of them, and the cgroup would throttle them all.
    """
    for name in _THREAD_VARIABLES:
        environ.setdefault(name, "1")
