"""A search on worker pods beside the trainer's own cores: a dask scheduler in this process.

The trainer takes part with a worker of its own, which also holds the data: pods come, go and are lost without the
search ending or its result changing, since a fit's score doesn't depend on where it is done.
"""

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from modelkit.contract.config import TrainerConfig
from modelkit.errors import StoreError
from modelkit.store.store import Store
from modelkit.train.pools import LocalPool, Pool
from modelkit.train.rendezvous import (
    HTTP_ADDRESS,
    POD_IP,
    Meeting,
    credentials_of,
    set_up_dask,
    write_meeting,
)
from modelkit.train.trials import Job, Outcome, Problem, score

logger = logging.getLogger(__name__)

WAIT_SECONDS = 60.0
"""Without any worker pod for so long, the log says so; the trainer has been searching all the time."""


class WorkerPool:
    """The trainer's cores and those of the worker pods that come."""

    def __init__(self, problem: Problem, config: TrainerConfig, store: Store, cores: int, host: str | None) -> None:
        """Opens the scheduler on `host` (None: the pod's address) and tells the store; raises OSError, StoreError."""
        from distributed import Client, LocalCluster
        from distributed.security import Security
        from distributed.utils import get_ip

        self._config, self._store = config, store
        self._asked = config.tuning.parallelism if config.tuning else 1
        self._cores, self._most, self._begun = cores, 0, time.monotonic()
        made = Security.temporary()
        meeting = Meeting(certificate=str(made.tls_ca_file), key=str(made.tls_scheduler_key))
        self._cluster = LocalCluster(
            n_workers=1,
            threads_per_worker=cores,
            processes=False,
            host=host or get_ip(),
            protocol="tls://",
            security=credentials_of(meeting),
            dashboard_address=HTTP_ADDRESS,
            worker_dashboard_address=None,
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            silence_logs=False,
        )
        self._client = Client(self._cluster, set_as_default=False)
        self._scheduler: Any = self._cluster.scheduler
        own = next(iter(self._cluster.workers.values())).address
        # Pinned to the trainer's own worker: data that only a lost pod had would be lost, too.
        self._problem = self._client.scatter(problem, workers=[own], hash=False)
        self._executor = self._client.get_executor(pure=False)
        write_meeting(
            store,
            config,
            Meeting(address=self._cluster.scheduler_address, certificate=meeting.certificate, key=meeting.key),
        )
        self._timer = threading.Timer(WAIT_SECONDS, self._warn)
        self._timer.daemon = True
        self._timer.start()

    @property
    def notes(self) -> tuple[str, ...]:
        """See Pool."""
        if self._most:
            return ()
        return (f"no one of the {self._asked} worker pods joined the search; the trainer's own cores did all of it",)

    def slots(self) -> int:
        """See Pool: enough that a pod that joins finds work at once, even while all fits last long."""
        self._count()
        expected = self._cores * (1 + self._asked)
        return 2 * max(expected, int(self._scheduler.total_nthreads))

    def submit(self, job: Job) -> "Future[Outcome]":
        """See Pool."""
        future: Future[Outcome] = self._executor.submit(score, self._problem, job)
        return future

    def tell(self, left: int) -> None:
        """See Pool; workers come and go by themselves."""

    def close(self) -> None:
        """Tell the worker pods that the search is over, and end the scheduler."""
        self._timer.cancel()
        self._count()
        logger.info("workers", extra={"asked": self._asked, "most": self._most})
        try:
            write_meeting(self._store, self._config, Meeting(done=True))
        except StoreError as exc:
            logger.warning("the workers can't be told that the search is over", extra={"error": str(exc)})
        self._client.close()
        self._cluster.close()

    def _count(self) -> None:
        self._most = max(self._most, len(self._scheduler.workers) - 1)

    def _warn(self) -> None:
        self._count()
        if not self._most:
            seconds = round(time.monotonic() - self._begun)
            logger.warning("no worker pod yet; the search goes on without", extra={"seconds": seconds})


def open_pool(problem: Problem, config: TrainerConfig, store: Store, cores: int, environ: Mapping[str, str]) -> Pool:
    """This pod's cores, and worker pods where the run asks for them.

    A scheduler that can't be opened, or a store that can't tell of it, costs the workers, not the run.
    """
    if config.tuning is None or config.tuning.parallelism < 2:
        return LocalPool(problem, cores)
    set_up_dask(environ)
    try:
        return WorkerPool(problem, config, store, cores, environ.get(POD_IP))
    except (OSError, StoreError) as exc:
        logger.warning("no worker pods; the search stays in this pod", extra={"error": type(exc).__name__})
        return LocalPool(problem, cores)
