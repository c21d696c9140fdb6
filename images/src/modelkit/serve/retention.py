"""Remove captures that are older than the deployment keeps them.

A thread of its own, so that a slow store delays no capture and a stream without traffic ends too. Whole hour folders
are removed, and only when all of the hour is older. Pods of one deployment do it side by side without an agreement:
what another has removed already is no error.
"""

import logging
import random
import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from modelkit.contract.files import capture_hour, captures_directory
from modelkit.errors import StoreError
from modelkit.store.store import Store

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 3600.0
_FIRST_SECONDS = 120.0
"""Longest wait for the first look: a pod that is often restarted removes old captures too."""
_HOUR = re.compile(r"\d{4}-\d\d-\d\dT\d\d")


class RetentionMetrics(Protocol):
    """What is counted of a stream; called from the thread."""

    def expired(self, segments: int) -> None:
        """Old segments that were removed."""

    def expiry_failed(self) -> None:
        """A look at the stream that the store ended with an error."""


class Stream:
    """One stream of a deployment's captures."""

    def __init__(self, namespace: str, deployment: str, stream: str, metrics: RetentionMetrics) -> None:
        self.directory = captures_directory(namespace, deployment, stream)
        self.metrics = metrics


class Retention:
    """The thread that removes what is older than `seconds`."""

    def __init__(self, store: Store, streams: Sequence[Stream], seconds: float, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._streams = tuple(streams)
        self._kept = timedelta(seconds=seconds)
        self._clock = clock
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture-retention", daemon=True)

    def start(self) -> None:
        """Begin: the first time within two minutes, then about every hour."""
        self._thread.start()

    def close(self) -> None:
        """Stop, after the removal that is under way."""
        self._closing.set()
        self._thread.join(1.0)  # A daemon: a store that hangs keeps no pod.

    def remove_expired(self) -> None:
        """Look at every stream once. A store that fails is counted and logged; the next look tries again."""
        for stream in self._streams:
            try:
                removed = self._remove(stream.directory)
            except StoreError as exc:
                stream.metrics.expiry_failed()
                logger.warning("old captures could not be removed", extra={"error": str(exc)})
                continue
            stream.metrics.expired(removed)
            if removed:
                logger.info("removed old captures", extra={"directory": stream.directory, "segments": removed})

    def _run(self) -> None:
        # Jitter, so that the pods of a deployment don't list the same folders at the same moment.
        pause = random.uniform(0.0, _FIRST_SECONDS)  # noqa: S311
        while not self._closing.wait(pause):
            self.remove_expired()
            pause = _EVERY_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311

    def _remove(self, directory: str) -> int:
        """Remove the old hours of one stream, oldest first; returns how many objects were there."""
        first_kept = capture_hour(self._clock().astimezone(UTC) - self._kept)
        folders, removed = set(), 0
        for found in self._store.list(directory):
            hour = found.path[len(directory) + 1 :].partition("/")[0]
            if not _HOUR.fullmatch(hour):
                continue
            # Listed in the order of their names, which is that of the hours: the rest is younger.
            if hour >= first_kept or self._closing.is_set():
                break
            self._store.delete(found.path)
            folders.add(f"{directory}/{hour}")
            removed += 1
        for folder in sorted(folders):
            self._store.remove_empty(folder)
        return removed
