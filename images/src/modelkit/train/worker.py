"""`python -m modelkit.train.worker`: a worker pod of a run's search.

It waits for the run's scheduler, works with as many threads as it has cores, waits again when the scheduler is gone
(the trainer's pod was retried), and ends when the search is over or the run's version is there. Environment and
configuration are those of the trainer's pod.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelkit.contract import environment
from modelkit.contract.codec import ContractError, loads
from modelkit.contract.config import TrainerConfig
from modelkit.contract.environment import ExitCode
from modelkit.contract.files import MANIFEST, version_directory
from modelkit.errors import StoreError
from modelkit.logs import set_up_logging
from modelkit.store.store import Store
from modelkit.train.cores import available_cores, limit_native_threads
from modelkit.train.usage import Meter

if TYPE_CHECKING:
    from modelkit.train.rendezvous import Meeting

logger = logging.getLogger("modelkit.train.worker")

WAIT_VARIABLE = "MODELLOOP_WORKER_WAIT_SECONDS"
"""How long a worker stays without any scheduler; the default leaves the trainer time to be scheduled and to read."""
_WAIT_SECONDS = 1800.0
_POLL_SECONDS = 1.0
_USAGE_SECONDS = 10.0
_CONNECT_SECONDS = 20


def main(environ: MutableMapping[str, str]) -> ExitCode:
    """Work for the run that `environ` describes until it needs no worker any more."""
    set_up_logging()
    limit_native_threads(environ)
    try:
        config = loads(TrainerConfig, environ.get(environment.CONFIG, ""))
        wait = float(environ.get(WAIT_VARIABLE, _WAIT_SECONDS))
        store = Store.open(config.store, environ)
    except (ContractError, ValueError, StoreError) as exc:
        logger.error("no work: the configuration can't be used", extra={"error": str(exc)})
        return ExitCode.REFUSED
    with Meter() as meter:
        worker = _Worker(config, store, meter, available_cores(), wait)
        try:
            return worker.run(environ)
        finally:
            worker.report()


@dataclass(slots=True)
class _Worker:
    config: TrainerConfig
    store: Store
    meter: Meter
    cores: int
    wait: float
    """Seconds without any scheduler after which it gives up."""

    def run(self, environ: Mapping[str, str]) -> ExitCode:
        """Work for one scheduler after the other."""
        from modelkit.train.rendezvous import set_up_dask

        warnings.simplefilter("ignore")  # of fits; the trainer tells those of the final one
        alone = time.monotonic()
        while time.monotonic() - alone < self.wait:
            meeting = self._find()
            if meeting is not None and meeting.done:
                logger.info("the search is over")
                return ExitCode.DONE
            if meeting is not None:
                set_up_dask(environ)
                if asyncio.run(self._work(meeting)):
                    alone = time.monotonic()
            time.sleep(_POLL_SECONDS)
        logger.error("no scheduler", extra={"seconds": self.wait})
        return ExitCode.FAILED

    def report(self) -> None:
        """Tell the store what this pod has used, while the trainer is there to read it."""
        from modelkit.train.rendezvous import read_meeting, write_usage

        try:
            if read_meeting(self.store, self.config) is None:
                return
            write_usage(self.store, self.config, f"{socket.gethostname()}-{os.getpid()}", self.meter.usage())
        except StoreError as exc:
            logger.warning("what this worker used can't be told", extra={"error": str(exc)})

    def _find(self) -> "Meeting | None":
        """What the trainer tells, done when the version is there; a store that doesn't answer is asked again."""
        from modelkit.train.rendezvous import Meeting, read_meeting

        config = self.config
        try:
            if (meeting := read_meeting(self.store, config)) is not None:
                return meeting
            path = version_directory(config.namespace, config.name, config.version)
            return Meeting(done=True) if self.store.exists(f"{path}/{MANIFEST}") else None
        except StoreError as exc:
            logger.warning("the store doesn't answer", extra={"error": str(exc)})
            return None

    async def _work(self, meeting: "Meeting") -> bool:
        """Work until the scheduler is gone; False when it wasn't there."""
        from distributed import Worker

        from modelkit.train.rendezvous import HTTP_ADDRESS, credentials_of

        try:
            worker = await Worker(
                meeting.address,
                security=credentials_of(meeting),
                nthreads=self.cores,
                name=f"{socket.gethostname()}-{os.getpid()}",
                memory_limit=0,
                local_directory=tempfile.gettempdir(),
                dashboard_address=HTTP_ADDRESS,
                death_timeout=_CONNECT_SECONDS,
            )
        except (OSError, TimeoutError) as exc:
            logger.info("no scheduler at its address", extra={"error": type(exc).__name__})
            return False
        logger.info("working", extra={"scheduler": meeting.address, "threads": self.cores})
        gone = asyncio.ensure_future(worker.finished())
        while not gone.done():
            await asyncio.wait([gone], timeout=_USAGE_SECONDS)
            self.report()
        logger.info("the scheduler is gone")
        return True


def _end(number: int, _frame: object) -> None:
    """As a process that was ended by a signal, so that a Job makes another one."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(os.environ))
