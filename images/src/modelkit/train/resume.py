"""The trials that a run has done, kept in the store while the run lasts, so that a retried pod goes on from them.

Objects lie at runs/<namespace>/<name>/<version>/trials/<hash>.json; one holds all trials that ended since the last
one was written, so that a search of many short fits costs few writes. A trial is known by a hash of all that decides
its score: data, folds, weights, pipeline, parameters, metric, seed, versions of the libraries. A store that can't be
read or written costs the help, never the run.
"""

import hashlib
import importlib.metadata
import json
import logging
import math
import queue
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from modelkit.contract.codec import dumps
from modelkit.contract.files import trials_directory
from modelkit.errors import StoreError
from modelkit.store.store import Store
from modelkit.train.trials import Problem

logger = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
"""A search that has lasted less is quicker done again than read."""
_PAUSE_SECONDS = 0.2
_READERS = 8
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_DECIDING_PACKAGES = ("scikit-learn", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class Record:
    """A trial that is done."""

    scores: tuple[float, ...]
    error: str | None = None


@dataclass(slots=True)
class Ledger:
    """The run's trials in the store; `put` and `close` are for one thread, the store is written by another."""

    store: Store
    folder: str
    """Below the store's root."""
    grace: float = GRACE_SECONDS
    """Seconds of a search in which nothing is written."""
    _known: dict[str, Record] = field(default_factory=dict)
    _digest: str = ""
    _problem: Problem | None = None
    _waiting: "queue.SimpleQueue[tuple[str, Record]]" = field(default_factory=queue.SimpleQueue)
    _ended: threading.Event = field(default_factory=threading.Event)
    _writer: threading.Thread | None = None
    _is_written: bool = False

    @classmethod
    def of_run(cls, store: Store, namespace: str, name: str, version: str) -> "Ledger":
        """The ledger of one run; nothing is contacted yet."""
        return cls(store, trials_directory(namespace, name, version))

    def open(self, problem: Problem) -> int:
        """Read what an earlier attempt has left of this search; returns how many trials that is."""
        self._problem = problem
        self._known = self._read()
        self._writer = threading.Thread(target=self._write_all, name="trials", daemon=True)
        self._writer.start()
        return len(self._known)

    def find(self, trial: str) -> Record | None:
        """What an earlier attempt scored; `trial` is the JSON of what tells it from others of the same problem."""
        return self._known.get(self._key(trial)) if self._known else None

    def put(self, trial: str, record: Record) -> None:
        """Write the record soon."""
        self._waiting.put((trial, record))

    def close(self) -> None:
        """Wait until everything that was put is in the store, or couldn't be written."""
        if self._writer is not None:
            self._ended.set()
            self._writer.join()
            self._writer = None

    def clear(self) -> None:
        """Remove everything: the run's version is complete. Costs nothing when nothing was read or written."""
        if self._known or self._is_written:
            clear_trials(self.store, self.folder)

    def _key(self, trial: str) -> str:
        if not self._digest:  # hashing the data costs time, so only a search that needs keys does it
            assert self._problem is not None
            self._digest = digest_problem(self._problem)
        return hashlib.sha256(f"{self._digest}\n{trial}".encode()).hexdigest()

    def _read(self) -> dict[str, Record]:
        try:
            paths = [found.path for found in self.store.list(self.folder)]
            with ThreadPoolExecutor(_READERS) as readers:
                texts = list(readers.map(self.store.read, paths))
        except StoreError as exc:
            logger.warning("trials of an earlier attempt can't be read; all are done again", extra={"error": str(exc)})
            return {}
        found: dict[str, Record] = {}
        for path, text in zip(paths, texts, strict=True):
            try:
                found.update({key: _parse(entry) for key, entry in json.loads(text).items()})
            except (ValueError, TypeError, KeyError, AttributeError):
                logger.warning("not a record of trials; it is left out", extra={"path": path})
        return found

    def _write_all(self) -> None:
        """Write what is waiting, all at once and not too often, until the search ends or the store fails."""
        begun = time.monotonic()
        while not self._ended.wait(_PAUSE_SECONDS):
            if time.monotonic() - begun >= self.grace and not self._flush():
                return
        if time.monotonic() - begun >= self.grace:
            self._flush()

    def _flush(self) -> bool:
        batch: dict[str, Record] = {}
        while not self._waiting.empty():
            trial, record = self._waiting.get()
            batch[self._key(trial)] = record
        if not batch:
            return True
        text = json.dumps({key: _plain(record) for key, record in batch.items()}, sort_keys=True).encode()
        try:
            self.store.write(f"{self.folder}/{hashlib.sha256(text).hexdigest()[:32]}.json", text)
        except StoreError as exc:
            logger.warning("trials can't be written; a retried pod will do them again", extra={"error": str(exc)})
            return False
        self._is_written = True
        return True


def clear_trials(store: Store, folder: str) -> None:
    """Remove the records below `folder`; a store that refuses keeps them, which harms nobody."""
    try:
        for found in list(store.list(folder)):
            store.delete(found.path)
    except StoreError as exc:
        logger.warning("the run's trials can't be removed", extra={"error": str(exc)})


def digest_problem(problem: Problem) -> str:
    """sha256 over all that decides a score but the trial's own parameters."""
    digest = hashlib.sha256()
    facts = [
        [problem.metric, problem.seed, list(problem.rows.shape), [str(label) for label in problem.classes or ()]],
        [importlib.metadata.version(package) for package in _DECIDING_PACKAGES],
        [_describe(pipeline) for pipeline in problem.pipelines],
    ]
    digest.update(json.dumps(facts).encode())
    if isinstance(problem.rows, pd.DataFrame):
        digest.update(pd.util.hash_pandas_object(problem.rows, index=False).to_numpy().tobytes())
    else:
        digest.update(np.ascontiguousarray(problem.rows).data)
    digest.update(pd.util.hash_array(problem.target).tobytes())
    if problem.weights is not None:
        digest.update(np.ascontiguousarray(problem.weights).data)
    for train, test in problem.folds:
        digest.update(train.tobytes())
        digest.update(test.tobytes())
    return digest.hexdigest()


def trial_text(candidate: int, params: Mapping[str, Any], fraction: float) -> str:
    """What tells a trial from others of the same problem."""
    return dumps([candidate, params, fraction])


def _describe(pipeline: Any) -> dict[str, str]:
    """Every parameter of every step, without the addresses that a repr may hold."""
    return {name: _ADDRESS.sub("", repr(value)) for name, value in pipeline.get_params().items()}


def _plain(record: Record) -> dict[str, Any]:
    # JSON has no NaN; a finite float comes back as the very same one.
    scores: Sequence[float | None] = [score if math.isfinite(score) else None for score in record.scores]
    return {"scores": scores, "error": record.error}


def _parse(entry: Mapping[str, Any]) -> Record:
    scores = tuple(math.nan if score is None else float(score) for score in entry["scores"])
    error = entry["error"]
    if not scores or not (error is None or isinstance(error, str)):
        raise ValueError("not a record")
    return Record(scores, error)
