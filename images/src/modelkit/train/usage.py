"""What a run costs: processor time and memory of this process and all its descendants, from /proc.

Linux only, as the images are. Processes are read rather than the cgroup, whose files differ between its versions and
count other containers too where there is no namespace.
"""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from modelkit.contract.result import Usage

_PROC = Path("/proc")
_GIB = 1 << 30
_SECONDS_BETWEEN_SAMPLES = 0.5


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    cpu_seconds: float
    """Its own, and that of its children which have ended and were waited for."""
    resident_bytes: int


class Meter:
    """Measures from its making on; samples memory in a daemon thread while it is entered."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid or os.getpid()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, name="usage", daemon=True)
        self._byte_seconds = 0.0
        self._peak = 0
        self._sampled = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def usage(self, plus: Usage | None = None) -> Usage:
        """What was used until now, and what others used (`plus`: worker pods).

        Processor time counts from the start of the process, so that imports are in it.
        """
        tree, others = _read_tree(self._pid), plus or Usage()
        self._add(tree)
        with self._lock:
            return Usage(
                cpu_seconds=round(others.cpu_seconds + sum(process.cpu_seconds for process in tree), 2),
                memory_gib_seconds=round(others.memory_gib_seconds + self._byte_seconds / _GIB, 3),
                peak_memory_bytes=max(others.peak_memory_bytes, self._peak),
            )

    def _sample_on(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_SAMPLES):
            self._add(_read_tree(self._pid))

    def _add(self, tree: list[_Process]) -> None:
        resident = sum(process.resident_bytes for process in tree)
        with self._lock:
            now = time.monotonic()
            self._byte_seconds += resident * (now - self._sampled)
            self._sampled = now
            self._peak = max(self._peak, resident)


def _read_tree(root: int) -> list[_Process]:
    """The process and its living descendants."""
    children: dict[int, list[_Process]] = {}
    found = None
    for process in _read_processes():
        children.setdefault(process.parent, []).append(process)
        if process.pid == root:
            found = process
    tree = [] if found is None else [found]
    for process in tree:  # grows while it is walked
        tree.extend(children.get(process.pid, ()))
    return tree


def _read_processes() -> Iterator[_Process]:
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            try:
                # The name in parentheses may hold anything, parentheses too. Fields as in proc_pid_stat(5).
                fields = (_PROC / entry.name / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
            times = sum(int(value) for value in fields[11:15])  # utime, stime, cutime, cstime
            yield _Process(
                pid=int(entry.name),
                parent=int(fields[1]),
                cpu_seconds=times / os.sysconf("SC_CLK_TCK"),
                resident_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
            )
