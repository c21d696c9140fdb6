"""How worker pods find the scheduler in the trainer's pod: one object of the store, without Service or DNS.

The object holds the address and throw-away credentials of this attempt of the run. Whoever has the credentials can run
code in the run's pods, and who may read the store has them while the search lasts: on a volume the file is for its own
user only (mode 0600); a bucket's readers must be trusted as its writers are.
"""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelkit.contract.codec import ContractError, dumps, loads
from modelkit.contract.config import TrainerConfig
from modelkit.contract.files import scheduler_path, usage_directory
from modelkit.contract.result import Usage
from modelkit.errors import StoreError, StoreObjectNotFoundError
from modelkit.store.store import Store
from modelkit.train.pools import work_folder

logger = logging.getLogger(__name__)

POD_IP = "MODELLOOP_POD_IP"
"""Where the scheduler listens; without it, the address of the pod's default route."""

QUIET = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.scheduler.allowed-failures": 10,
    "distributed.comm.timeouts.connect": "10s",
    "distributed.admin.tick.limit": "60s",
    "logging": {"distributed": "error"},
}
"""Dask without web pages, patient with workers that are taken away and with cores that are busy."""
HTTP_ADDRESS = "127.0.0.1:0"
"""Dask always opens an HTTP port; it has no pages here, and nobody outside reaches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """The scheduler of one attempt of a run."""

    address: str = ""
    """`tls://<pod IP>:<port>`."""
    certificate: str = ""
    """PEM: of both sides, signed by itself, made for this attempt."""
    key: str = ""
    """PEM."""
    done: bool = False
    """The search is over: workers may go."""


def write_meeting(store: Store, config: TrainerConfig, meeting: Meeting) -> None:
    """Tell the run's worker pods; raises StoreError."""
    store.write(_path(config), dumps(meeting).encode(), private=True)


def read_meeting(store: Store, config: TrainerConfig) -> Meeting | None:
    """What the trainer has told; None when there is nothing, or nothing of this release. Raises StoreError."""
    try:
        return loads(Meeting, store.read(_path(config)))
    except StoreObjectNotFoundError:
        return None
    except ContractError as exc:
        logger.warning("the scheduler's address can't be read", extra={"error": str(exc)})
        return None


def clear_meeting(store: Store, config: TrainerConfig) -> None:
    """Remove the object and what workers wrote of themselves; a store that refuses keeps them."""
    try:
        store.delete(_path(config))
        for found in list(store.list(_usage(config))):
            store.delete(found.path)
    except StoreError as exc:
        logger.warning("what the workers were told can't be removed", extra={"error": str(exc)})


def write_usage(store: Store, config: TrainerConfig, pod: str, usage: Usage) -> None:
    """What one worker pod has used so far; raises StoreError."""
    store.write(f"{_usage(config)}/{pod}.json", dumps(usage).encode())


def read_usage(store: Store, config: TrainerConfig) -> Usage:
    """What all worker pods of the run have used, those that are gone too; the peak is that of the largest pod."""
    total = Usage()
    try:
        for found in list(store.list(_usage(config))):
            used = loads(Usage, store.read(found.path))
            total = Usage(
                cpu_seconds=total.cpu_seconds + used.cpu_seconds,
                memory_gib_seconds=total.memory_gib_seconds + used.memory_gib_seconds,
                peak_memory_bytes=max(total.peak_memory_bytes, used.peak_memory_bytes),
            )
    except (StoreError, ContractError) as exc:
        logger.warning("what the workers used can't be read", extra={"error": str(exc)})
    return total


def credentials_of(meeting: Meeting) -> Any:
    """The meeting's credentials for dask: mutual TLS, both sides with the same certificate."""
    from distributed.security import Security

    sides = {f"tls_{side}_{part}" for side in ("scheduler", "worker", "client") for part in ("key", "cert")}
    pems = {name: meeting.key if name.endswith("key") else meeting.certificate for name in sorted(sides)}
    return Security(require_encryption=True, tls_ca_file=meeting.certificate, **pems)


def set_up_dask(environ: Mapping[str, str]) -> None:
    """Settings that dask reads when it is imported, and a place for temporary files on a read-only root."""
    os.environ.setdefault("DASK_LOGGING", json.dumps(QUIET["logging"]))
    folder = work_folder()
    if folder is not None and "TMPDIR" not in environ:
        tempfile.tempdir = folder  # dask's TLS needs files, and so does a worker
    import dask

    dask.config.set(QUIET)


def _path(config: TrainerConfig) -> str:
    return scheduler_path(config.namespace, config.name, config.version)


def _usage(config: TrainerConfig) -> str:
    return usage_directory(config.namespace, config.name, config.version)
