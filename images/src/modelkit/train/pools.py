"""The cores that a search's fits run on: threads, and processes where threads get in each other's way.

Threads begin: they need no start and no copy of the data, and most fits of scikit-learn let other threads run. Python
code doesn't (many small fits, loops over stages), which shows in the time in which its threads run or wait for a core:
when they leave 15 % of the cores alone, and what is left to do is worth the start of processes, the search goes on in
processes. Waiting for a core counts, so that busy neighbours on the node don't look like threads in each other's way.
The score of a fit doesn't depend on where it runs.
"""

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from modelkit.contract.files import WORK_MOUNT
from modelkit.train.trials import Job, Outcome, Problem, score

logger = logging.getLogger(__name__)

BUSY_SHARE = 0.85
"""Seconds that threads run or could run, per core and second, below which they hinder each other."""
MEASURED_SECONDS = 1.0
WORTH_SECONDS = 6.0
"""What processes must save: each imports scikit-learn first, 2 to 3 s on a slow core."""
PROCESS_BYTES = 250 * 1024**2
"""Resident memory of a process with scikit-learn, before the data."""


class Pool(Protocol):
    """Where jobs are scored."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it."""

    def slots(self) -> int:
        """How many jobs it wants in flight now."""

    def submit(self, job: Job) -> "Future[Outcome]":
        """Score the job somewhere."""

    def tell(self, left: int) -> None:
        """A job was scored, `left` are still to be: the pool may adapt."""

    def close(self) -> None:
        """Wait for what runs and free everything."""


class LocalPool:
    """This pod's cores."""

    def __init__(self, problem: Problem, cores: int, room: Callable[[], int | None] | None = None) -> None:
        """`room()` gives the bytes of memory that are free in the pod, None when that isn't known."""
        self._problem, self._cores = problem, cores
        self._room = room or free_memory
        self._threads = ThreadPoolExecutor(cores, thread_name_prefix="fit")
        self._processes: Processes | None = None
        self._done = 0
        self._wall, self._wanted = time.monotonic(), wanted_seconds()
        self._decided = cores == 1
        self.notes: tuple[str, ...] = ()

    def slots(self) -> int:
        """See Pool: processes have a second job at hand, threads need none."""
        return 2 * self._cores if self._processes else self._cores

    def submit(self, job: Job) -> "Future[Outcome]":
        """See Pool."""
        if self._processes:
            return self._processes.submit(job)
        return self._threads.submit(score, self._problem, job)

    def tell(self, left: int) -> None:
        """See Pool: decides once, from the first second or more of work."""
        self._done += 1
        wall = time.monotonic() - self._wall
        if self._decided or wall < MEASURED_SECONDS or self._done < 2 * self._cores:
            return
        self._decided = True
        busy = (wanted_seconds() - self._wanted) / (wall * self._cores)
        saved = left * wall / self._done * (1 - busy)
        if busy < BUSY_SHARE and saved > WORTH_SECONDS and self._has_room():
            self._processes = Processes.start(self._problem, self._cores)
            logger.info("the search goes on in processes", extra={"busy_share": round(busy, 2), "saves": round(saved)})

    def close(self) -> None:
        """See Pool."""
        self._threads.shutdown()
        if self._processes:
            self._processes.close()

    def _has_room(self) -> bool:
        room = self._room()
        return room is None or room > self._cores * (PROCESS_BYTES + _size(self._problem))


class Processes:
    """Worker processes (loky) that read the problem from a file once."""

    def __init__(self, executor: Any, folder: "tempfile.TemporaryDirectory[str]") -> None:
        self._executor, self._folder = executor, folder

    @classmethod
    def start(cls, problem: Problem, cores: int) -> "Processes | None":
        """`cores` processes; None where there can't be any, such as without a place for the file."""
        import joblib
        from joblib.externals.loky import ProcessPoolExecutor

        try:
            folder = tempfile.TemporaryDirectory(prefix="search-", dir=work_folder())
            path = f"{folder.name}/problem"
            joblib.dump(problem, path)  # arrays are mapped by the processes, not copied
            executor = ProcessPoolExecutor(cores, initializer=_load, initargs=(path,), env=_environment())
        except OSError as exc:
            logger.warning("no processes for the search; it stays in threads", extra={"error": exc.strerror})
            return None
        return cls(executor, folder)

    def submit(self, job: Job) -> "Future[Outcome]":
        """Score the job in a process."""
        future: Future[Outcome] = self._executor.submit(_score_loaded, job)
        return future

    def close(self) -> None:
        """End the processes."""
        self._executor.shutdown(wait=True, kill_workers=True)
        self._folder.cleanup()


def work_folder() -> str | None:
    """Where temporary files may be: the pod's work volume when there is one, else the system's choice."""
    return WORK_MOUNT if Path(WORK_MOUNT).is_dir() and os.access(WORK_MOUNT, os.W_OK) else None


def wanted_seconds() -> float:
    """Seconds that this process's threads ran or waited for a core; those that wait for each other want none.

    From schedstat of proc(5); CPU time alone where the kernel doesn't keep it.
    """
    total = 0
    try:
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                ran, waited, _ = (task / "schedstat").read_text().split()
                total += int(ran) + int(waited)
    except (OSError, ValueError):
        return time.process_time()
    return total / 1e9 if total else time.process_time()


def free_memory() -> int | None:
    """Bytes that this pod may still use; None when nobody limits or says it."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text()
        if limit.isdigit():
            return int(limit) - int(used)
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _size(problem: Problem) -> int:
    usage = getattr(problem.rows, "memory_usage", None)
    return int(usage(deep=True).sum()) if usage else int(getattr(problem.rows, "nbytes", 0))


def _environment() -> dict[str, str]:
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


_loaded: list[Problem] = []
"""A worker process's problem, put here by its initializer."""


def _load(path: str) -> None:
    import joblib

    warnings.simplefilter("ignore")  # of fits; the final fit's are the ones that are told
    _loaded[:] = [joblib.load(path, mmap_mode="r")]


def _score_loaded(job: Job) -> Outcome:
    return score(_loaded[0], job)
