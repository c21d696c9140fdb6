"""Starting, recognising and ending a cluster's processes.

A process is known by its pid together with the tick at which it started and the boot it started in, so that a pid that
the kernel has given to somebody else is never signalled. Besides, every process carries its cluster's directory in an
environment variable that its children inherit: that finds what was started just before a kill -9 of the one who would
have written it down, and containerd's shims.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.shell import environment, find_program

MARKER = "MODELLOOP_DEVCLUSTER"
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process, told apart from any later one with the same pid."""

    pid: int
    start_tick: int
    boot_id: str


def read_boot_id() -> str:
    """The kernel's random name for this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def parse_stat(stat: str) -> tuple[str, int]:
    """State letter and start tick out of /proc/PID/stat, whose second field may hold blanks and parentheses."""
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def read_record(pid: int) -> ProcessRecord | None:
    """The record of a living process, None when there is none or it is a zombie."""
    try:
        state, start_tick = parse_stat((_PROC / str(pid) / "stat").read_text())
    except (OSError, ValueError, IndexError):
        return None
    return None if state in "ZX" else ProcessRecord(pid, start_tick, read_boot_id())


def is_running(record: ProcessRecord) -> bool:
    """Whether that very process is still alive."""
    return read_record(record.pid) == record


def start(words: list[str], *, marker: Path, log: Path) -> ProcessRecord:
    """Start a process in a session of its own, so that it outlives us; its output is appended to `log`."""
    program = find_program(words[0])
    if program is None:
        raise DevClusterError(f"the program {words[0]} isn't on this machine")
    log.parent.mkdir(parents=True, exist_ok=True)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    env = environment(**{MARKER: str(marker)})
    pid = os.posix_spawn(program, words, env, file_actions=actions, setsid=True)
    record = read_record(pid)
    if record is None:
        raise DevClusterError(f"{Path(words[-1]).name} ended at once: see {log}")
    return record


def find_marked(marker: Path) -> list[ProcessRecord]:
    """All living processes that carry this cluster's mark."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked and (record := read_record(int(entry.name))) is not None:
            found.append(record)
    return found


def stop(records: Iterable[ProcessRecord], *, patience: float) -> None:
    """End processes: SIGTERM, and SIGKILL for those still there after `patience` seconds.

    :raises DevClusterError: one survives even that, for ten seconds.
    """
    left = _signal(records, signal.SIGTERM) if patience > 0 else list(records)
    if left := _wait_for_end(left, patience):
        _signal(left, signal.SIGKILL)
        if left := _wait_for_end(left, 10):
            raise DevClusterError(f"processes {[each.pid for each in left]} don't end, not even by SIGKILL")


def _signal(records: Iterable[ProcessRecord], number: signal.Signals) -> list[ProcessRecord]:
    alive = [each for each in records if is_running(each)]
    for each in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.pid, number)
    return alive


def _wait_for_end(records: list[ProcessRecord], seconds: float) -> list[ProcessRecord]:
    deadline = time.monotonic() + seconds
    left = records
    while True:
        for each in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(each.pid, os.WNOHANG)
        left = [each for each in left if is_running(each)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)
